/** The benches of the CPU device: one product, and an 8.7 M-parameter model in training and decoding. Peers: OpenBLAS, PyTorch on the CPU. */
import { availableParallelism } from "node:os";
import { createDevice, fromHost, matmul, withScope, type Device } from "zerosearch";
import type { Bench, Peer, Prepared, RateOf } from "./bench.js";
import {
  benchDecoder,
  benchModel,
  decodeBench,
  decodeSteps,
  past,
  prefillBench,
  prefillLength,
  prefillSequences,
  smallModel,
  trainBench,
  trainTokens,
} from "./models.js";
import { TorchPeer } from "./peers/torch.js";
import { decodeWork, prefillWork, trainWork, type ModelShape, type Work } from "./shapes.js";

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
    more: { readonly work?: Work; readonly rate?: RateOf } = {},
  ): Bench => ({
    name: blas === "wasm" ? name : `${name}/openblas`,
    unit,
    amount,
    peers: usePeers ? peers : [],
    ...more,
    open: async () => repeat(await createDevice({ blas }), make),
  });
  const { config } = benchModel;
  const trains = (blas: Blas): Bench =>
    bench("train/8.7M", trainTokens, "tokens/s", blas, async (device) => trainBench(benchDecoder(device)), torchPeer("train"), {
      work: trainWork(config, trainTokens / 128, 128),
      rate: { kind: "train", layers: config.layers },
    });
  const prefills = (blas: Blas): Bench =>
    bench(
      `prefill/8.7M/${prefillSequences}x${prefillLength}`,
      prefillSequences * prefillLength,
      "tokens/s",
      blas,
      async (device) => prefillBench(device, benchDecoder(device)),
      [],
      { work: prefillWork(config, prefillSequences, prefillLength), rate: { kind: "prefill", layers: config.layers } },
    );
  const decodes = (batch: number, blas: Blas, shape: ModelShape = benchModel): Bench => {
    const one = decodeWork(shape.config, batch, past + decodeSteps / 2, 4, 4);
    return bench(
      `decode/${shape.name}/b${batch}`,
      batch * decodeSteps,
      "tokens/s",
      blas,
      async (device) => decodeBench(device, benchDecoder(device, shape), batch),
      shape === benchModel ? torchPeer(`decode ${batch}`) : [],
      {
        work: { ...one, flops: decodeSteps * (one.flops ?? 0), bytes: decodeSteps * (one.bytes ?? 0) },
        rate: { kind: "decode", layers: shape.config.layers, steps: decodeSteps, rows: batch },
      },
    );
  };
  const benches = [
    bench("gemm/512", (gemmTimes * 2 * 512 ** 3) / 1e9, "GFLOP/s", "wasm", gemm, [openblas]),
    ...(["wasm", "openblas"] as const).flatMap((blas) => [
      trains(blas),
      prefills(blas),
      decodes(64, blas),
      decodes(1, blas),
      decodes(1, blas, smallModel),
    ]),
  ];
  return {
    benches,
    stop: () => void started?.then((torch) => torch?.stop()),
  };
}
