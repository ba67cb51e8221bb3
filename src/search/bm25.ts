/**
 * A real search engine inside the process: BM25 over a corpus, by SQLite's full-text index (FTS5), in memory.
 * Words are stemmed (Porter), accents removed; a query is its distinct words joined by OR.
 *
 * Source: Robertson & Zaragoza 2009 with SQLite's k1 = 1.2, b = 0.75.
 */
import type { Client } from "@libsql/client";
import { ConfigError, DataError } from "../util/errors.ts";
import { openDatabase } from "./sqlite.ts";
import { readPassages, type Passage } from "./passages.ts";
import type { SearchEngine, SearchRequest, SearchResult } from "./search-engine.ts";

const ROWS_PER_INSERT = 200;

export interface Bm25Hit extends Passage {
  /** Higher is better. */
  readonly score: number;
}

export class Bm25Search implements SearchEngine {
  readonly name = "bm25";
  /** Passages in the index. */
  readonly size: number;
  readonly documents: number;
  readonly #client: Client;

  private constructor(client: Client, size: number, documents: number) {
    this.#client = client;
    this.size = size;
    this.documents = documents;
  }

  /** An index in memory. @throws ConfigError for a wrong number of documents, DataError for no passages. */
  static async inMemory(passages: Iterable<Passage> | AsyncIterable<Passage>, documents: number): Promise<Bm25Search> {
    checkDocuments(documents);
    const client = await openDatabase("bm25", null);
    try {
      return new Bm25Search(client, await build(client, passages), documents);
    } catch (error) {
      client.close();
      throw error;
    }
  }

  /** An index in memory over a corpus file. @throws as `readPassages` and `inMemory`. */
  static async fromCorpus(corpusPath: string, documents: number): Promise<Bm25Search> {
    return Bm25Search.inMemory(readPassages(corpusPath), documents);
  }

  /** The best passages for a text, best first; equal scores in corpus order. None when the text has no word or no passage matches. */
  async find(text: string, documents: number = this.documents): Promise<Bm25Hit[]> {
    checkDocuments(documents);
    const match = matchExpression(text);
    if (match === "") return [];
    const { rows } = await this.#client.execute({
      sql: "select id, title, text, bm25(passages, 0.0) as score from passages where passages match ? order by score, rowid limit ?",
      args: [match, documents],
    });
    return rows.map((row) => ({
      id: String(row["id"]),
      text: String(row["text"]),
      score: -Number(row["score"]),
      ...(row["title"] === "" ? {} : { title: String(row["title"]) }),
    }));
  }

  async search({ query }: SearchRequest): Promise<SearchResult> {
    return { documents: await this.find(query), kind: "real" };
  }

  close(): Promise<void> {
    this.#client.close();
    return Promise.resolve();
  }
}

/** Distinct words, each quoted (so that nothing in a query is FTS5 syntax), joined by OR; "" without words. */
export function matchExpression(query: string): string {
  const words = query.toLowerCase().match(/[\p{L}\p{N}\p{M}\p{Co}]+/gu) ?? [];
  return [...new Set(words)].map((word) => `"${word}"`).join(" OR ");
}

function checkDocuments(documents: number): void {
  if (!Number.isInteger(documents) || documents < 1)
    throw new ConfigError({ where: "bm25.documents", what: "wrong number of documents", expected: "1 or more", got: String(documents) });
}

async function build(client: Client, passages: Iterable<Passage> | AsyncIterable<Passage>): Promise<number> {
  await client.execute(
    "create virtual table passages using fts5(id unindexed, title, text, tokenize = 'porter unicode61 remove_diacritics 2')",
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
  return size;
}
