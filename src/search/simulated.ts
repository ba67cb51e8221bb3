/** The simulated search engine: a second language model on the same device writes the documents; its batches work beside the policy's. */
import type { Generator, SamplingSettings, StopTable } from "../generate/types.ts";
import { generateUnlessAborted } from "../generate/sequence.ts";
import { abortReason } from "../util/abort.ts";
import type { SearchResult, Simulator, SimulatorRequest } from "./search-engine.ts";
import { Simulation, type SimulationOptions } from "./simulation.ts";
import type { Prompt, PromptEncoding, TextCodec } from "../text/prompt.ts";

export { keepDocuments, simulatorStop } from "./simulation.ts";

export interface SimulatedSearchOptions extends SimulationOptions {
  readonly generator: Generator;
  /** The simulator's name in the generator. */
  readonly model: string;
  readonly adapter?: string;
  readonly tokenizer: TextCodec;
  /** Ends a generation at the text `simulatorStop(documents)` and at the simulator's end-of-sequence id. */
  readonly stop: StopTable;
  /** Wraps the prompt in the simulator's chat template (`simulatorMessages`). */
  readonly chat?: (prompt: Prompt) => Prompt;
  /** How the prompt becomes ids; without a beginning-of-sequence token unless given. */
  readonly encoding?: PromptEncoding;
  /** Temperature 0.8 without top-k and top-p unless given. */
  readonly sampling?: Partial<SamplingSettings>;
  /** 600 unless given. */
  readonly maxNewTokens?: number;
}

export class SimulatedSearch implements Simulator {
  readonly name = "simulated";
  readonly #options: SimulatedSearchOptions;
  readonly #simulation: Simulation;
  readonly #sampling: SamplingSettings;

  /** @throws ConfigError for a wrong number of documents or noise. */
  constructor(options: SimulatedSearchOptions) {
    this.#options = options;
    this.#simulation = new Simulation(options);
    this.#sampling = { temperature: 0.8, topK: 0, topP: 1, ...options.sampling };
  }

  /** The probability that a search of this step is answered with noise. */
  noiseProbability(step: number): number {
    return this.#simulation.noiseProbability(step);
  }

  /**
   * @throws DataError without golden answers, RequestError when the prompt leaves no room in the simulator's context, the signal's
   *   reason when it fires.
   */
  async simulate(request: SimulatorRequest): Promise<SearchResult> {
    const { generator, model, adapter, tokenizer, stop, seed, chat, encoding, maxNewTokens = 600 } = this.#options;
    const { key, turn, signal } = request;
    if (signal?.aborted === true) throw abortReason(signal);
    const task = this.#simulation.task(request);
    const sequence = generator.open({
      model,
      ...(adapter === undefined ? {} : { adapter }),
      key,
      seed,
      purpose: "simulatorSample",
      turn,
      prompt: tokenizer.encodePrompt(chat === undefined ? task.prompt : chat(task.prompt), encoding),
    });
    try {
      const { ids } = await generateUnlessAborted(sequence, { stop, maxNewTokens, sampling: this.#sampling }, signal);
      return this.#simulation.result(task, tokenizer.decode(ids, { skipSpecialTokens: true, continuation: true }));
    } finally {
      sequence.close();
    }
  }

  /** Nothing to free: the model belongs to the generator. */
  close(): Promise<void> {
    return Promise.resolve();
  }
}
