/**
 * What simulators share, whether the model runs in this process or behind an endpoint: what one is asked, useful or noisy as the
 * curriculum draws for each query, and what is kept of its text.
 *
 * Source: ZeroSearch (arXiv 2505.04588) 3.2. Each call is given its own rollout's question and answer (the released code mixes them up).
 */
import type { SamplingSettings } from "../generate/types.ts";
import type { Prompt, PromptPart } from "../text/prompt.ts";
import { withoutThoughts } from "../text/thinking.ts";
import { abortReason } from "../util/abort.ts";
import { ConfigError, DataError } from "../util/errors.ts";
import { drawKind, noiseProbability, type NoiseSchedule } from "./curriculum.ts";
import { parseDocuments } from "./documents.ts";
import type { SearchResult, Simulator, SimulatorRequest } from "./search-engine.ts";
import { simulatorPrompt, tunedSimulatorTemplate, type SimulatorTemplate } from "./simulator-prompt.ts";

export interface SimulationOptions {
  readonly seed: number;
  /** By step number (`key.step`), or one probability for all steps. */
  readonly noise: NoiseSchedule | number;
  /** Documents kept. */
  readonly documents: number;
  /** The paper's, for tuned simulators, unless given. */
  readonly template?: SimulatorTemplate;
  /** Temperature 0.8 without top-k and top-p unless given. */
  readonly sampling?: Partial<SamplingSettings>;
  /** 600 unless given. */
  readonly maxNewTokens?: number;
  /** Told of every text that is all thought: its search has no documents. */
  readonly onUnfinishedThought?: () => void;
}

/** What the simulator is asked for one search. */
interface SimulatorTask {
  readonly kind: "useful" | "noisy";
  readonly noiseProbability: number;
  readonly prompt: readonly PromptPart[];
}

/** The text at which a simulator that has written so many documents is stopped: the head of the next one. */
export function simulatorStop(documents: number): string {
  return `Doc ${documents + 1}`;
}

/** The documents in a simulator's text: blank lines closed up, everything before the head of the one after the last. */
export function keepDocuments(text: string, documents: number): string {
  return (text.replaceAll("\n\n", "\n").split(simulatorStop(documents))[0] as string).trim();
}

/** The messages of the paper's requests: an empty system message, which keeps a chat template's own default out, and the prompt. */
export function simulatorMessages<Content extends Prompt>(prompt: Content): { role: "system" | "user"; content: Content | "" }[] {
  return [
    { role: "system", content: "" },
    { role: "user", content: prompt },
  ];
}

/** A simulator but for how its model is asked. */
export abstract class Simulation<Options extends SimulationOptions> implements Simulator {
  abstract readonly name: string;
  protected readonly options: Options;
  protected readonly sampling: SamplingSettings;
  protected readonly maxNewTokens: number;

  /** @throws ConfigError for a wrong number of documents or noise. */
  constructor(options: Options) {
    if (!Number.isInteger(options.documents) || options.documents < 1) {
      throw new ConfigError({
        where: "simulator.documents",
        what: "wrong number of documents",
        expected: "1 or more",
        got: String(options.documents),
      });
    }
    this.options = options;
    this.sampling = { temperature: 0.8, topK: 0, topP: 1, ...options.sampling };
    this.maxNewTokens = options.maxNewTokens ?? 600;
    this.noiseProbability(1);
  }

  /** The probability that a search of this step is answered with noise. */
  noiseProbability(step: number): number {
    const { noise } = this.options;
    return noiseProbability(step, typeof noise === "number" ? { start: noise, end: noise, steps: 1 } : noise);
  }

  /** The text that the model writes for a prompt, thoughts in their tags included. */
  protected abstract write(prompt: readonly PromptPart[], request: SimulatorRequest): Promise<string>;

  /** @throws DataError without golden answers, whatever `write` throws, the signal's reason when it fires. */
  async simulate(request: SimulatorRequest): Promise<SearchResult> {
    if (request.signal?.aborted === true) throw abortReason(request.signal);
    const { kind, noiseProbability, prompt } = this.#task(request);
    // A thought may hold the right answer, which the prompt tells.
    const said = withoutThoughts(await this.write(prompt, request));
    if (said === null) this.options.onUnfinishedThought?.();
    const text = keepDocuments(said ?? "", this.options.documents);
    return { documents: parseDocuments(text), text, kind, noiseProbability };
  }

  /** Nothing to free: the model is another's, and requests under way end with the rollouts that made them. */
  close(): Promise<void> {
    return Promise.resolve();
  }

  #task({ goldenAnswers: [answer], question, query, key, turn }: SimulatorRequest): SimulatorTask {
    if (answer === undefined)
      throw new DataError({
        where: "simulated search",
        what: `the question has no answer: ${JSON.stringify(question)}`,
        expected: "at least one golden answer",
        got: "none",
      });
    const { seed, template = tunedSimulatorTemplate } = this.options;
    const probability = this.noiseProbability(key.step);
    const kind = drawKind(seed, key, turn, probability);
    return { kind, noiseProbability: probability, prompt: simulatorPrompt(template, kind, { question, answer, query }) };
  }
}
