/** Data files by what they hold, not by their names: formats, packings, damage, limits. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readRows } from "../../src/data/rows.ts";
import { DataError, FileError } from "../../src/util/errors.ts";

const fixtures = join(import.meta.dirname, "../fixtures/data");
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-rows-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function file(content: string | Uint8Array, name = "rows.txt"): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

async function valuesOf(path: string): Promise<unknown[]> {
  const values: unknown[] = [];
  for await (const { value } of readRows(path, { what: "question file" })) values.push(value);
  return values;
}

async function wheresOf(path: string): Promise<string[]> {
  const wheres: string[] = [];
  for await (const { where } of readRows(path, { what: "question file" })) wheres.push(where.replace(path, "F"));
  return wheres;
}

async function errorOf(path: string): Promise<Error> {
  const error: unknown = await valuesOf(path).then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(Error);
  return error as Error;
}

/** A frame of zstd whose blocks are not compressed. */
function zstdFrame(content: Uint8Array, blockBytes = 1000): Buffer {
  const parts = [Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58])];
  for (let at = 0; at === 0 || at < content.length; at += blockBytes) {
    const block = content.subarray(at, at + blockBytes);
    const head = (block.length << 3) | (at + blockBytes >= content.length ? 1 : 0);
    parts.push(Buffer.from([head & 255, (head >> 8) & 255, head >> 16]), Buffer.from(block));
  }
  return Buffer.concat(parts);
}

const rows = [{ a: 1 }, { a: "zwei\n" }, { a: [null, ']},{[\\"'] }];
const lines = `${rows.map((row) => JSON.stringify(row)).join("\n")}\n`;
const list = JSON.stringify(rows, null, 2);
const bom = "\ufeff";

describe("a data file", () => {
  it.each([
    ["JSON Lines", lines],
    ["JSON Lines without a last line break, with blank lines and \\r\\n", `\n${lines.trimEnd().replaceAll("\n", "\r\n\r\n")}`],
    ["JSON Lines behind a byte order mark", bom + lines],
    ["a JSON list in one line", JSON.stringify(rows)],
    ["a JSON list over many lines", `\n ${list} \n\n`],
    ["a JSON list behind a byte order mark", bom + list],
  ])("may be %s, plain, in gzip or in zstd, under any name", async (_, text) => {
    expect(await valuesOf(file(text, "a.csv"))).toEqual(rows);
    expect(await valuesOf(file(gzipSync(text), "b.jsonl"))).toEqual(rows);
    expect(await valuesOf(file(zstdFrame(Buffer.from(text)), "c.parquet"))).toEqual(rows);
  });

  it("may be parquet, also packed: of several row groups, codecs and pages", async () => {
    const path = join(fixtures, "zerosearch.parquet");
    const values = await valuesOf(path);
    expect(values).toHaveLength(25);
    expect(values[24]).toEqual({
      id: "nq_24",
      question: "Which is the city number 24 of the fabled land?",
      golden_answers: ["Ville 24", "Città 24"],
      data_source: "nq",
      metadata: { hops: 1, page: String(2n ** 60n + 24n) },
      prompt: [{ role: "user", content: expect.stringMatching(/Question: Which is the city number 24 of the fabled land\?\n$/) }],
      ability: "fact-reasoning",
      reward_model: { ground_truth: { target: ["Ville 24", "Città 24"] }, style: "rule" },
      extra_info: { index: 24, split: "train" },
    });
    expect(await valuesOf(join(fixtures, "v2.parquet"))).toEqual(values);
    expect(await valuesOf(file(gzipSync(readFileSync(path)), "a.gz"))).toEqual(values);
    expect(await valuesOf(file(zstdFrame(readFileSync(path)), "a.zst"))).toEqual(values);
  });

  it("may be what pyarrow and the zstd library compress", async () => {
    const values = await valuesOf(join(fixtures, "questions.jsonl.zst"));
    expect(values).toHaveLength(2000);
    expect(values[1999]).toMatchObject({ id: "nq_1999", golden_answers: ["Ville 1999", "Città 1999"] });
  });

  it("of several frames or members is read whole", async () => {
    const [first, second] = [Buffer.from(lines), Buffer.from('{"b": 2}\n')];
    const both = [...rows, { b: 2 }];
    expect(await valuesOf(file(Buffer.concat([gzipSync(first), gzipSync(second)])))).toEqual(both);
    expect(await valuesOf(file(Buffer.concat([zstdFrame(first), zstdFrame(second)])))).toEqual(both);
  });

  it("with nothing in it has no rows", async () => {
    for (const content of ["", " \n\n", bom, "[]", "[\n]\n", gzipSync(""), zstdFrame(Buffer.alloc(0))])
      expect(await valuesOf(file(content))).toEqual([]);
  });

  it("gives each row its line or number", async () => {
    expect(await wheresOf(file(`{}\n\n{}`))).toEqual(["F:1", "F:3"]);
    expect(await wheresOf(file(`[{},\n{}, {}\n]`))).toEqual(["F:1 (row 1)", "F:2 (row 2)", "F:2 (row 3)"]);
    expect((await wheresOf(join(fixtures, "verl.parquet"))).at(-1)).toBe("F (row 3)");
  });

  it("is cut anywhere into pieces without a difference", async () => {
    // Pieces of 256 KiB: rows of about that size begin and end on all sides of their edges.
    const sizes = fc.array(fc.integer({ min: 0, max: 400_000 }), { minLength: 1, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(sizes, async (lengths) => {
        const values = lengths.map((length, i) => ({ i, text: 'ü"\\[{,]}'.repeat(length / 8) }));
        expect(await valuesOf(file(values.map((value) => JSON.stringify(value)).join("\n")))).toEqual(values);
        expect(await valuesOf(file(JSON.stringify(values)))).toEqual(values);
      }),
      { numRuns: 20 },
    );
  });
});

describe("a file of another kind", () => {
  const tar = Buffer.alloc(1024, "a");
  tar.write("ustar", 257);
  it.each([
    ["a CSV file", "id,question,answer\n1,Who?,He\n", "Write each row as a line"],
    ["a TSV file", "question\tanswer\nWho?\tHe\n", ""],
    ["an HTML page", "\n<!DOCTYPE html><html>", "A login or error page"],
    ["an XML file", '<?xml version="1.0"?>', ""],
    ["a zip archive", "PK\x03\x04....", "Unpack it"],
    ["a tar archive", tar, "Unpack it"],
    ["a bzip2 archive", "BZh91AY", "bunzip2"],
    ["an xz archive", Buffer.from("fd377a585a00", "hex"), "unxz"],
    ["an SQLite database", "SQLite format 3\0....", ""],
    ["an Arrow file", "ARROW1\0\0", "to_parquet"],
    ["an Arrow stream", Buffer.from("ffffffff10000000", "hex"), "to_parquet"],
    ["a Python pickle", Buffer.from("8004951a00", "hex"), ""],
    ["a pointer of Git LFS", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"],
    ["text in UTF-16", Buffer.from('\ufeff{"question": 1}', "utf16le"), "Save it as UTF-8"],
    ["text in UTF-16", Buffer.from('{"question": 1}', "utf16le"), ""],
    ["binary data", Buffer.from([1, 2, 0, 3]), ""],
    ["text that is no JSON", "Who wrote Faust? Goethe did, as far as we know.\n", ""],
  ])("is named as %s", async (name, content, hint) => {
    const error = await errorOf(file(content, "questions.jsonl"));
    expect(error).toBeInstanceOf(FileError);
    expect(error.message).toContain(`questions.jsonl: the question file is ${name}`);
    expect(error.message).toContain("; expected JSON Lines, a JSON list or parquet; plain, or packed by gzip or zstd");
    expect(error.message).toContain(hint);
  });

  it("is named inside its packing too, and so is a second packing", async () => {
    expect((await errorOf(file(gzipSync("id,question\n1,Who?\n")))).message).toContain("the question file is a CSV file, packed by gzip;");
    expect((await errorOf(file(zstdFrame(gzipSync(lines))))).message).toContain(
      "the question file is packed twice, by gzip, packed by zstd;",
    );
  });

  it("may be a folder, a pipe or nothing at all", async () => {
    const inner = join(folder, "inner");
    mkdirSync(inner, { recursive: true });
    expect((await errorOf(inner)).message).toContain("cannot read the question file: it is no file");
    expect((await errorOf("/dev/zero")).message).toContain("cannot read the question file: it is no file");
    expect((await errorOf("/nowhere")).message).toContain("/nowhere: cannot read the question file; got ENOENT");
    expect((await errorOf("hf://datasets/o/n/f")).message).toContain("locateDataFile");
  });
});

describe("damage", () => {
  it.each([
    ["not JSON; expected one object a line", `{}\n{"a": \n{}`, "F:2"],
    ["not JSON; expected an object", `[{},\n\n{"a" 1}]`, "F:3 (row 2)"],
    ["nothing between two commas of the list", "[{},, {}]", "F:1 (row 2)"],
    ["the file ends inside its list", "[{},\n{}", "F:2 (row 2)"],
    ["the file ends inside its list", '[{},\n{"a', "F:2 (row 2)"],
    ["text behind the end of the list", "[{}]\n[{}]", "F:2"],
    ["is not UTF-8; expected text in UTF-8", Buffer.from('{}\n{"a": "caf\xe9"}\n', "latin1"), "F:2"],
    ["is not UTF-8; expected text in UTF-8", Buffer.from('[{},\n{"a":\n "caf\xe9"}]\n', "latin1"), "F:2 (row 2)"],
  ])("of text is named with its line: %s", async (what, content, where) => {
    const path = file(content);
    const error = await errorOf(path);
    expect(error).toBeInstanceOf(DataError);
    expect(error.message.replaceAll(path, "F")).toMatch(new RegExp(`^${where.replace(/[()]/g, "\\$&")}: ${what}`));
  });

  it("of a text in parquet is named with its row", async () => {
    expect((await errorOf(join(fixtures, "latin1.parquet"))).message).toContain("latin1.parquet (row 1): is not UTF-8");
  });

  it("of packed files is named, wherever they are cut", async () => {
    const packed = { gzip: gzipSync(lines.repeat(50)), zstd: readFileSync(join(fixtures, "questions.jsonl.zst")) };
    for (const [packing, content] of Object.entries(packed))
      for (const bytes of [10, 30, content.length >> 1, content.length - 1]) {
        const error = await errorOf(file(content.subarray(0, bytes)));
        expect(error, `${packing} ${bytes}`).toBeInstanceOf(FileError);
        expect(error.message).toContain(`its ${packing} data is damaged or cut off`);
      }
  });

  it("of parquet is an error of the file, whatever byte is wrong, and never another kind of error", async () => {
    const whole = readFileSync(join(fixtures, "verl.parquet"));
    expect((await errorOf(file(whole.subarray(0, -1)))).message).toContain("cannot be read as parquet: it may be cut off or damaged");
    // At 1409, the library searches without an end for columns of maps unless it is told not to.
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 4, max: whole.length - 1 }), fc.integer({ min: 1, max: 255 }), async (at, change) => {
        const other = Buffer.from(whole);
        other[at]! ^= change;
        const error: unknown = await valuesOf(file(other, "damaged")).then(
          () => null,
          (reason: unknown) => reason,
        );
        expect(error === null || error instanceof FileError || error instanceof DataError, String(error)).toBe(true);
      }),
      { numRuns: 300, examples: [[1409, 1]], seed: 1 },
    );
  });
});

describe("a row of hundreds of megabytes", { timeout: 60_000 }, () => {
  /** Of which the disk holds the beginning alone. */
  function huge(head: string): string {
    const path = file(head + "x".repeat(8192), "huge");
    truncateSync(path, 600 * 2 ** 20);
    return path;
  }

  it.each([
    ["a line", '{}\n{"question": "'],
    ["an element of a list", '[{},\n{"question": "'],
  ])("is refused as %s once it is too long", async (_, head) => {
    const path = huge(head);
    const error = await errorOf(path);
    expect(error.message).toContain("the row is too long; expected at most 64 MiB, got more");
    expect(error.message).toMatch(/huge:2/);
  });

  it("is refused inside an archive that grows a thousandfold", async () => {
    const error = await errorOf(
      file(gzipSync(Buffer.concat([Buffer.from('{"question": "'), Buffer.alloc(70 * 2 ** 20, "x")]), { level: 1 })),
    );
    expect(error.message).toContain("the row is too long");
  });
});
