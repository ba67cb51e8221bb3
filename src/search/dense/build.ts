/**
 * Builds an index of embeddings. It is `FILE.partial` until it is whole. Whatever stops it, a kill or a full disk, it goes on from its last part: the
 * corpus is read again from its beginning, so that ids that occur twice are still seen, but what is embedded is skipped.
 */
import type { Client } from "@libsql/client";
import { toElements } from "../../tensor/dtype.ts";
import { DataError, FileError, ServerError, show, TooLongError } from "../../util/errors.ts";
import { nextTask } from "../../util/next-task.ts";
import { asBytes } from "../checksum.ts";
import { begunWithOther, hashPassages, otherCorpus } from "../corpus-hash.ts";
import {
  aboutInsert,
  aboutOfFile,
  advance,
  makeFolderOf,
  openPartial,
  partialOf,
  putInPlace,
  removeDatabase,
  writeError,
} from "../index-file.ts";
import { readPassages, type Passage } from "../passages.ts";
import { passageText, type Embedder } from "./embedder.ts";
import { aboutText, bytesOf, checkEmbedder, sameEmbedder, denseIndex, readAbout, rowOf, sumOf, tables, type DenseAbout } from "./format.ts";

/** Passages of a part: what is lost at most when it is stopped. */
const PART = 256;

export interface DenseBuildOptions {
  readonly corpus: string;
  /** What the index says it was made of. */
  readonly source: string;
  readonly file: string;
  readonly embedder: Embedder;
  readonly instruction: string;
  readonly dtype: DenseAbout["dtype"];
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: DenseBuildProgress) => void) | undefined;
  /** Told where an index that was begun before has passages already. */
  readonly onResume?: ((about: DenseAbout) => void) | undefined;
  /** Passages of a part, for tests. */
  readonly part?: number;
}

export interface DenseBuildProgress {
  /** Both count bytes of the corpus. */
  readonly phase: "hash" | "embed";
  readonly done: number;
  readonly total: number;
  /** In the index so far. */
  readonly passages: number;
  readonly tokens: number;
}

export interface BuiltDenseIndex {
  readonly about: DenseAbout;
  /** False where the index of this corpus by this model was there. */
  readonly made: boolean;
  /** Passages that an earlier call had embedded. */
  readonly resumedFrom: number;
}

/**
 * @throws FileError where the file is something else, or an index of another corpus or by another model, where the corpus has changed since the index was
 * begun, and where it cannot be written; what `readPassages` and the embedder throw; the signal's reason.
 */
export async function buildDenseIndex(options: DenseBuildOptions): Promise<BuiltDenseIndex> {
  const { file, source, embedder, instruction, dtype } = options;
  const { sha256, bytes } = await hashPassages(options.corpus, {
    signal: options.signal,
    onBytes: (done, total) => options.onProgress?.({ phase: "hash", done, total, passages: 0, tokens: 0 }),
  });
  const there = await aboutOfFile(file, denseIndex, readAbout);
  if (there !== null) {
    if (there.sha256 !== sha256) throw otherCorpus(file, there, source, { sha256, bytes });
    checkEmbedder(file, there.embedder, embedder.about);
    return { about: there, made: false, resumedFrom: there.passages };
  }
  const begun: DenseAbout = {
    ...{ state: "reading", passages: 0, sha256, bytes, source, embedder: embedder.about, instruction, dtype },
    ...{ width: 0, parts: 0, truncated: 0, tokens: 0 },
  };
  let client: Client | null = null;
  let forgetFolder: (() => Promise<void>) | null = null;
  try {
    forgetFolder = await makeFolderOf(file);
    const opened = await goOn(file, begun);
    client = opened.client;
    if (opened.about.passages > 0) options.onResume?.(opened.about);
    const about = await new Builder(client, options).read(opened.about);
    client.close();
    await putInPlace(file);
    return { about, made: true, resumedFrom: opened.about.passages };
  } catch (cause) {
    client?.close();
    // A corpus with a wrong row is mended first, and is then another one.
    if (cause instanceof DataError && cause.complaint.where.startsWith(options.corpus)) await removeDatabase(partialOf(file));
    await forgetFolder?.();
    throw writeError(file, cause, anew(file));
  }
}

const anew = (file: string): string => `Delete ${partialOf(file)} to begin anew.`;

async function goOn(file: string, begun: DenseAbout): Promise<{ client: Client; about: DenseAbout }> {
  const partial = partialOf(file);
  const begin = [...tables, aboutInsert(aboutText(begun))];
  const client = await openPartial(partial, denseIndex, begin);
  try {
    const about = await readAbout(client, partial);
    if (about.sha256 !== begun.sha256) throw begunWithOther(partial, about, begun, anew(file));
    // Of one that holds nothing yet, nothing is lost.
    if (about.passages === 0 && (about.dtype !== begun.dtype || !sameEmbedder(about.embedder, begun.embedder))) {
      client.close();
      await removeDatabase(partial);
      return await goOn(file, begun);
    }
    checkEmbedder(partial, about.embedder, begun.embedder);
    if (about.dtype !== begun.dtype)
      throw new FileError({
        where: partial,
        what: "was begun with another dense.dtype",
        expected: about.dtype,
        got: begun.dtype,
        hint: anew(file),
      });
    await checkParts(client, partial, about, anew(file));
    return { client, about };
  } catch (error) {
    client.close();
    throw error;
  }
}

/** A server's error, and in which passages: one of them may be what it refuses. */
function inPassages(error: unknown, before: number, passages: readonly Passage[]): unknown {
  if (!(error instanceof ServerError || error instanceof TooLongError)) return error;
  const { hint, ...complaint } = error.complaint;
  const [first = "", last = ""] = [passages[0]?.id, passages.at(-1)?.id];
  const where = `It was asked for passages ${before + 1} to ${before + passages.length} of the corpus, ids ${show(first)} to ${show(last)}.`;
  const Kind = error instanceof TooLongError ? TooLongError : ServerError;
  return new Kind({ ...complaint, hint: hint === undefined ? where : `${where}\n  ${hint}` }, { cause: error });
}

/** Whether what was embedded before is as it was written: hours later it would be too late. @throws FileError */
async function checkParts(client: Client, partial: string, { parts }: DenseAbout, hint: string): Promise<void> {
  for (let part = 0; part < parts; part++) {
    const sql = `select ${asBytes("list")}, ${asBytes("sum")} from vectors where part = ?`;
    const row = (await client.execute({ sql, args: [part] })).rows[0];
    const list = row?.["list"];
    const sum = row?.["sum"];
    if (list instanceof ArrayBuffer && sum instanceof ArrayBuffer && sumOf(new Uint8Array(list)) === Buffer.from(sum).toString()) continue;
    throw new FileError({ where: partial, what: "is damaged", got: `part ${part} of its embeddings, which is not what was written`, hint });
  }
}

class Builder {
  readonly #client: Client;
  readonly #options: DenseBuildOptions;

  constructor(client: Client, options: DenseBuildOptions) {
    this.#client = client;
    this.#options = options;
  }

  async read(from: DenseAbout): Promise<DenseAbout> {
    const { corpus, signal, onProgress, part: most = PART } = this.#options;
    let about = from;
    let seen = 0;
    let bytes = 0;
    let pending: Passage[] = [];
    const tell = (): void =>
      onProgress?.({
        phase: "embed",
        done: Math.min(bytes, about.bytes),
        total: about.bytes,
        passages: about.passages,
        tokens: about.tokens,
      });
    tell();
    for await (const passage of readPassages(corpus, (read) => (bytes = read))) {
      seen++;
      if (seen % 1024 === 0) {
        await nextTask();
        signal?.throwIfAborted();
      }
      if (seen <= from.passages) continue;
      if (pending.push(passage) < most) continue;
      about = await this.#add(about, pending, "reading");
      pending = [];
      tell();
    }
    if (seen === 0) throw new DataError({ where: corpus, what: "the corpus is empty", expected: "at least one passage", got: "none" });
    about = await this.#add(about, pending, "whole");
    bytes = about.bytes;
    tell();
    return about;
  }

  /** Embeds passages and writes them, in one transaction. */
  async #add(from: DenseAbout, passages: readonly Passage[], state: DenseAbout["state"]): Promise<DenseAbout> {
    const { embedder, signal, file, corpus } = this.#options;
    const { vectors, truncated, tokens } = await embedder.embed(passages.map(passageText), "passage", signal).catch((error: unknown) => {
      throw inPassages(error, from.passages, passages);
    });
    const width = vectors[0]?.length ?? from.width;
    if (from.width !== 0 && width !== from.width)
      throw new DataError({ where: corpus, what: "embeddings have another length now", expected: String(from.width), got: String(width) });
    const values = new Float32Array(vectors.length * width);
    vectors.forEach((vector, i) => values.set(vector, i * width));
    const list = bytesOf(toElements(values, from.dtype));
    const to: DenseAbout = {
      ...from,
      state,
      width,
      passages: from.passages + passages.length,
      parts: from.parts + (passages.length > 0 ? 1 : 0),
      truncated: from.truncated + truncated,
      tokens: from.tokens + tokens,
    };
    const transaction = await this.#client.transaction("write");
    try {
      await advance(file, transaction, from, to);
      if (passages.length > 0) {
        const rows = passages.map(rowOf);
        const args = rows.flatMap((row, i) => [from.passages + i, row, sumOf(row)]);
        await transaction.execute({ sql: `insert into passages (n, row, sum) values ${rows.map(() => "(?, ?, ?)").join(", ")}`, args });
        const sql = "insert into vectors (part, first, list, sum) values (?, ?, ?, ?)";
        await transaction.execute({ sql, args: [from.parts, from.passages, list, sumOf(list)] });
      }
      await transaction.commit();
    } finally {
      transaction.close();
    }
    return to;
  }
}
