/** Sequences laid end to end, as every forward pass takes them. */
import type { Device } from "../device/device.ts";
import { fromHost, type Tensor } from "../tensor/tensor.ts";
import { RequestError } from "../util/errors.ts";

/** B sequences in one dimension of N tokens; no padding. All u32. */
export interface PackedBatch {
  /** [N] */
  readonly ids: Tensor;
  /** [N]: position of each token in its sequence. */
  readonly positions: Tensor;
  /** [B + 1]: sequence b is tokens offsets[b] .. offsets[b + 1] - 1. */
  readonly offsets: Tensor;
  /** One more than the largest position. */
  readonly longest: number;
}

/**
 * Packs sequences, positions counting from 0 (or from `starts[b]`). The caller, or the running scope, owns the tensors.
 * @throws RequestError when there is no sequence or an empty one.
 */
export function packBatch(device: Device, sequences: readonly ArrayLike<number>[], starts?: readonly number[]): PackedBatch {
  const empty = sequences.findIndex((sequence) => sequence.length === 0);
  if (sequences.length === 0 || empty >= 0)
    throw new RequestError({
      where: "packBatch",
      what: sequences.length === 0 ? "no sequences" : `sequence ${empty} is empty`,
      expected: "at least one token each",
      got: "none",
    });
  const offsets = new Uint32Array(sequences.length + 1);
  sequences.forEach((sequence, b) => {
    offsets[b + 1] = offsets[b]! + sequence.length;
  });
  const N = offsets[sequences.length]!;
  const ids = new Uint32Array(N);
  const positions = new Uint32Array(N);
  sequences.forEach((sequence, b) => {
    const first = offsets[b]!;
    const start = starts?.[b] ?? 0;
    for (let t = 0; t < sequence.length; t++) {
      ids[first + t] = sequence[t]!;
      positions[first + t] = start + t;
    }
  });
  return {
    ids: fromHost(device, ids, [N], { label: "ids" }),
    positions: fromHost(device, positions, [N], { label: "positions" }),
    offsets: fromHost(device, offsets, [offsets.length], { label: "offsets" }),
    longest: sequences.reduce((most, sequence, b) => Math.max(most, sequence.length + (starts?.[b] ?? 0)), 0),
  };
}
