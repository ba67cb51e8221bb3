/** Indexes on disk: built, refused, gone on with, searched. */
import { copyFile, mkdtemp, open, readFile, rm, stat, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { packagedConfig, readOverride, readYaml, resolveConfig } from "../../src/config/index.ts";
import type { EngineContext } from "../../src/search/engine-kind.ts";
import { engines } from "../../src/search/engines.ts";
import type { SearchEngine } from "../../src/search/search-engine.ts";
import { Bm25Search } from "../../src/search/bm25.ts";
import { buildIndex, type BuildOptions } from "../../src/search/bm25/build.ts";
import { crc32, isMarked, marksOf } from "../../src/search/checksum.ts";
import { sealHeader } from "../../src/search/index-file.ts";
import { decodeList, encodeList } from "../../src/search/bm25/postings.ts";
import { openDatabase } from "../../src/search/sqlite.ts";
import { readPassages, type Passage } from "../../src/search/passages.ts";
import { FileError } from "../../src/util/errors.ts";
import { errorOf } from "../helpers/message-of.ts";

const words = ["river", "mountain", "Café", "cities", "running", "the", "of", "1984", "Ω", "naïve", "東京", "cats", "cat"];
/** Deterministic, with titles, ties, and letters of several scripts. */
const passages: Passage[] = Array.from({ length: 3000 }, (_, i) => {
  const text = Array.from({ length: 3 + (i % 7) }, (_, j) => words[(i * 7 + j * j * 3 + (i >> 3)) % words.length] ?? "").join(
    i % 5 === 0 ? "—" : " ",
  );
  return { id: `p${i}`, ...(i % 3 === 0 ? { title: `Title ${i % 11}` } : {}), text: i % 2 === 0 ? text : `${text} n${i}` };
});
const queries = [
  "the river of cities",
  "CAFE running",
  "cat cats",
  "title 5",
  "n77",
  "東京 Ω",
  "naive 1984 mountain the",
  "the",
  "nothing here",
  "",
];

let folder: string;
let corpus: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "bm 25 index "));
  corpus = join(folder, "corpus.jsonl");
  await writeFile(corpus, passages.map((row) => JSON.stringify(row)).join("\n"));
});
afterAll(() => rm(folder, { recursive: true }));

const build = (file: string, more: Partial<BuildOptions> = {}) =>
  buildIndex({ corpus, source: "corpus.jsonl", file: join(folder, file), part: 3000, ...more });

async function resultsOf(engine: Bm25Search): Promise<unknown[]> {
  const results = [];
  for (const query of queries) results.push(await engine.find(query, 7));
  return results;
}

describe("an index on disk", () => {
  it("finds the same passages in the same order with the same scores as one in memory", async () => {
    const { about, made } = await build("same");
    expect(made).toBe(true);
    expect(about).toMatchObject({ passages: 3000, state: "whole", source: "corpus.jsonl", bytes: (await stat(corpus)).size });
    expect(about.parts).toBeGreaterThan(3);
    const onDisk = await Bm25Search.fromIndex(join(folder, "same"), 5);
    const inMemory = await Bm25Search.fromCorpus(corpus, 5);
    expect(onDisk.size).toBe(3000);
    expect(await resultsOf(onDisk)).toEqual(await resultsOf(inMemory));
    expect((await onDisk.find("the", 4)).length).toBe(4);
    expect(existsSync(join(folder, "same.partial")) || existsSync(join(folder, "same.parts"))).toBe(false);
    await onDisk.close();
    await inMemory.close();
  });

  it("gives the passage of an id, as one in memory does, and of no other", async () => {
    const odd = [
      { id: 'a"b', title: "T", text: "quotes" },
      { id: "12", text: "twelve" },
      { id: "1", text: "one" },
    ];
    const file = join(folder, "odd.jsonl");
    await writeFile(file, odd.map((row) => JSON.stringify(row)).join("\n"));
    await buildIndex({ corpus: file, source: "odd.jsonl", file: join(folder, "odd.bm25"), part: 2 });
    const memory = await Bm25Search.inMemory(odd, 3);
    const indexed = await Bm25Search.fromIndex(join(folder, "odd.bm25"), 3);
    const key = { step: 0, question: 0, rollout: 0 };
    for (const engine of [memory, indexed]) {
      for (const passage of odd) expect(await engine.page({ address: passage.id, key, turn: 0 })).toEqual(passage);
      for (const address of ["2", "", "a", "https://a.example/1"]) expect(await engine.page({ address, key, turn: 0 })).toBeNull();
      await engine.close();
    }
  });

  it("ranks as SQLite's own bm25() does", async () => {
    const engine = await Bm25Search.inMemory(passages, 10);
    const client = await openDatabase("test", null);
    await client.execute("create virtual table p using fts5(id unindexed, title, text, tokenize = 'porter unicode61 remove_diacritics 2')");
    for (const { id, title = "", text } of passages)
      await client.execute({ sql: "insert into p (id, title, text) values (?, ?, ?)", args: [id, title, text] });
    for (const query of queries.filter((one) => one !== "")) {
      const match = query
        .toLowerCase()
        .split(" ")
        .map((word) => `"${word}"`)
        .join(" OR ");
      const sql = "select id, -bm25(p, 0.0) as score from p where p match ? order by score desc, rowid limit 10";
      const { rows } = await client.execute({ sql, args: [match] });
      const hits = await engine.find(query);
      expect(
        hits.map(({ id }) => id),
        query,
      ).toEqual(rows.map((row) => row["id"]));
      for (const [i, { score }] of hits.entries()) expect(score / Number(rows[i]?.["score"])).toBeCloseTo(1, 12);
    }
    client.close();
    await engine.close();
  });

  it("answers 1,000 searches at once as one at a time, while timers have their turn", async () => {
    await build("many");
    const engine = await Bm25Search.fromIndex(join(folder, "many"), 3);
    const other = await Bm25Search.fromIndex(join(folder, "many"), 3);
    const alone = await resultsOf(engine);
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    const asked = Array.from({ length: 1000 }, (_, i) => (i % 2 === 0 ? engine : other).find(queries[i % queries.length] ?? "", 7));
    const found = await Promise.all(asked);
    clearInterval(timer);
    for (const [i, hits] of found.entries()) expect(hits).toEqual(alone[i % queries.length]);
    expect(ticks).toBeGreaterThan(1);
    await engine.close();
    await other.close();
  });

  it("goes on after it was stopped, at any passage or list, and becomes the same", async () => {
    await build("whole");
    const whole = await dump(join(folder, "whole"));
    for (const [phase, after] of [
      ["read", 700],
      ["read", 2400],
      ["merge", 100],
    ] as const) {
      const file = `stopped-${phase}-${after}`;
      const stop = new AbortController();
      const onProgress: BuildOptions["onProgress"] = (at) => {
        if (at.phase === phase && (phase === "read" ? at.passages : at.done) >= after) stop.abort(new Error("stopped here"));
      };
      await expect(build(file, { signal: stop.signal, onProgress })).rejects.toThrow("stopped here");
      expect(existsSync(join(folder, file))).toBe(false);
      await expect(Bm25Search.fromIndex(join(folder, file), 1)).rejects.toThrow("It was begun (.partial)");
      const { resumedFrom, made } = await build(file);
      expect(made).toBe(true);
      expect(resumedFrom).toBeGreaterThan(phase === "merge" ? 2999 : after / 2);
      expect(await dump(join(folder, file))).toEqual(whole);
    }
  });

  it("is left alone when it is there, and of another corpus", async () => {
    await build("kept");
    const before = await readFile(join(folder, "kept"));
    expect(await build("kept")).toMatchObject({ made: false });
    const other = join(folder, "other.jsonl");
    await writeFile(other, '{"id": 1, "text": "one"}');
    await expect(build("kept", { corpus: other, source: "other.jsonl" })).rejects.toThrow(
      /kept: is an index of another corpus.*; expected an index of other\.jsonl \(24 bytes\), got one of corpus\.jsonl \(\d+ bytes\)/,
    );
    expect(await readFile(join(folder, "kept"))).toEqual(before);
  });

  it("is not gone on with when the corpus has changed", async () => {
    const changing = join(folder, "changing.jsonl");
    await copyFile(corpus, changing);
    const stop = new AbortController();
    const onProgress: BuildOptions["onProgress"] = ({ passages: n }) => {
      if (n > 2000) stop.abort(new Error("stop"));
    };
    await expect(build("changed", { corpus: changing, signal: stop.signal, onProgress })).rejects.toThrow("stop");
    await writeFile(changing, `${await readFile(changing, "utf8")}\n{"id": "more", "text": "more"}`);
    await expect(build("changed", { corpus: changing })).rejects.toThrow(
      /changed\.partial: was begun with another corpus, or the corpus has changed since/,
    );
  });

  it("refuses rows without text and ids that occur twice, also after it went on", async () => {
    const wrong = join(folder, "wrong.jsonl");
    await writeFile(wrong, '{"id": 1, "text": "one"}\n{"id": 2}');
    await expect(build("wrong", { corpus: wrong })).rejects.toThrow(`${wrong}:2: wrong passage text; expected a text, got nothing`);
    const twice = join(folder, "twice.jsonl");
    await writeFile(twice, [...passages, passages[17]].map((row) => JSON.stringify(row)).join("\n"));
    const said = `${twice}:3001: duplicate id; expected an id that occurs once, got "p17", also in row 18`;
    await expect(build("twice", { corpus: twice })).rejects.toThrow(said);
    await expect(build("twice", { corpus: twice })).rejects.toThrow(said);
    expect(existsSync(join(folder, "twice"))).toBe(false);
    await expect(build("new/folders/twice", { corpus: twice })).rejects.toThrow(said);
    expect(existsSync(join(folder, "new"))).toBe(false);
    const empty = join(folder, "empty.jsonl");
    await writeFile(empty, "");
    await expect(build("empty", { corpus: empty })).rejects.toThrow("the corpus is empty");
  });

  it("reads packed corpora, and keeps texts to the last character", async () => {
    const rows = [
      { id: "a", text: "nul\u0000 inside, and half \ud83d a pair" },
      { id: "b", title: 'quoted "title"', text: "line\nbreak\r\n" },
    ];
    const packed = join(folder, "packed.jsonl.gz");
    await writeFile(packed, gzipSync(rows.map((row) => JSON.stringify(row)).join("\n")));
    await build("packed", { corpus: packed });
    const engine = await Bm25Search.fromIndex(join(folder, "packed"), 1);
    expect((await engine.find("inside"))[0]).toMatchObject(rows[0] as Passage);
    expect((await engine.find("break"))[0]).toMatchObject(rows[1] as Passage);
    const read = [];
    for await (const passage of readPassages(packed)) read.push(passage);
    expect(read).toEqual(rows);
    await engine.close();
  });

  it("is told from files that are none, cut off, damaged, or of another version", async () => {
    const { about } = await build("good");
    expect(about.state).toBe("whole");
    const good = await readFile(join(folder, "good"));
    const refused = async (name: string, content: string | Uint8Array, message: string | RegExp): Promise<void> => {
      const file = join(folder, name);
      await writeFile(file, content);
      const opened = Bm25Search.fromIndex(file, 1).then(async (engine) => {
        for (const query of queries) await engine.find(query);
        await engine.close();
      });
      await expect(opened, name).rejects.toThrow(message);
    };
    await refused("text", '{"id": 1, "text": "one"}', "is no index; expected one made by zerosearch index, got a file of lines");
    await refused("nothing", "", "is no index");
    await refused("cut", good.subarray(0, good.length - 5000), "is cut off; expected");
    const version = Buffer.from(good);
    version.writeUInt8(0x37, 71);
    await refused("version", version, "is an index of another format; expected version 2, got version 7");
    const broken = Buffer.from(good);
    broken.fill(0xa5, 8192);
    await refused("broken", broken, /broken: is damaged; got/);
    const foreign = await openDatabase("test", join(folder, "foreign"));
    await foreign.execute("create table t (a)");
    foreign.close();
    await expect(Bm25Search.fromIndex(join(folder, "foreign"), 1)).rejects.toThrow("is an SQLite database, but no index");
    await expect(build("foreign")).rejects.toThrow("is an SQLite database, but no index");
    await expect(Bm25Search.fromIndex(folder, 1)).rejects.toThrow("is no file");
    await expect(Bm25Search.fromIndex(join(folder, "missing"), 1)).rejects.toThrow(
      /there is no such index\n.*npx zerosearch index CORPUS --to FILE/,
    );
  });

  it("answers as before or not at all where any byte of it is another", { timeout: 120_000 }, async () => {
    const few = join(folder, "few.jsonl");
    await writeFile(
      few,
      passages
        .slice(0, 150)
        .map((row) => JSON.stringify(row))
        .join("\n"),
    );
    await build("few", { corpus: few, part: 300 });
    const good = await readFile(join(folder, "few"));
    // Every word, common and rare, some that are not there, and all passages.
    const asked = [...words, "title", "absent", "missing words", ...Array.from({ length: 150 }, (_, i) => `n${i}`)];
    const many = Array.from({ length: 100 }, (_, i) => `n${i}`).join(" ");
    const file = join(folder, "flipped");
    const answers = async (): Promise<unknown> => {
      const engine = await Bm25Search.fromIndex(file, 150);
      try {
        const found = [];
        for (const query of [...asked, many]) found.push(await engine.find(query));
        return found;
      } finally {
        await engine.close();
      }
    };
    await writeFile(file, good);
    const right = await answers();
    const ends = { same: 0, refused: 0 };
    for (let at = 0; at < good.length; at += at < 100 ? 1 : 523) {
      const flipped = Buffer.from(good);
      flipped[at]! ^= 1 << ((at * 7) % 8);
      await writeFile(file, flipped);
      try {
        expect(await answers(), `byte ${at}`).toEqual(right);
        ends.same++;
      } catch (error) {
        expect(error, `byte ${at}`).toBeInstanceOf(FileError);
        ends.refused++;
      }
    }
    // What is the same are bytes that hold nothing: half of every page may be free, and some of the header is never read.
    expect(ends.refused).toBeGreaterThan(120);
  });

  it("says which row is not as it was written, and that a term was lost", async () => {
    await build("rows");
    const change = async (name: string, sql: string): Promise<string> => {
      await copyFile(join(folder, "rows"), join(folder, name));
      const client = await openDatabase("test", join(folder, name));
      await client.execute(sql);
      client.close();
      if (!sql.startsWith("pragma")) await sealHeader(join(folder, name));
      const found = Bm25Search.fromIndex(join(folder, name), 5).then((engine) => engine.find("mountain").finally(() => engine.close()));
      return (await errorOf(() => found)).message;
    };
    const said = (what: string) =>
      expect.stringMatching(
        new RegExp(`: is damaged; got ${what} is not as it was written\\n  Copy it again; or delete it, and build`),
      ) as string;
    expect(await change("list", "update words set list = zeroblob(length(list)) where term = 'mountain'")).toEqual(
      said('the list of "mountain"'),
    );
    expect(await change("count", "update words set count = count - 1 where term = 'mountain'")).toEqual(said('the row of "mountain"'));
    expect(await change("lost", "delete from words where term = 'mountain'")).toEqual(said('the row of "mountain"'));
    expect(await change("text", `update passages set row = replace(row, 'mountain', 'fountain')`)).toEqual(said("passage \\d+"));
    expect(await change("lengths", "update lengths set list = zeroblob(length(list)) where part = 1")).toEqual(said("a list of lengths"));
    expect(await change("about", "update about set json = replace(json, 'corpus.jsonl', 'other.jsonl')")).toEqual(
      said("what it says of itself"),
    );
    expect(await change("old", "pragma application_id = 0x5a534258")).toMatch(
      /is an index of another format; expected version 2, got version 1\n {2}Delete it, and build it again with this program: npx zerosearch index CORPUS --to FILE\.$/,
    );
  });

  it("is searched by bm25.index, over data.corpus only where it is of that very file", async () => {
    await build("named");
    const index = join(folder, "named");
    const open = (settings: { index: string | null }, of: string | null) =>
      engines.bm25.open({ documents: 3, ...settings }, { corpus: of } as EngineContext);
    for (const of of [null, corpus]) {
      const { engine } = await open({ index }, of);
      const request = { query: "n77", key: { step: 0, question: 0, rollout: 0 }, turn: 0 };
      expect((await (engine as SearchEngine).search(request)).documents.map(({ id }) => id)).toEqual(["p77"]);
      await engine.close();
    }
    const swapped = join(folder, "swapped.jsonl");
    await writeFile(swapped, (await readFile(corpus, "utf8")).replace('"p1"', '"q1"'));
    await expect(open({ index }, swapped)).rejects.toThrow(
      /named: is an index of another corpus.*; expected an index of .*swapped\.jsonl \(SHA-256 \w{16}…\), got one of corpus\.jsonl \(SHA-256/,
    );
    await expect(open({ index }, join(folder, "gone"))).rejects.toThrow("cannot read the corpus");
    await expect(open({ index: null }, null)).rejects.toThrow("a path, or an index in bm25.index");
    expect(() => resolveConfig([...readYaml(packagedConfig("quickstart")), readOverride("data.corpus=null")])).toThrow(
      "or an index in bm25.index",
    );
    const config = resolveConfig([
      ...readYaml(packagedConfig("quickstart")),
      readOverride("data.corpus=null"),
      readOverride(`bm25.index=${index}`),
    ]);
    expect(config.bm25.index).toBe(index);
  });

  it("can be searched where nobody may write", async () => {
    await build("locked");
    const handle = await open(join(folder, "locked"));
    await handle.chmod(0o444);
    await handle.close();
    const before = await stat(join(folder, "locked"));
    const engine = await Bm25Search.fromIndex(join(folder, "locked"), 1);
    expect(await engine.find("n77")).toHaveLength(1);
    await engine.close();
    expect((await stat(join(folder, "locked"))).mtimeMs).toBe(before.mtimeMs);
    expect(existsSync(join(folder, "locked-wal"))).toBe(false);
  });

  it("is built by one of two programs; the other is told", async () => {
    await build("alone");
    const quiet = (asked: ReturnType<typeof build>): Promise<unknown> => asked.catch((error: unknown) => error);
    const others: Promise<unknown>[] = [];
    const onProgress: BuildOptions["onProgress"] = ({ phase, passages: n }) => {
      if (phase === "read" && n > 1000 && others.length === 0) others.push(quiet(build("twice-at-once")));
    };
    const ends = [await quiet(build("twice-at-once", { onProgress })), ...(await Promise.all(others))];
    expect(ends).toHaveLength(2);
    const told = ends.filter((end) => end instanceof Error).map(({ message }) => message);
    expect(told).toEqual([expect.stringContaining("another program builds this index")]);
    expect(await dump(join(folder, "twice-at-once"))).toEqual(await dump(join(folder, "alone")));
  });
});

describe("a check sum", () => {
  it("is CRC-32, of a text at once or in pieces", () => {
    const bytes = new TextEncoder().encode("123456789");
    expect(crc32(bytes)).toBe(0xcbf43926);
    for (let i = 0; i <= bytes.length; i++) expect(crc32(bytes.subarray(i), crc32(bytes.subarray(0, i)))).toBe(0xcbf43926);
  });
});

describe("the marks of terms", () => {
  it("tell those that are among them from all others", () => {
    const terms = Array.from({ length: 20_000 }, (_, i) => `term${i}`);
    const marks = marksOf(terms.filter((_, i) => i % 2 === 0));
    expect(marks).toHaveLength(20_000);
    expect(terms.map((term) => isMarked(marks, term))).toEqual(terms.map((_, i) => i % 2 === 0));
    expect(isMarked(marksOf([]), "term0")).toBe(false);
  });
});

describe("a posting list", () => {
  it("comes back from its bytes, for any passages and counts", () => {
    const docs = Uint32Array.of(0, 1, 5, 127, 128, 300, 70_000, 2 ** 29, 2 ** 32 - 1);
    const counts = Uint32Array.of(1, 2, 1, 127, 128, 1, 70_000, 1, 2 ** 31);
    const [docsBack, countsBack] = [new Uint32Array(docs.length), new Uint32Array(docs.length)];
    const bytes = encodeList(docs, counts);
    expect(decodeList(bytes, docsBack, countsBack)).toBe(docs.length);
    expect(docsBack).toEqual(docs);
    expect(countsBack).toEqual(counts);
    expect(() => decodeList(bytes.subarray(0, bytes.length - 1), docsBack, countsBack)).toThrow(RangeError);
    expect(() => decodeList(bytes, docsBack.subarray(1), countsBack)).toThrow(RangeError);
  });
});

/** Everything that is in an index. */
async function dump(file: string): Promise<unknown> {
  const client = await openDatabase("test", file);
  const tables = [];
  for (const sql of [
    "select n, row from passages order by n",
    "select term, count, best, hex(list) from words order by term",
    "select json from about",
  ])
    tables.push((await client.execute(sql)).rows.map((row) => Object.values(row)));
  client.close();
  return tables;
}
