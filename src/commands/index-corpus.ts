/** `zerosearch index`: builds a BM25 index of a corpus on disk, which `bm25.index` searches. */
import { statSync } from "node:fs";
import { basename } from "node:path";
import type { ArgumentSpec } from "../config/index.ts";
import { isHubAddress } from "../hub/find-data-file.ts";
import { formatCount, formatDuration, Progress, steadyClock, type TextStream } from "../log/progress.ts";
import { buildIndex, type BuildProgress } from "../search/bm25/build.ts";
import { partialOf } from "../search/index-file.ts";
import { findFileShown } from "../setup/download-progress.ts";
import { ConfigError } from "../util/errors.ts";
import { readArguments, say, untilInterrupted } from "./program.ts";

const spec: ArgumentSpec = {
  program: "zerosearch index",
  summary: "Builds a BM25 index of a corpus on disk, to be searched by bm25.index=FILE without being built each time.",
  words: ["CORPUS"],
  options: { to: { value: "FILE", doc: "The index (CORPUS.bm25)." } },
};

const more = `
CORPUS is a file of rows {id, text, title?} or {id, contents}: JSON Lines, a JSON list or parquet, also gz or zst; or hf://datasets/OWNER/NAME/FILE.
What was stopped, by Ctrl-C, a kill or a full disk, goes on when the same command is given again. docs/retrieval.md says more.
`;

/** Between two lines where there is no terminal: milliseconds. */
const INTERVAL = 10_000;
const MIB = 2 ** 20;

export async function main(argv: readonly string[]): Promise<void> {
  const read = readArguments(argv, spec, more);
  if (read === null) return;
  const { options, words } = read;
  const [corpus] = words;
  if (corpus === undefined)
    throw new ConfigError({
      where: "zerosearch index",
      what: "no corpus is named",
      expected: "a file of passages, such as passages.jsonl",
    });
  const file = options.get("to") ?? `${isHubAddress(corpus) ? basename(corpus).replace(/@.*$/, "") : corpus}.bm25`;
  await untilInterrupted((signal) => makeIndex(corpus, file, signal), {
    leave: () => process.stderr.write("Interrupted: the same command goes on where this one stopped.\n"),
  });
}

async function makeIndex(corpus: string, file: string, signal: AbortSignal): Promise<void> {
  const found = isHubAddress(corpus) ? await findFileShown(corpus, { signal }) : { file: corpus, pinned: basename(corpus) };
  const bars = new Bars(corpus);
  const begun = steadyClock();
  const { about, made, resumedFrom } = await buildIndex({
    corpus: found.file,
    source: found.pinned,
    file,
    signal,
    onProgress: bars.onProgress,
    onResume: ({ passages }) => bars.say(`${partialOf(file)} has ${formatCount(passages)} passages: going on behind them`),
  }).finally(() => bars.finish());
  const bytes = statSync(file).size;
  const size = `${formatCount(about.passages)} passages of ${about.source}, ${formatCount(bytes / MIB)} MiB`;
  const took = formatDuration((steadyClock() - begun) / 1000);
  say(made ? `${file}: ${size}, in ${took}${resumedFrom > 0 ? " since it went on" : ""}` : `${file}: is there already: ${size}`);
  say(`search it with bm25.index=${file}`);
}

/** One bar after the other. */
class Bars {
  readonly #corpus: string;
  readonly #stream: TextStream;
  #bar: Progress | null = null;
  #phase = "";
  /** When reading began, and with how many passages. */
  #from = { at: 0, passages: 0 };

  constructor(corpus: string, stream: TextStream = process.stdout) {
    this.#corpus = corpus;
    this.#stream = stream;
  }

  readonly onProgress = ({ phase, done, total, passages }: BuildProgress): void => {
    const scale = phase === "merge" ? 1 : MIB;
    if (this.#bar === null || this.#phase !== phase) {
      this.finish();
      this.#phase = phase;
      this.#from = { at: steadyClock(), passages };
      this.#bar = new Progress({
        label: { hash: `hashing ${this.#corpus}, MiB`, read: `reading ${this.#corpus}, MiB`, merge: "merging lists" }[phase],
        total: total / scale,
        from: done / scale,
        ...(phase === "merge" ? {} : { unit: "MiB" }),
        plainInterval: INTERVAL,
        stream: this.#stream,
      });
    }
    const seconds = (steadyClock() - this.#from.at) / 1000;
    const rate = seconds > 0 ? (passages - this.#from.passages) / seconds : 0;
    this.#bar.update(
      done / scale,
      phase === "read" ? { passages: formatCount(passages), "passages/s": formatCount(Math.round(rate)) } : {},
    );
  };

  say(text: string): void {
    if (this.#bar === null) this.#stream.write(`${text}\n`);
    else this.#bar.print(text);
  }

  finish(): void {
    this.#bar?.finish();
    this.#bar = null;
  }
}
