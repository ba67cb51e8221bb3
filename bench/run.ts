/**
 * The bench suite: `npm run bench [-- name ...]`. Each result is the median of interleaved rounds, ours and the peer's in turn; a
 * ratio is our throughput over the peer's. The last line is one line of JSON.
 */
import { execFileSync } from "node:child_process";
import { availableParallelism, cpus } from "node:os";
import { createDevice, fromHost, matmul, withScope, type Device } from "zerosearch";
import { benchDecoder, decodeBench, decodeSteps, trainBench, trainTokens } from "./models.js";
import { TorchPeer } from "./peers/torch.js";

interface Result {
  readonly name: string;
  readonly device: string;
  readonly value: number;
  readonly unit: string;
  readonly peer?: string;
  readonly peerValue?: number;
  readonly ratio?: number;
}

interface Bench {
  readonly name: string;
  readonly unit: string;
  /** What one run does, in units. */
  readonly work: number;
  readonly blas: "wasm" | "openblas";
  ours(device: Device): Promise<() => Promise<number>>;
  /** Seconds of one run of the peer; null where the peer is missing. */
  peer(): Promise<{ readonly name: string; run(): Promise<number> } | null>;
}

const rounds = Number(process.env["BENCH_ROUNDS"] ?? 7);
const wanted = process.argv.slice(2);
const missing = new Set<string>();
const threads = availableParallelism();
const torch = await TorchPeer.start();
if (torch === null) missing.add("torch (python3 -c 'import torch' fails; Debian: apt-get install python3-torch)");

function torchPeer(command: string): Bench["peer"] {
  return async () => {
    if (torch === null) return null;
    const best = await torch.bestThreads(command, threads);
    return { name: `torch ${torch.version}, ${best} thread${best > 1 ? "s" : ""}`, run: () => torch.seconds(command) };
  };
}

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

const openblas: Bench["peer"] = async () => {
  try {
    const device = await createDevice({ blas: "openblas" });
    return { name: "OpenBLAS", run: await gemm(device) };
  } catch (error) {
    missing.add(`OpenBLAS (${(error as Error).message.split("\n")[0] ?? ""})`);
    return null;
  }
};

const trains = (blas: Bench["blas"]): Bench => ({
  name: blas === "wasm" ? "train/8.7M" : "train/8.7M/openblas",
  unit: "tokens/s",
  work: trainTokens,
  blas,
  ours: async (device) => trainBench(benchDecoder(device)),
  peer: torchPeer("train"),
});
const decodes = (batch: number, blas: Bench["blas"]): Bench => ({
  name: `decode/8.7M/b${batch}${blas === "wasm" ? "" : "/openblas"}`,
  unit: "tokens/s",
  work: batch * decodeSteps,
  blas,
  ours: async (device) => decodeBench(device, benchDecoder(device), batch),
  peer: torchPeer(`decode ${batch}`),
});

const benches: readonly Bench[] = [
  { name: "gemm/512", unit: "GFLOP/s", work: (gemmTimes * 2 * 512 ** 3) / 1e9, blas: "wasm", ours: gemm, peer: openblas },
  trains("wasm"),
  decodes(64, "wasm"),
  decodes(1, "wasm"),
  trains("openblas"),
  decodes(64, "openblas"),
];

const results: Result[] = [];
for (const bench of benches.filter(({ name }) => wanted.length === 0 || wanted.some((part) => name.includes(part)))) {
  let device: Device;
  try {
    device = await createDevice({ blas: bench.blas });
  } catch (error) {
    missing.add(`${bench.name} (${(error as Error).message.split("\n")[0] ?? ""})`);
    continue;
  }
  const ours = await bench.ours(device);
  const peer = await bench.peer();
  const mine: number[] = [],
    theirs: number[] = [];
  await ours();
  await peer?.run();
  for (let round = 0; round < rounds; round++) {
    mine.push(await ours());
    if (peer !== null) theirs.push(await peer.run());
  }
  const value = bench.work / median(mine);
  const compared =
    peer === null ? {} : { peer: peer.name, peerValue: round(bench.work / median(theirs)), ratio: round(median(theirs) / median(mine)) };
  const result: Result = { name: bench.name, device: device.description, value: round(value), unit: bench.unit, ...compared };
  results.push(result);
  console.log(
    [
      result.name.padEnd(26),
      String(result.value).padStart(9),
      result.unit.padEnd(9),
      result.ratio === undefined ? "no peer" : `${result.ratio.toFixed(2)} of ${result.peer ?? ""} (${result.peerValue ?? ""})`,
    ].join("  "),
  );
  await device.destroy();
}
torch?.stop();
for (const peer of missing) console.log(`missing: ${peer}`);
const machine = `${cpus()[0]?.model ?? "?"} x ${threads}, Node ${process.version}`;
console.log(JSON.stringify({ machine, commit: commit(), results }));
process.exit(0);

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

function round(value: number): number {
  return Number(value.toPrecision(4));
}

function commit(): string {
  try {
    return execFileSync("git", ["describe", "--always", "--dirty"], { encoding: "utf8" }).trim();
  } catch {
    return "unknown";
  }
}
