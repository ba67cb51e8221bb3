/** Opens the policy that is judged, in this process or behind an endpoint, and what engines run on besides. */
import { basename } from "node:path";
import type { AgentContext } from "../agent/methods/method.ts";
import type { Config } from "../config/index.ts";
import { tokensOf } from "../search/open-chat.ts";
import type { Engine } from "../search/search-engine.ts";
import { ConfigError } from "../util/errors.ts";
import type { Closing } from "./closing.ts";
import { openEmbeddingParts } from "./open-embedder.ts";
import { openEndpointPolicy } from "./open-endpoint-policy.ts";
import type { EngineParts } from "./open-engines.ts";
import { openPolicy } from "./open-policy.ts";
import { prepareDevice } from "./prepare-device.ts";

export interface JudgedPolicy {
  /** What rows call it. */
  readonly name: string;
  /** What a person is told it is. */
  readonly text: string;
  /** The longest sequence, as far as it is known. */
  readonly maxPositions: number;
  /** Null where no engine needs a model, or a device, of this process. */
  readonly parts: EngineParts | null;
  /** With folders in place of Hub ids. */
  readonly config: Config;
  judging(engine: Engine): AgentContext;
  /** What must be done once before it answers. */
  prepare(): Promise<void>;
  /** What a person should know of how it answered. */
  warnings(): string[];
  /** Tokens that a server read and wrote since the last call. */
  takeCounts(): Readonly<Record<string, number>>;
}

export interface OpenJudgedOptions {
  /** As in `OpenPolicyOptions`. */
  readonly simulatorPositions: number | null;
  readonly embeds: boolean;
  readonly closing: Closing;
  readonly say: (text: string) => void;
  /** Told what is about to be opened, before anything is loaded. */
  readonly check?: (config: Config, device: { readonly kind: string }) => Promise<void>;
}

/** @throws as `openPolicy` and `openEndpointPolicy` */
export async function openJudgedPolicy(config: Config, options: OpenJudgedOptions): Promise<JudgedPolicy> {
  return config.evaluation.endpoint === null ? openHere(config, options) : openThere(config, options);
}

async function openHere(config: Config, { simulatorPositions, embeds, closing, check }: OpenJudgedOptions): Promise<JudgedPolicy> {
  const opened = await openPolicy(config, { simulatorPositions, embeds, closing, ...(check === undefined ? {} : { check }) });
  const { policy, device } = opened;
  const { model, lora } = config;
  return {
    name: basename(policy.source),
    text: `${model.policy}${lora.from === null ? "" : ` with the LoRA adapter ${lora.from}`}`,
    maxPositions: policy.maxPositions,
    parts: opened,
    config: opened.opened,
    judging: (engine) => opened.judging(engine),
    prepare: () => prepareDevice(device, config, opened, { trains: false }),
    warnings: () => [],
    takeCounts: () => ({}),
  };
}

async function openThere(config: Config, { simulatorPositions, embeds, closing, say, check }: OpenJudgedOptions): Promise<JudgedPolicy> {
  if (simulatorPositions !== null && config.simulator.path !== null)
    throw new ConfigError({
      where: "simulator.path",
      what: "cannot be a model of this process where the policy is behind an endpoint",
      expected: "simulator.endpoint",
      got: config.simulator.path,
      hint: "evaluation.robustness=false leaves out what a simulator is opened for beside a real engine.",
    });
  await check?.(config, { kind: "endpoint" });
  const parts = embeds ? await openEmbeddingParts(config, closing) : null;
  const there = await openEndpointPolicy(config, say);
  const { endpoint } = config.evaluation;
  return {
    name: there.name,
    text: `${there.name} at ${[endpoint ?? []].flat().join(", ")}`,
    maxPositions: Infinity,
    parts,
    config: parts?.config ?? config,
    judging: (engine) => there.judging(engine),
    prepare: () => Promise.resolve(),
    warnings: () => there.warnings(),
    takeCounts: () => tokensOf(there.client, "policy"),
  };
}
