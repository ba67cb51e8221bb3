/**
 * What simulators share, whether the model runs in this process or behind an endpoint: what one is asked, useful or noisy as the
 * curriculum draws for each query, and what is kept of its text.
 *
 * Source: ZeroSearch (arXiv 2505.04588) 3.2. Each call is given its own rollout's question and answer (the released code mixes them up).
 */
import type { Prompt, PromptPart } from "../text/prompt.ts";
import { ConfigError, DataError } from "../util/errors.ts";
import { drawKind, noiseProbability, type NoiseSchedule } from "./curriculum.ts";
import { parseDocuments } from "./documents.ts";
import type { SearchResult, SimulatorRequest } from "./search-engine.ts";
import { simulatorPrompt, tunedSimulatorTemplate, type SimulatorTemplate } from "./simulator-prompt.ts";

export interface SimulationOptions {
  readonly seed: number;
  /** By step number (`key.step`), or one probability for all steps. */
  readonly noise: NoiseSchedule | number;
  /** Documents kept. */
  readonly documents: number;
  /** The paper's, for tuned simulators, unless given. */
  readonly template?: SimulatorTemplate;
}

/** What the simulator is asked for one search. */
export interface SimulatorTask {
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

export class Simulation {
  readonly #options: SimulationOptions;

  /** @throws ConfigError for a wrong number of documents or noise. */
  constructor(options: SimulationOptions) {
    if (!Number.isInteger(options.documents) || options.documents < 1) {
      throw new ConfigError({
        where: "simulator.documents",
        what: "wrong number of documents",
        expected: "1 or more",
        got: String(options.documents),
      });
    }
    this.#options = options;
    this.noiseProbability(1);
  }

  /** The probability that a search of this step is answered with noise. */
  noiseProbability(step: number): number {
    const { noise } = this.#options;
    return noiseProbability(step, typeof noise === "number" ? { start: noise, end: noise, steps: 1 } : noise);
  }

  /** @throws DataError without golden answers. */
  task({ goldenAnswers: [answer], question, query, key, turn }: SimulatorRequest): SimulatorTask {
    if (answer === undefined)
      throw new DataError({
        where: "simulated search",
        what: `the question has no answer: ${JSON.stringify(question)}`,
        expected: "at least one golden answer",
        got: "none",
      });
    const { seed, template = tunedSimulatorTemplate } = this.#options;
    const probability = this.noiseProbability(key.step);
    const kind = drawKind(seed, key, turn, probability);
    return { kind, noiseProbability: probability, prompt: simulatorPrompt(template, kind, { question, answer, query }) };
  }

  /** What the rollout gets of the text that the simulator wrote. */
  result({ kind, noiseProbability }: SimulatorTask, text: string): SearchResult {
    const kept = keepDocuments(text, this.#options.documents);
    return { documents: parseDocuments(kept), text: kept, kind, noiseProbability };
  }
}
