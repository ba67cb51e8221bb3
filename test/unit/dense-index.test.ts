/** Indexes of embeddings: built, gone on with, refused, damaged, searched. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { copyFile, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildIndex } from "../../src/search/bm25/build.ts";
import { openIndex } from "../../src/search/bm25/file-index.ts";
import { buildDenseIndex, type DenseBuildOptions } from "../../src/search/dense/build.ts";
import { passageText, unitVector, type Embedder, type EmbedderAbout } from "../../src/search/dense/embedder.ts";
import { DenseFile } from "../../src/search/dense/file-index.ts";
import { checkEmbedder } from "../../src/search/dense/format.ts";
import { sealHeader } from "../../src/search/index-file.ts";
import { openDatabase } from "../../src/search/sqlite.ts";
import { readPassages, type Passage } from "../../src/search/passages.ts";
import { toElements } from "../../src/tensor/dtype.ts";
import { numbersOf, width } from "../helpers/embeddings-server.ts";
import { messageOf } from "../helpers/message-of.ts";

const rows = Array.from({ length: 400 }, (_, i) => ({ id: `p${i}`, text: `passage ${i}`, ...(i % 3 === 0 ? { title: `T${i}` } : {}) }));
const about: EmbedderAbout = {
  model: "m",
  sha256: "1".repeat(64),
  pooling: "last",
  form: "instruct",
  maxTokens: 20,
  dimensions: 0,
  weights: "f32",
};

/** Numbers that belong to a text; fails after so many texts. */
function embedder(more: Partial<EmbedderAbout> = {}, failAfter = Infinity): Embedder & { readonly seen: string[] } {
  const seen: string[] = [];
  return {
    about: { ...about, ...more },
    seen,
    embed: (texts) => {
      seen.push(...texts);
      if (seen.length > failAfter) return Promise.reject(new Error("the model has gone"));
      const vectors = texts.map((text) => unitVector(numbersOf(text), 0, "m"));
      return Promise.resolve({ vectors, truncated: texts.filter((text) => text.endsWith("7")).length, tokens: 3 * texts.length });
    },
    takeCounts: () => ({}),
    close: () => Promise.resolve(),
  };
}

let folder: string;
let corpus: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "dense index "));
  corpus = join(folder, "corpus.jsonl");
  await writeFile(corpus, rows.map((row) => JSON.stringify(row)).join("\n"));
});
afterAll(() => rm(folder, { recursive: true }));

const at = (name: string): string => join(folder, name);
const build = (name: string, more: Partial<DenseBuildOptions> = {}) =>
  buildDenseIndex({
    ...{ corpus, source: "corpus.jsonl", file: at(name), embedder: embedder(), instruction: "Find it", dtype: "f32", part: 64 },
    ...more,
  });

async function readAll(name: string): Promise<{ values: number[]; passages: Passage[]; about: DenseFile["about"] }> {
  const file = await DenseFile.open(at(name));
  try {
    const values: number[] = [];
    for await (const part of file.vectors()) values.push(...part.values);
    return { values, passages: await file.passages(rows.map((_, i) => i)), about: file.about };
  } finally {
    file.close();
  }
}

async function change(name: string, sql: string): Promise<void> {
  const client = await openDatabase("test", at(name));
  await client.execute(sql);
  client.close();
}

describe("an index of embeddings", () => {
  it("holds the embedding of every passage in the corpus's order, its text, and what it was made with", async () => {
    const progress: string[] = [];
    const { made, about: its } = await build("whole", {
      onProgress: ({ phase, passages, tokens, done, total }) => progress.push(`${phase} ${passages} ${tokens} ${done === total}`),
    });
    expect(made).toBe(true);
    const read = await readAll("whole");
    const file = await DenseFile.open(at("whole"));
    expect([await file.numberOf("p3"), await file.numberOf("p399"), await file.numberOf("p")]).toEqual([3, 399, null]);
    file.close();
    const passages: Passage[] = [];
    for await (const passage of readPassages(corpus)) passages.push(passage);
    expect(read.passages).toEqual(passages);
    expect(read.values).toEqual(passages.flatMap((passage) => [...unitVector(numbersOf(passageText(passage)), 0, "m")]));
    expect(passageText(passages[3]!)).toBe('"T3"\npassage 3');
    expect(its).toEqual(read.about);
    expect(its).toMatchObject({
      ...{ state: "whole", passages: 400, source: "corpus.jsonl", bytes: (await stat(corpus)).size, embedder: about },
      ...{ instruction: "Find it", dtype: "f32", width, parts: 7, truncated: 40, tokens: 1200 },
    });
    expect(progress[0]).toMatch(/^hash 0 0/);
    expect(progress.at(-1)).toBe("embed 400 1200 true");
    expect(["partial", "partial-journal"].some((ending) => existsSync(`${at("whole")}.${ending}`))).toBe(false);
  });

  it.each(["f16", "bf16"] as const)("keeps numbers as %s where it is asked to", async (dtype) => {
    await build(dtype, { dtype });
    const floats = (await readAll("whole")).values;
    expect((await readAll(dtype)).values).toEqual([...toElements(floats, dtype)]);
  });

  it("goes on after it was stopped or its model failed, embeds nothing twice, and becomes the same", async () => {
    await build("uncut");
    const first = embedder({}, 200);
    expect(await messageOf(build("cut", { embedder: first }))).toBe("the model has gone");
    expect(existsSync(`${at("cut")}.partial`)).toBe(true);
    expect(await messageOf(DenseFile.open(at("cut")))).toMatch(/there is no such index\n {2}It was begun/);
    const stop = new AbortController();
    const second = embedder();
    const resumed: number[] = [];
    const stopped = build("cut", {
      embedder: second,
      signal: stop.signal,
      onResume: ({ passages }) => resumed.push(passages),
      onProgress: ({ passages }) => {
        if (passages === 320) throw new Error("Ctrl-C");
      },
    });
    expect(await messageOf(stopped)).toBe("Ctrl-C");
    const third = embedder();
    const { resumedFrom, made } = await build("cut", { embedder: third, onResume: ({ passages }) => resumed.push(passages) });
    expect({ resumed, resumedFrom, made }).toEqual({ resumed: [192, 320], resumedFrom: 320, made: true });
    expect(second.seen).toHaveLength(128);
    expect(third.seen).toHaveLength(80);
    expect(await readAll("cut")).toEqual(await readAll("uncut"));
  });

  it("is left alone when it is there; of another corpus, another model or other settings it is refused by name", async () => {
    await build("there");
    const before = readFileSync(at("there"));
    const again = embedder();
    expect(await build("there", { embedder: again })).toMatchObject({ made: false, resumedFrom: 400 });
    expect(again.seen).toEqual([]);
    const other = at("other.jsonl");
    await writeFile(other, JSON.stringify({ id: 1, text: "x" }));
    expect(await messageOf(build("there", { corpus: other, source: "other.jsonl" }))).toMatch(
      /there: is an index of another corpus.* expected an index of other\.jsonl \(.*got one of corpus\.jsonl/,
    );
    expect(await messageOf(build("there", { embedder: embedder({ model: "n", sha256: "2".repeat(64) }) }))).toMatch(
      /there: its embeddings were made in another way: by another model; expected n, got m/,
    );
    for (const [more, message] of [
      [{ sha256: "2".repeat(64) }, /the model \(SHA-256 of its files or its name\) is another; expected 2222/],
      [{ form: "bare" }, /dense\.form is another; expected bare, got instruct/],
      [{ maxTokens: 30 }, /dense\.maxTokens is another; expected 30, got 20/],
      [{ dimensions: 4 }, /dense\.dimensions is another; expected 4, got 0/],
      [{ weights: "f16" }, /the type of its weights \(model\.dtype\) is another; expected f16, got f32/],
      [{ pooling: "mean" }, /what of the tokens is taken is another; expected mean, got last/],
    ] as const)
      expect(await messageOf(build("there", { embedder: embedder(more) }))).toMatch(message);
    checkEmbedder("x", about, { ...about, model: "the same under another name" });
    // Indexes from before do not say of what type the weights were.
    checkEmbedder("x", { ...about, weights: undefined }, { ...about, weights: "f16" });
    expect(readFileSync(at("there")).equals(before)).toBe(true);
  });

  it("that was begun with another corpus, model or type is not gone on with", async () => {
    await messageOf(build("begun", { embedder: embedder({}, 200) }));
    expect(await messageOf(build("begun", { embedder: embedder({ form: "e5" }) }))).toMatch(/begun\.partial: .*dense\.form is another/);
    expect(await messageOf(build("begun", { embedder: embedder({ weights: "bf16" }) }))).toMatch(/the type of its weights .* is another/);
    expect(await messageOf(build("begun", { dtype: "f16" }))).toMatch(
      /begun\.partial: was begun with another dense\.dtype; expected f32, got f16/,
    );
    const other = at("second.jsonl");
    await writeFile(other, JSON.stringify({ id: 1, text: "x" }));
    expect(await messageOf(build("begun", { corpus: other }))).toMatch(
      /begun\.partial: was begun with another corpus.*\n {2}Delete .*begun\.partial to begin anew/,
    );
    expect((await build("begun")).resumedFrom).toBe(192);
  });

  it("is built by one of two programs; the other is told", async () => {
    const ends = await Promise.allSettled([build("two"), build("two")]);
    const failed = ends.filter((one) => one.status === "rejected");
    expect(failed).toHaveLength(1);
    expect(String(failed[0]?.reason)).toMatch(/another program builds this index|there is no such|no such file/i);
    expect((await readAll("two")).about.passages).toBe(400);
  });

  it("of a corpus with a wrong row names the row, and leaves nothing", async () => {
    const wrong = at("wrong.jsonl");
    for (const [row, message] of [
      [{ id: "x" }, /wrong\.jsonl:401.*wrong passage text/],
      [{ id: "p5", text: "again" }, /wrong\.jsonl:401/],
    ] as const) {
      await writeFile(wrong, [...rows, row].map((one) => JSON.stringify(one)).join("\n"));
      expect(await messageOf(build("wrong", { corpus: wrong }))).toMatch(message);
      expect(existsSync(at("wrong")) || existsSync(`${at("wrong")}.partial`)).toBe(false);
      // Nor the folders that were made for it.
      expect(await messageOf(build("new/folders/wrong", { corpus: wrong }))).toMatch(message);
      expect(existsSync(at("new"))).toBe(false);
    }
    // What can be gone on with stays, and so do folders that were there.
    await messageOf(build("kept/begun", { embedder: embedder({}, 200) }));
    expect(existsSync(at("kept/begun.partial"))).toBe(true);
    await messageOf(build("kept/deeper/wrong", { corpus: wrong }));
    expect([existsSync(at("kept")), existsSync(at("kept/deeper"))]).toEqual([true, false]);
  });
});

describe("an index file that is damaged", () => {
  it("is noticed by its check sums: a number, a text, a part or an embedding that is not what was written", async () => {
    await build("good");
    for (const [sql, message] of [
      ["update vectors set list = zeroblob(length(list)) where part = 3", /part 3 of its embeddings is not what was written/],
      ["delete from vectors where part = 2", /part 2 of its embeddings is missing/],
      ["update vectors set first = 65 where part = 1", /part 1 of its embeddings is missing/],
      ["update passages set row = replace(row, '42', '43') where n = 42", /passage 42 is not what was written/],
      ["delete from passages where n = 9", /passage 9 is not what was written/],
      [
        "update about set json = replace(json, '\"passages\":400', '\"passages\":401')",
        /is damaged; got what it says of itself is not as it was written/,
      ],
      ["update about set json = '{}'", /is damaged/],
      ["update about set json = replace(json, 'whole', 'reading')", /is damaged; got what it says of itself/],
    ] as const) {
      await copyFile(at("good"), at("bad"));
      await change("bad", sql);
      // As if a page inside had changed, not the first one.
      await sealHeader(at("bad"));
      expect(await messageOf(readAll("bad"))).toMatch(message);
    }
  });

  it("is noticed when a bit of any embedding's page is turned on the disk", async () => {
    const bytes = Buffer.from(readFileSync(at("good")));
    const first = Buffer.from(Float32Array.from((await readAll("good")).values.slice(0, 4)).buffer);
    // SQLite leaves copies in pages that it has moved.
    const places = [...Array(bytes.length).keys()].filter((at) => bytes.subarray(at, at + first.length).equals(first));
    expect(places.length).toBeGreaterThan(0);
    for (const place of places) bytes[place + 5]! ^= 1;
    writeFileSync(at("bit"), bytes);
    expect(await messageOf(readAll("bit"))).toMatch(/bit: is damaged; got part 0 of its embeddings is not what was written/);
  });

  it("that is cut off, no index, or one of words is refused by name, and one of embeddings by bm25", async () => {
    const whole = readFileSync(at("good"));
    for (const [name, content, message] of [
      ["cut-off", whole.subarray(0, whole.length - 5000), /cut-off: is cut off; expected \d+ bytes/],
      ["text", Buffer.from("hello"), /text: is no index; expected one made by zerosearch index/],
      ["empty", Buffer.alloc(0), /empty: is no index.*got empty/],
    ] as const) {
      writeFileSync(at(name), content);
      expect(await messageOf(DenseFile.open(at(name)))).toMatch(message);
    }
    await buildIndex({ corpus, source: "corpus.jsonl", file: at("words") });
    expect(await messageOf(DenseFile.open(at("words")))).toMatch(
      /words: is an index of another engine; expected one of dense, got one of bm25/,
    );
    expect(await messageOf(openIndex(at("good")))).toMatch(/good: is an index of another engine; expected one of bm25, got one of dense/);
    expect(await messageOf(build("words"))).toMatch(/is an index of another engine/);
    expect(await messageOf(DenseFile.open(folder))).toMatch(/is no file/);
  });
});
