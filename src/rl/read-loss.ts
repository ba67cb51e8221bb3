/** The forward of an update and its loss, token by token, read back. */
import type { Device } from "../device/device.ts";
import type { Decoder } from "../nn/decoder.ts";
import type { ValueHead } from "../nn/value-head.ts";
import { logProb } from "../ops/log-prob.ts";
import { policyLossStats } from "../ops/policy-loss.ts";
import { valueLossStats } from "../ops/value-loss.ts";
import { backward } from "../tensor/backward.ts";
import { keep, withScope } from "../tensor/scope.ts";
import { withoutTape, withTape } from "../tensor/tape.ts";
import { full, Parameter, type Tensor } from "../tensor/tensor.ts";
import { hiddenRows, vectorsOn, type ForwardSettings } from "./forward.ts";
import type { MicroBatch } from "./packing.ts";

/** What a forward gives for each token; those that were asked for. */
export interface Forward {
  readonly logProb?: Float32Array;
  readonly entropy?: Float32Array;
  readonly value?: Float32Array;
}

export interface Seen extends Forward {
  /** Whether the hidden state that predicts the token is finite. */
  readonly hiddenFinite: readonly boolean[];
}

export async function readForward(
  model: Decoder,
  micro: MicroBatch,
  settings: Omit<ForwardSettings, "microBatchTokens">,
  head: ValueHead | null,
  scored: boolean,
): Promise<Seen> {
  const made = withoutTape(() =>
    withScope((): Readonly<Record<string, Tensor>> => {
      const hidden = hiddenRows(model, micro, settings);
      const targets = vectorsOn(model.device, micro.targets.length)(micro.targets, "targets");
      return {
        hidden,
        ...(scored ? { ...logProb(hidden, model.headWeight, targets, micro.temperature) } : {}),
        ...(head === null ? {} : { value: head.forward(hidden) }),
      };
    }),
  );
  const tensors = Object.entries(made).map(([name, tensor]) => [name, keep(tensor)] as const);
  try {
    const { hidden, ...read } = Object.fromEntries(
      await Promise.all(tensors.map(async ([name, tensor]) => [name, await tensor.readFloats()] as const)),
    ) as Record<"hidden" | keyof Forward, Float32Array>;
    const width = model.config.width;
    const hiddenFinite = Array.from(micro.targets, (_, n) => hidden.subarray(n * width, (n + 1) * width).every(Number.isFinite));
    return { ...read, hiddenFinite };
  } finally {
    for (const [, tensor] of tensors) tensor.dispose();
  }
}

export function partOf({ hiddenFinite, ...read }: Seen, from: number, to: number): Seen {
  const parts = Object.entries(read).map(([name, values]) => [name, values.slice(from, to)] as const);
  return { ...(Object.fromEntries(parts) as Forward), hiddenFinite: hiddenFinite.slice(from, to) };
}

type Leaves = Readonly<Partial<Record<keyof Forward, Tensor>>>;
/** Of the policy loss, and of the value loss. */
export type Stats = readonly [Tensor, Tensor];

export interface Slopes extends Forward {
  readonly loss: number;
}

export function newStats(device: Device): Stats {
  const [policy, values] = [policyLossStats, valueLossStats].map(({ length }) =>
    keep(full(device, [1, length], 0, { label: "loss statistics" })),
  );
  return [policy as Tensor, values as Tensor];
}

/** The loss of what a forward gave, and its gradients by that: the bits of the update, whose loss kernel takes each token for itself. */
export async function readSlopes(
  device: Device,
  { logProb: own, entropy, value }: Forward,
  lossOf: (leaves: Leaves, stats: Stats) => Tensor,
): Promise<Slopes> {
  const stats = newStats(device);
  const given = Object.entries({ logProb: own, entropy, value }).flatMap(([name, values]) =>
    values === undefined ? [] : [[name, values] as const],
  );
  const leaves = given.map(([name, values]) => {
    const leaf = new Parameter(device, name, name === "value" ? [values.length, 1] : [values.length]);
    leaf.write(values);
    return [name, leaf] as const;
  });
  try {
    withScope(() => {
      const { tape, value: root } = withTape(() => lossOf(Object.fromEntries(leaves), stats));
      for (const tensor of stats) keep(tensor);
      backward(tape, root);
    });
    const [sums, valueSums] = await Promise.all(stats.map((tensor) => tensor.readFloats()));
    const slopes = leaves.flatMap(([name, { grad }]) => (grad === null ? [] : [[name, grad] as const]));
    const read = await Promise.all(slopes.map(async ([name, grad]) => [name, await grad.readFloats()] as const));
    const loss = (sums?.[policyLossStats.indexOf("loss")] as number) + (valueSums?.[valueLossStats.indexOf("loss")] as number);
    return { ...(Object.fromEntries(read) as Forward), loss };
  } finally {
    for (const tensor of [...stats, ...leaves.map(([, leaf]) => leaf)]) tensor.dispose();
  }
}
