/** Sums of columns: chunks of 256 rows by themselves, then added in order. */
import { chunkRuns, type KernelHost } from "../kernel.ts";
import { matmulSum } from "./matmul-sum.ts";

const chunk = 256;

export const columnSum: KernelHost = (context, { inputs: [x], outputs: [y] }) => {
  const stride = x!.stride / 4;
  const chunks = Math.ceil(x!.rows / chunk);
  const part = context.scratch(chunks * stride * 16);
  for (const { row, rows, parts } of chunkRuns(context, chunk, [x!])) {
    const [from] = parts;
    context.dispatch({
      kernel: "column_sum",
      buffers: [from!.buffer, part],
      uints: [rows, stride, from!.row * stride, row / chunk],
      grid: [Math.ceil(stride / 64), Math.ceil(rows / chunk), 1],
    });
  }
  matmulSum(context, {
    part: { buffer: part, parts: chunks, stride, plane: stride },
    rows: 1,
    accumulate: true,
    members: [{ partStart: 0, c: { buffer: y!.buffers[0]!, start: 0, stride }, cols: x!.cols, bias: null, biasStart: 0 }],
  });
};
