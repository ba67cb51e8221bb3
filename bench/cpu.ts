/** The benches of the CPU device: one product, and an 8.7 M-parameter model in training and decoding. Peers: OpenBLAS, PyTorch on the CPU. */
import { availableParallelism } from "node:os";
import { createDevice, fromHost, matmul, withScope, type Device } from "zerosearch";
import type { Bench, Peer, Prepared } from "./bench.js";
import { benchDecoder, decodeBench, decodeSteps, trainBench, trainTokens } from "./models.js";
import { TorchPeer } from "./peers/torch.js";

const gemmTimes = 20;
async function gemm(device: Device, n = 512): Promise<() => Promise<number>> {
  const values = Float32Array.from({ length: n * n }, (_, i) => ((i * 7919) % 1000) / 1000 - 0.5);
  const a = fromHost(device, values, [n, n]),
    b = fromHost(device, values, [n, n]);
  return async () => {
    const start = performance.now();
    for (let i = 0; i < gemmTimes; i++)
      withScope(() => {
        matmul(a, b);
      });
    await device.synchronize();
    return (performance.now() - start) / 1000;
  };
}

/** One repetition is one run of `once`, which says its seconds. */
async function repeat(device: Device, make: (device: Device) => Promise<() => Promise<number>>): Promise<Prepared> {
  const once = await make(device);
  return {
    description: device.description,
    most: 1,
    run: async () => ({ seconds: await once() }),
    close: () => device.destroy(),
  };
}

/** Starts PyTorch when it is first needed; `say` is told what is missing. */
export function cpuBenches(usePeers: boolean, say: (missing: string) => void): { readonly benches: readonly Bench[]; stop(): void } {
  let started: Promise<TorchPeer | null> | null = null;
  const torchPeer = (command: string): Peer[] => [
    {
      name: "torch",
      async open() {
        started ??= TorchPeer.start();
        const torch = await started;
        if (torch === null) {
          say("torch (/usr/bin/python3 -c 'import torch' fails; Debian: apt-get install python3-torch)");
          return null;
        }
        const best = await torch.bestThreads(command, availableParallelism());
        return {
          description: `torch ${torch.version}, ${best} thread${best > 1 ? "s" : ""}`,
          most: 1,
          run: async () => ({ seconds: await torch.seconds(command) }),
          close() {},
        };
      },
    },
  ];
  const openblas: Peer = {
    name: "OpenBLAS",
    async open() {
      try {
        return { ...(await repeat(await createDevice({ blas: "openblas" }), gemm)), description: "OpenBLAS" };
      } catch (error) {
        say(`OpenBLAS (${(error as Error).message.split("\n")[0] ?? ""})`);
        return null;
      }
    },
  };
  type Blas = "wasm" | "openblas";
  const bench = (
    name: string,
    amount: number,
    unit: string,
    blas: Blas,
    make: (device: Device) => Promise<() => Promise<number>>,
    peers: readonly Peer[],
  ): Bench => ({
    name: blas === "wasm" ? name : `${name}/openblas`,
    unit,
    amount,
    peers: usePeers ? peers : [],
    open: async () => repeat(await createDevice({ blas }), make),
  });
  const trains = (blas: Blas): Bench =>
    bench("train/8.7M", trainTokens, "tokens/s", blas, async (device) => trainBench(benchDecoder(device)), torchPeer("train"));
  const decodes = (batch: number, blas: Blas): Bench =>
    bench(
      `decode/8.7M/b${batch}`,
      batch * decodeSteps,
      "tokens/s",
      blas,
      async (device) => decodeBench(device, benchDecoder(device), batch),
      torchPeer(`decode ${batch}`),
    );
  const benches = [
    bench("gemm/512", (gemmTimes * 2 * 512 ** 3) / 1e9, "GFLOP/s", "wasm", gemm, [openblas]),
    trains("wasm"),
    decodes(64, "wasm"),
    decodes(1, "wasm"),
    trains("openblas"),
    decodes(64, "openblas"),
  ];
  return {
    benches,
    stop: () => void started?.then((torch) => torch?.stop()),
  };
}
