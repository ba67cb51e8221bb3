/** Rows by index: gather and its backward pass, scatter. */
import { rowRuns, shardsOf, type GpuStorage, type KernelHost, type RowRun } from "../kernel.ts";
import { groupsFor, nanBits, rowUnits } from "./elementwise.ts";

/** No index is outside: what all dispatches but one of a sharded table are told. */
const nothingOutside = 0xffffffff;

interface Meeting extends Pick<RowRun, "row" | "rows"> {
  readonly part: RowRun["parts"][number];
  readonly shard: ReturnType<typeof shardsOf>[number];
  /** Indices from here on are outside the table. */
  readonly outside: number;
}

/** Every run of rows of x with every shard of a table that is read or written by row index. */
export function meetings(x: GpuStorage, table: GpuStorage): Meeting[] {
  return rowRuns([x]).flatMap(({ row, rows, parts: [part] }) =>
    shardsOf(table).map((shard) => ({ row, rows, part: part!, shard, outside: shard.first === 0 ? table.rows : nothingOutside })),
  );
}

export const gatherRows: KernelHost = (context, { inputs: [x, indices], outputs: [y] }) => {
  const units = rowUnits(y!);
  for (const { row, rows, part, shard, outside } of meetings(y!, x!))
    context.dispatch({
      kernel: "gather_rows",
      buffers: [shard.buffer, indices!.buffers[0]!, part.buffer],
      uints: [rows * units, units, row, part.row * units, shard.first, shard.rows, outside, nanBits],
      grid: groupsFor(rows * units),
    });
};

export const scatterRows: KernelHost = (context, { inputs: [x, indices], outputs: [y] }) => {
  const units = rowUnits(x!);
  for (const { row, rows, part, shard } of meetings(x!, y!))
    context.dispatch({
      kernel: "scatter_rows",
      buffers: [part.buffer, indices!.buffers[0]!, shard.buffer],
      uints: [rows * units, units, row, part.row * units, shard.first, shard.rows],
      grid: groupsFor(rows * units),
    });
};
