/**
 * A simulated search engine whose model runs behind an OpenAI-compatible endpoint (vLLM, SGLang, llama.cpp, a service). Questions, kinds
 * and prompts are those of `SimulatedSearch`; the documents are the server's, so a run repeats only as far as the server does with the
 * seed of each request.
 *
 * Source: the requests of the ZeroSearch code (an empty system message, one user message).
 */
import type { TemplateVariables } from "../text/chat-template.ts";
import type { PromptPart } from "../text/prompt.ts";
import { openedThought } from "../text/thinking.ts";
import { philox, streamKey, uniform } from "../util/philox.ts";
import type { ChatClient } from "./chat-client.ts";
import type { SimulatorRequest } from "./search-engine.ts";
import { Simulation, simulatorMessages, simulatorStop, type SimulationOptions } from "./simulation.ts";

export interface EndpointSearchOptions extends SimulationOptions {
  /** Shared by engines with different noise; whoever made it probes it and takes its counts. */
  readonly client: Pick<ChatClient, "complete">;
  /** Sent as `chat_template_kwargs`, where there are any. */
  readonly templateVariables?: TemplateVariables;
  /** The server's chat template opens a thought, so that the text begins inside it. */
  readonly opensThought?: boolean;
}

/** `simulate` throws whatever the client throws. */
export class EndpointSearch extends Simulation<EndpointSearchOptions> {
  readonly name = "simulated (endpoint)";

  protected override async write(prompt: readonly PromptPart[], { key, turn, signal }: SimulatorRequest, seed: number): Promise<string> {
    const { client, documents, templateVariables, opensThought = false } = this.options;
    // Numbers of this search alone: the server's seed, 31 bits of it, and a stream for the waits.
    const [word, ...own] = philox(streamKey(seed, "simulatorSample"), [key.step, key.question, key.rollout, turn]);
    const text = await client.complete({
      messages: simulatorMessages(spelled(prompt)),
      maxTokens: this.maxNewTokens,
      ...this.sampling,
      templateVariables,
      stop: simulatorStop(documents),
      seed: word >>> 1,
      jitter: (n) => uniform([own[0], own[1]], [n, 0, 0, 0]),
      signal,
    });
    return opensThought ? openedThought + text : text;
  }
}

/**
 * The text of a prompt for a server, which reads special tokens wherever it finds them, and whose tokens we do not know: in text from
 * outside, whatever looks like one (`<|im_end|>`, `</s>`, `[INST]`) gets a space after its bracket.
 */
export function spelled(prompt: readonly PromptPart[]): string {
  return prompt
    .map(({ text, foreign }) =>
      foreign ? text.replace(/<(?=[/|\uff5c]*[\p{L}_|\uff5c])|\[(?=\/?[A-Z_]+\])/gu, (bracket) => `${bracket} `) : text,
    )
    .join("");
}
