/** Rows of a table by token id, and the gradient of the table. Each shard of the table is a dispatch, for the ids that lie in it. */
import { dtypeCodes, fold, type KernelHost } from "../kernel.ts";
import { groupsFor, nanBits, rowUnits } from "./elementwise.ts";
import { meetings } from "./rows.ts";

/** Columns of one workgroup of the backward kernel, in units of 4. */
const backwardUnits = 256;

export const embedding: KernelHost = (context, { inputs: [ids, table], outputs: [y] }) => {
  const [items, stride] = [rowUnits(table!), rowUnits(y!)];
  for (const { row, rows, part, shard, outside } of meetings(y!, table!))
    context.dispatch({
      kernel: "embedding",
      constants: { TABLE_DTYPE: dtypeCodes[table!.dtype] },
      buffers: [ids!.buffers[0]!, shard.buffer, part.buffer],
      uints: [rows * items, items, row, part.row * stride, stride, shard.first, shard.rows, outside, nanBits],
      grid: groupsFor(rows * items),
    });
};

export const embeddingBackward: KernelHost = (context, { inputs: [ids, dy], outputs: [dtable] }) => {
  const units = rowUnits(dy!);
  for (const { row, rows, part, shard } of meetings(dy!, dtable!)) {
    const [x, y] = fold(rows);
    context.dispatch({
      kernel: "embedding_backward",
      buffers: [ids!.buffers[0]!, part.buffer, shard.buffer],
      uints: [rows, row, part.row * units, units, shard.first, shard.rows],
      grid: [x, y, Math.ceil(units / backwardUnits)],
    });
  }
};
