/** Which corpus an index is of: the hash of its file. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { FileError } from "../util/errors.ts";
import { readPassages } from "./passages.ts";

interface Identity {
  readonly sha256: string;
  readonly bytes: number;
}

/** What an index says of its corpus. */
interface CorpusOfIndex extends Identity {
  /** What the corpus was called. */
  readonly source: string;
}

export interface HashOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onBytes?: (done: number) => void;
}

/** @throws FileError where it cannot be read, the signal's reason */
export async function hashCorpus(file: string, { signal, onBytes }: HashOptions = {}): Promise<Identity> {
  const hash = createHash("sha256");
  let bytes = 0;
  try {
    for await (const chunk of createReadStream(file, { highWaterMark: 2 ** 20 }) as AsyncIterable<Buffer>) {
      signal?.throwIfAborted();
      hash.update(chunk);
      bytes += chunk.length;
      onBytes?.(bytes);
    }
  } catch (cause) {
    signal?.throwIfAborted();
    throw unreadable(file, cause);
  }
  return { sha256: hash.digest("hex"), bytes };
}

/** @throws FileError where the index is of another corpus, or the corpus cannot be read */
export async function checkCorpus(file: string, about: CorpusOfIndex, corpus: string): Promise<void> {
  const { size } = await stat(corpus).catch((cause: unknown) => {
    throw unreadable(corpus, cause);
  });
  // What has another length need not be hashed.
  const sha256 = size === about.bytes ? (await hashCorpus(corpus)).sha256 : null;
  if (sha256 !== about.sha256) throw otherCorpus(file, about, corpus, { sha256, bytes: size });
}

/** An index of one corpus where one of another is wanted. */
export function otherCorpus(file: string, about: CorpusOfIndex, corpus: string, its: { sha256: string | null; bytes: number }): FileError {
  const marks = ({ sha256, bytes }: typeof its): string =>
    its.bytes !== about.bytes || sha256 === null ? `${bytes} bytes` : `SHA-256 ${sha256.slice(0, 16)}…`;
  return new FileError({
    where: file,
    what: "is an index of another corpus, or the corpus has changed since",
    expected: `an index of ${corpus} (${marks(its)})`,
    got: `one of ${about.source} (${marks(about)})`,
    hint: "Build one of this corpus: zerosearch index CORPUS --to ANOTHER-FILE.",
  });
}

function unreadable(file: string, cause: unknown): FileError {
  return new FileError({ where: file, what: "cannot read the corpus", got: (cause as Error).message }, { cause });
}

/** The hash of a file that is to be indexed, with the bytes done and all; what is no corpus is told before gigabytes of it are hashed. @throws as `readPassages` and `hashCorpus` */
export async function hashPassages(
  corpus: string,
  { signal, onBytes }: { readonly signal?: AbortSignal | undefined; readonly onBytes: (done: number, total: number) => void },
): Promise<Identity> {
  const passages = readPassages(corpus);
  await passages.next();
  await passages.return(undefined);
  const total = (await stat(corpus)).size;
  return hashCorpus(corpus, { signal, onBytes: (done) => onBytes(done, total) });
}

/** An index that was begun with another corpus than the one that is given. */
export function begunWithOther(partial: string, about: CorpusOfIndex, begun: CorpusOfIndex, hint: string): FileError {
  const named = ({ source, bytes, sha256 }: CorpusOfIndex): string => `${source} of ${bytes} bytes, SHA-256 ${sha256.slice(0, 16)}…`;
  return new FileError({
    where: partial,
    what: "was begun with another corpus, or the corpus has changed since",
    expected: `the corpus ${named(about)}`,
    got: named(begun),
    hint,
  });
}
