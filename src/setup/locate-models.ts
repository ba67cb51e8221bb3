/** The models that a configuration names and a run needs, found on this machine or fetched from the Hub, before anything is opened. */
import { realpath } from "node:fs/promises";
import { enginesUsed, type Config } from "../config/index.ts";
import { keys, valueAt, withValue } from "../config/keys.ts";
import type { FoundModel, ModelKind } from "../hub/find-model.ts";
import type { TextStream } from "../log/progress.ts";
import { findShown } from "./download-progress.ts";
import type { LocatedModel, LocatedModels } from "./model-roles.ts";

/** Where the models of a configuration are. */
export interface ConfigModels {
  readonly located: LocatedModels;
  /** The configuration with folders in place of Hub ids, and null in place of models that are not needed: to open. */
  readonly opened: Config;
  /**
   * The configuration with every Hub id pinned to the commit that was found, `Qwen/Qwen2.5-3B@<commit>`: to save with a run, so that it
   * goes on with the same weights when the branch has moved.
   */
  readonly pinned: Config;
}

/** How one model is found. @throws naming the configuration key */
export type Find = (source: string, key: string, kind: ModelKind) => Promise<FoundModel>;

/** What is needed besides the policy. */
export interface ModelsNeeded {
  /** The models that a policy learns with: true unless told. */
  readonly trains?: boolean;
  /** The simulator: where training asks it, unless told. */
  readonly simulates?: boolean;
  /** What makes embeddings: where training or judging searches them, unless told. */
  readonly embeds?: boolean;
}

/** With a bar for what is downloaded; of a model that is the Hub's, a line says which commit is used. */
export function showOn(stream?: TextStream): Find {
  return (source, where, kind) => findShown(source, { where, kind }, stream, `${where} `);
}

/** Keys of LoRA adapters; other models are whole ones. */
const adapterKeys: readonly string[] = ["lora.from", "simulator.adapter"];

/** Finds every model that is needed; two names for one folder are one model. @throws as `find` */
export async function locateConfigModels(config: Config, needed: ModelsNeeded = {}, find: Find = showOn()): Promise<ConfigModels> {
  const used = enginesUsed(config, "train");
  const { trains = true, simulates = used.includes("simulated"), embeds = used.includes("dense") } = needed;
  const idle = (key: string, section: string): boolean =>
    // A judge is opened in the policy's place, when that has done its part.
    section === "judge" ||
    (!simulates && section === "simulator") ||
    (!embeds && section === "dense") ||
    (!trains && (key === "model.referencePolicy" || section === "critic"));
  const located = new Map<string, LocatedModel>();
  let opened = config;
  let pinned = config;
  for (const { key, section, model } of keys) {
    const source = valueAt(config, key);
    if (!model || typeof source !== "string") continue;
    if (idle(key, section)) {
      opened = withValue(opened, key, null);
      continue;
    }
    const { folder, hub } = await find(source, key, adapterKeys.includes(key) ? "adapter" : "model");
    located.set(key, { source: hub?.id ?? source, commit: hub?.commit, folder: await realpath(folder) });
    if (hub === null) continue;
    opened = withValue(opened, key, folder);
    pinned = withValue(pinned, key, `${hub.id}@${hub.commit}`);
  }
  return {
    located: {
      policy: located.get("model.policy") as LocatedModel,
      simulator: located.get("simulator.path") ?? null,
      embedder: located.get("dense.path") ?? null,
      referencePolicy: located.get("model.referencePolicy") ?? null,
      critic: located.get("critic.path") ?? null,
    },
    opened,
    pinned,
  };
}
