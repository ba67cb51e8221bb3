/** The simulator of a run where it runs behind an endpoint: checked before anything else is opened, counted by the step. */
import type { Config } from "../config/index.ts";
import { steadyClock } from "../log/progress.ts";
import { ChatClient, type ChatCounts, type Retry } from "../search/chat-client.ts";
import { EndpointSearch } from "../search/endpoint.ts";
import { ConfigError } from "../util/errors.ts";
import { curriculum, simulatorTemplateOf, type Simulate } from "./open-agents.ts";

export class Endpoint {
  readonly simulate: Simulate;
  /** Where retries are told. */
  say: (text: string) => void = (text) => process.stdout.write(`${text}\n`);
  readonly #client: ChatClient;
  #retries = 0;

  constructor(config: Config, endpoint: string, key: string | undefined) {
    const { simulator, seed } = config;
    this.#client = new ChatClient({
      endpoint,
      model: simulator.endpointModel,
      key,
      concurrency: simulator.endpointConcurrency,
      timeout: simulator.endpointTimeout,
      retries: simulator.endpointRetries,
      now: steadyClock,
      onRetry: (retry) => this.#tell(retry),
    });
    this.simulate = (noise = curriculum(config)) =>
      new EndpointSearch({
        client: this.#client,
        seed,
        noise,
        topK: simulator.documents,
        template: simulatorTemplateOf(simulator.prompt),
        sampling: { temperature: simulator.temperature, topK: simulator.topK, topP: simulator.topP },
        maxNewTokens: simulator.maxNewTokens,
      });
  }

  /** @throws ServerError, ConfigError: it cannot be reached, refuses, or does not serve the model. */
  probe(): Promise<void> {
    return this.#client.probe();
  }

  /** What was asked since the last call: values of a step. They depend on the server, as times do. */
  takeCounts(): Readonly<Record<string, number>> {
    const { requests, retries, seconds, promptTokens, completionTokens }: ChatCounts = this.#client.takeCounts();
    return {
      simulator_requests: requests,
      simulator_retries: retries,
      simulator_seconds: seconds,
      simulator_prompt_tokens: promptTokens,
      simulator_completion_tokens: completionTokens,
    };
  }

  /** Every retry is counted; the 1st, 2nd, 4th, 8th ... are told: a server that is away fails many requests at once. */
  #tell({ message, wait }: Retry): void {
    const count = ++this.#retries;
    if ((count & (count - 1)) !== 0) return;
    this.say(`simulator: ${message}; trying again in ${wait.toFixed(1)} s (${count} ${count === 1 ? "retry" : "retries"} so far)`);
  }
}

/**
 * The endpoint of the configuration, asked whether it is there; null where the simulator runs in this process.
 * @throws ConfigError for a wrong URL, model or variable; ServerError when it cannot be reached or refuses.
 */
export async function openEndpoint(config: Config): Promise<Endpoint | null> {
  const { endpoint, endpointKey } = config.simulator;
  if (endpoint === null) return null;
  const key = endpointKey === null ? undefined : process.env[endpointKey]?.trim();
  if (endpointKey !== null && (key === undefined || key === ""))
    throw new ConfigError({
      where: "simulator.endpointKey",
      what: `the environment variable ${endpointKey} is not set`,
      expected: "the endpoint's API key in it",
      hint: `Set it (export ${endpointKey}=...), or leave simulator.endpointKey out where the endpoint needs none. The key itself is written nowhere.`,
    });
  const opened = new Endpoint(config, endpoint, key);
  await opened.probe();
  return opened;
}
