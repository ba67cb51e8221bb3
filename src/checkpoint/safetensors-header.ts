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
/** Hints. */
const damaged = "the file is damaged, or not a safetensors file";
export const truncated = "the file is truncated: copy or download it again";

/** Raw elements; the float types that have no array of their own (F16, BF16, F8_*) as their bits. */
export type RawElements = NodeJS.TypedArray;

/** Bits of one element, and the array that holds such elements; null where nothing here reads them. */
interface ElementType {
  readonly bits: number;
  readonly array: (new (buffer: ArrayBuffer) => RawElements) | null;
}

/** By the format's names of types. */
export const elementTypes: ReadonlyMap<string, ElementType> = new Map<string, ElementType>([
  ["F64", { bits: 64, array: Float64Array }],
  ["I64", { bits: 64, array: BigInt64Array }],
  ["U64", { bits: 64, array: BigUint64Array }],
  ["C64", { bits: 64, array: null }],
  ["F32", { bits: 32, array: Float32Array }],
  ["I32", { bits: 32, array: Int32Array }],
  ["U32", { bits: 32, array: Uint32Array }],
  ["F16", { bits: 16, array: Uint16Array }],
  ["BF16", { bits: 16, array: Uint16Array }],
  ["I16", { bits: 16, array: Int16Array }],
  ["U16", { bits: 16, array: Uint16Array }],
  ["I8", { bits: 8, array: Int8Array }],
  ["U8", { bits: 8, array: Uint8Array }],
  ["BOOL", { bits: 8, array: Uint8Array }],
  ["F8_E4M3", { bits: 8, array: Uint8Array }],
  ["F8_E5M2", { bits: 8, array: Uint8Array }],
  ["F8_E8M0", { bits: 8, array: null }],
  ["F8_E4M3FNUZ", { bits: 8, array: null }],
  ["F8_E5M2FNUZ", { bits: 8, array: null }],
  ["F6_E2M3", { bits: 6, array: null }],
  ["F6_E3M2", { bits: 6, array: null }],
  ["F4", { bits: 4, array: null }],
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
  if (bytes[0] !== 0x7b) throw new FileError({ where: path, what: 'the header is not JSON: it does not begin with "{"', hint: damaged });
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
    throw new FileError({ where: path, what: "the header is not UTF-8", hint: damaged }, { cause });
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
  const bits = elementTypes.get(dtype ?? "")?.bits;
  if (dtype === undefined || bits === undefined)
    return fail("has an unknown dtype", [...elementTypes.keys()].join(", "), dtype === undefined ? "nothing" : clip(dtype));
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
  if (dataStart + end > fileBytes) fail("ends after the file", `at least ${dataStart + end} bytes`, `${fileBytes} bytes`, truncated);
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
