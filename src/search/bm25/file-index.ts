/** An index file, opened to be searched: lists are read when they are asked for, and those asked for last are kept. */
import type { Client } from "@libsql/client";
import { FileError } from "../../util/errors.ts";
import type { Passage } from "../passages.ts";
import { checkHeader, damaged, readAbout, readError, type IndexAbout } from "./format.ts";
import { averageOf } from "./memory-index.ts";
import { decodeList, type Lengths, type Postings } from "./postings.ts";
import { noPostings, type IndexSource } from "./source.ts";
import { openDatabase } from "../sqlite.ts";

export type { IndexAbout } from "./format.ts";

/** Bytes of lists that are kept. */
const KEPT = 256 * 2 ** 20;

/** Opens an index, which is not written to. @throws FileError where it is none, unfinished, damaged, or of another version. */
export async function openIndex(file: string): Promise<{ readonly source: IndexSource; readonly about: IndexAbout }> {
  await checkHeader(file);
  let client: Client | null = null;
  try {
    client = await openDatabase("bm25", file);
    await client.execute("pragma query_only = on");
    const about = await readAbout(client, file);
    if (about.state !== "whole")
      throw new FileError({
        where: file,
        what: "is an unfinished index",
        hint: "zerosearch index goes on with it; give the same command again.",
      });
    const each = await readLengths(client);
    if (each.length !== about.passages) throw damaged(file, `${each.length} lengths of ${about.passages} passages`);
    return { source: new FileIndex(file, client, { each, average: averageOf(each) }), about };
  } catch (cause) {
    client?.close();
    throw readError(file, cause);
  }
}

/** SHA-256 of the corpus that an index is of. @throws as `openIndex` */
export async function indexedCorpus(file: string): Promise<string> {
  const { source, about } = await openIndex(file);
  source.close();
  return about.sha256;
}

/** Of all passages. */
export async function readLengths(client: Client): Promise<Uint32Array> {
  const { rows } = await client.execute("select list from lengths order by part");
  const parts = rows.map((row) => new Uint32Array(row["list"] as ArrayBuffer));
  const all = new Uint32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

class FileIndex implements IndexSource {
  readonly lengths: Lengths;
  readonly #file: string;
  readonly #client: Client;
  /** Those used last come last. */
  readonly #lists = new Map<string, Promise<Postings>>();
  readonly #bytes = new Map<string, number>();
  #kept = 0;

  constructor(file: string, client: Client, lengths: Lengths) {
    this.#file = file;
    this.#client = client;
    this.lengths = lengths;
  }

  async counts(terms: readonly string[]): Promise<number[]> {
    const rows = await this.#select("select term, count from words where term in", [...new Set(terms)]);
    const counts = new Map(rows.map((row) => [String(row["term"]), Number(row["count"])]));
    return terms.map((term) => counts.get(term) ?? 0);
  }

  async lists(terms: readonly string[]): Promise<Postings[]> {
    const missing = [...new Set(terms)].filter((term) => !this.#lists.has(term));
    if (missing.length > 0) {
      const read = this.#read(missing);
      for (const term of missing) {
        const one = read.then((lists) => lists.get(term) ?? noPostings);
        // Who asks is told; what failed is asked for again.
        one.catch(() => this.#lists.delete(term));
        this.#lists.set(term, one);
      }
    }
    const found = terms.map((term) => {
      const list = this.#lists.get(term) as Promise<Postings>;
      this.#lists.delete(term);
      this.#lists.set(term, list);
      return list;
    });
    const lists = await Promise.all(found);
    this.#forget();
    return lists;
  }

  async passages(docs: readonly number[]): Promise<Passage[]> {
    const rows = await this.#select("select n, row from passages where n in", docs);
    const texts = new Map(rows.map((row) => [Number(row["n"]), String(row["row"])]));
    return docs.map((doc) => {
      try {
        const [id, title, text] = JSON.parse(texts.get(doc) ?? "null") as [string, string | null, string];
        return { id, ...(title === null ? {} : { title }), text };
      } catch (cause) {
        throw damaged(this.#file, cause);
      }
    });
  }

  close(): void {
    this.#client.close();
  }

  async #read(terms: readonly string[]): Promise<Map<string, Postings>> {
    const rows = await this.#select("select term, count, best, list from words where term in", terms);
    const lists = new Map<string, Postings>();
    for (const row of rows) {
      const count = Number(row["count"]);
      const [docs, counts] = [new Uint32Array(count), new Uint32Array(count)];
      try {
        const found = decodeList(new Uint8Array(row["list"] as ArrayBuffer), docs, counts);
        const beyond = count > 0 && (docs[count - 1] as number) >= this.lengths.each.length;
        if (found !== count || beyond) throw new RangeError(`the list of ${String(row["term"])} does not fit`);
      } catch (cause) {
        throw readError(this.#file, cause);
      }
      lists.set(String(row["term"]), { docs, counts, best: Number(row["best"]) });
    }
    for (const term of terms) {
      const bytes = 200 + 8 * (lists.get(term)?.docs.length ?? 0);
      this.#bytes.set(term, bytes);
      this.#kept += bytes;
    }
    return lists;
  }

  #forget(): void {
    for (const term of this.#lists.keys()) {
      if (this.#kept <= KEPT) return;
      const bytes = this.#bytes.get(term);
      if (bytes === undefined) continue;
      this.#kept -= bytes;
      this.#bytes.delete(term);
      this.#lists.delete(term);
    }
  }

  async #select(sql: string, args: readonly (string | number)[]): Promise<Awaited<ReturnType<Client["execute"]>>["rows"]> {
    if (args.length === 0) return [];
    try {
      return (await this.#client.execute({ sql: `${sql} (${args.map(() => "?").join(", ")})`, args: [...args] })).rows;
    } catch (cause) {
      throw readError(this.#file, cause);
    }
  }
}
