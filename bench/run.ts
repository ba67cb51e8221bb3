/**
 * The bench suite: `npm run bench [-- OPTIONS] [NAME ...]`. Each result is the median of interleaved rounds, ours and the peers' in
 * turn; a ratio is our throughput over the peer's. The last line is one line of JSON.
 */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { nativeFor, vectorsOf } from "#inside/device/cpu/native/executable.js";
import { cpuRateKey, gpuRateKey } from "#inside/device/kind.js";
import { saveRates } from "#inside/plan/rates.js";
import { createDevice } from "zerosearch";
import { measure, type Bench, type MeasureOptions } from "./bench.js";
import { cpuBenches } from "./cpu/suite.js";
import { costTable, curvesOf, drawCurves } from "./curves.js";
import { jsBenches } from "./gpu/js.js";
import { findAdapter, type AdapterInfo } from "./gpu/open.js";
import { gpuBenches } from "./gpu/suite.js";
import { World } from "./gpu/world.js";
import { loadBenches } from "./load.js";
import { help, readOptions, type Options } from "./options.js";
import { forgetCoreType } from "./peers/openblas.js";
import { TorchModels } from "./peers/torch-models.js";
import { missingFor, ratedOf, ratesOf, type Rated } from "./rates.js";
import { goalsOf, lineOf, resultOf, type Goal, type Result, type Standards } from "./report.js";

const start = performance.now();
const missing = new Set<string>();
const rated: Rated[] = [];
const say = (text: string): void => void missing.add(text);

/** What a run made; the JSON line. */
interface Report {
  readonly machine: string;
  readonly commit: string;
  /** Nothing was computed. */
  readonly dry?: true;
  readonly adapter?: AdapterInfo;
  readonly peak?: string;
  readonly measured?: World["yardsticks"];
  readonly goals?: readonly Goal[];
  readonly results: Result[];
  readonly failed: { readonly name: string; readonly error: string }[];
  /** For want of time or memory. */
  readonly leftOut: string[];
}

async function main(): Promise<void> {
  forgetCoreType();
  const options = readOptions(process.argv.slice(2));
  if (options === null) {
    console.log(help);
    return;
  }
  const adapter = await adapterFor(options);
  if (adapter === null) await onCpu(options);
  else await onGpu(options, adapter);
}

/** Null for the CPU. */
async function adapterFor({ device, backend, adapter, dry }: Options): Promise<AdapterInfo | null> {
  if (device === "cpu") return null;
  let found: AdapterInfo | null = null;
  try {
    found = await findAdapter({ backend, adapter, ...(dry ? { hollow: { as: "nvidia" } } : {}) });
  } catch (error) {
    if (device === "webgpu") throw error;
  }
  if (device === "webgpu" && found === null) throw new Error("bench: no WebGPU adapter was found; zerosearch doctor says what is missing");
  return device === "webgpu" || found?.software === false ? found : null;
}

async function onCpu(options: Options): Promise<void> {
  const report = newReport({});
  const { benches, stop } = cpuBenches(options, say);
  const fresh = async () => {
    const device = await createDevice();
    return { device, close: () => device.destroy() };
  };
  await runAll(
    [...benches, ...loadBenches({ open: fresh, sizes: options.sizes === "small" ? "small" : "full", peers: options.peers })],
    report,
    options,
    { rounds: options.rounds ?? 7, seconds: 0 },
    { peak: null, yardsticks: { copyBytes: null, gemmFlops: null } },
  );
  await stop();
  const curves = curvesOf(report.results);
  for (const curve of curves) console.log(costTable(curve));
  if (options.figure !== null && curves.length > 0) writeFileSync(options.figure, drawCurves(curves));
  const vectors = vectorsOf(nativeFor());
  keepRates(options, report, cpuRateKey(cpus()[0]?.model ?? "unknown processor", availableParallelism(), vectors), rated);
  finish(report, options.json);
}

async function onGpu(options: Options, adapter: AdapterInfo): Promise<void> {
  const computes = options.backend !== "null" || options.dry;
  const torch = options.peers && computes && !options.list && !options.dry ? await TorchModels.start(say) : null;
  const world = new World(options, adapter, torch, say);
  const { peak, yardsticks } = world;
  const report = newReport({
    ...(options.dry ? { dry: true } : {}),
    adapter,
    peak: peak?.name ?? "unknown: no MFU (--peak-tflops, --peak-gbps)",
    measured: yardsticks,
  });
  console.log(`${adapter.name}, ${adapter.driver}; ${world.precision}, ${world.sizes} sizes; peak: ${report.peak ?? ""}`);
  const kept = async () => ({ device: (await world.gpu()).device, close() {} });
  const benches = [
    ...jsBenches(options, computes && !adapter.software && !options.dry, peak),
    ...(computes ? gpuBenches(world) : []),
    ...(computes && !options.dry ? loadBenches({ open: kept, sizes: world.sizes, peers: options.peers }) : []),
  ];
  const quick = adapter.software || options.dry;
  const each = { rounds: options.rounds ?? (quick ? 3 : 5), seconds: options.seconds ?? (quick ? 0.05 : 0.4) };
  await runAll(benches, report, options, each, { peak, yardsticks }, async () => world.dropDevices());
  torch?.stop();
  keepRates(options, report, gpuRateKey(adapter.name, world.precision), rated);
  const goals = world.sizes === "full" && world.precision === "f16" && !options.dry ? goalsOf(report.results, yardsticks) : [];
  for (const { goal, wanted, got } of goals) console.log(`goal: ${goal}: ${got} (${wanted})`);
  finish({ ...report, ...(goals.length === 0 ? {} : { goals }) }, options.json);
}

async function runAll(
  benches: readonly Bench[],
  report: Report,
  options: Options,
  each: Pick<MeasureOptions, "rounds" | "seconds">,
  standards: Standards,
  afterError?: () => Promise<void>,
): Promise<void> {
  const { names, budget } = options;
  const asked = benches.filter(({ name, onlyAsked = false }) =>
    onlyAsked ? names.some((part) => name.startsWith(part)) : names.length === 0 || names.some((part) => name.includes(part)),
  );
  // What is told as bytes per second stands beside the memory's own rate.
  const flows = asked.some(({ work }) => work?.bytes !== undefined);
  const wanted = benches.filter((bench) => asked.includes(bench) || (flows && bench.yardstick === "copy"));
  if (options.list) {
    for (const { name } of wanted) console.log(name);
    return;
  }
  const deadline = start + 1000 * budget;
  for (const bench of wanted) {
    if (performance.now() > deadline) {
      report.leftOut.push(`${bench.name}: no time`);
      continue;
    }
    const most = standards.peak?.memory ?? Infinity;
    if ((bench.memory ?? 0) > most) {
      const text = `${bench.name}: needs ${gigabytes(bench.memory ?? 0)} of the adapter's ${gigabytes(most)}`;
      console.log(`left out: ${text}`);
      report.leftOut.push(text);
      continue;
    }
    try {
      const { ours, theirs } = await measure(bench, bench.peers ?? [], { ...each, deadline }, say);
      const result = resultOf(bench, ours, theirs, standards);
      const { yardsticks } = standards;
      if (bench.yardstick === "copy") yardsticks.copyBytes = result.value * 1e9;
      if (bench.yardstick === "product") yardsticks.gemmFlops = result.value * 1e12;
      report.results.push(result);
      const one = ratedOf(bench, ours);
      if (one !== null) rated.push(one);
      console.log(lineOf(result));
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      report.failed.push({ name: bench.name, error: text });
      console.log(`failed: ${bench.name}: ${text.split("\n")[0] ?? ""}`);
      await afterError?.();
    }
    // A driver's crash ends the process: what was measured stays.
    if (options.json !== null) writeFileSync(options.json, `${JSON.stringify(report)}\n`);
  }
}

function newReport(more: Partial<Report>): Report {
  const machine = `${cpus()[0]?.model ?? "?"} x ${availableParallelism()}, Node ${process.version}`;
  return { machine, commit: commit(), ...more, results: [], failed: [], leftOut: [] };
}

function finish(report: Report, json: string | null): void {
  if (json !== null) writeFileSync(json, `${JSON.stringify(report)}\n`);
  for (const peer of missing) console.log(`missing: ${peer}`);
  for (const text of report.leftOut.filter((one) => one.endsWith("no time"))) console.log(`left out: ${text}`);
  console.log(JSON.stringify(report));
}

/** Keeps what tells how long a training run takes, where enough of it was measured. */
function keepRates({ rates, list }: Options, { commit: made, machine }: Report, device: string, all: readonly Rated[]): void {
  if (rates === null || list || all.length === 0) return;
  const lacking = missingFor(all);
  if (lacking.length > 0) {
    console.log(`rates of ${device} not kept: no bench of ${lacking.join(", ")} was measured`);
    return;
  }
  const models = [...new Set(all.map(({ name }) => name.split("/")[1] ?? ""))].join(", ");
  const day = new Date().toISOString().slice(0, 10);
  saveRates(ratesOf(device, `${day}, commit ${made}, models of ${models}, ${machine}`, all), ...(rates === "" ? [] : [rates]));
  console.log(`rates of ${device} kept`);
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

function commit(): string {
  try {
    return execFileSync("git", ["describe", "--always", "--dirty"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return "unknown";
  }
}

try {
  await main();
  process.exit(0);
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exit(1);
}
