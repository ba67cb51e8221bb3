/** `zerosearch index --dense`: embeds a corpus once, on the device and with the model that settings name. */
import { statSync } from "node:fs";
import { packagedConfig, readOverride, readYaml, resolveConfig, type Config } from "../../config/index.ts";
import { formatCount, formatDuration, steadyClock } from "../../log/progress.ts";
import { partialOf } from "../../search/index-file.ts";
import { buildDenseIndex, type DenseBuildProgress } from "../../search/dense/build.ts";
import { checkDense, openEmbedder } from "../../search/open-dense.ts";
import { Closing } from "../../setup/closing.ts";
import { openEmbeddingParts } from "../../setup/open-embedder.ts";
import { prepareEmbedder } from "../../setup/prepare-device.ts";
import { say } from "../program.ts";
import { Bars } from "./bars.ts";
import { counted } from "../../util/plural.ts";

export interface DenseIndexing {
  readonly corpus: string;
  /** What the index says it was made of. */
  readonly source: string;
  readonly file: string;
  readonly signal: AbortSignal;
}

/** The configuration that settings make, with dense as its only engine. @throws ConfigError */
export function denseConfig(corpus: string, settings: readonly string[], file: string | undefined): Config {
  const base = readYaml(file ?? packagedConfig("quickstart"));
  const overrides = [...settings, "evaluation.engine=dense", "dense.index=null", `data.corpus=${JSON.stringify(corpus)}`];
  return resolveConfig([...base, ...overrides.map(readOverride)], "ask");
}

export async function makeDenseIndex(config: Config, { corpus, source, file, signal }: DenseIndexing): Promise<void> {
  await checkDense(config.dense, { corpus });
  const closing = new Closing();
  await closing.after(async () => {
    const { config: found, device, embedder: model } = await openEmbeddingParts(config, closing);
    if (model !== null) await prepareEmbedder(device, found, model);
    const embedder = await openEmbedder(found.dense, { embedding: { device, model }, seed: found.seed, now: steadyClock, say });
    closing.add(embedder, (one) => one.close());
    const bars = new Bars();
    const begun = steadyClock();
    const label = { hash: `hashing ${corpus}, MiB`, embed: `embedding ${corpus}, MiB` };
    const onProgress = ({ phase, done, total, passages, tokens }: DenseBuildProgress): void =>
      bars.update({ label: label[phase], done, total, bytes: true, ...(phase === "embed" ? { made: { passages, tokens } } : {}) });
    const { about, made, resumedFrom } = await buildDenseIndex({
      ...{ corpus, source, file, embedder, signal, onProgress },
      ...{ instruction: found.dense.instruction, dtype: found.dense.dtype },
      onResume: ({ passages }) => bars.say(`${partialOf(file)} has ${counted(passages, "passage")}: going on behind them`),
    }).finally(() => bars.finish());
    const size = `${counted(about.passages, "passage")} of ${about.source}, ${about.width} numbers each, by ${about.embedder.model}, ${formatCount(statSync(file).size / 2 ** 20)} MiB`;
    const took = formatDuration((steadyClock() - begun) / 1000);
    say(made ? `${file}: ${size}, in ${took}${resumedFrom > 0 ? " since it went on" : ""}` : `${file}: is there already: ${size}`);
    if (about.truncated > 0)
      say(`${counted(about.truncated, "passage was", "passages were")} cut to ${about.embedder.maxTokens} tokens (dense.maxTokens)`);
    say(`search it with dense.index=${file}, and the same model`);
  });
}
