/**
 * The JSON header of a safetensors file: read, and checked against the length of the file. It follows the reference implementation,
 * and is stricter in one thing that the format's own page asks for: no name twice.
 *
 * Source: https://github.com/huggingface/safetensors (README, "Format"; `Metadata::validate` of safetensors/src/tensor.rs).
 */
import { FileError } from "../util/errors.ts";
import { clip, JsonScanner } from "./json-scanner.ts";

/** As in the reference implementation. */
export const MAX_HEADER_BYTES = 100_000_000;
/** No library has tensors of more dimensions; a longer list is a lie that would take memory. */
const MAX_RANK = 64;

/** Bits of one element by the format's names of types. */
const elementBits: ReadonlyMap<string, number> = new Map([
  ["F64", 64],
  ["I64", 64],
  ["U64", 64],
  ["C64", 64],
  ["F32", 32],
  ["I32", 32],
  ["U32", 32],
  ["F16", 16],
  ["BF16", 16],
  ["I16", 16],
  ["U16", 16],
  ["I8", 8],
  ["U8", 8],
  ["BOOL", 8],
  ["F8_E4M3", 8],
  ["F8_E5M2", 8],
  ["F8_E8M0", 8],
  ["F8_E4M3FNUZ", 8],
  ["F8_E5M2FNUZ", 8],
  ["F6_E2M3", 6],
  ["F6_E3M2", 6],
  ["F4", 4],
]);

/** One tensor of a file. */
export interface TensorEntry {
  readonly name: string;
  /** As in the file: F32, BF16, ... */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Bytes from the start of the file. */
  readonly start: number;
  readonly end: number;
}

export interface Header {
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** Without a prototype: a key such as "constructor" is what the file says, or nothing. */
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Tensors and metadata of the header's bytes. The tensors fill the file from the header's end to its own, without gaps or overlaps.
 * @throws FileError naming the tensor.
 */
export function parseHeader(path: string, bytes: Uint8Array, fileBytes: number): Header {
  const dataStart = 8 + bytes.length;
  if (bytes[0] !== 0x7b)
    throw new FileError({
      where: path,
      what: 'the header is not JSON: it does not begin with "{"',
      hint: "the file is damaged, or not a safetensors file",
    });
  const scanner = new JsonScanner(decode(path, bytes), path, "the header");
  const tensors = new Map<string, TensorEntry>();
  let metadata: Readonly<Record<string, string>> = Object.create(null) as Record<string, string>;
  scanner.object((name) => {
    if (name === "__metadata__") metadata = readMetadata(path, scanner);
    else tensors.set(name, readEntry(path, name, scanner, dataStart, fileBytes));
  });
  scanner.end();
  checkCover(path, tensors.values(), dataStart, fileBytes);
  return { tensors, metadata };
}

function decode(path: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new FileError(
      { where: path, what: "the header is not UTF-8", hint: "the file is damaged, or not a safetensors file" },
      { cause },
    );
  }
}

function readMetadata(path: string, scanner: JsonScanner): Readonly<Record<string, string>> {
  const metadata = Object.create(null) as Record<string, string>;
  const first = scanner.peek();
  if (first === "n") scanner.skip();
  else if (first === "{")
    scanner.object((key) => {
      if (scanner.peek() !== '"')
        throw new FileError({ where: path, what: `__metadata__ has a value that is no text, at "${clip(key)}"`, expected: "texts only" });
      metadata[key] = scanner.string();
    });
  else throw new FileError({ where: path, what: "__metadata__ is wrong", expected: "an object of texts" });
  return metadata;
}

function readEntry(path: string, name: string, scanner: JsonScanner, dataStart: number, fileBytes: number): TensorEntry {
  const shown = clip(name);
  const fail = (what: string, expected: string, got?: string, hint?: string): never => {
    throw new FileError({ where: path, what: `tensor "${shown}" ${what}`, expected, got, hint });
  };
  if (scanner.peek() !== "{") fail("is not described by an object", "{ dtype, shape, data_offsets }");
  const found: { dtype?: string; shape?: readonly number[]; offsets?: readonly number[] } = {};
  scanner.object((field) => {
    if (field === "dtype") found.dtype = scanner.peek() === '"' ? scanner.string() : fail("has a wrong dtype", "a text");
    else if (field === "shape") found.shape = readCounts(scanner, MAX_RANK, (got) => fail("has a wrong shape", "a list of sizes", got));
    else if (field === "data_offsets")
      found.offsets = readCounts(scanner, 2, (got) => fail("has wrong data_offsets", "[begin, end], two byte counts", got));
    else scanner.skip();
  });
  const { dtype, shape, offsets } = found;
  const bits = elementBits.get(dtype ?? "");
  if (dtype === undefined || bits === undefined)
    return fail("has an unknown dtype", [...elementBits.keys()].join(", "), dtype === undefined ? "nothing" : clip(dtype));
  if (shape === undefined) return fail("has no shape", "a list of sizes");
  const [begin, end] = offsets ?? [];
  if (begin === undefined || end === undefined) return fail("has wrong data_offsets", "[begin, end], two byte counts");
  const described = `${dtype} [${shape.join(", ")}]`;
  let wanted = shape.includes(0) ? 0 : bits;
  for (const n of shape) {
    wanted *= n;
    if (wanted > Number.MAX_SAFE_INTEGER) fail(`${described} has an impossible size`, `at most the ${fileBytes} bytes of the file`);
  }
  wanted /= 8;
  if (end - begin !== wanted)
    fail(`${described} does not fill its data_offsets`, `${wanted} bytes`, `${end - begin} bytes (${begin} .. ${end})`);
  if (dataStart + end > fileBytes)
    fail(
      "ends after the file",
      `at least ${dataStart + end} bytes`,
      `${fileBytes} bytes`,
      "the file is truncated: copy or download it again",
    );
  return { name, dtype, shape, start: dataStart + begin, end: dataStart + end };
}

/** A list of at most `most` whole numbers from 0 on. */
function readCounts(scanner: JsonScanner, most: number, fail: (got?: string) => never): readonly number[] {
  if (scanner.peek() !== "[") fail();
  const counts: number[] = [];
  scanner.list((index) => {
    if (index >= most) fail(`more than ${most}`);
    if (!/[-0-9]/.test(scanner.peek())) fail();
    const text = scanner.number();
    const value = Number(text);
    // 1.0 and 1e2 are whole, but no reader of this format takes them.
    if (!/^[0-9]+$/.test(text) || !Number.isSafeInteger(value)) fail(clip(text));
    counts.push(value);
  });
  return counts;
}

function checkCover(path: string, entries: Iterable<TensorEntry>, dataStart: number, fileBytes: number): void {
  const ordered = [...entries].sort((a, b) => a.start - b.start || a.end - b.end);
  let end = dataStart;
  let before = "the header";
  for (const entry of ordered) {
    if (entry.start !== end)
      throw new FileError({
        where: path,
        what: `tensor "${clip(entry.name)}" ${entry.start < end ? "overlaps" : "leaves a gap after"} ${before}`,
        expected: `data from byte ${end}`,
        got: `byte ${entry.start}`,
      });
    end = entry.end;
    before = `"${clip(entry.name)}"`;
  }
  if (end !== fileBytes)
    throw new FileError({
      where: path,
      what: "bytes are left over after the last tensor",
      expected: `${end} bytes`,
      got: `${fileBytes} bytes`,
    });
}
