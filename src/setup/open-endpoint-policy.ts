/** Opens a policy behind an endpoint: what rollouts that are judged share, without a device and without weights. */
import { EndpointGenerator, endpointCodec, textStops, type CutReason } from "../agent/endpoint-policy.ts";
import { endpointToolChat } from "../agent/endpoint-tools.ts";
import type { AgentContext } from "../agent/methods/method.ts";
import type { Config } from "../config/index.ts";
import { steadyClock } from "../log/progress.ts";
import type { ChatClient } from "../search/chat-client.ts";
import { o200k } from "../search/estimate-tokens.ts";
import { openChat } from "../search/open-chat.ts";
import type { Engine } from "../search/search-engine.ts";
import { ConfigError } from "../util/errors.ts";
import { counted } from "../util/plural.ts";
import { evaluationContext, policyName, promptSettings, scoreRules } from "./open-agents.ts";

export interface EndpointPolicy {
  readonly client: ChatClient;
  /** As the server calls it. */
  readonly name: string;
  judging(engine: Engine): AgentContext;
  /** What a person should know of how it answered. */
  warnings(): string[];
}

/** @throws as `openChat`; ConfigError for what a policy behind an endpoint cannot do */
export async function openEndpointPolicy(config: Config, say: (text: string) => void): Promise<EndpointPolicy> {
  const { evaluation, rollout, seed, compat, search } = config;
  const { endpoint, endpointTurns: turns, opensThought } = evaluation;
  for (const [key, given] of Object.entries({ "compat.noStops": compat.noStops, "compat.promptAnswers": compat.promptAnswers }))
    if (given) throw new ConfigError({ where: key, what: "cannot be had of a policy behind an endpoint", expected: "false", got: "true" });
  const settings = { ...evaluation, endpoint: endpoint ?? [], lengthKey: "rollout.maxNewTokens" };
  const client = await openChat("evaluation", settings, { now: steadyClock, say });
  const codec = endpointCodec(await o200k());
  const templateVariables = rollout.chatTemplateKwargs;
  const { maxTurns, maxNewTokens, maxObservationTokens, maxContextTokens, temperature, topK, topP } = rollout;
  const cuts: Record<CutReason, number> = { tooLong: 0, onlyThought: 0, filtered: 0, ignoredStop: 0 };
  const onCut = (why: CutReason): void => {
    cuts[why]++;
  };
  const shared = {
    generator: new EndpointGenerator({ client, codec, turns, templateVariables, opensThought, onCut }),
    tokenizer: codec,
    stops: textStops,
    prompts: { ...promptSettings(config, { chatTemplate: null }), ...(turns === "text" ? {} : { tools: () => endpointToolChat }) },
    rules: scoreRules(config),
    onSearchFailure: search.onFailure,
    settings: {
      ...{ model: policyName, maxTurns, maxNewTokens, maxObservationTokens, maxContextTokens, seed },
      purpose: "policySample" as const,
      sampling: { temperature, topK, topP },
    },
  };
  return {
    client,
    name: client.model,
    judging: (engine) => evaluationContext(config, { ...shared, engine }, engine),
    warnings: () => warningsOf(cuts),
  };
}

function warningsOf({ tooLong, onlyThought, filtered, ignoredStop }: Readonly<Record<CutReason, number>>): string[] {
  const lines: readonly (readonly [number, string, string])[] = [
    [tooLong, "rollout", "ended since the server said that the prompt was too long for its model's context"],
    [onlyThought, "turn", "without a text: the model thought until rollout.maxNewTokens, which may be too few for it"],
    [filtered, "turn", "that the server's content filter cut, or took"],
    [ignoredStop, "turn", "in which the server wrote on after a stop string; they were cut there, as a model in this process stops there"],
  ];
  return lines.flatMap(([count, what, text]) => (count === 0 ? [] : [`${counted(count, what)} ${text}`]));
}
