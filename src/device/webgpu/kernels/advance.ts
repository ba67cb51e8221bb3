/** One step of the stop automaton: first the automaton, one dispatch per shard of its table, then positions and the record. */
import { shardsOf, type GpuStorage, type KernelHost, type Present } from "../kernel.ts";

export const advance: KernelHost = (context, { dims, inputs, outputs }) => {
  const [ids, logProb, transitions, accepts] = inputs as Present;
  const [last, positions, states, remaining, status, outIds, outLogProbs] = outputs as Present;
  const R = ids.cols;
  const step = dims["step"]!;
  const codes = context.scratch(R * 4);
  const grid = [Math.ceil(R / 64), 1, 1] as const;
  const vectors = (...storages: readonly GpuStorage[]) => storages.map(({ buffers }) => buffers[0]!);

  for (const { buffer, first, rows } of shardsOf(transitions)) {
    context.dispatch({
      kernel: "advance",
      buffers: [...vectors(ids, positions), buffer, ...vectors(accepts, last, states, remaining), codes],
      uints: [R, transitions.rows, transitions.cols, transitions.stride, first, rows, first === 0 ? 1 : 0],
      grid,
    });
  }
  const place = ({ buffers, rowsPerShard, stride }: GpuStorage) => ({
    buffer: buffers[Math.floor(step / rowsPerShard)]!,
    at: (step % rowsPerShard) * stride,
  });
  const [idPlace, logProbPlace] = [place(outIds), place(outLogProbs)];
  context.dispatch({
    kernel: "advance_record",
    buffers: [...vectors(ids, logProb), codes, ...vectors(positions, status), idPlace.buffer, logProbPlace.buffer],
    uints: [R, idPlace.at, logProbPlace.at],
    grid,
  });
};
