/** Sums of columns: chunks of 256 rows by themselves, then added in order. */
import { rowRuns, type GpuStorage, type KernelContext, type KernelHost } from "../kernel.ts";
import { matmulSum } from "./matmul-sum.ts";

const chunk = 256;

export const columnSum: KernelHost = (context, { inputs: [x], outputs: [y] }) => {
  const stride = x!.stride / 4;
  const chunks = Math.ceil(x!.rows / chunk);
  const part = context.scratch(chunks * stride * 16);
  for (const { buffer, row, first, rows } of chunkRuns(context, x!)) {
    context.dispatch({
      kernel: "column_sum",
      buffers: [buffer, part],
      uints: [rows, stride, row * stride, first / chunk],
      grid: [Math.ceil(stride / 64), Math.ceil(rows / chunk), 1],
    });
  }
  matmulSum(context, {
    part: { buffer: part, parts: chunks, stride, plane: stride },
    c: { buffer: y!.buffers[0]!, start: 0, stride },
    rows: 1,
    cols: x!.cols,
    bias: null,
    biasStart: 0,
    accumulate: true,
  });
};

/** Runs of rows of x that cut no chunk. */
function chunkRuns(context: KernelContext, x: GpuStorage) {
  if (x.shards > 1 && x.rowsPerShard % chunk !== 0) return [{ buffer: context.whole(x, "read"), row: 0, first: 0, rows: x.rows }];
  return rowRuns([x]).map(({ row, rows, parts: [part] }) => ({ buffer: part!.buffer, row: part!.row, first: row, rows }));
}
