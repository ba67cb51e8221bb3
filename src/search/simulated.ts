/** The simulated search engine: a second language model on the same device writes the documents; its batches work beside the policy's. */
import type { Generator, StopTable } from "../generate/types.ts";
import { generateUnlessAborted } from "../generate/sequence.ts";
import type { SimulatorRequest } from "./search-engine.ts";
import { Simulation, type SimulationOptions } from "./simulation.ts";
import type { Prompt, PromptEncoding, TextCodec } from "../text/prompt.ts";
import { endsInThought, openedThought, thoughtDecoder } from "../text/thinking.ts";

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
}

/** `simulate` throws RequestError when the prompt leaves no room in the simulator's context. */
export class SimulatedSearch extends Simulation<SimulatedSearchOptions> {
  readonly name = "simulated";
  readonly #decode: (ids: readonly number[]) => string;

  constructor(options: SimulatedSearchOptions) {
    super(options);
    this.#decode = thoughtDecoder(options.tokenizer);
  }

  protected override async write(prompt: Prompt, { key, turn, signal }: SimulatorRequest, seed: number): Promise<string> {
    const { generator, model, adapter, tokenizer, stop, chat, encoding } = this.options;
    const asked = chat === undefined ? prompt : chat(prompt);
    const sequence = generator.open({
      model,
      ...(adapter === undefined ? {} : { adapter }),
      key,
      seed,
      purpose: "simulatorSample",
      turn,
      prompt: tokenizer.encodePrompt(asked, encoding),
    });
    try {
      const request = { stop, maxNewTokens: this.maxNewTokens, sampling: this.sampling };
      const { ids } = await generateUnlessAborted(sequence, request, signal);
      return (endsInThought(asked) ? openedThought : "") + this.#decode(ids);
    } finally {
      sequence.close();
    }
  }
}
