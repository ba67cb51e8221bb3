/**
 * Which weights a run holds, and who computes with them: decided from the configuration and the models' folders, before anything is
 * loaded. Frozen weights of one folder are held once, whatever roles they play; what tells the roles apart is their LoRA adapter.
 */
import type { Config } from "../config/index.ts";
import { nearest } from "../util/nearest.ts";
import type { Dtype } from "../device/device.ts";
import { linearNames, type LinearName } from "../nn/block.ts";
import type { AdapterOptions } from "../nn/decoder.ts";
import { ConfigError } from "../util/errors.ts";

export type Role = "policy" | "simulator" | "embedder" | "reference" | "critic";

/** A LoRA adapter, which has the name of its role. */
export interface AdapterPlan {
  /** Its PEFT folder; null for a new one, which changes nothing until it has learnt. */
  readonly from: string | null;
  readonly learns: boolean;
}

/** What one role computes with. */
export interface RolePlan {
  readonly role: Role;
  /** Folder of the weights. */
  readonly folder: string;
  /** What the configuration calls them: a folder, or a Hub id. */
  readonly source: string;
  /** Of a Hub id. */
  readonly commit?: string | undefined;
  /** Storage type of the weights. */
  readonly dtype: Dtype;
  /** Whether the weights themselves learn. */
  readonly learns: boolean;
  /** The longest sequence of this role. */
  readonly maxPositions: number;
  readonly adapter: AdapterPlan | null;
}

/** One copy of weights. */
export interface WeightsPlan extends Pick<RolePlan, "folder" | "dtype" | "learns" | "maxPositions"> {
  /** Those that share it. */
  readonly roles: readonly RolePlan[];
  /** Whether nobody asks for its logits. */
  readonly headless?: boolean;
}

/** A model as the configuration names it, and the folder it lies in, whose links are resolved. */
export interface LocatedModel {
  readonly source: string;
  /** The commit that was found of a Hub id. */
  readonly commit?: string | undefined;
  readonly folder: string;
}

export interface LocatedModels {
  readonly policy: LocatedModel;
  /** Null where the simulator runs behind an endpoint. */
  readonly simulator: LocatedModel | null;
  /** What makes the embeddings of dense; null where no model of this process does. */
  readonly embedder: LocatedModel | null;
  /** Null where the policy's own start is the reference. */
  readonly referencePolicy: LocatedModel | null;
  /** Null where the critic starts as the policy does. */
  readonly critic: LocatedModel | null;
}

export interface RoleOptions {
  /** The simulator's longest sequence (`simulatorPositions`). */
  readonly simulatorPositions: number;
  /** False where the policy is judged only: nothing learns then, and no reference is held. */
  readonly trains: boolean;
}

/** Whether a run learns with a critic. */
export function hasCritic({ algorithm }: Pick<Config, "algorithm">): boolean {
  return algorithm.advantage === "gae";
}

/** Whether its critic stands on weights of its own, or an adapter of its own. */
export function hasOwnCritic(config: Pick<Config, "algorithm" | "critic">): boolean {
  return hasCritic(config) && config.critic.trunk === "own";
}

/** Whether the policy is a LoRA adapter on frozen weights. */
export function usesLora({ lora }: Config): boolean {
  return lora.rank > 0 || lora.from !== null;
}

/**
 * The roles of a run. With LoRA, the reference policy is the policy's own weights without its adapter, or with a second copy of the
 * adapter that it starts from; a critic of its own is another adapter on them.
 * @throws ConfigError for wrong `lora.targets`, and when a policy that is judged only should have an adapter, and nothing says which.
 */
function modelRoles(config: Config, located: LocatedModels, { simulatorPositions, trains }: RoleOptions): RolePlan[] {
  const { model, rollout, lora, simulator, algorithm } = config;
  const withLora = usesLora(config);
  if (!trains && withLora && lora.from === null)
    throw new ConfigError({
      where: "lora.from",
      what: `is missing: lora.rank says that the policy is an adapter on ${model.policy}, but not which`,
      expected: "the folder of the adapter",
      got: "null",
      hint: "Give lora.from=FOLDER, such as checkpoints/<run>/policy of a run with LoRA, or lora.rank=0 to judge the model itself.",
    });
  if (withLora && lora.from === null) loraTargets(lora.targets); // throws before anything is loaded
  const policy: RolePlan = {
    role: "policy",
    ...located.policy,
    dtype: withLora ? model.dtype : "f32",
    learns: trains && !withLora,
    maxPositions: rollout.maxContextTokens,
    adapter: withLora ? { from: lora.from, learns: trains } : null,
  };
  const roles = [policy];
  if (located.simulator !== null)
    roles.push({
      role: "simulator",
      ...located.simulator,
      dtype: model.dtype,
      learns: false,
      maxPositions: simulatorPositions,
      adapter: simulator.adapter === null ? null : { from: simulator.adapter, learns: false },
    });
  if (located.embedder !== null) roles.push(embedderRole(config, located.embedder));
  if (trains && algorithm.klCoef !== 0)
    roles.push({
      role: "reference",
      ...(located.referencePolicy ?? located.policy),
      dtype: model.dtype,
      learns: false,
      maxPositions: rollout.maxContextTokens,
      adapter: located.referencePolicy === null && lora.from !== null ? { from: lora.from, learns: false } : null,
    });
  if (trains && hasOwnCritic(config))
    roles.push({
      role: "critic",
      ...(located.critic ?? located.policy),
      dtype: policy.dtype,
      learns: policy.learns,
      maxPositions: rollout.maxContextTokens,
      adapter: policy.adapter === null ? null : { from: located.critic === null ? lora.from : null, learns: true },
    });
  return roles;
}

/** What makes embeddings in this process. */
export function embedderRole({ model, dense }: Pick<Config, "model" | "dense">, located: LocatedModel): RolePlan {
  return { role: "embedder", ...located, dtype: model.dtype, learns: false, maxPositions: dense.maxTokens, adapter: null };
}

/** The copies of weights that the roles of a run need, in the roles' order: one of each frozen model, and one of what learns. @throws as `modelRoles` */
export function copiesOf(config: Config, located: LocatedModels, options: RoleOptions): WeightsPlan[] {
  const roles = modelRoles(config, located, options);
  const copies = new Map<string, RolePlan[]>();
  for (const role of roles) {
    const key = JSON.stringify([role.folder, role.dtype, role.learns && role.role]);
    copies.set(key, [...(copies.get(key) ?? []), role]);
  }
  return [...copies.values()].map((sharing) => {
    const { folder, dtype, learns } = sharing[0] as RolePlan;
    const maxPositions = Math.max(...sharing.map((one) => one.maxPositions));
    const headless = sharing.every(({ role }) => role === "embedder");
    return { folder, dtype, learns, maxPositions, roles: sharing, ...(headless ? { headless } : {}) };
  });
}

/** The adapter that a policy with LoRA starts with, where none is given. @throws ConfigError as `loraTargets` */
export function addedAdapter({ lora: { rank, alpha, targets }, seed }: Pick<Config, "lora" | "seed">): AdapterOptions {
  return { rank, alpha, targets: loraTargets(targets), seed };
}

/**
 * The linear layers that `lora.targets` names: `q_proj,v_proj`, or in full as in a checkpoint, `self_attn.q_proj`. In a block's order.
 * @throws ConfigError for a name that is none, with the nearest that is.
 */
export function loraTargets(text: string): LinearName[] {
  const short = (name: string): string => name.slice(name.indexOf(".") + 1);
  const wanted = text
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
  const known = linearNames.flatMap((name) => [short(name), name]);
  const wrong = wanted.find((name) => !known.includes(name));
  if (wrong !== undefined || wanted.length === 0) {
    const guess = wrong === undefined ? undefined : nearest(wrong, known);
    throw new ConfigError({
      where: "lora.targets",
      what: wrong === undefined ? "names no linear layer" : "is not a linear layer of a block",
      expected: `some of ${linearNames.map(short).join(", ")}`,
      got: JSON.stringify(wrong ?? text),
      hint: guess === undefined ? undefined : `did you mean ${guess}?`,
    });
  }
  return linearNames.filter((name) => wanted.includes(name) || wanted.includes(short(name)));
}
