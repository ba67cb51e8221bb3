/**
 * A simulated search engine whose model runs behind an OpenAI-compatible endpoint (vLLM, SGLang, llama.cpp, a service). Questions, kinds
 * and prompts are those of `SimulatedSearch`; the documents are the server's, so a run repeats only as far as the server does with the
 * seed of each request.
 *
 * Source: the requests of the ZeroSearch code (an empty system message, one user message).
 */
import type { SamplingSettings } from "../generate/types.ts";
import type { PromptPart } from "../text/prompt.ts";
import { philox, streamKey, uniform } from "../util/philox.ts";
import { abortReason } from "../util/abort.ts";
import type { ChatClient } from "./chat-client.ts";
import type { SearchResult, Simulator, SimulatorRequest } from "./search-engine.ts";
import { Simulation, simulatorMessages, simulatorStop, type SimulationOptions } from "./simulation.ts";

export interface EndpointSearchOptions extends SimulationOptions {
  /** Shared by engines with different noise; whoever made it probes it and takes its counts. */
  readonly client: Pick<ChatClient, "complete">;
  /** Temperature 0.8 without top-k and top-p unless given. */
  readonly sampling?: Partial<SamplingSettings>;
  /** 600 unless given. */
  readonly maxNewTokens?: number;
}

export class EndpointSearch implements Simulator {
  readonly name = "simulated (endpoint)";
  readonly #options: EndpointSearchOptions;
  readonly #simulation: Simulation;
  readonly #sampling: SamplingSettings;

  /** @throws ConfigError for a wrong number of documents or noise. */
  constructor(options: EndpointSearchOptions) {
    this.#options = options;
    this.#simulation = new Simulation(options);
    this.#sampling = { temperature: 0.8, topK: 0, topP: 1, ...options.sampling };
  }

  /** The probability that a search of this step is answered with noise. */
  noiseProbability(step: number): number {
    return this.#simulation.noiseProbability(step);
  }

  /** @throws DataError without golden answers, whatever the client throws, the signal's reason when it fires. */
  async simulate(request: SimulatorRequest): Promise<SearchResult> {
    const { client, seed, documents, maxNewTokens = 600 } = this.#options;
    const { key, turn, signal } = request;
    if (signal?.aborted === true) throw abortReason(signal);
    const task = this.#simulation.task(request);
    // Numbers of this search alone: the server's seed, 31 bits of it, and a stream for the waits.
    const [word, ...own] = philox(streamKey(seed, "simulatorSample"), [key.step, key.question, key.rollout, turn]);
    const text = await client.complete({
      messages: simulatorMessages(spelled(task.prompt)),
      maxTokens: maxNewTokens,
      ...this.#sampling,
      stop: simulatorStop(documents),
      seed: word >>> 1,
      jitter: (n) => uniform([own[0], own[1]], [n, 0, 0, 0]),
      signal,
    });
    return this.#simulation.result(task, text);
  }

  /** Nothing to free: requests under way end with the rollouts that made them. */
  close(): Promise<void> {
    return Promise.resolve();
  }
}

/**
 * The text of a prompt for a server, which reads special tokens wherever it finds them, and whose tokens we do not know: in text from
 * outside, whatever looks like one (`<|im_end|>`, `</s>`, `[INST]`) gets a space after its bracket.
 */
function spelled(prompt: readonly PromptPart[]): string {
  return prompt
    .map(({ text, foreign }) =>
      foreign ? text.replace(/<(?=[/|\uff5c]*[\p{L}_|\uff5c])|\[(?=\/?[A-Z_]+\])/gu, (bracket) => `${bracket} `) : text,
    )
    .join("");
}
