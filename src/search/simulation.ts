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
import { containsAnswer, usualRules, type ScoreRules } from "../util/normalise-answer.ts";
import { philox, streamKey } from "../util/philox.ts";
import { drawKind, noiseAt, type Noise } from "./curriculum.ts";
import { parseDocuments, renderDocuments } from "./documents.ts";
import type { SearchResult, Simulator, SimulatorRequest } from "./search-engine.ts";
import type { NoiseUnit } from "./settings.ts";
import { simulatorPrompt, tunedSimulatorTemplate, type SimulatorTemplate } from "./simulator-prompt.ts";

export interface SimulationOptions {
  readonly seed: number;
  /** By step number (`key.step`), one probability for all steps, or as the policy earns. */
  readonly noise: Noise;
  /** What is drawn to be useful or noisy: a whole set, as in the paper and unless given, or each document of it. */
  readonly unit?: NoiseUnit | undefined;
  /** Times that a noisy set is written anew because it tells a right answer; 0 unless given. The last one stays as it is. */
  readonly redraws?: number;
  /** How answers are compared there. */
  readonly rules?: ScoreRules | undefined;
  /** Told of every set that is written anew. */
  readonly onRedraw?: () => void;
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

type Kind = "useful" | "noisy";

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
    return noiseAt(step, this.options.noise);
  }

  /**
   * The text that the model writes for a prompt, thoughts in their tags included.
   * @param seed - of its random numbers: another for each text of one search
   */
  protected abstract write(prompt: readonly PromptPart[], request: SimulatorRequest, seed: number): Promise<string>;

  /** @throws DataError without golden answers, whatever `write` throws, the signal's reason when it fires. */
  async simulate(request: SimulatorRequest): Promise<SearchResult> {
    if (request.signal?.aborted === true) throw abortReason(request.signal);
    const { seed, unit = "set", documents: count } = this.options;
    const { key, turn } = request;
    const probability = this.noiseProbability(key.step);
    if (unit === "set") {
      const kind = drawKind(seed, key, turn, probability);
      const text = await this.#set(kind, request);
      return { documents: parseDocuments(text), text, kind, noiseProbability: probability };
    }
    // Each document is taken from its place in the set of its kind.
    const kinds = Array.from({ length: count }, (_, i) => drawKind(seed, key, turn, probability, i));
    const documentsOf = async (kind: Kind) => (kinds.includes(kind) ? parseDocuments(await this.#set(kind, request)) : []);
    const [useful, noisy] = await Promise.all([documentsOf("useful"), documentsOf("noisy")]);
    const documents = kinds.flatMap((kind, i) => (kind === "useful" ? useful : noisy)[i] ?? []);
    const kind = kinds.includes("useful") ? "useful" : "noisy";
    return { documents, text: documents.length === 0 ? "" : renderDocuments({ documents }), kind, noiseProbability: probability };
  }

  /** Nothing to free: the model is another's, and requests under way end with the rollouts that made them. */
  close(): Promise<void> {
    return Promise.resolve();
  }

  /** A set of documents as its text; a noisy one that tells a right answer is written anew where that is asked for. */
  async #set(kind: Kind, request: SimulatorRequest): Promise<string> {
    const { template = tunedSimulatorTemplate, redraws = 0, rules = usualRules, onRedraw } = this.options;
    const { question, query, goldenAnswers } = request;
    const [answer] = goldenAnswers;
    if (answer === undefined)
      throw new DataError({
        where: "simulated search",
        what: `the question has no answer: ${JSON.stringify(question)}`,
        expected: "at least one golden answer",
        got: "none",
      });
    const prompt = simulatorPrompt(template, kind, { question, answer, query });
    for (let draw = 0; ; draw++) {
      // A thought may hold the right answer, which the prompt tells.
      const said = withoutThoughts(await this.write(prompt, request, this.#seed(kind, draw)));
      if (said === null) this.options.onUnfinishedThought?.();
      const text = keepDocuments(said ?? "", this.options.documents);
      if (kind === "useful" || draw >= redraws || !containsAnswer(text, goldenAnswers, rules)) return text;
      onRedraw?.();
    }
  }

  /** The seed of a text: the run's own for the first of a search, another for each that is written besides. */
  #seed(kind: Kind, draw: number): number {
    const { seed, unit = "set" } = this.options;
    const second = unit === "document" && kind === "noisy" ? 1 : 0;
    return draw === 0 && second === 0 ? seed : philox(streamKey(seed, "simulatorRedraw"), [draw, second, 0, 0])[0];
  }
}
