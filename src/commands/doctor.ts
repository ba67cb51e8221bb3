/** `zerosearch doctor`: what this machine offers, what a run would take, whether it computes right, and how to mend what is missing. */
import { statfs } from "node:fs/promises";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import { fileURLToPath } from "node:url";
import type { ArgumentSpec } from "../config/arguments.ts";
import { runApart } from "../device/apart.ts";
import { chooseDevice } from "../device/choose.ts";
import { cpuBuild, tiersOf } from "../device/facts.ts";
import { tuningsOf } from "../device/tunings.ts";
import { probeAdapters, type FoundAdapter } from "../device/probe.ts";
import { backends, type Backend, type DeviceOptions } from "../device/options.ts";
import { gpuMemory, thisMachine } from "../device/gpu-memory.ts";
import { formatBytes } from "../util/bytes.ts";
import { ConfigError } from "../util/errors.ts";
import { findingsOf, type Finding } from "./doctor/findings.ts";
import { sameBits, selfTest, type SelfTest } from "./doctor/self-test.ts";
import { findHardware, thisSystem } from "./doctor/system.ts";
import { findVulkan } from "./doctor/vulkan-files.ts";
import { tune, type Precision } from "./doctor/tune.ts";
import { readArguments, untilInterrupted } from "./program.ts";

const tuneSeconds = 120;
const spec: ArgumentSpec = {
  program: "zerosearch doctor",
  summary: "Says what this machine offers, what a run would take, whether it computes right, and what mends what is missing.",
  options: {
    json: { doc: "Prints one JSON object instead of lines." },
    check: { value: "NAME", doc: "Only tests one way of computing: wasm or webgpu." },
    tune: {
      doc: "Measures which tiles of matrix products are fast on the GPU, and keeps them for the next start. The results do not depend on it.",
    },
    adapter: { value: "NAME", doc: "With --check webgpu or --tune: part of the adapter's name." },
    backend: { value: "NAME", doc: `With --check webgpu or --tune: the way to the GPU: ${backends.join(", ")}.` },
    precision: { value: "TYPE", doc: "With --tune: f32 or f16, as device.precision; both unless given." },
    seconds: {
      value: "N",
      doc: `With --tune: about how long it may take, ${tuneSeconds} unless given; what is not measured by then stays as it is.`,
    },
    robust: { doc: "With --check webgpu: leaves Dawn's own bounds checks in the kernels, as browsers do." },
    quick: {
      doc: "With --check webgpu or --tune: without the self-test of all kernels that every start does; the check is one matrix product.",
    },
  },
};

type Check = Omit<SelfTest, "product"> & { readonly name: string };

/** Exit code 1 if something that is there is broken; what is only missing is said, with what mends it. */
export async function main(argv: readonly string[]): Promise<void> {
  const options = readArguments(argv, spec)?.options;
  if (options === undefined) return;
  const json = options.has("json");
  refuseUseless(options);
  const only = options.get("check");
  if (options.has("tune")) return tuneAsked(options);
  if (only === undefined) return examine(json);
  const check = await checkAlone(only, {
    adapter: options.get("adapter"),
    backend: backendOf(options.get("backend")),
    selfTest: !options.has("quick"),
    robust: options.has("robust"),
  });
  if (check.state !== "ok") process.exitCode = 1;
  process.stdout.write(json ? `${JSON.stringify(check)}\n` : checkText(check));
}

/** What is for another way of asking must not be taken for an answer to it. */
function refuseUseless(options: ReadonlyMap<string, string>): void {
  const way = options.has("tune") ? "--tune" : options.has("check") ? "--check" : null;
  const only = { adapter: ["--check", "--tune"], backend: ["--check", "--tune"], quick: ["--check", "--tune"], robust: ["--check"] };
  for (const [name, ways] of Object.entries({ ...only, seconds: ["--tune"], precision: ["--tune"] }))
    if (options.has(name) && (way === null || !ways.includes(way)))
      throw new ConfigError({ where: `--${name}`, what: `goes with ${ways.join(" or ")} only` });
}

function tuneAsked(options: ReadonlyMap<string, string>): Promise<void> {
  if (options.has("check")) throw new ConfigError({ where: "--tune", what: "does not go with --check" });
  const precisions: readonly Precision[] = ["f32", "f16"];
  const precision = options.get("precision");
  const wanted = precisions.filter((one) => precision === undefined || one === precision);
  if (wanted.length === 0) throw new ConfigError({ where: "--precision", what: "wrong value", expected: "f32 or f16", got: precision });
  const seconds = Number(options.get("seconds") ?? tuneSeconds);
  if (!(seconds > 0 && seconds < Infinity))
    throw new ConfigError({ where: "--seconds", what: "wrong value", expected: "a number above 0", got: options.get("seconds") });
  const gpu = { adapter: options.get("adapter"), backend: backendOf(options.get("backend")), selfTest: !options.has("quick") };
  const kept: Precision[] = [];
  return untilInterrupted(
    (signal) => {
      signal.addEventListener("abort", () => process.stderr.write("\nstopping; Ctrl-C again ends at once\n"), { once: true });
      return tune({ ...gpu, precisions: wanted, seconds, json: options.has("json"), signal, kept });
    },
    { leave: () => process.stderr.write(`stopped; ${kept.length === 0 ? "nothing new was kept" : `kept: ${kept.join(", ")}`}\n`) },
  );
}

async function examine(json: boolean): Promise<void> {
  const say = (name: string, text: string): void => {
    if (!json) process.stdout.write(line(name, text));
  };
  const disk = await statfs(".");
  const simd = await cpuBuild();
  const machine = {
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    threads: availableParallelism(),
    relaxedSimd: simd === "relaxed",
    freeMemory: freemem(),
    memory: totalmem(),
    freeDisk: disk.bavail * disk.bsize,
  };
  say("Node", `${machine.node} on ${machine.platform}`);
  say(
    "CPU",
    `${machine.cpu}; ${machine.threads} threads; ${machine.relaxedSimd ? "relaxed SIMD (fused multiply-add)" : "no relaxed SIMD"}`,
  );
  say("memory", `${formatBytes(machine.freeMemory)} free of ${formatBytes(machine.memory)}`);
  say("disk", `${formatBytes(machine.freeDisk)} free in ${process.cwd()}`);

  const probe = await probeAdapters();
  const memories = await Promise.all(probe.adapters.map((adapter) => gpuMemory(adapter)));
  probe.adapters.forEach((adapter, i) => {
    const [title = "", ...more] = adapterLines(adapter);
    const memory = memories[i] ?? null;
    say(`GPU ${i + 1}`, title);
    for (const text of [
      ...more,
      tunedLine(adapter),
      `memory    ${memory === null ? "unknown" : `${formatBytes(memory.bytes)}, says ${memory.source}`}`,
    ])
      say("", text);
  });
  if (probe.adapters.length === 0) say("GPU", "no adapter");
  const auto = await chooseDevice({ kind: "auto", adapter: null }, { ...thisMachine, adapters: () => Promise.resolve(probe) });
  say(
    "auto",
    `takes ${auto.device === "cpu" ? "the CPU" : auto.adapter} (${auto.why.replace(/^auto: |; zerosearch doctor says more$/g, "")})`,
  );

  const checks: Check[] = [];
  const add = ({ name, state, text, hint }: Check): void => {
    const check = { name, state, text, hint };
    checks.push(check);
    if (!json) process.stdout.write(checkText(check));
  };
  const wasm = await selfTest({});
  add({ name: "wasm", ...wasm });
  if (wasm.product !== null) add({ name: "threads", ...(await compareThreads(wasm.product)) });
  const gpu = probe.adapters.find(({ software }) => !software) ?? probe.adapters[0];
  if (gpu !== undefined) add({ name: "webgpu", ...(await checkApart(gpu)) });

  const vulkan = thisSystem.platform === "linux" ? findVulkan(thisSystem) : null;
  const findings = [
    ...findingsOf({ system: thisSystem, hardware: findHardware(thisSystem), vulkan, probe }),
    ...checks.flatMap((check) => checkFinding(check, gpu)),
    ...(simd === "plain" ? [withoutRelaxedSimd] : []),
  ];
  for (const { level, what, mend } of findings) {
    say(level, what);
    if (mend !== null) say("", `mend it: ${mend}`);
  }
  if (findings.some(({ level }) => level === "broken")) process.exitCode = 1;
  if (json) {
    const adapters = probe.adapters.map((adapter, i) => ({
      ...adapter,
      tiers: tiersOf(adapter),
      memory: memories[i] ?? null,
      tunings: tuningsOf(adapter),
    }));
    process.stdout.write(`${JSON.stringify({ ...machine, vulkan, probe: { ...probe, adapters }, auto, checks, findings }, null, 2)}\n`);
  }
}

/** An adapter in words, itself first, then features, limits, and which tiers of kernels it gets and why not the others. */
export function adapterLines(adapter: FoundAdapter): string[] {
  const { fullName, backend, count, driver, vendor, architecture, software, features, matrices, subgroupMinSize, subgroupMaxSize } =
    adapter;
  const limit = (name: string): number => adapter.limits[name] ?? 0;
  const sizes = subgroupMinSize === subgroupMaxSize ? String(subgroupMinSize) : `${subgroupMinSize} to ${subgroupMaxSize}`;
  const kinds = matrices.map(
    ({ M, N, K, componentType, resultComponentType }) => `${M}x${N}x${K} ${componentType} -> ${resultComponentType}`,
  );
  const reports = tiersOf(adapter);
  return [
    `${fullName}${count > 1 ? `, ${count} of them` : ""} (${software ? "software" : "hardware"}, ${backend})`,
    `driver    ${driver || "unknown"}; ${[vendor, architecture].filter((part) => part !== "").join(" ") || "maker unknown"}`,
    `features  ${features.filter((name) => /^(shader-f16|subgroups|timestamp-query|subgroup-size-control|chromium-experimental-subgroup)/.test(name)).join(", ") || "none of those used"}`,
    `limits    binding ${formatBytes(limit("maxStorageBufferBindingSize"))}, buffer ${formatBytes(limit("maxBufferSize"))}, workgroup ${formatBytes(limit("maxComputeWorkgroupStorageSize"))} and ${limit("maxComputeInvocationsPerWorkgroup")} invocations, ${limit("maxStorageBuffersPerShaderStage")} storage buffers`,
    `subgroups ${subgroupMaxSize === 0 ? "unknown size" : `of ${sizes}`}; matrices: ${kinds.join(", ") || "none"}`,
    `kernels   ${["f32", ...reports.flatMap(({ used }) => used ?? [])].join(", ")}`,
    ...reports.flatMap(({ tier, why }) => (why === null ? [] : [`          not ${tier}: ${why}`])),
  ];
}

function tunedLine(adapter: FoundAdapter): string {
  const rows = tuningsOf(adapter).map(({ precision, tuning: { measured } }) => [precision, measured].filter(Boolean).join(" "));
  return `tuned     ${rows.join(", ") || "no; zerosearch doctor --tune measures it"}`;
}

const withoutRelaxedSimd: Finding = {
  level: "note",
  what: "this Node has no relaxed SIMD: the CPU's matrix products take about twice as long",
  mend: "Node 20 or later on a processor with FMA",
};

function backendOf(name: string | undefined): Backend | undefined {
  const backend = backends.find((one) => one === name);
  if (backend !== undefined || name === undefined) return backend;
  throw new ConfigError({ where: "--backend", what: "wrong value", expected: backends.join(", "), got: name });
}

async function checkAlone(name: string, gpu: Pick<DeviceOptions, "adapter" | "backend" | "selfTest" | "robust">): Promise<Check> {
  const options = {
    wasm: {},
    webgpu: { device: "webgpu", noise: true, ...gpu },
  } as const;
  if (!Object.hasOwn(options, name))
    throw new ConfigError({ where: "--check", what: "wrong value", expected: Object.keys(options).join(", "), got: name });
  const { state, text, hint } = await selfTest(options[name as keyof typeof options]);
  return { name, state, text, hint };
}

async function compareThreads(all: Float32Array): Promise<SelfTest> {
  const one = await selfTest({ threads: 1 });
  if (one.product === null) return one;
  const same = sameBits(all, one.product);
  const text = same ? "1 thread and all threads give the same bits" : "1 thread and all threads differ";
  return { state: same ? "ok" : "failed", text, hint: null, product: null };
}

/** In a process of its own: a driver that crashes takes its process with it. */
async function checkApart({ fullName, backend, software }: FoundAdapter): Promise<Omit<Check, "name">> {
  // src/commands/ and dist/commands/ lie equally deep
  const program = fileURLToPath(new URL("../../bin/zerosearch.js", import.meta.url));
  const words = ["doctor", "--check", "webgpu", "--adapter", fullName, "--backend", backend, "--json", ...(software ? ["--quick"] : [])];
  const { stdout, stderr, end } = await runApart([process.execPath, program, ...words], { timeout: 300_000 });
  const row = stdout.split("\n").find((text) => text.startsWith("{"));
  if (row !== undefined) return JSON.parse(row) as Check;
  const said = stderr.split("\n").find((one) => one.trim() !== "" && !/^Warning|XDG_RUNTIME_DIR/.test(one));
  const text = `${fullName}: the check ${end}${said === undefined ? "" : `: ${said}`}`;
  return { state: "failed", text, hint: "Update its driver, or use --device cpu." };
}

/** What a failed check means: a software adapter may be slow or odd; the CPU and a real GPU must compute. */
function checkFinding({ name, state, text, hint }: Check, gpu: FoundAdapter | undefined): Finding[] {
  if (state === "ok") return [];
  const level = name === "webgpu" && gpu?.software === true ? "note" : "broken";
  return [{ level, what: `${name}: ${text}`, mend: hint }];
}

function checkText({ name, state, text }: Check): string {
  return line(name, `${state === "failed" ? "FAILED" : state}: ${text}`);
}

function line(name: string, text: string): string {
  return `${name.padEnd(9)} ${text}\n`;
}
