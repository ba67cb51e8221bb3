/** Opens a chat model behind an endpoint, by the keys that every section has which names one. */
import { ChatClient } from "./chat-client.ts";
import type { EngineContext } from "./engine-kind.ts";
import { keyIn } from "./secret.ts";
import { counted } from "../util/plural.ts";

export interface ChatSettings {
  readonly endpoint: string | readonly string[];
  readonly endpointModel: string;
  readonly endpointKey: string | null;
  readonly endpointConcurrency: number;
  readonly endpointTimeout: number;
  readonly endpointPatience: number;
  /** As in `ChatClientOptions`. */
  readonly lengthKey?: string;
}

/**
 * A client whose servers have said that they are there.
 * @param section - whose keys these are: errors name them
 * @throws ConfigError for a wrong URL, model or variable; ServerError when a server cannot be reached or refuses.
 */
export async function openChat(
  section: string,
  settings: ChatSettings,
  { now, say }: Pick<EngineContext, "now" | "say">,
): Promise<ChatClient> {
  const { endpoint, endpointModel, endpointKey, endpointConcurrency, endpointTimeout, endpointPatience, lengthKey } = settings;
  const help = `Set it (export ${endpointKey ?? ""}=...), or leave ${section}.endpointKey out where the endpoint needs none. The key itself is written nowhere.`;
  const key = endpointKey === null ? undefined : keyIn(endpointKey, `${section}.endpointKey`, help);
  const others = endpoint.length === 2 ? "the other endpoint takes" : "the other endpoints take";
  const client = new ChatClient({
    endpoint,
    model: endpointModel,
    section,
    ...(lengthKey === undefined ? {} : { lengthKey }),
    key,
    concurrency: endpointConcurrency,
    timeout: endpointTimeout,
    patience: endpointPatience,
    now,
    onAway: ({ message }) => say(`${section}: ${message}; ${others} its requests`),
    onBack: ({ endpoint: back }) => say(`${section}: ${back} answers again`),
    onOutage: ({ message }) => say(`${section}: ${message}; trying again for up to ${endpointPatience} s (${section}.endpointPatience)`),
    onAnswer: ({ seconds, retries }) =>
      say(`${section}: answers again, after ${Math.round(seconds)} s and ${counted(retries, "retry", "retries")}`),
  });
  await client.probe();
  return client;
}

/** What a chat model has read and written since the last call. */
export function tokensOf(client: ChatClient, who: string): Readonly<Record<string, number>> {
  const { requests, retries, promptTokens, completionTokens, estimatedPromptTokens, estimatedCompletionTokens } = client.takeCounts();
  return {
    [`${who}_requests`]: requests,
    [`${who}_retries`]: retries,
    [`${who}_prompt_tokens`]: promptTokens,
    [`${who}_completion_tokens`]: completionTokens,
    [`${who}_prompt_tokens_estimated`]: estimatedPromptTokens,
    [`${who}_completion_tokens_estimated`]: estimatedCompletionTokens,
  };
}
