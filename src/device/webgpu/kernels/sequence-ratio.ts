/** Log-probabilities by whose ratio each token has that of its sequence: a workgroup for each. */
import { fold, type KernelHost } from "../kernel.ts";
import { zero } from "./elementwise.ts";

export const sequenceRatio: KernelHost = (context, { inputs: [logProb, oldLogProb, offsets], outputs: [y] }) => {
  const sequences = offsets!.cols - 1;
  context.dispatch({
    kernel: "sequence_ratio",
    buffers: [logProb, oldLogProb, offsets, y].map((one) => one!.buffers[0]!),
    uints: [logProb!.cols, sequences, zero],
    grid: fold(sequences),
  });
};
