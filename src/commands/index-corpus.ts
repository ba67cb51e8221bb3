/** `zerosearch index`: builds an index of a corpus on disk, of words, which `bm25.index` searches, or of embeddings, which `dense.index` does. */
import { statSync } from "node:fs";
import { basename } from "node:path";
import type { ArgumentSpec } from "../config/index.ts";
import { isHubAddress } from "../hub/find-data-file.ts";
import { formatCount, formatDuration, steadyClock } from "../log/progress.ts";
import { buildIndex, type BuildProgress } from "../search/bm25/build.ts";
import { partialOf } from "../search/index-file.ts";
import { findFileShown } from "../setup/download-progress.ts";
import { ConfigError } from "../util/errors.ts";
import { counted } from "../util/plural.ts";
import { Bars } from "./index-corpus/bars.ts";
import { denseConfig, makeDenseIndex } from "./index-corpus/dense.ts";
import { readArguments, say, untilInterrupted } from "./program.ts";

const spec: ArgumentSpec = {
  program: "zerosearch index",
  summary:
    "Builds a BM25 index of a corpus on disk, to be searched by bm25.index=FILE without being built each time; with --dense one of embeddings.",
  words: ["CORPUS"],
  options: {
    to: { value: "FILE", doc: "The index (CORPUS.bm25, or CORPUS.dense)." },
    dense: { doc: "Embeds the passages, with the model that the settings name: dense.path=FOLDER. It is searched by dense.index=FILE." },
    config: { value: "FILE", doc: "With --dense, a YAML file as for training whose section dense holds." },
  },
  settings: true,
};

const more = `
CORPUS is a file of rows {id, text, title?} or {id, contents}: JSON Lines, a JSON list or parquet, also gz or zst; or hf://datasets/OWNER/NAME/FILE.
What was stopped, by Ctrl-C, a kill or a full disk, goes on when the same command is given again. docs/retrieval.md says more.
`;

export async function main(argv: readonly string[]): Promise<void> {
  const read = readArguments(argv, spec, more);
  if (read === null) return;
  const { options, words, settings } = read;
  const [corpus] = words;
  if (corpus === undefined)
    throw new ConfigError({
      where: "zerosearch index",
      what: "no corpus is named",
      expected: "a file of passages, such as passages.jsonl",
    });
  const dense = options.has("dense");
  const file = options.get("to") ?? `${isHubAddress(corpus) ? basename(corpus).replace(/@.*$/, "") : corpus}.${dense ? "dense" : "bm25"}`;
  if (!dense && (settings.length > 0 || options.has("config")))
    throw new ConfigError({
      where: settings[0] ?? "--config",
      what: "is of no use",
      expected: "no settings, or --dense: an index of words has none",
    });
  const config = dense ? denseConfig(corpus, settings, options.get("config")) : null;
  const make = async (signal: AbortSignal): Promise<void> => {
    const found = isHubAddress(corpus) ? await findFileShown(corpus, { signal }) : { file: corpus, pinned: basename(corpus) };
    if (config === null) await makeIndex(found.file, found.pinned, file, signal);
    else await makeDenseIndex(config, { corpus: found.file, source: found.pinned, file, signal });
  };
  await untilInterrupted(make, {
    leave: () => process.stderr.write("Interrupted: the same command goes on where this one stopped.\n"),
  });
}

async function makeIndex(corpus: string, source: string, file: string, signal: AbortSignal): Promise<void> {
  const bars = new Bars();
  const begun = steadyClock();
  const label = { hash: `hashing ${corpus}, MiB`, read: `reading ${corpus}, MiB`, merge: "merging lists" };
  const onProgress = ({ phase, done, total, passages }: BuildProgress): void =>
    bars.update({ label: label[phase], done, total, bytes: phase !== "merge", ...(phase === "read" ? { made: { passages } } : {}) });
  const { about, made, resumedFrom } = await buildIndex({
    ...{ corpus, source, file, signal, onProgress },
    onResume: ({ passages }) => bars.say(`${partialOf(file)} has ${counted(passages, "passage")}: going on behind them`),
  }).finally(() => bars.finish());
  const size = `${counted(about.passages, "passage")} of ${about.source}, ${formatCount(statSync(file).size / 2 ** 20)} MiB`;
  const took = formatDuration((steadyClock() - begun) / 1000);
  say(made ? `${file}: ${size}, in ${took}${resumedFrom > 0 ? " since it went on" : ""}` : `${file}: is there already: ${size}`);
  say(`search it with bm25.index=${file}`);
}
