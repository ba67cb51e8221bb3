/** Which files of a repository are fetched. Those that make a model: no duplicates in other formats, nothing in sub-folders, no pictures. */
import { FileError } from "../util/errors.ts";
import { ADAPTER_WEIGHTS, isCompanion, WEIGHTS, WEIGHTS_INDEX } from "../checkpoint/folder-files.ts";
import { shardsOf } from "./cache.ts";
import { markOf, type ModelKind, type Wanted } from "./source.ts";

/** A file of a repository, checked: its name stays inside a folder, and its etag is a hash of its content. */
export interface RepoFile {
  readonly path: string;
  readonly bytes: number;
  /** Hexadecimal: SHA-256 of the content (64 digits, large files), or git's SHA-1 of it as a blob (40 digits). Names it in the cache. */
  readonly etag: string;
}

/** A row of the Hub's listing of files, of which nothing is certain. */
export interface ListedEntry {
  readonly type?: unknown;
  readonly path?: unknown;
  readonly size?: unknown;
  readonly oid?: unknown;
  readonly lfs?: { readonly oid?: unknown; readonly size?: unknown } | null | undefined;
}

/**
 * Checks a row of a listing; null for a folder. Path and hash become names of files here, so a server that is not what it seems must not
 * choose where they lie.
 * @throws FileError for a path that leads elsewhere, or a hash or size that is none.
 */
export function checkedEntry(where: string, entry: ListedEntry | null | undefined): RepoFile | null {
  if (entry?.type === "directory") return null;
  const path = entry?.path;
  const refuse = (what: string, expected: string, got: unknown): FileError =>
    new FileError({
      where,
      what,
      expected,
      got: JSON.stringify(got),
      hint: "The server does not answer as the Hub does; nothing was fetched.",
    });
  // A folder's name may not start with a drive or a slash, nor climb, by the rules of any system.
  if (typeof path !== "string" || path === "" || !path.split("/").every(isPlainName))
    throw refuse("the list of files has a path that leads out of the model's folder", "plain names", path);
  const etag = entry?.lfs?.oid ?? entry?.oid;
  if (typeof etag !== "string" || !/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(etag))
    throw refuse(`the list of files has no hash for ${path}`, "40 or 64 hexadecimal digits", etag);
  const bytes = entry?.lfs?.size ?? entry?.size;
  if (typeof bytes !== "number" || !Number.isSafeInteger(bytes) || bytes < 0)
    throw refuse(`the list of files has no size for ${path}`, "bytes", bytes);
  return { path, bytes, etag };
}

function isPlainName(part: string): boolean {
  return part !== "" && part !== "." && part !== ".." && !/[\\:\x00-\x1f\x7f-\x9f]/.test(part);
}

/** What to fetch: first these; then, where an index is among them, the weight files that it names. */
export interface Needed {
  readonly files: readonly RepoFile[];
  /** One of `files`; null where there is one weight file, which `files` then has. */
  readonly index: RepoFile | null;
}

/**
 * Chooses from all files of a repository.
 * @throws FileError where it holds no model of that kind, or no such file, naming what it holds instead.
 */
export function neededFiles(where: string, files: readonly RepoFile[], kind: Wanted): Needed {
  if (typeof kind === "object") {
    const file = files.find(({ path }) => path === kind.file);
    if (file === undefined)
      throw new FileError({ where, what: `the data set has no file ${kind.file}`, expected: "one of its files", got: summary(files) });
    return { files: [file], index: null };
  }
  const byName = new Map(files.map((file) => [file.path, file]));
  const need = (name: string, what: string): RepoFile => {
    const file = byName.get(name);
    if (file !== undefined) return file;
    throw new FileError({ where, what, expected: name, got: summary(files), hint: otherKind(byName, kind) });
  };
  const mark = need(markOf[kind], kind === "adapter" ? "the repository holds no LoRA adapter" : "the repository holds no model");
  if (kind === "adapter") return { files: [mark, need(ADAPTER_WEIGHTS, "the adapter has no weights in safetensors")], index: null };
  need("tokenizer.json", "the model has no tokenizer that can be read");
  const companions = files.filter(({ path }) => isCompanion(path));
  // In this order, as a model's folder is read.
  const single = byName.get(WEIGHTS);
  if (single !== undefined) return { files: [mark, ...companions, single], index: null };
  const index = byName.get(WEIGHTS_INDEX) ?? need(WEIGHTS, "the model has no weights in safetensors");
  return { files: [mark, ...companions, index], index };
}

/**
 * The weight files that the text of an index names.
 * @throws FileError where it is no index, or names files that the repository lacks.
 */
export function weightFiles(where: string, index: string, files: readonly RepoFile[]): RepoFile[] {
  const names = shardsOf(index);
  if (names === null) throw new FileError({ where, what: `${WEIGHTS_INDEX} is no index of weight files` });
  return names.map((name) => {
    const file = files.find(({ path }) => path === name);
    if (file === undefined) throw new FileError({ where, what: `${WEIGHTS_INDEX} names ${name}, which the repository lacks` });
    return file;
  });
}

function otherKind(byName: ReadonlyMap<string, RepoFile>, kind: ModelKind): string | undefined {
  if (kind === "model" && byName.has(markOf.adapter) && !byName.has(markOf.model))
    return "It is a LoRA adapter: give the model it belongs to, and this as lora.from or simulator.adapter.";
  if (kind === "adapter" && byName.has(markOf.model)) return "It is a model: adapters have adapter_config.json.";
  return undefined;
}

/** A few names, those that look like weights first. */
function summary(files: readonly RepoFile[]): string {
  if (files.length === 0) return "an empty repository";
  const weights = /\.(?:safetensors|bin|pth?|gguf|onnx|h5|msgpack)$/;
  const names = files.map(({ path }) => path).sort((a, b) => Number(weights.test(b)) - Number(weights.test(a)) || (a < b ? -1 : 1));
  return names.slice(0, 4).join(", ") + (names.length > 4 ? ` and ${names.length - 4} more` : "");
}
