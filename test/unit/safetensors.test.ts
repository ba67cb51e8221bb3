import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SafetensorsFile, writeSafetensors, type TensorSource } from "../../src/checkpoint/safetensors.ts";
import { toElements, toFloats } from "../../src/tensor/dtype.ts";
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
  const text = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const path = join(folder, name);
  await writeFile(path, Buffer.concat([length, text, Buffer.alloc(dataBytes)]));
  return path;
}

function source(name: string, shape: readonly number[], dtype: "f32" | "f16" | "bf16", values: Float32Array): TensorSource {
  const cols = shape.length < 2 ? values.length : values.length / shape[0]!;
  return { name, shape, dtype, sourceDtype: "f32", read: (row, rows) => Promise.resolve(values.slice(row * cols, (row + rows) * cols)) };
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
    const pieces: number[] = [];
    for await (const { data } of file.rows("brain", "f32")) pieces.push(...data);
    expect(pieces).toEqual([...toFloats(toElements(values, "bf16"), "bf16")]);
    expect(await file.read("full", 4, 2)).toEqual(values.slice(4, 6));
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
        sourceDtype: "f32",
        read: (row, count) => {
          largest = Math.max(largest, count * cols * 4);
          return Promise.resolve(Float32Array.from({ length: count * cols }, (_, i) => at(row * cols + i)));
        },
      },
    ]);
    expect(largest).toBeLessThanOrEqual(4 << 20);
    const file = await SafetensorsFile.open(path);
    let next = 0;
    let calls = 0;
    for await (const { firstRow, data } of file.rows("large", "f32")) {
      expect(firstRow * cols).toBe(next);
      expect(data.every((x, i) => x === at(next + i))).toBe(true);
      next += data.length;
      calls += 1;
    }
    expect([next, calls]).toEqual([rows * cols, 3]);
    await file.close();
  });

  it("reads I64 and U8 tensors", async () => {
    const path = await handmade(
      "ints",
      { a: { dtype: "I64", shape: [2], data_offsets: [0, 16] }, b: { dtype: "U8", shape: [3], data_offsets: [16, 19] } },
      19,
    );
    const file = await SafetensorsFile.open(path);
    expect(await file.read("a")).toEqual(new BigInt64Array(2));
    expect(await file.read("b")).toEqual(new Uint8Array(3));
    await expect(file.rows("a", "f32").next()).rejects.toThrow(/tensor "a" does not hold floats; expected F32, F16 or BF16, got I64/);
    await file.close();
  });

  it.each([
    ["is missing", null, 0, /cannot be opened; expected a safetensors file, got ENOENT/],
    ["has a header that is not JSON", "{oops", 0, /the header is not JSON/],
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
      /tensor "x" has an unknown dtype; expected .*F32.*, got "F31"/,
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
