import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Bm25Search, wordsOf } from "../../src/search/bm25.ts";
import { renderDocuments } from "../../src/search/documents.ts";
import { joinContents, readPassages, splitContents, type Passage } from "../../src/search/passages.ts";
import { FileError } from "../../src/util/errors.ts";

const corpus = [
  { id: "a", text: "The capital of France is Paris." },
  { id: "b", text: "The capital of Germany is Berlin." },
  { id: "c", text: "Côte d'Ivoire uses the currency West African franc." },
  { id: "d", text: "The calling code of Guinea-Bissau is +245." },
  { id: "e", text: "The internet domain of Germany is .de." },
];

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "bm 25 "));
});
afterAll(() => rm(folder, { recursive: true }));

describe("bm25", () => {
  it("finds the passage that shares most rare words, stemmed and without accents", async () => {
    const engine = await Bm25Search.inMemory(corpus, 2);
    expect((await engine.find("capitals of Germany"))[0]?.id).toBe("b");
    expect((await engine.find("cote d'ivoire currencies"))[0]?.id).toBe("c");
    expect((await engine.find("currency of Côte"))[0]?.id).toBe("c");
    await engine.close();
  });

  it("takes nothing in a query as syntax", async () => {
    const engine = await Bm25Search.inMemory(corpus, 1);
    for (const [query, id] of [
      ["+245", "d"],
      ["Guinea-Bissau", "d"],
      [".de", "e"],
      ['"Berlin" AND NOT (', "b"],
      ["NEAR paris*", "a"],
      ["text:paris", "a"],
    ] as const) {
      expect((await engine.find(query))[0]?.id, query).toBe(id);
    }
    expect(await engine.find("")).toEqual([]);
    expect(await engine.find("? - .")).toEqual([]);
    await engine.close();
  });

  it("renders documents with numbers, one a line, and says so when there is none", async () => {
    const engine = await Bm25Search.inMemory(
      [
        { id: "1", title: "France", text: "Capital:\n Paris" },
        { id: "2", text: "Capital: Rome" },
      ],
      5,
    );
    const request = { key: { step: 0, question: 0, rollout: 0 }, turn: 0 };
    const found = await engine.search({ ...request, query: "Paris capital" });
    expect(found).toMatchObject({
      documents: [
        { id: "1", title: "France", text: "Capital:\n Paris" },
        { id: "2", text: "Capital: Rome" },
      ],
      kind: "real",
    });
    expect(found.documents[0]?.score).toBeGreaterThan(found.documents[1]?.score as number);
    expect(renderDocuments(found)).toBe("Doc 1: France Capital: Paris\nDoc 2: Capital: Rome");
    expect(renderDocuments(await engine.search({ ...request, query: "zebra" }))).toBe("No information available");
    await engine.close();
  });

  it("breaks ties by corpus order", async () => {
    const engine = await Bm25Search.inMemory(
      Array.from({ length: 500 }, (_, i) => ({ id: String(i), text: `same words here` })),
      3,
    );
    expect((await engine.find("same")).map(({ id }) => id)).toEqual(["0", "1", "2"]);
    expect(engine.size).toBe(500);
    await engine.close();
  });

  it("keeps distinct words of a query once, and 1,024 of them", () => {
    expect(wordsOf("Capital of the capital")).toEqual(["capital", "of", "the"]);
    expect(wordsOf(Array.from({ length: 5000 }, (_, i) => `w${i}`).join(" "))).toHaveLength(1024);
  });

  it("ranks by the 64 rarest words of a long query, and answers one of 100 kB", async () => {
    const engine = await Bm25Search.inMemory(
      Array.from({ length: 200 }, (_, i) => ({ id: String(i), text: `common word${i} ${i < 100 ? "half" : "other"}` })),
      3,
    );
    const rare = Array.from({ length: 64 }, (_, i) => `word${i + 100}`).join(" ");
    const [first, ...rest] = await engine.find(`half common ${rare}`);
    expect(first?.id).toBe("100");
    expect(rest.map(({ id }) => id)).toEqual(["101", "102"]);
    expect(await engine.find(`${rare} half common`)).toEqual(await engine.find(rare));
    const long = `word7 ${"common half other ".repeat(6000)}`;
    expect(long.length).toBeGreaterThan(100_000);
    expect((await engine.find(long))[0]?.id).toBe("7");
    expect(await engine.find("\u0000\u0001\u001b[31m\u007f")).toEqual([]);
    expect((await engine.find("\u0000word9\u0007")).map(({ id }) => id)).toEqual(["9"]);
    await engine.close();
  });

  it("reads a corpus in parquet, and one that is packed", async () => {
    const rows: Passage[] = [];
    for await (const passage of readPassages(join(import.meta.dirname, "../fixtures/data/corpus.parquet"))) rows.push(passage);
    expect(rows).toEqual([
      { id: "a", title: "One", text: "one passage" },
      { id: "b", text: "another" },
    ]);
    const packed = join(folder, "corpus.jsonl.gz");
    await writeFile(packed, gzipSync(rows.map((row) => JSON.stringify(row)).join("\n")));
    const engine = await Bm25Search.fromCorpus(packed, 1);
    expect(engine.size).toBe(2);
    expect((await engine.find("another"))[0]?.id).toBe("b");
    await engine.close();
  });

  it("takes title and text out of contents as Search-R1's Wikipedia dump has them", () => {
    expect(splitContents('"Aaron"\nAaron is a "prophet".\nHe lived.')).toEqual({
      title: "Aaron",
      text: 'Aaron is a "prophet".\nHe lived.',
    });
    for (const whole of ["no title\nat all", '"Aaron"', '"Aaron" is one\nline', '"Aaron"\n  ', '""\ntext'])
      expect(splitContents(whole)).toEqual({ text: whole });
    expect(joinContents(splitContents('"""Weird Al"""\nsings'))).toBe('"""Weird Al"""\nsings');
  });

  it("reads a corpus line by line and names the line of a wrong row", async () => {
    const path = join(folder, "corpus.jsonl");
    await writeFile(path, `{"id": 1, "text": "one"}\n\n{"id": "2", "title": "Two", "contents": "two"}\n`);
    const rows = [];
    for await (const passage of readPassages(path)) rows.push(passage);
    expect(rows).toEqual([
      { id: "1", text: "one" },
      { id: "2", title: "Two", text: "two" },
    ]);
    await writeFile(path, `{"id": 1, "text": "one"}\n{"id": 2}\n`);
    await expect(Bm25Search.fromCorpus(path, 1)).rejects.toThrow(`${path}:2: wrong passage text; expected a text, got nothing`);
    await writeFile(path, "{");
    await expect(Bm25Search.fromCorpus(path, 1)).rejects.toThrow(`${path}:1: not JSON`);
    await writeFile(path, "");
    await expect(Bm25Search.fromCorpus(path, 1)).rejects.toThrow("the corpus is empty");
    await expect(Bm25Search.fromCorpus(join(folder, "missing"), 1)).rejects.toThrow(FileError);
    await writeFile(path, `\ufeff[{"id": 1, "text": "one"}, {"id": "1", "text": "again"}]`);
    await expect(Bm25Search.fromCorpus(path, 1)).rejects.toThrow(
      `${path}:1 (row 2): duplicate id; expected an id that occurs once, got "1", also in row 1`,
    );
    await expect(Bm25Search.inMemory(corpus, 0)).rejects.toThrow("bm25.documents");
  });
});
