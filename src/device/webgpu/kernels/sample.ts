/** One id per decode row: statistics of the logits, sums of weights, the draw. */
import { DeviceError } from "../../../util/errors.ts";
import { fold, rowRuns, type KernelHost, type Present } from "../kernel.ts";
import { logSoftmax, softmaxBlocks, statsBytes } from "./log-softmax.ts";

/** What the 64-bit sums of weights hold. */
const mostLogits = 2 ** 19;
/** Ids in one sum of weights. */
const sumLogits = 1024;
/** Rows of one dispatch. */
const mostRows = 32768;

export const sample: KernelHost = (context, { inputs, outputs }) => {
  const [logits, settings, keys, positions] = inputs as Present;
  const [ids, logProb] = outputs as Present;
  const [R, V] = [logits.rows, logits.cols];
  if (V > mostLogits) {
    const expected = `at most ${mostLogits}`;
    throw new DeviceError({ where: "kernel sample", what: "the vocabulary is too large", expected, got: String(V) });
  }
  const sums = Math.ceil(V / sumLogits);
  const most = Math.min(R, mostRows);
  const parts = context.scratch(most * softmaxBlocks(V) * statsBytes);
  const stats = context.scratch(most * statsBytes);
  const weights = context.scratch(most * sums * 8);

  for (let start = 0; start < R; start += most)
    for (const { row, rows, parts: at } of rowRuns([logits, settings, keys], start, Math.min(most, R - start))) {
      const [z, setting, key] = at as [(typeof at)[0], (typeof at)[0], (typeof at)[0]];
      const firstSetting = setting.row * settings.stride;
      const temperature = { buffer: setting.buffer, first: firstSetting, stride: settings.stride };
      logSoftmax(context, { logits: z.buffer, firstRow: z.row, rows, vocabulary: V, stride: logits.stride, temperature, parts, stats });
      context.dispatch({
        kernel: "sample_weights",
        buffers: [z.buffer, setting.buffer, positions.buffers[0]!, stats, weights],
        uints: [V, logits.stride / 4, z.row, firstSetting, settings.stride, row, sums],
        grid: [Math.ceil(sums / 4), rows, 1],
      });
      context.dispatch({
        kernel: "sample",
        buffers: [z.buffer, setting.buffer, key.buffer, positions.buffers[0]!, stats, weights, ids.buffers[0]!, logProb.buffers[0]!],
        uints: [rows, V, logits.stride / 4, z.row, firstSetting, settings.stride, key.row * keys.stride, keys.stride, row, sums],
        grid: fold(rows),
      });
    }
};
