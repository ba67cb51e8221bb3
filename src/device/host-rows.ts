/** Rows on their way between the host and a storage: what every device checks of them, and where shards cut them. */
import { DeviceError } from "../util/errors.ts";
import type { HostArray, Storage } from "./device.ts";

/** The array of a storage's raw elements, by its type. */
export const arrayTypes = { f32: Float32Array, u32: Uint32Array, f16: Uint16Array, bf16: Uint16Array } as const;

/** @throws DeviceError unless the data are whole rows of the storage's type that fit from `first` on. @returns how many rows */
export function checkData(storage: Storage, data: HostArray, first: number): number {
  const wanted = arrayTypes[storage.dtype];
  if (!(data instanceof wanted))
    throw new DeviceError({
      where: `write ${storage.label}`,
      what: "the data has the wrong type",
      expected: `${wanted.name} for ${storage.dtype}`,
      got: data.constructor.name,
    });
  const rows = data.length / storage.cols;
  if (!isPart(storage, data)) checkRows(storage, "write", first, rows);
  else if (!(Number.isInteger(first) && first >= 0 && first + data.length <= storage.cols))
    throw new DeviceError({
      where: `write ${storage.label}`,
      what: "elements do not fit",
      expected: `within 0..${storage.cols}`,
      got: `${data.length} from ${first}`,
    });
  return rows;
}

/** Whether these are some of the elements of a storage that is one row. */
export function isPart({ rows, cols, dtype }: Storage, data: HostArray): boolean {
  return rows === 1 && data.length < cols && (dtype === "u32" || dtype === "f32");
}

/** @throws DeviceError where rows are not within a storage. */
export function checkRows(storage: Storage, where: string, first: number, rows: number): void {
  if (Number.isInteger(first) && Number.isInteger(rows) && first >= 0 && rows >= 0 && first + rows <= storage.rows) return;
  throw new DeviceError({
    where: `${where} ${storage.label}`,
    what: "rows do not fit",
    expected: `whole rows of ${storage.cols} within 0..${storage.rows}`,
    got: `${rows} from ${first}`,
  });
}

/** Pieces of some rows that lie in one shard: its number, the first row there, and the rows counted from the first of them all. */
export function eachRun(
  { rowsPerShard }: Storage,
  first: number,
  rows: number,
  visit: (shard: number, row: number, from: number, to: number) => void,
): void {
  for (let row = first; row < first + rows;) {
    const shard = Math.floor(row / rowsPerShard);
    const end = Math.min(first + rows, (shard + 1) * rowsPerShard);
    visit(shard, row - shard * rowsPerShard, row - first, end - first);
    row = end;
  }
}
