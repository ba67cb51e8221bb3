/** All models that a configuration names, found on this machine or fetched from the Hub, before anything is opened. */
import type { Environment, FoundModel } from "../hub/find-model.ts";
import { keys, valueAt } from "../config/keys.ts";
import type { Config } from "../config/index.ts";
import type { TextStream } from "../log/progress.ts";
import { findShown } from "./download-progress.ts";

/** Where the models of a configuration are. */
export interface ConfigModels {
  /** By configuration key, such as `model.policy`; without those that are null. */
  readonly found: ReadonlyMap<string, FoundModel>;
  /** The configuration with folders in place of Hub ids: to open. */
  readonly opened: Config;
  /**
   * The configuration with every Hub id pinned to the commit that was found, `Qwen/Qwen2.5-3B@<commit>`: to save with a run, so that it
   * goes on with the same weights when the branch has moved.
   */
  readonly pinned: Config;
}

export interface LocateModelsOptions {
  readonly stream?: TextStream | undefined;
  readonly env?: Environment | undefined;
  /** Ends a download, which the next one goes on from. */
  readonly signal?: AbortSignal | undefined;
}

/** Keys of LoRA adapters; other models are whole ones. */
const adapterKeys: readonly string[] = ["lora.from", "simulator.adapter"];

/**
 * Finds every model of a configuration: folders, Hub ids in the local cache, and what must be downloaded, with a bar. For each that is
 * the Hub's, a line says which commit is used.
 * @throws as `locateModel`, naming the configuration key.
 */
export async function locateConfigModels(config: Config, options: LocateModelsOptions = {}): Promise<ConfigModels> {
  const { stream = process.stdout, env, signal } = options;
  const found = new Map<string, FoundModel>();
  let opened = config;
  let pinned = config;
  for (const { key, model } of keys) {
    const source = valueAt(config, key);
    if (!model || typeof source !== "string") continue;
    const kind = adapterKeys.includes(key) ? "adapter" : "model";
    const one = await findShown(source, { where: key, kind, env, signal }, stream, `${key} `);
    found.set(key, one);
    if (one.hub === null) continue;
    opened = withValue(opened, key, one.folder);
    pinned = withValue(pinned, key, `${one.hub.id}@${one.hub.commit}`);
  }
  return { found, opened, pinned };
}

function withValue(config: Config, key: string, value: string): Config {
  const [section = "", name = ""] = key.split(".");
  const old = config[section as keyof Config];
  return { ...config, [section]: { ...(old as object), [name]: value } };
}
