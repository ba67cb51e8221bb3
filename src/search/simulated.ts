/**
 * The simulated search engine: a second language model on the same device writes the documents, useful or noisy as the curriculum
 * draws for each query, so one batch of it mixes both kinds and works beside the policy's.
 *
 * Source: ZeroSearch (arXiv 2505.04588) 3.2. Each call is given its own rollout's question and answer (the released code mixes them up).
 */
import type { Generator, SamplingSettings, StopTable } from "../generate/types.ts";
import { ConfigError, DataError } from "../util/errors.ts";
import { abortReason, generateUnlessAborted } from "./abortable.ts";
import { drawKind, noiseProbability, type NoiseSchedule } from "./curriculum.ts";
import type { SearchEngine, SearchRequest, SearchResult } from "./search-engine.ts";
import { simulatorPrompt, tunedSimulatorTemplate, type SimulatorTemplate } from "./simulator-prompt.ts";
import { breakSpecialTokens, plainText, type TextCodec } from "./text-codec.ts";

export interface SimulatedSearchOptions {
  readonly generator: Generator;
  /** The simulator's name in the generator. */
  readonly model: string;
  readonly adapter?: string;
  readonly tokenizer: TextCodec;
  /** Ends a generation at the text `simulatorStop(topK)` and at the simulator's end-of-sequence id. */
  readonly stop: StopTable;
  readonly seed: number;
  /** By step number (`SearchRequest.key.step`), or one probability for all steps. */
  readonly noise: NoiseSchedule | number;
  /** Documents kept. */
  readonly topK: number;
  readonly template?: SimulatorTemplate;
  /** Wraps the prompt in the simulator's chat template (the paper: an empty system message, one user message). */
  readonly chat?: { readonly render: (prompt: string) => string; readonly specialTokens: Iterable<string> };
  /** Temperature 0.8 without top-k and top-p unless given. */
  readonly sampling?: Partial<SamplingSettings>;
  /** 600 unless given. */
  readonly maxNewTokens?: number;
}

/** The text at which a simulator that has written `topK` documents is stopped: the head of the next one. */
export function simulatorStop(topK: number): string {
  return `Doc ${topK + 1}`;
}

/** The documents in a simulator's text: blank lines closed up, everything before the head of document topK + 1. */
export function keepDocuments(text: string, topK: number): string {
  return (text.replaceAll("\n\n", "\n").split(simulatorStop(topK))[0] as string).trim();
}

export class SimulatedSearch implements SearchEngine {
  readonly name = "simulated";
  readonly #options: SimulatedSearchOptions;
  readonly #template: SimulatorTemplate;
  readonly #sampling: SamplingSettings;

  /** @throws ConfigError for a wrong topK or noise. */
  constructor(options: SimulatedSearchOptions) {
    if (!Number.isInteger(options.topK) || options.topK < 1) {
      throw new ConfigError({
        where: "simulator.documents",
        what: "wrong number of documents",
        expected: "1 or more",
        got: String(options.topK),
      });
    }
    this.#options = options;
    this.#template = options.template ?? tunedSimulatorTemplate;
    this.#sampling = { temperature: 0.8, topK: 0, topP: 1, ...options.sampling };
    this.noiseProbability(1);
  }

  /** The probability that a search of this step is answered with noise. */
  noiseProbability(step: number): number {
    const { noise } = this.#options;
    return noiseProbability(step, typeof noise === "number" ? { start: noise, end: noise, steps: 1 } : noise);
  }

  /**
   * @throws DataError without golden answers, RequestError when the prompt leaves no room in the simulator's context, the signal's
   *   reason when it fires.
   */
  async search(request: SearchRequest): Promise<SearchResult> {
    const { generator, model, adapter, tokenizer, stop, seed, topK, chat, maxNewTokens = 600 } = this.#options;
    const { key, turn, query, question, signal } = request;
    if (signal?.aborted === true) throw abortReason(signal);
    const answer = request.goldenAnswers[0];
    if (answer === undefined)
      throw new DataError({
        where: "simulated search",
        what: `the question has no answer: ${JSON.stringify(question)}`,
        expected: "at least one golden answer",
        got: "none",
      });
    const probability = this.noiseProbability(key.step);
    const kind = drawKind(seed, key, turn, probability);
    const plain = (text: string): string => (chat === undefined ? text : breakSpecialTokens(text, chat.specialTokens));
    const prompt = simulatorPrompt(this.#template, kind, { question: plain(question), answer: plain(answer), query: plain(query) });
    const sequence = generator.open({
      model,
      ...(adapter === undefined ? {} : { adapter }),
      key,
      seed,
      purpose: "simulatorSample",
      turn,
      prompt:
        chat === undefined ? tokenizer.encode(prompt, plainText) : tokenizer.encode(chat.render(prompt), { parseSpecialTokens: true }),
    });
    try {
      const { ids } = await generateUnlessAborted(sequence, { stop, maxNewTokens, sampling: this.#sampling }, signal);
      const text = tokenizer.decode(ids, { skipSpecialTokens: true, continuation: true });
      return { documents: keepDocuments(text, topK), kind, noiseProbability: probability };
    } finally {
      sequence.close();
    }
  }

  /** Nothing to free: the model belongs to the generator. */
  close(): Promise<void> {
    return Promise.resolve();
  }
}
