/** Attention alone: forward and backward over packed sequences, and decoding against the cache. */
import { empty, fromHost, keep, type Tensor } from "zerosearch";
import type { Bench } from "../bench.js";
import { RandomRows } from "./weights.js";
import { preparedOn, timed, type World } from "./world.js";

export function attentionBenches(world: World): Bench[] {
  return world.models.flatMap(({ name, config }) => {
    const { heads, kvHeads, headDim } = config;
    const model = { heads, kvHeads, headDim };
    return [
      packed(world, name, model, world.sized(2, 8), world.sized(128, 1024), "forward"),
      packed(world, name, model, world.sized(2, 8), world.sized(128, 1024), "backward"),
      paged(world, name, model, world.sized(4, 64), world.sized(128, 1024)),
    ];
  });
}

interface Heads {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

function packed(
  world: World,
  model: string,
  { heads, kvHeads, headDim }: Heads,
  B: number,
  T: number,
  kind: "forward" | "backward",
): Bench {
  const flops = (kind === "forward" ? 2 : 5) * B * T * T * heads * headDim;
  return {
    name: `attention/${kind}/${model}/${B}x${T}`,
    unit: "TFLOP/s",
    amount: flops / 1e12,
    precision: world.precision,
    work: {
      flops,
      flopsFormula:
        kind === "forward" ? "2 B T^2 H D: two products, half of each masked" : "5 B T^2 H D: five products, half of each masked",
    },
    seconds: 0.2,
    peers: world.torchPeers("attention", { heads, kvHeads, headDim, B, T, backward: kind === "backward" }),
    async open() {
      const { device } = await world.gpu();
      const N = B * T;
      const random = new RandomRows(device);
      const make = (cols: number): Tensor => {
        const tensor = keep(empty(device, [N, cols], { label: "attention" }));
        random.fill(tensor, 1);
        return tensor;
      };
      const [q, out, dout, dq] = [1, 2, 3, 4].map(() => make(heads * headDim)) as [Tensor, Tensor, Tensor, Tensor];
      const [k, v, dk, dv] = [1, 2, 3, 4].map(() => make(kvHeads * headDim)) as [Tensor, Tensor, Tensor, Tensor];
      const lse = keep(empty(device, [N, heads], { label: "lse" }));
      const offsets = keep(
        fromHost(
          device,
          Uint32Array.from({ length: B + 1 }, (_, b) => b * T),
          [B + 1],
          { label: "offsets" },
        ),
      );
      random.dispose();
      const dims = { heads, kvHeads, scale: 1 / Math.sqrt(headDim) };
      const [qs, ks, vs, os] = [q, k, v, offsets].map(({ storage }) => storage);
      const forward = (): void => {
        device.run("attention", dims, [qs!, ks!, vs!, os!], [out.storage, lse.storage]);
      };
      forward();
      return preparedOn(device, {
        run: (count) =>
          timed(device, count, () => {
            if (kind === "forward") forward();
            else
              device.run(
                "attention_backward",
                dims,
                [qs!, ks!, vs!, os!, out.storage, lse.storage, dout.storage],
                [dq.storage, dk.storage, dv.storage],
              );
          }),
        close() {
          for (const tensor of [q, k, v, out, dout, dq, dk, dv, lse, offsets]) tensor.dispose();
        },
      });
    },
  };
}

function paged(world: World, model: string, { heads, kvHeads, headDim }: Heads, B: number, T: number): Bench {
  const size = world.precision === "f16" ? 2 : 4;
  const bytes = 2 * B * T * kvHeads * headDim * size;
  return {
    name: `attention/decode/${model}/b${B}x${T}`,
    unit: "GB/s",
    amount: bytes / 1e9,
    work: { bytes, bytesFormula: `${2 * size} B T K D: the cache read once` },
    seconds: 0.2,
    peers: world.torchPeers("attention_decode", { heads, kvHeads, headDim, B, T }),
    async open() {
      const { device } = await world.gpu();
      const wide = Math.ceil(T / 64);
      // Four caches in turn, so that none stays in a cache of the GPU's.
      const turns = world.sized(1, 4);
      const random = new RandomRows(device);
      const caches = Array.from({ length: 2 * turns }, () => {
        const cache = keep(empty(device, [B * wide, kvHeads * headDim * 64], { dtype: world.precision, label: "cache" }));
        random.fill(cache, 1);
        return cache;
      });
      const q = keep(empty(device, [B, heads * headDim], { label: "q" }));
      random.fill(q, 1);
      random.dispose();
      const words = (count: number, value: (i: number) => number, shape: number[]): Tensor =>
        keep(
          fromHost(
            device,
            Uint32Array.from({ length: count }, (_, i) => value(i)),
            shape,
            { label: "places" },
          ),
        );
      const positions = words(B, () => T - 1, [B]);
      const offsets = words(B + 1, (b) => b, [B + 1]);
      const table = words(B * wide, (i) => i, [B, wide]);
      const out = keep(empty(device, [B, heads * headDim], { label: "out" }));
      return preparedOn(device, {
        run: (count) =>
          timed(device, count, (i) => {
            const at = 2 * (i % turns);
            const inputs = [q, positions, offsets, table, caches[at]!, caches[at + 1]!];
            device.run(
              "attention_paged",
              { heads, kvHeads, scale: 1 / Math.sqrt(headDim) },
              inputs.map(({ storage }) => storage),
              [out.storage],
            );
          }),
        close() {
          for (const tensor of [q, positions, offsets, table, out, ...caches]) tensor.dispose();
        },
      });
    },
  };
}
