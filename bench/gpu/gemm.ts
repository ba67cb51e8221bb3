/** Matrix products: squares, per tier; then the real shapes of the models, forward and backward. */
import { empty, keep, Parameter, type DecoderConfig, type Tensor } from "zerosearch";
import type { Bench, Peer } from "../bench.js";
import { jaxPeer } from "../peers/jax.js";
import { tfjsPeers } from "../peers/tfjs.js";
import { RandomRows } from "./weights.js";
import { preparedOn, timed, type Tiers, type World } from "./world.js";

/** c [M, N] = a b, summed over K. NT: x weight^T, forward. NN: dy weight. TN: dy^T x, the weight's gradient. */
export interface Product {
  readonly form: "nt" | "nn" | "tn";
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

interface Tier {
  readonly name: string;
  readonly precision: "f32" | "f16";
  readonly off: Tiers;
}

/** Weights are taken in turn until they are more than any cache holds: a model never multiplies by one weight twice running. */
const coldBytes = 512 * 2 ** 20;

function gemm(world: World, name: string, { form, M, N, K }: Product, tier: Tier, peers: readonly Peer[], seconds?: number): Bench {
  const size = tier.precision === "f16" ? 2 : 4;
  return {
    name: `gemm/${name}/${form}/${tier.name}`,
    unit: "TFLOP/s",
    amount: (2 * M * N * K) / 1e12,
    precision: tier.precision,
    work: {
      flops: 2 * M * N * K,
      flopsFormula: `2 M N K, ${M} x ${N} x ${K}`,
      // A product of few rows is bound by its weight.
      ...(M <= 256 && form === "nt" ? { bytes: N * K * size + 4 * M * (N + K), bytesFormula: `${size} N K + 4 M (N + K)` } : {}),
    },
    ...(seconds === undefined ? {} : { seconds }),
    peers,
    async open() {
      const { device } = await world.gpu(tier.precision, tier.off);
      if (tier.name === "f16-subgroup-matrix" && device.capabilities.matrix === null)
        throw new Error(`the tier is off: ${device.description}`);
      const random = new RandomRows(device);
      const activation = (rows: number, cols: number): Tensor => {
        const tensor = keep(empty(device, [rows, cols], { label: "gemm operand" }));
        random.fill(tensor, 1);
        return tensor;
      };
      const [transA, transB] = [form === "tn" ? 1 : 0, form === "nt" ? 1 : 0];
      const a = transA === 1 ? activation(K, M) : activation(M, K);
      const copies = form === "tn" ? 1 : Math.max(1, Math.min(64, Math.ceil(world.sized(0, coldBytes) / (N * K * size))));
      const weights = Array.from({ length: copies }, () => {
        if (form === "tn") return activation(K, N);
        const [rows, cols] = transB === 1 ? [N, K] : [K, N];
        const weight = new Parameter(device, "gemm weight", [rows, cols], tier.precision);
        random.fill(weight, 1 / Math.sqrt(K));
        return weight;
      });
      const c = keep(empty(device, [M, N], { label: "gemm result" }));
      random.dispose();
      return preparedOn(device, {
        run: (count) =>
          timed(device, count, (i) => {
            device.run("matmul", { M, N, K, transA, transB, accumulate: 0 }, [a.storage, weights[i % copies]!.storage, null], [c.storage]);
          }),
        close() {
          for (const tensor of [a, c, ...weights]) tensor.dispose();
        },
      });
    },
  };
}

/** The adapter's tiers of products, the fastest first. */
function tiers(world: World): Tier[] {
  const { f16, subgroupMatrices } = world.adapter;
  const matrix = f16 && subgroupMatrices.some((shape) => shape.endsWith("f16 -> f32"));
  const all: Tier[] = [];
  if (matrix) all.push({ name: "f16-subgroup-matrix", precision: "f16", off: [] });
  if (f16) all.push({ name: "f16-shader", precision: "f16", off: matrix ? ["subgroup-matrix"] : [] });
  all.push({ name: "f16-packed", precision: "f16", off: f16 ? ["shader-f16", "subgroup-matrix"] : [] });
  all.push({ name: "f32", precision: "f32", off: [] });
  return all;
}

/** The tier that models use in this run. */
function ownTier(world: World): Tier {
  return world.precision === "f32" ? { name: "f32", precision: "f32", off: [] } : { ...tiers(world)[0]!, off: [] };
}

/** The yardstick: one square product in the run's own precision. */
export function squareBenches(world: World): Bench[] {
  const n = world.sized(256, 4096);
  const square = { form: "nt", M: n, N: n, K: n } as const;
  const own = ownTier(world);
  const rest = tiers(world).filter(({ name }) => name !== own.name);
  const torch = (precision: "f32" | "f16"): Peer[] => world.torchPeers("gemm", { ...square, precision });
  const web = world.options.peers ? [...tfjsPeers(world.options, n, world.say), jaxPeer(world.options, n, world.say)] : [];
  return [own, ...rest].map((tier) => ({
    ...gemm(world, String(n), square, tier, [...torch(tier.precision), ...(tier.precision === "f32" ? web : [])]),
    ...(tier === own ? { yardstick: "product" } : {}),
  }));
}

/** Every product of a layer and the head. */
function layerProducts({ width: C, mlpWidth: F, heads: H, kvHeads: K, headDim: D, vocabulary: V }: DecoderConfig) {
  return [
    { name: "q", N: H * D, K: C },
    { name: "kv", N: K * D, K: C },
    { name: "o", N: C, K: H * D },
    { name: "gate", N: F, K: C },
    { name: "down", N: C, K: F },
    { name: "head", N: V, K: C },
  ];
}

export function gemmBenches(world: World): Bench[] {
  const own = ownTier(world);
  const many = world.sized(64, 8192);
  const each = 0.1; // seconds of a round: there are many of these
  const benches: Bench[] = [];
  for (const { name: model, config } of world.models) {
    for (const { name, N, K } of layerProducts(config)) {
      const one = (form: Product["form"], m: number, shape: Omit<Product, "form">): void => {
        const peers = world.torchPeers("gemm", { form, ...shape, precision: own.precision });
        benches.push(gemm(world, `${model}/${name}/m${m}`, { form, ...shape }, own, peers, each));
      };
      for (const M of world.sized([1, 16], [1, 16, 64, 256, 2048, 8192])) one("nt", M, { M, N, K });
      if (name === "kv" || name === "head") continue; // the head's backward goes in chunks, in a kernel of its own
      one("nn", many, { M: many, N: K, K: N });
      one("tn", many, { M: N, N: K, K: many });
    }
  }
  return benches;
}
