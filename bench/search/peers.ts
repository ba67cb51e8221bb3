/** Searches over one corpus in memory: ours, SQLite's FTS5 (as many use it from Node), MiniSearch, Orama. In turn, round by round; medians. */
import { readPassages, type Passage } from "#inside/search/passages.js";
import { openDatabase } from "#inside/search/sqlite.js";
import { median } from "#inside/util/stats.js";
import { Bm25Search } from "zerosearch";
import { peerModule } from "../peers/modules.js";

interface Searcher {
  readonly name: string;
  find(question: string): unknown;
}

interface MiniSearchModule {
  readonly default: new (options: { fields: string[]; storeFields: string[] }) => {
    addAll(documents: readonly object[]): void;
    search(query: string): unknown[];
  };
}

interface OramaModule {
  create(options: { schema: Record<string, string> }): unknown;
  insertMultiple(db: unknown, documents: readonly object[], batch: number): Promise<unknown>;
  search(db: unknown, request: { term: string; limit: number; properties: string[] }): unknown;
}

/** Milliseconds of a searcher's turn. */
const most = 10_000;

/** Searches per second of each, and what its index took to make. */
export async function comparePeers(corpus: string, questions: readonly string[], rounds: number, documents: number): Promise<unknown> {
  const passages: Passage[] = [];
  for await (const passage of readPassages(corpus)) passages.push(passage);
  const missing: string[] = [];
  const builds: Record<string, number> = {};
  const searchers: Searcher[] = [];
  for (const open of [ours, fts5, miniSearch, orama]) {
    const begun = performance.now();
    const searcher = await open(passages, documents);
    if (typeof searcher === "string") missing.push(searcher);
    else {
      builds[searcher.name] = (performance.now() - begun) / 1000;
      searchers.push(searcher);
    }
  }
  const rates = new Map<string, number[]>(searchers.map(({ name }) => [name, []]));
  for (let round = 0; round <= rounds; round++) {
    for (const { name, find } of searchers) {
      const begun = performance.now();
      let asked = 0;
      // Some take a second a question: as many as fit into a while.
      while (asked < questions.length && (asked < 5 || performance.now() - begun < most)) await find(questions[asked++] as string);
      if (round > 0) rates.get(name)?.push((1000 * asked) / (performance.now() - begun));
    }
  }
  const perSecond = Object.fromEntries([...rates].map(([name, some]) => [name, median(some)]));
  return { passages: passages.length, questions: questions.length, perSecond, buildSeconds: builds, missing };
}

async function ours(passages: readonly Passage[], documents: number): Promise<Searcher> {
  const engine = await Bm25Search.inMemory(passages, documents);
  return { name: "ours", find: (question) => engine.find(question) };
}

async function fts5(passages: readonly Passage[], documents: number): Promise<Searcher> {
  const client = await openDatabase("bench", null);
  await client.execute("create virtual table p using fts5(id unindexed, title, text, tokenize = 'porter unicode61 remove_diacritics 2')");
  for (let from = 0; from < passages.length; from += 500) {
    const some = passages.slice(from, from + 500);
    const values = some.map(() => "(?, ?, ?)").join(", ");
    const args = some.flatMap(({ id, title = "", text }) => [id, title, text]);
    await client.execute({ sql: `insert into p (id, title, text) values ${values}`, args });
  }
  await client.execute("insert into p (p) values ('optimize')");
  const sql = "select id, title, text, bm25(p, 0.0) as score from p where p match ? order by score, rowid limit ?";
  const find = (question: string): unknown => {
    const words = new Set(question.toLowerCase().match(/[\p{L}\p{N}\p{M}\p{Co}]+/gu) ?? []);
    return client.execute({ sql, args: [[...words].map((word) => `"${word}"`).join(" OR "), documents] });
  };
  return { name: "SQLite FTS5", find };
}

async function miniSearch(passages: readonly Passage[], documents: number): Promise<Searcher | string> {
  const library = await peerModule<MiniSearchModule>("minisearch");
  if (library === null) return "minisearch (npm i minisearch, anywhere; BENCH_PEER_MODULES names the folder)";
  const index = new library.default({ fields: ["title", "text"], storeFields: ["title", "text"] });
  index.addAll(passages);
  return { name: "MiniSearch", find: (question) => index.search(question).slice(0, documents) };
}

async function orama(passages: readonly Passage[], documents: number): Promise<Searcher | string> {
  const library = await peerModule<OramaModule>("@orama/orama");
  if (library === null) return "@orama/orama (npm i @orama/orama, anywhere; BENCH_PEER_MODULES names the folder)";
  const db = library.create({ schema: { title: "string", text: "string" } });
  await library.insertMultiple(
    db,
    passages.map(({ id, title = "", text }) => ({ id, title, text })),
    1000,
  );
  return { name: "Orama", find: (term) => library.search(db, { term, limit: documents, properties: ["title", "text"] }) };
}
