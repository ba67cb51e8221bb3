/** The JSON header of a safetensors file: read, and checked against the length of the file. */
import { FileError } from "../util/errors.ts";

/** Bytes of one element by the format's names of types. */
export const itemBytes: Readonly<Record<string, number>> = {
  F64: 8,
  I64: 8,
  U64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
};

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

/** Elements of a shape. */
export function product(shape: readonly number[]): number {
  return shape.reduce((total, n) => total * n, 1);
}

/**
 * Tensors and metadata. They must fill the file from `dataStart` to its end, without gaps or overlaps.
 * @throws FileError naming the tensor.
 */
export function parseHeader(
  path: string,
  text: string,
  dataStart: number,
  fileBytes: number,
): { tensors: Map<string, TensorEntry>; metadata: Record<string, string> } {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (cause) {
    throw new FileError({ where: path, what: "the header is not JSON", hint: "the file is damaged, or not a safetensors file" }, { cause });
  }
  if (typeof header !== "object" || header === null || Array.isArray(header))
    throw new FileError({ where: path, what: "the header is not an object" });
  const tensors = new Map<string, TensorEntry>();
  let metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(header as Record<string, unknown>)) {
    if (name === "__metadata__") {
      metadata = value as Record<string, string>;
      continue;
    }
    tensors.set(name, parseEntry(path, name, value, dataStart, fileBytes));
  }
  const ordered = [...tensors.values()].sort((a, b) => a.start - b.start || a.end - b.end);
  let end = dataStart;
  let before = "the header";
  for (const entry of ordered) {
    if (entry.start !== end)
      throw new FileError({
        where: path,
        what: `tensor "${entry.name}" ${entry.start < end ? "overlaps" : "leaves a gap after"} ${before}`,
        expected: `data from byte ${end}`,
        got: `byte ${entry.start}`,
      });
    end = entry.end;
    before = `"${entry.name}"`;
  }
  if (end !== fileBytes)
    throw new FileError({
      where: path,
      what: "bytes are left over after the last tensor",
      expected: `${end} bytes`,
      got: `${fileBytes} bytes`,
    });
  return { tensors, metadata };
}

function parseEntry(path: string, name: string, value: unknown, dataStart: number, fileBytes: number): TensorEntry {
  const isCount = (n: unknown): n is number => typeof n === "number" && Number.isSafeInteger(n) && n >= 0;
  const { dtype, shape, data_offsets: offsets } = (value ?? {}) as { dtype?: unknown; shape?: unknown; data_offsets?: unknown };
  const bytes = typeof dtype === "string" ? itemBytes[dtype] : undefined;
  if (typeof dtype !== "string" || bytes === undefined)
    throw new FileError({
      where: path,
      what: `tensor "${name}" has an unknown dtype`,
      expected: Object.keys(itemBytes).join(", "),
      got: JSON.stringify(dtype),
    });
  if (!Array.isArray(shape) || !shape.every(isCount))
    throw new FileError({
      where: path,
      what: `tensor "${name}" has a wrong shape`,
      expected: "a list of sizes",
      got: JSON.stringify(shape),
    });
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount))
    throw new FileError({
      where: path,
      what: `tensor "${name}" has wrong data_offsets`,
      expected: "[begin, end]",
      got: JSON.stringify(offsets),
    });
  const [begin, end] = offsets as [number, number];
  const wanted = product(shape) * bytes;
  if (end - begin !== wanted)
    throw new FileError({
      where: path,
      what: `tensor "${name}" ${dtype} [${shape.join(", ")}] does not fill its data_offsets`,
      expected: `${wanted} bytes`,
      got: `${end - begin} bytes (${begin} .. ${end})`,
    });
  if (dataStart + end > fileBytes)
    throw new FileError({
      where: path,
      what: `tensor "${name}" ends after the file`,
      expected: `at least ${dataStart + end} bytes`,
      got: `${fileBytes} bytes`,
      hint: "the file is truncated: copy or download it again",
    });
  return { name, dtype, shape: shape, start: dataStart + begin, end: dataStart + end };
}
