/** Downloads, shown to people: a bar over the bytes of all files. */
import { findDataFile, type FoundFile, type LocateFileOptions } from "../hub/find-data-file.ts";
import { describeFound, findModel, type DownloadProgress, type FoundModel, type LocateOptions } from "../hub/find-model.ts";
import { Progress, type TextStream } from "../log/progress.ts";

/** Between two lines where there is no terminal: milliseconds. */
const INTERVAL = 10_000;
const MIB = 2 ** 20;

/** Finds a model, behind a bar where it must be downloaded; a line says which commit of the Hub's it is. @throws as `findModel` */
export async function findShown(
  source: string,
  options: Omit<LocateOptions, "onProgress" | "onNote">,
  stream?: TextStream,
  label = "",
): Promise<FoundModel> {
  const bar = new DownloadBar(stream);
  const { onProgress, onNote } = bar;
  const found = await findModel(source, { ...options, onProgress, onNote }).finally(() => bar.finish());
  if (found.hub !== null) onNote(`${label}${describeFound(found)}`);
  return found;
}

/** The same of a data set's file. @throws as `findDataFile` */
export async function findFileShown(
  source: string,
  options: Omit<LocateFileOptions, "onProgress" | "onNote">,
  stream?: TextStream,
  label = "",
): Promise<FoundFile> {
  const bar = new DownloadBar(stream);
  const { onProgress, onNote } = bar;
  const found = await findDataFile(source, { ...options, onProgress, onNote }).finally(() => bar.finish());
  onNote(`${label}${found.pinned} ${found.from === "cache" ? "from the Hub cache" : "downloaded from the Hub"}`);
  return found;
}

/** Callbacks for `findModel`, which draw. One at a time: a new model or commit begins a new bar. */
class DownloadBar {
  readonly #stream: TextStream;
  #bar: Progress | null = null;
  #name = "";

  constructor(stream: TextStream = process.stdout) {
    this.#stream = stream;
  }

  readonly onProgress = ({ id, commit, done, total, files, allFiles }: DownloadProgress): void => {
    const name = `${id} @ ${commit.slice(0, 7)}`;
    // A model that is here has nothing to show, and the end is when all files are in their place.
    if (done === total && (this.#bar === null || files < allFiles)) return;
    if (this.#bar === null || this.#name !== name) {
      this.finish();
      this.#name = name;
      this.#bar = new Progress({
        label: `downloading ${name}, MiB`,
        total: total / MIB,
        from: done / MIB,
        unit: "MiB",
        plainInterval: INTERVAL,
        stream: this.#stream,
      });
    }
    this.#bar.update(done / MIB, { files: `${files}/${allFiles}` });
  };

  readonly onNote = (note: string): void => {
    if (this.#bar === null) this.#stream.write(`${note}\n`);
    else this.#bar.print(note);
  };

  /** Ends the bar, which stays as it is. */
  finish(): void {
    this.#bar?.finish();
    this.#bar = null;
  }
}
