/** Matrix products on the CPU, one square and those of the 8.7 M-parameter model's steps; and the memory's rate. Peer: OpenBLAS. */
import { createDevice, empty, keep, Parameter, type Device, type Tensor } from "zerosearch";
import type { Bench, Peer, Prepared } from "../bench.js";
import type { Product } from "../gpu/gemm.js";
import { RandomRows } from "../gpu/weights.js";
import { timed } from "../gpu/world.js";
import { benchModel, trainTokens } from "../models.js";
import { openBlasPeer } from "../peers/openblas.js";
import type { CpuWorld } from "./world.js";

interface Named extends Product {
  readonly name: string;
  /** b is a weight that stays as it is from product to product, as in decoding: the device may keep a repacked copy. */
  readonly fixed?: boolean;
}

const { width: C, mlpWidth: F } = benchModel.config;

/** Those of the gate layer, [F, C], in a training step, whose weights change every time, and in decode steps. */
const products: readonly Named[] = [
  { name: "512", form: "nn", M: 512, N: 512, K: 512 },
  { name: "train/nt", form: "nt", M: trainTokens, N: F, K: C },
  { name: "train/nn", form: "nn", M: trainTokens, N: C, K: F },
  { name: "train/tn", form: "tn", M: F, N: C, K: trainTokens },
  { name: "decode/b64", form: "nt", M: 64, N: F, K: C, fixed: true },
  { name: "decode/b1", form: "nt", M: 1, N: F, K: C, fixed: true },
];

export function gemmBenches(world: CpuWorld): Bench[] {
  return products.map(({ name, fixed = false, ...product }): Bench => {
    const { form, M, N, K } = product;
    return {
      name: `gemm/${name}`,
      unit: "GFLOP/s",
      amount: (2 * M * N * K) / 1e9,
      seconds: 0.2,
      note: `${form.toUpperCase()}, ${M} x ${N}, sums of ${K}${fixed ? ", weight packed once" : ""}`,
      peers: world.peers(openBlasPeer(product, world.say)),
      async open() {
        const device = await createDevice();
        const random = new RandomRows(device);
        const filled = <T extends Tensor>(tensor: T): T => {
          random.fill(tensor, 1);
          return tensor;
        };
        const [transA, transB] = [form === "tn" ? 1 : 0, form === "nt" ? 1 : 0];
        const operand = (rows: number, cols: number): Tensor => filled(keep(empty(device, [rows, cols], { label: "gemm operand" })));
        const weight = (rows: number, cols: number): Tensor =>
          fixed ? filled(new Parameter(device, "gemm weight", [rows, cols], "f32")) : operand(rows, cols);
        const a = transA === 1 ? operand(K, M) : operand(M, K);
        const b = transB === 1 ? weight(N, K) : weight(K, N);
        const c = keep(empty(device, [M, N], { label: "gemm result" }));
        random.dispose();
        return {
          description: device.description,
          run: (count) =>
            timed(device, count, () => {
              device.run("matmul", { M, N, K, transA, transB, accumulate: 0 }, [a.storage, b.storage, null], [c.storage]);
            }),
          close: () => device.destroy(),
        };
      },
    };
  });
}

const copyMiB = 256;

/** What a step that is bound by memory is compared with: our copy of more than the caches hold. */
export function copyBench(): Bench {
  const bytes = copyMiB * 2 ** 20;
  return {
    name: "copy/memory",
    unit: "GB/s",
    amount: (2 * bytes) / 1e9,
    yardstick: "copy",
    note: `the kernel "copy", f32 to f32, ${copyMiB} MiB; read and written`,
    open: () => openCopy(bytes, 1),
  };
}

/** A copy that moves as many bytes, read and written: what a step that is bound by memory takes turns with. */
export function copyPeer(bytes: number): Peer {
  const passes = 2;
  return {
    name: "copy",
    open: async () => ({ ...(await openCopy(bytes / (2 * passes), passes)), description: "a copy of as many bytes, read and written" }),
  };
}

/** One repetition copies `bytes` so many times. */
async function openCopy(bytes: number, passes: number): Promise<Prepared> {
  const device = await createDevice();
  const [x, y] = copyOperands(device, bytes);
  const rows = x.rows;
  return {
    description: device.description,
    run: (count) =>
      timed(device, passes * count, () => {
        device.run("copy", { fromRow: 0, toRow: 0, rows }, [x.storage], [y.storage]);
      }),
    close: () => device.destroy(),
  };
}

function copyOperands(device: Device, bytes: number): [Tensor, Tensor] {
  const cols = 4096;
  const make = (): Tensor => keep(empty(device, [Math.round(bytes / (4 * cols)), cols], { label: "copy" }));
  const [x, y] = [make(), make()];
  const random = new RandomRows(device);
  random.fill(x, 1);
  random.dispose();
  return [x, y];
}
