import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SafetensorsFile } from "../../src/checkpoint/safetensors.ts";
import { writeSafetensors, type TensorSource } from "../../src/checkpoint/safetensors-write.ts";
import { toElements } from "../../src/tensor/dtype.ts";
import { FileError } from "../../src/util/errors.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "safetensors-"));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

/** A file of this header and so many zero bytes of data. */
async function handmade(name: string, header: unknown, dataBytes: number): Promise<string> {
  const text = Buffer.isBuffer(header) ? header : Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const path = join(folder, name);
  await writeFile(path, Buffer.concat([length, text, Buffer.alloc(dataBytes)]));
  return path;
}

function source(name: string, shape: readonly number[], dtype: "f32" | "f16" | "bf16", values: Float32Array): TensorSource {
  const cols = shape.length < 2 ? values.length : values.length / shape[0]!;
  const read = (row: number, rows: number) => Promise.resolve(toElements(values.slice(row * cols, (row + rows) * cols), dtype));
  return { name, shape, dtype, read };
}

describe("safetensors", () => {
  it("reads back what it wrote, in every float type, with metadata", async () => {
    const path = join(folder, "round.safetensors");
    const values = Float32Array.from({ length: 15 }, (_, i) => (i - 7) * 1.0009765625);
    await writeSafetensors(
      path,
      [source("half", [3, 5], "f16", values), source("brain", [15], "bf16", values), source("full", [5, 3], "f32", values)],
      { step: "12" },
    );
    const file = await SafetensorsFile.open(path);
    expect(file.metadata).toEqual({ format: "pt", step: "12" });
    expect(file.tensors.get("half")).toMatchObject({ dtype: "F16", shape: [3, 5] });
    expect(await file.read("full")).toEqual(values);
    for (const [name, dtype] of [
      ["half", "f16"],
      ["brain", "bf16"],
    ] as const)
      expect(await file.read(name)).toEqual(toElements(values, dtype));
    expect(await file.read("full", 4, 2)).toEqual(values.slice(4, 6));
    for (const [first, count] of [
      [14, 2],
      [-1, 2],
      [16, undefined],
    ] as const)
      await expect(file.read("full", first, count)).rejects.toThrow(
        /elements outside tensor "full" were asked for; expected within 0 .. 15/,
      );
    await expect(file.read("empty")).rejects.toThrow(/no tensor "empty"; got 3 others/);
    await file.close();
  });

  it("moves large tensors in pieces and puts them together again", async () => {
    const path = join(folder, "large.safetensors");
    const [rows, cols] = [3000, 701];
    const at = (i: number): number => (i * 37) % 8191;
    let largest = 0;
    await writeSafetensors(path, [
      {
        name: "large",
        shape: [rows, cols],
        dtype: "f32",
        read: (row, count) => {
          largest = Math.max(largest, count * cols * 4);
          return Promise.resolve(Float32Array.from({ length: count * cols }, (_, i) => at(row * cols + i)));
        },
      },
    ]);
    expect(largest).toBeLessThanOrEqual(4 << 20);
    const file = await SafetensorsFile.open(path);
    const read = (await file.read("large")) as Float32Array;
    expect(read.length).toBe(rows * cols);
    expect(read.every((x, i) => x === at(i))).toBe(true);
    await file.close();
  });

  it("reads whole numbers, wide floats, scalars and empty tensors, and lists types it has no array for", async () => {
    const entries = [
      ["a", "I64", [2], 16],
      ["b", "F64", [1], 8],
      ["scalar", "F32", [], 4],
      ["empty", "F32", [3, 0, 9007199254740991], 0],
      ["c", "I16", [2], 4],
      ["d", "BOOL", [3], 3],
      ["e", "F4", [6], 3],
    ] as const;
    let end = 0;
    const header = Object.fromEntries(
      entries.map(([name, dtype, shape, bytes]) => [name, { dtype, shape, data_offsets: [end, (end += bytes)] }]),
    );
    const file = await SafetensorsFile.open(await handmade("ints", header, end));
    expect(await file.read("a")).toEqual(new BigInt64Array(2));
    expect(await file.read("b")).toEqual(new Float64Array(1));
    expect(await file.read("scalar")).toEqual(new Float32Array(1));
    expect(await file.read("empty")).toEqual(new Float32Array(0));
    expect(await file.read("c")).toEqual(new Int16Array(2));
    expect(await file.read("d")).toEqual(new Uint8Array(3));
    await expect(file.read("e")).rejects.toThrow(/tensor "e" is of a type that cannot be read here; expected .*F32.*, got F4/);
    await file.close();
  });

  it("takes what the reference implementation takes: any order, spaces at the end, no tensors, metadata null, fields it does not know", async () => {
    const x = '"x":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}';
    const y = '"y" : { "more": {"x": [1e3, null, {"a": "\\u0041"}]}, "data_offsets":[0,2], "shape":[2], "dtype":"U8" }';
    for (const [header, bytes, names] of [
      [`{${x},${y}}   \n`, 4, ["x", "y"]],
      ["{}", 0, []],
      ["{}      ", 0, []],
      [`{"__metadata__":null,${x},${y}}`, 4, ["x", "y"]],
    ] as const) {
      const file = await SafetensorsFile.open(await handmade("fine", header, bytes));
      expect([...file.tensors.keys()]).toEqual(names);
      await file.close();
    }
  });

  it("has names and metadata such as __proto__ and constructor as any other", async () => {
    const text =
      '{"__metadata__":{"__proto__":"p","constructor":"c"},"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},' +
      '"constructor":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}';
    const file = await SafetensorsFile.open(await handmade("proto", text, 2));
    expect([...file.tensors.keys()]).toEqual(["__proto__", "constructor"]);
    expect(Object.entries(file.metadata)).toEqual([
      ["__proto__", "p"],
      ["constructor", "c"],
    ]);
    expect(file.metadata["toString"]).toBeUndefined();
    await file.close();
  });

  it.each([
    ["is missing", null, 0, /cannot be opened; expected a safetensors file, got ENOENT/],
    ["has a header that is not JSON", "{oops", 0, /the header is not JSON, at character 1: a text in quotes is missing; got "oops"/],
    ["has a header that is no object", "[]", 0, /the header is not JSON: it does not begin with "\{"/],
    ["has spaces before its header", " {}", 0, /does not begin with "\{"/],
    ["has a byte order mark", "\ufeff{}", 0, /does not begin with "\{"/],
    ["has something after its header", "{} x", 0, /at character 3: something follows the value/],
    ["has zeros after its header", "{}\0\0", 0, /at character 2: something follows the value/],
    ["has a header that is not UTF-8", Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]), 0, /the header is not UTF-8/],
    ["has half of a surrogate pair", '{"\\ud800":1}', 0, /half of a surrogate pair/],
    ["has levels without end", `{"x":{"y":${"[".repeat(9999)}`, 0, /more than 128 levels/],
    ["has metadata that are not text", { __metadata__: { step: 3 } }, 0, /__metadata__ has a value that is no text, at "step"/],
    ["has metadata that are a list", { __metadata__: [] }, 0, /__metadata__ is wrong; expected an object of texts/],
    ["has the same metadata twice", '{"__metadata__":{"a":"1","a":"2"}}', 0, /the name "a" comes twice/],
    [
      "has one tensor twice",
      '{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\\u0078":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
      1,
      /the name "x" comes twice/,
    ],
    ["describes a tensor by a number", { x: 4 }, 0, /tensor "x" is not described by an object/],
    ["lacks a shape", { x: { dtype: "U8", data_offsets: [0, 0] } }, 0, /tensor "x" has no shape/],
    ["lacks offsets", { x: { dtype: "U8", shape: [0] } }, 0, /tensor "x" has wrong data_offsets/],
    ["has three offsets", { x: { dtype: "U8", shape: [0], data_offsets: [0, 0, 0] } }, 0, /wrong data_offsets; .* got more than 2/],
    ["has offsets in reverse", { x: { dtype: "U8", shape: [0], data_offsets: [4, 0] } }, 4, /does not fill its data_offsets/],
    ["has fractional sizes", '{"x":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}', 1, /tensor "x" has a wrong shape; .* got 1\.0/],
    ["has sizes in powers", '{"x":{"dtype":"U8","shape":[1e0],"data_offsets":[0,1]}}', 1, /tensor "x" has a wrong shape; .* got 1e0/],
    [
      "has a size beyond all numbers",
      `{"x":{"dtype":"U8","shape":[${"9".repeat(5000)}],"data_offsets":[0,1]}}`,
      1,
      /tensor "x" has a wrong shape; expected a list of sizes, got 9{57}\.\.\./,
    ],
    [
      "has sizes whose product is beyond exact numbers",
      { x: { dtype: "F32", shape: [94906267, 94906267], data_offsets: [0, 4] } },
      4,
      /tensor "x" F32 \[94906267, 94906267\] has an impossible size; expected at most the \d+ bytes of the file/,
    ],
    [
      "has sizes whose product comes round to its bytes in 64 bits",
      { x: { dtype: "U8", shape: [4294967296, 4294967296], data_offsets: [0, 0] } },
      0,
      /has an impossible size/,
    ],
    ["has more dimensions than there are", { x: { dtype: "U8", shape: new Array(65).fill(1), data_offsets: [0, 1] } }, 1, /more than 64/],
    ["has half a byte", { x: { dtype: "F4", shape: [3], data_offsets: [0, 1] } }, 1, /does not fill its data_offsets; expected 1\.5 bytes/],
    ["has a name like a book", { ["x".repeat(9999)]: 1 }, 0, /tensor "x{57}\.\.\." is not described/],
    ["has an impossible header length", "huge", 0, /the header's length is impossible/],
    [
      "ends inside a tensor",
      { x: { dtype: "F32", shape: [4], data_offsets: [0, 16] } },
      15,
      /tensor "x" ends after the file; expected at least \d+ bytes, got \d+ bytes\n {2}the file is truncated/,
    ],
    ["has bytes left over", { x: { dtype: "F32", shape: [4], data_offsets: [0, 16] } }, 17, /bytes are left over/],
    [
      "has overlapping tensors",
      { x: { dtype: "F32", shape: [4], data_offsets: [0, 16] }, y: { dtype: "F32", shape: [2], data_offsets: [8, 16] } },
      16,
      /tensor "y" overlaps "x"/,
    ],
    [
      "has a gap",
      { x: { dtype: "F32", shape: [1], data_offsets: [0, 4] }, y: { dtype: "F32", shape: [1], data_offsets: [8, 12] } },
      12,
      /tensor "y" leaves a gap after "x"/,
    ],
    [
      "has an unknown dtype",
      { x: { dtype: "F31", shape: [1], data_offsets: [0, 4] } },
      4,
      /tensor "x" has an unknown dtype; expected .*F32.*, got F31/,
    ],
    [
      "has a shape that does not fit its bytes",
      { x: { dtype: "F32", shape: [2, 2], data_offsets: [0, 12] } },
      12,
      /tensor "x" F32 \[2, 2\] does not fill its data_offsets; expected 16 bytes, got 12 bytes/,
    ],
    ["has a shape that is not a list", { x: { dtype: "F32", shape: 4, data_offsets: [0, 16] } }, 16, /tensor "x" has a wrong shape/],
    ["has negative offsets", { x: { dtype: "F32", shape: [1], data_offsets: [-4, 0] } }, 4, /tensor "x" has wrong data_offsets/],
  ])("refuses a file that %s, saying so", async (_, header, bytes, message) => {
    const path = join(folder, "bad.safetensors");
    await rm(path, { force: true });
    if (header === "huge") await writeFile(path, Buffer.alloc(16, 0xff));
    else if (header !== null) await handmade("bad.safetensors", header, bytes);
    const error: unknown = await SafetensorsFile.open(path).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(FileError);
    expect((error as Error).message).toMatch(message);
    expect((error as Error).message).toContain("bad.safetensors");
  });

  it("refuses a file cut off at any length", async () => {
    const path = join(folder, "whole.safetensors");
    await writeSafetensors(path, [source("x", [2, 3], "f32", new Float32Array(6))]);
    const whole = await readFile(path);
    const cut = join(folder, "cut.safetensors");
    for (const length of [0, 5, 8, 20, whole.length - 25, whole.length - 1]) {
      await writeFile(cut, whole.subarray(0, length));
      await expect(SafetensorsFile.open(cut)).rejects.toThrow(/truncated/);
    }
  });

  it("leaves the old file, and nothing else, when writing fails in the middle", async () => {
    const path = join(folder, "kept", "model.safetensors");
    await expect(writeSafetensors(path, [source("x", [1], "f32", new Float32Array(1))])).rejects.toThrow(FileError);
    const inner = await mkdtemp(join(folder, "kept-"));
    const target = join(inner, "model.safetensors");
    await writeSafetensors(target, [source("x", [2], "f32", Float32Array.of(1, 2))]);
    const before = await readFile(target);
    const failing: TensorSource = { ...source("x", [2], "f32", new Float32Array(2)), read: () => Promise.reject(new Error("device lost")) };
    await expect(writeSafetensors(target, [failing])).rejects.toThrow("device lost");
    expect(await readFile(target)).toEqual(before);
    expect(await readdir(inner)).toEqual(["model.safetensors"]);
  });
});
