/**
 * A real search engine inside the process: BM25 over a corpus, by SQLite's full-text index (FTS5), in memory or in a file.
 * Words are stemmed (Porter), accents removed; a query is its distinct words joined by OR.
 *
 * Source: Robertson & Zaragoza 2009 with SQLite's k1 = 1.2, b = 0.75.
 */
import { rename, rm, stat } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { createClient, type Client } from "@libsql/client";
import { ConfigError, DataError, FileError } from "../util/errors.ts";
import { readPassages, type Passage } from "./passages.ts";
import type { SearchEngine, SearchRequest, SearchResult } from "./search-engine.ts";

/** What is shown when nothing matches. */
export const noDocuments = "No information available";

/** Schema of the index file; a file of another version is built again. */
const VERSION = 1;
const ROWS_PER_INSERT = 200;

export interface Bm25Hit extends Passage {
  /** Higher is better. */
  readonly score: number;
}

export class Bm25Search implements SearchEngine {
  readonly name = "bm25";
  /** Passages in the index. */
  readonly size: number;
  readonly topK: number;
  readonly #client: Client;

  private constructor(client: Client, size: number, topK: number) {
    this.#client = client;
    this.size = size;
    this.topK = topK;
  }

  /** An index in memory. @throws ConfigError for a wrong topK, DataError for no passages. */
  static async inMemory(passages: Iterable<Passage> | AsyncIterable<Passage>, topK: number): Promise<Bm25Search> {
    checkTopK(topK);
    const client = createClient({ url: ":memory:" });
    try {
      return new Bm25Search(client, await build(client, passages, ""), topK);
    } catch (error) {
      client.close();
      throw error;
    }
  }

  /** An index in memory over a corpus file. @throws as `readPassages` and `inMemory`. */
  static async fromCorpus(corpusPath: string, topK: number): Promise<Bm25Search> {
    return Bm25Search.inMemory(readPassages(corpusPath), topK);
  }

  /**
   * An index in a file, which is built when it is missing or when it was built from something else (`fingerprint` tells, e.g. the
   * SHA-256 of the corpus). A build that is interrupted leaves no half index behind under this name.
   */
  static async inFile(
    indexPath: string,
    fingerprint: string,
    passages: () => Iterable<Passage> | AsyncIterable<Passage>,
    topK: number,
  ): Promise<Bm25Search> {
    checkTopK(topK);
    const existing = await openIndex(indexPath, fingerprint);
    if (existing !== null) return new Bm25Search(existing.client, existing.size, topK);
    const building = `${indexPath}.building-${process.pid}`;
    await rm(building, { force: true });
    try {
      const client = createClient({ url: pathToFileURL(building).href });
      try {
        await build(client, passages(), fingerprint);
      } finally {
        client.close();
      }
      await rename(building, indexPath);
    } catch (error) {
      await rm(building, { force: true });
      if (error instanceof DataError || error instanceof FileError) throw error;
      throw new FileError({ where: indexPath, what: "cannot build the search index", got: (error as Error).message }, { cause: error });
    }
    const built = await openIndex(indexPath, fingerprint);
    if (built === null) throw new FileError({ where: indexPath, what: "the search index that was just built cannot be read" });
    return new Bm25Search(built.client, built.size, topK);
  }

  /** The best passages for a text, best first; equal scores in corpus order. None when the text has no word or no passage matches. */
  async find(text: string, topK: number = this.topK): Promise<Bm25Hit[]> {
    checkTopK(topK);
    const match = matchExpression(text);
    if (match === "") return [];
    const { rows } = await this.#client.execute({
      sql: "select id, title, text, bm25(passages, 0.0) as score from passages where passages match ? order by score, rowid limit ?",
      args: [match, topK],
    });
    return rows.map((row) => ({
      id: String(row["id"]),
      text: String(row["text"]),
      score: -Number(row["score"]),
      ...(row["title"] === "" ? {} : { title: String(row["title"]) }),
    }));
  }

  async search({ query }: SearchRequest): Promise<SearchResult> {
    return { documents: renderDocuments(await this.find(query)), kind: "real" };
  }

  close(): Promise<void> {
    this.#client.close();
    return Promise.resolve();
  }
}

/** `Doc i: title text`, one document a line; `noDocuments` when there is none. */
export function renderDocuments(passages: readonly Omit<Passage, "id">[]): string {
  if (passages.length === 0) return noDocuments;
  return passages
    .map(({ title, text }, i) => `Doc ${i + 1}: ${title === undefined ? "" : `${title} `}${text}`.replace(/\s+/g, " ").trim())
    .join("\n");
}

/** Distinct words, each quoted (so that nothing in a query is FTS5 syntax), joined by OR; "" without words. */
export function matchExpression(query: string): string {
  const words = query.toLowerCase().match(/[\p{L}\p{N}\p{M}\p{Co}]+/gu) ?? [];
  return [...new Set(words)].map((word) => `"${word}"`).join(" OR ");
}

function checkTopK(topK: number): void {
  if (!Number.isInteger(topK) || topK < 1)
    throw new ConfigError({ where: "bm25.documents", what: "wrong number of documents", expected: "1 or more", got: String(topK) });
}

async function build(client: Client, passages: Iterable<Passage> | AsyncIterable<Passage>, fingerprint: string): Promise<number> {
  await client.batch(
    [
      "create virtual table passages using fts5(id unindexed, title, text, tokenize = 'porter unicode61 remove_diacritics 2')",
      "create table facts (name text primary key, value text)",
    ],
    "write",
  );
  let size = 0;
  let pending: Passage[] = [];
  const flush = async (): Promise<void> => {
    if (pending.length === 0) return;
    await client.execute({
      sql: `insert into passages (id, title, text) values ${pending.map(() => "(?, ?, ?)").join(", ")}`,
      args: pending.flatMap(({ id, title, text }) => [id, title ?? "", text]),
    });
    size += pending.length;
    pending = [];
  };
  for await (const passage of passages) {
    pending.push(passage);
    if (pending.length === ROWS_PER_INSERT) await flush();
  }
  await flush();
  if (size === 0) throw new DataError({ where: "bm25", what: "the corpus is empty", expected: "at least one passage", got: "none" });
  await client.execute("insert into passages (passages) values ('optimize')");
  const facts = { version: VERSION, fingerprint, size };
  await client.batch(
    Object.entries(facts).map(([name, value]) => ({ sql: "insert into facts values (?, ?)", args: [name, String(value)] })),
    "write",
  );
  return size;
}

/** The index, or null when there is none for this corpus. */
async function openIndex(path: string, fingerprint: string): Promise<{ client: Client; size: number } | null> {
  // Opening a missing file would create it.
  if (
    await stat(path).then(
      () => false,
      () => true,
    )
  )
    return null;
  let client: Client | undefined;
  try {
    client = createClient({ url: pathToFileURL(path).href });
    const { rows } = await client.execute("select name, value from facts");
    const facts = new Map(rows.map((row) => [String(row["name"]), String(row["value"])]));
    if (facts.get("version") === String(VERSION) && facts.get("fingerprint") === fingerprint)
      return { client, size: Number(facts.get("size")) };
  } catch {
    // Not an index of ours: it is built anew.
  }
  client?.close();
  return null;
}
