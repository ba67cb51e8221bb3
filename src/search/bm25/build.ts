/**
 * Builds an index file. It is `FILE.partial` until it is whole; lists that are not merged yet are in `FILE.parts`. Whatever stops it, a kill or a full disk, it goes
 * on from its last part: the corpus is read again from its beginning, so that ids that occur twice are still seen, but what is written is skipped.
 */
import type { Client, InStatement, Transaction } from "@libsql/client";
import { DataError, FileError } from "../../util/errors.ts";
import { nextTask } from "../../util/next-task.ts";
import { readPassages, type Passage } from "../passages.ts";
import { marksOf, sumOfBytes, sumOfText, sumOfWord } from "../checksum.ts";
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
import { readLengths } from "./file-index.ts";
import { bm25Index, readAbout, tables, type IndexAbout } from "./format.ts";
import { Inverter } from "./inverter.ts";
import { averageOf } from "./memory-index.ts";
import { buckets, Parts } from "./parts.ts";
import { encodeList, type Lengths, type Postings } from "./postings.ts";
import { Tokenizer, tokenizerName } from "./tokenizer.ts";

/** Entries of lists after which a part is written, and of merged lists what is. */
const PART = 2 ** 22;
/** Passages that are split and inserted at once, and their characters. */
const BATCH = 500;
const BATCH_CHARACTERS = 2 ** 22;

export interface BuildOptions {
  readonly corpus: string;
  /** What the index says it was made of. */
  readonly source: string;
  readonly file: string;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: BuildProgress) => void) | undefined;
  /** Told where an index that was begun before has passages already. */
  readonly onResume?: ((about: IndexAbout) => void) | undefined;
  /** Entries of a part, for tests. */
  readonly part?: number;
}

export interface BuildProgress {
  /** `hash` and `read` count bytes of the corpus, `merge` buckets of terms. */
  readonly phase: "hash" | "read" | "merge";
  readonly done: number;
  readonly total: number;
  /** Passages in the index so far. */
  readonly passages: number;
}

export interface BuiltIndex {
  readonly about: IndexAbout;
  /** False where the index of this corpus was there. */
  readonly made: boolean;
  /** Passages that an earlier call had written. */
  readonly resumedFrom: number;
}

/**
 * @throws FileError where the file is something else or an index of another corpus, where the corpus has changed since the index was begun, and where it
 * cannot be written; what `readPassages` throws; the signal's reason.
 */
export async function buildIndex(options: BuildOptions): Promise<BuiltIndex> {
  const { file, source } = options;
  const { sha256, bytes } = await hashPassages(options.corpus, {
    signal: options.signal,
    onBytes: (done, total) => options.onProgress?.({ phase: "hash", done, total, passages: 0 }),
  });
  const there = await aboutOfFile(file, bm25Index, readAbout);
  if (there !== null) {
    if (there.sha256 !== sha256) throw otherCorpus(file, there, source, { sha256, bytes });
    await removeDatabase(partsOf(file));
    return { about: there, made: false, resumedFrom: there.passages };
  }
  let client: Client | null = null;
  let forgetFolder: (() => Promise<void>) | null = null;
  let parts: Parts | null = null;
  const tokenizer = await Tokenizer.open();
  try {
    forgetFolder = await makeFolderOf(file);
    const begun: IndexAbout = { state: "reading", passages: 0, sha256, bytes, source, tokenizer: tokenizerName, parts: 0, merged: 0 };
    const opened = await goOn(partialOf(file), begun);
    client = opened.client;
    parts = await Parts.open(partsOf(file), opened.about.parts);
    if ((await parts.count()) !== opened.about.parts)
      throw new FileError({
        where: partialOf(file),
        what: `what belongs to it, ${partsOf(file)}, is missing or incomplete`,
        hint: anew(file),
      });
    if (opened.about.passages > 0) options.onResume?.(opened.about);
    const builder = new Builder(client, parts, tokenizer, options);
    const read = opened.about.state === "reading" ? await builder.read(opened.about) : opened.about;
    const about = await builder.merge(read);
    client.close();
    parts.close();
    await putInPlace(file);
    await removeDatabase(partsOf(file));
    return { about, made: true, resumedFrom: opened.about.passages };
  } catch (cause) {
    client?.close();
    parts?.close();
    // A corpus with a wrong row is mended first, and is then another one.
    if (cause instanceof DataError) for (const one of [partialOf(file), partsOf(file)]) await removeDatabase(one);
    await forgetFolder?.();
    throw writeError(file, cause, anew(file));
  } finally {
    tokenizer.close();
  }
}

export const partsOf = (file: string): string => `${file}.parts`;
const anew = (file: string): string => `Delete ${partialOf(file)} and ${partsOf(file)} to begin anew.`;

async function goOn(partial: string, begun: IndexAbout): Promise<{ client: Client; about: IndexAbout }> {
  const client = await openPartial(partial, bm25Index, [...tables, aboutInsert(JSON.stringify(begun))]);
  try {
    const about = await readAbout(client, partial);
    if (about.sha256 !== begun.sha256) throw begunWithOther(partial, about, begun, anew(partial.slice(0, -".partial".length)));
    return { client, about };
  } catch (error) {
    client.close();
    throw error;
  }
}

class Builder {
  readonly #client: Client;
  readonly #parts: Parts;
  readonly #tokenizer: Tokenizer;
  readonly #options: BuildOptions;

  constructor(client: Client, parts: Parts, tokenizer: Tokenizer, options: BuildOptions) {
    this.#client = client;
    this.#parts = parts;
    this.#tokenizer = tokenizer;
    this.#options = options;
  }

  /** Passages, their lengths, and parts of lists. */
  async read(from: IndexAbout): Promise<IndexAbout> {
    const { corpus, onProgress, signal, part: most = PART } = this.#options;
    const inverter = new Inverter(this.#tokenizer, from.passages);
    let about = from;
    let seen = 0;
    let bytes = 0;
    let pending: Passage[] = [];
    let characters = 0;
    let transaction: Transaction | null = null;
    const insert = async (): Promise<void> => {
      if (pending.length === 0) return;
      await inverter.add(pending);
      transaction ??= await this.#client.transaction("write");
      const first = seen - pending.length;
      const args = pending.flatMap(({ id, title = null, text }, i) => {
        const row = JSON.stringify([id, title, text]);
        return [first + i, row, sumOfText(first + i, row)];
      });
      await transaction.execute({ sql: `insert into passages (n, row, sum) values ${pending.map(() => "(?, ?, ?)").join(", ")}`, args });
      pending = [];
      characters = 0;
    };
    const flush = async (state: IndexAbout["state"]): Promise<void> => {
      await insert();
      transaction ??= await this.#client.transaction("write");
      const taken = inverter.take();
      if (taken.lengths.length > 0) {
        await this.#parts.write(about.parts, taken);
        const list = bytesOf(taken.lengths);
        const args = [about.parts, list, sumOfBytes(about.parts, list)];
        await transaction.execute({ sql: "insert into lengths (part, list, sum) values (?, ?, ?)", args });
      }
      const next: IndexAbout = { ...about, state, passages: seen, parts: about.parts + (taken.lengths.length > 0 ? 1 : 0) };
      await advance(this.#options.file, transaction, about, next);
      await transaction.commit();
      about = next;
      transaction = null;
    };
    const tell = (): void => onProgress?.({ phase: "read", done: Math.min(bytes, about.bytes), total: about.bytes, passages: seen });
    try {
      for await (const passage of readPassages(corpus, (read) => (bytes = read))) {
        seen++;
        if (seen % BATCH === 0) {
          tell();
          await nextTask();
          signal?.throwIfAborted();
        }
        if (seen <= from.passages) continue;
        characters += passage.text.length;
        if (pending.push(passage) < BATCH && characters < BATCH_CHARACTERS) continue;
        await insert();
        if (inverter.size >= most) await flush("reading");
      }
      if (seen === 0) throw new DataError({ where: corpus, what: "the corpus is empty", expected: "at least one passage", got: "none" });
      await flush("merging");
      bytes = about.bytes;
      tell();
      return about;
    } catch (error) {
      (transaction as Transaction | null)?.close();
      throw error;
    }
  }

  /** One list of each term. */
  async merge(from: IndexAbout): Promise<IndexAbout> {
    const { onProgress, signal, part: most = PART } = this.#options;
    const each = await readLengths(this.#client);
    const lengths: Lengths = { each, average: averageOf(each) };
    let about = from;
    let pending: InStatement[] = [];
    let entries = 0;
    for (let bucket = from.merged; bucket < buckets; bucket++) {
      signal?.throwIfAborted();
      const lists = await this.#parts.merged(bucket, lengths);
      pending.push(...wordInserts(lists), markInsert(bucket, lists.keys()));
      for (const { docs } of lists.values()) entries += docs.length;
      if (entries >= most || bucket + 1 === buckets) {
        const next: IndexAbout = { ...about, merged: bucket + 1 };
        await this.#write(about, next, pending);
        about = next;
        [pending, entries] = [[], 0];
      }
      onProgress?.({ phase: "merge", done: bucket + 1, total: buckets, passages: about.passages });
      await nextTask();
    }
    const whole: IndexAbout = { ...about, state: "whole" };
    await this.#write(about, whole, ["create unique index words_by_term on words (term)"]);
    return whole;
  }

  async #write(from: IndexAbout, to: IndexAbout, statements: readonly InStatement[]): Promise<void> {
    const transaction = await this.#client.transaction("write");
    try {
      await advance(this.#options.file, transaction, from, to);
      for (const statement of statements) await transaction.execute(statement);
      await transaction.commit();
    } finally {
      transaction.close();
    }
  }
}

/** Some hundred words a statement. */
function* wordInserts(lists: ReadonlyMap<string, Postings>): Generator<InStatement> {
  const all = [...lists];
  for (let from = 0; from < all.length; from += BATCH) {
    const some = all.slice(from, from + BATCH);
    yield {
      sql: `insert into words (term, count, best, head, sum, list) values ${some.map(() => "(?, ?, ?, ?, ?, ?)").join(", ")}`,
      args: some.flatMap(([term, { docs, counts, best }]) => {
        const list = encodeList(docs, counts);
        return [term, docs.length, best, sumOfWord(term, docs.length, best), sumOfBytes(term, list), list];
      }),
    };
  }
}

function markInsert(bucket: number, terms: Iterable<string>): InStatement {
  const list = bytesOf(marksOf(terms));
  return { sql: "insert into marks (bucket, list, sum) values (?, ?, ?)", args: [bucket, list, sumOfBytes(bucket, list)] };
}

function bytesOf(values: Uint32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
