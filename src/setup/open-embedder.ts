/** Opens what embeddings are made and searched on, where there is no policy besides: a device, and the model of `dense.path` where one is given. */
import type { Config } from "../config/index.ts";
import { withValue } from "../config/keys.ts";
import type { Device } from "../device/device.ts";
import type { TextStream } from "../log/progress.ts";
import type { Closing } from "./closing.ts";
import { showOn } from "./locate-models.ts";
import { embedderRole } from "./model-roles.ts";
import { openDevice } from "./open-device.ts";
import { openWeights, type Model } from "./open-model.ts";

export interface OpenedEmbedder {
  /** With the folder in place of a Hub id. */
  readonly config: Config;
  readonly device: Device;
  readonly embedder: Model | null;
}

/** @throws as `openPolicy` */
export async function openEmbeddingParts(config: Config, closing: Closing, stream: TextStream = process.stdout): Promise<OpenedEmbedder> {
  const { path } = config.dense;
  const found = path === null ? null : await showOn(stream)(path, "dense.path", "model");
  const device = closing.add<Device>(await openDevice(config.device, (line) => stream.write(`${line}\n`)), (one) => one.destroy());
  if (found === null) return { config, device, embedder: null };
  const source = found.hub?.id ?? (path as string);
  const role = embedderRole(config, { source, folder: found.folder, commit: found.hub?.commit });
  const opened = closing.add(await openWeights({ ...role, headless: true }, device), ({ decoder }) => decoder.dispose());
  const { folder, commit } = role;
  const embedder: Model = { ...opened, source, folder, commit, maxPositions: opened.decoder.maxPositions, adapter: undefined };
  return { config: withValue(config, "dense.path", found.folder), device, embedder };
}
