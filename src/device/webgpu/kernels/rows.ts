/** Rows by index: gather and its backward pass, scatter. */
import { rowRuns, type GpuBuffer, type GpuStorage, type KernelHost } from "../kernel.ts";
import { groupsFor, nanBits, rowUnits } from "./elementwise.ts";

/** No index is outside: what all dispatches but one of a sharded table are told. */
export const nothingOutside = 0xffffffff;

/** The shards of a table that is read or written by row index. */
export function shardsOf(table: GpuStorage): { readonly buffer: GpuBuffer; readonly first: number; readonly rows: number }[] {
  return table.buffers.map((buffer, shard) => {
    const first = shard * table.rowsPerShard;
    return { buffer, first, rows: Math.min(table.rowsPerShard, table.rows - first) };
  });
}

export const gatherRows: KernelHost = (context, { inputs: [x, indices], outputs: [y] }) => {
  const units = rowUnits(y!);
  for (const { row, rows, parts } of rowRuns([y!])) {
    const [part] = parts;
    for (const shard of shardsOf(x!)) {
      const outside = shard.first === 0 ? x!.rows : nothingOutside;
      context.dispatch({
        kernel: "gather_rows",
        buffers: [shard.buffer, indices!.buffers[0]!, part!.buffer],
        uints: [rows * units, units, row, part!.row * units, shard.first, shard.rows, outside, nanBits],
        grid: groupsFor(rows * units),
      });
    }
  }
};

export const scatterRows: KernelHost = (context, { inputs: [x, indices], outputs: [y] }) => {
  const units = rowUnits(x!);
  for (const { row, rows, parts } of rowRuns([x!])) {
    const [part] = parts;
    for (const shard of shardsOf(y!)) {
      context.dispatch({
        kernel: "scatter_rows",
        buffers: [part!.buffer, indices!.buffers[0]!, shard.buffer],
        uints: [rows * units, units, row, part!.row * units, shard.first, shard.rows],
        grid: groupsFor(rows * units),
      });
    }
  }
};
