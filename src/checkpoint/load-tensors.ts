/**
 * From open files into tensors of a device: names, shapes and types compared first, then streamed piece by piece. A piece goes to the
 * device as it lies in the file, and the device converts it; the next ones are read meanwhile.
 */
import type { Dtype, HostArray } from "../device/device.ts";
import { formatShape, sameShape } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { FileError } from "../util/errors.ts";
import { clip } from "./json-scanner.ts";
import type { SafetensorsFile } from "./safetensors.ts";
import type { TensorEntry } from "./safetensors-header.ts";

/** Bytes of a piece, unless a single row has more. */
const PIECE_BYTES = 2 << 20;
/** Pieces in host memory at once: one on its way to the device, the others being read. */
const PIECES = 4;
/** Bytes handed to the device before it is waited for, so that what it has not yet taken stays bounded. */
const SYNC_BYTES = 64 << 20;
/** Names listed of each kind of mistake. */
const LISTED = 12;

/** A tensor of a file. */
export interface FileTensor {
  readonly file: SafetensorsFile;
  readonly entry: TensorEntry;
}

/** What a set of files holds, by name. */
export interface FoundTensors {
  readonly byName: ReadonlyMap<string, FileTensor>;
  /** Where an index promised a tensor that is not there: its name to the file's. */
  readonly lost?: ReadonlyMap<string, string>;
}

export interface FillOptions {
  /** Tensors of the files that may be left alone. */
  readonly ignored?: (name: string) => boolean;
  /** What to think of when names or shapes differ. */
  readonly hint?: string;
}

/** All tensors of one file. */
export function tensorsOf(file: SafetensorsFile): Map<string, FileTensor> {
  return new Map([...file.tensors].map(([name, entry]) => [name, { file, entry }]));
}

/**
 * Writes tensors of files into the tensors of the same names, converted to their types: exactly where that is wider, to nearest even where it
 * is narrower. Beyond the tensors themselves it takes some tens of MiB of host memory, more where single rows are longer.
 * @param where named in errors
 * @throws FileError for all tensors that are missing, unexpected, or of another shape or type, in one; nothing is written then.
 */
export async function fillTensors(
  where: string,
  found: FoundTensors,
  wanted: ReadonlyMap<string, Tensor>,
  options: FillOptions = {},
): Promise<void> {
  compareTensors(where, found, wanted, options);
  const jobs = [...wanted].map(([name, tensor]) => ({ tensor, ...found.byName.get(name)! }));
  await stream(jobs.sort(inFileOrder));
}

/** The order of the disk. */
export function inFileOrder(a: FileTensor, b: FileTensor): number {
  return a.file === b.file ? a.entry.start - b.entry.start : a.file.path < b.file.path ? -1 : 1;
}

/** Types of the file that a type of the device can be made of. */
function fits(fileDtype: string, dtype: Dtype): boolean {
  return dtype === "u32" ? fileDtype === "U32" : floatDtypes.has(fileDtype);
}

/** Types of the device by their names in files. */
export const floatDtypes: ReadonlyMap<string, Exclude<Dtype, "u32">> = new Map([
  ["F32", "f32"],
  ["F16", "f16"],
  ["BF16", "bf16"],
]);

/** @throws FileError for all tensors of the files that are missing, unexpected, or of another shape or type, in one. */
export function compareTensors(
  where: string,
  { byName, lost = new Map() }: FoundTensors,
  wanted: ReadonlyMap<string, Pick<Tensor, "shape" | "dtype">>,
  { ignored = () => false, hint }: FillOptions = {},
): void {
  const missing: string[] = [];
  const shapes: string[] = [];
  const types: string[] = [];
  for (const [name, { shape, dtype }] of wanted) {
    const entry = byName.get(name)?.entry;
    const promised = lost.get(name);
    if (entry === undefined) missing.push(promised === undefined ? name : `${name} (the index says ${promised}, where it is not)`);
    else {
      if (!sameShape(entry.shape, shape)) shapes.push(`${name}: expected ${formatShape(shape)}, got ${formatShape(entry.shape)}`);
      if (!fits(entry.dtype, dtype)) types.push(`${name}: expected ${dtype === "u32" ? "U32" : "F32, F16 or BF16"}, got ${entry.dtype}`);
    }
  }
  const unexpected = [...byName.keys()].filter((name) => !wanted.has(name) && !ignored(name)).map(clip);
  const kinds = [
    { found: missing, one: "is missing", many: "are missing", between: ", " },
    { found: unexpected, one: "is not known here", many: "are not known here", between: ", " },
    { found: shapes, one: "has another shape", many: "have another shape", between: "; " },
    { found: types, one: "is of another type", many: "are of another type", between: "; " },
  ].filter(({ found }) => found.length > 0);
  if (kinds.length === 0) return;
  const lines = kinds.map(({ found, one, many, between }) => {
    const more = found.length > LISTED ? `${between}and ${found.length - LISTED} more` : "";
    return `\n  ${found.length} ${found.length === 1 ? one : many}: ${found.slice(0, LISTED).join(between)}${more}`;
  });
  throw new FileError({ where, what: `the tensors are not the ${wanted.size} that are needed${lines.join("")}`, hint });
}

/** Rows of one tensor, in host memory. */
interface Piece {
  readonly job: Job;
  readonly firstRow: number;
  readonly rows: number;
  readonly data: Promise<HostArray>;
}

interface Job extends FileTensor {
  readonly tensor: Tensor;
}

async function stream(jobs: readonly Job[]): Promise<void> {
  const buffers: ArrayBuffer[] = [];
  const pieces: Piece[] = [];
  let count = 0;
  let unwaited = 0;
  const finishOne = async (): Promise<void> => {
    const piece = pieces.shift()!;
    const data = await piece.data;
    upload(piece, data);
    unwaited += data.byteLength;
    if (unwaited < SYNC_BYTES) return;
    await piece.job.tensor.device.synchronize();
    unwaited = 0;
  };
  try {
    for (const job of jobs) {
      const { tensor, entry, file } = job;
      const rowBytes = (entry.end - entry.start) / tensor.rows;
      const atOnce = Math.max(1, Math.floor(PIECE_BYTES / rowBytes));
      for (let firstRow = 0; firstRow < tensor.rows; firstRow += atOnce) {
        const rows = Math.min(atOnce, tensor.rows - firstRow);
        const bytes = rows * rowBytes;
        let buffer = buffers[count % PIECES];
        if (buffer === undefined || buffer.byteLength < bytes)
          buffer = buffers[count % PIECES] = new ArrayBuffer(Math.max(PIECE_BYTES, bytes));
        const data = read(file, entry, firstRow * rowBytes, buffer, bytes);
        // Whoever waits for it is told; nobody may be waiting yet.
        data.catch(() => undefined);
        pieces.push({ job, firstRow, rows, data });
        count += 1;
        if (pieces.length === PIECES) await finishOne();
      }
    }
    while (pieces.length > 0) await finishOne();
    await jobs[0]?.tensor.device.synchronize();
  } finally {
    await Promise.allSettled(pieces.map(({ data }) => data));
  }
}

async function read(file: SafetensorsFile, entry: TensorEntry, from: number, buffer: ArrayBuffer, bytes: number): Promise<HostArray> {
  await file.readBytes(entry, from, new Uint8Array(buffer, 0, bytes));
  if (entry.dtype === "F32") return new Float32Array(buffer, 0, bytes / 4);
  if (entry.dtype === "U32") return new Uint32Array(buffer, 0, bytes / 4);
  return new Uint16Array(buffer, 0, bytes / 2);
}

/** Elements to their place; through a storage of the file's type where the types differ. */
function upload({ job: { tensor, entry }, firstRow, rows }: Piece, data: HostArray): void {
  const { device, dtype, storage } = tensor;
  const from = floatDtypes.get(entry.dtype) ?? "u32";
  if (from === dtype) {
    device.write(storage, data, firstRow);
    return;
  }
  const staging = device.allocate(rows, tensor.cols, from, "activation", "tensors being loaded");
  try {
    device.write(staging, data);
    device.run("copy", { fromRow: 0, toRow: firstRow, rows }, [staging], [storage]);
  } finally {
    device.release(staging);
  }
}
