/** Opens the WebGPU device on one adapter: picks the tiers of kernels and says which. */
import { DeviceError } from "../../util/errors.ts";
import {
  capabilitiesOf,
  factsOf,
  matrixChoices,
  matrixName,
  requestDevice,
  tierReasons,
  type AdapterFacts,
  type MatrixChoice,
} from "./adapter.ts";
import { tiers, tiersUsed, type Capabilities, type Tier } from "./capabilities.ts";
import { followed } from "./kernels/matmul-tiles.ts";
import { selfTest, suspects, type SelfTestFailure } from "./self-test.ts";
import { productSeconds, timedPipelines } from "./self-test-timing.ts";
import type { Gpu, WebGpuOptions } from "./options.ts";
import { defaultTuning, isDefault, tuningText, type Tuning, type TuningPlace } from "./tuning.ts";
import { WebGpuDevice } from "./webgpu-device.ts";

/** What is not used of an adapter, and why: tiers, and matrices by name. */
interface Rejected {
  readonly tiers: Map<Tier, string>;
  readonly matrices: Map<string, string>;
  /** Why the same numbers may have other bits in another kernel or batch; null where that was not seen. */
  bits: string | null;
}

/** Said of a device on which a promise of this package does not hold; there is no tier to switch off for it. */
const differs = "bits differ between kernels or batches";

/** How many times as fast the other choice must be: tiers differ in bits, so that noise must not choose another with each start. */
const clearly = 1.25;

/** Seconds of a matrix product on a device. */
type Timing = (device: WebGpuDevice) => Promise<number>;

interface Opened {
  readonly device: WebGpuDevice;
  readonly facts: AdapterFacts;
  /** The matrices that it computes with. */
  readonly choice: MatrixChoice | null;
}

/** The tuning that is kept for a place; null where there is none. */
export type KeptTunings = (place: TuningPlace) => Tuning | null;

/**
 * The fastest device on the adapter that computes right, tuned as the options say, or as was measured and kept.
 * @param timing - as that of `openFast`
 * @param kept - asked where the options say nothing
 * @throws DeviceError if there is no adapter, it gives no device, or kernels that need no tier do not compute what they should.
 */
export async function openFastest(options: WebGpuOptions, timing?: Timing, kept?: KeptTunings): Promise<WebGpuDevice> {
  const { device } = await openFast(options, timing);
  const asked = options.tuning ?? kept?.(device.place) ?? false;
  if (asked === false) return device;
  const tuning = followed(device.capabilities, asked);
  if (isDefault(tuning)) return device;
  device.retune(tuning, tuningText(tuning));
  if (options.selfTest === false) return device;
  const products = await selfTest(device, {
    wanted: (name) => name.startsWith("matmul"),
    bitsMayDiffer: device.description.includes(differs),
  });
  if (products === null) {
    device.trim();
    return device;
  }
  await device.destroy();
  const untuned = (await openFast(options, timing)).device;
  untuned.retune(defaultTuning, `not ${tuningText(tuning)} (its self-test failed: ${products.test}: ${products.message})`);
  return untuned;
}

/**
 * The fastest device on the adapter that computes right. Drivers offer matrices that compute wrongly, and some that are a thousand times
 * slower than products without them: each tier is tested, and timed against the one below.
 * @param timing - none on software adapters, whose tiers are there to be right; `productSeconds` on others unless told
 */
async function openFast(options: WebGpuOptions, timing?: Timing): Promise<Opened> {
  const rejected: Rejected = {
    tiers: new Map((options.tiersOff ?? []).map((tier) => [tier, "switched off"])),
    matrices: new Map(),
    bits: null,
  };
  const seconds = new Map<string, number>();
  for (;;) {
    const opened = await open(options, rejected);
    const { device, facts, choice } = opened;
    if (options.selfTest === false) return opened;
    const failure = await selfTest(device, { bitsMayDiffer: rejected.bits !== null });
    if (failure === null) {
      const time = timing ?? (facts.software ? null : productSeconds);
      if (time === null || !(await rejectSlower(options, opened, rejected, { time, seconds }))) {
        device.trim();
        return opened;
      }
      await device.destroy();
      continue;
    }
    await device.destroy();
    const tier = await culprit(options, facts, rejected, failure);
    const message = `its self-test failed: ${failure.test}: ${failure.message}`;
    if (tier === null && failure.bits) rejected.bits = message;
    else if (tier === null)
      throw new DeviceError({
        where: `webgpu device ${facts.name}`,
        what: message,
        hint: "The driver or the adapter computes wrongly: update the driver, or use --device cpu.",
      });
    else if (tier === "subgroup-matrix" && choice !== null) rejected.matrices.set(matrixName(choice), message);
    else rejected.tiers.set(tier, message);
  }
}

/**
 * Times what a device that computes right uses against what it could use instead: other matrices, then each tier's absence. Whatever is slower is
 * rejected; of choices that are about as fast the first stays. @returns whether the device itself is rejected
 */
async function rejectSlower(
  options: WebGpuOptions,
  { device, facts, choice }: Opened,
  rejected: Rejected,
  { time, seconds }: { readonly time: Timing; readonly seconds: Map<string, number> },
): Promise<boolean> {
  const precision = options.precision ?? "f32";
  const without = (tier: Tier): Rejected => ({ ...rejected, tiers: new Map([...rejected.tiers, [tier, ""]]) });
  const capabilities = (out: Rejected): Capabilities => capabilitiesOf(facts, new Set(out.tiers.keys()), choiceOf(facts, out) ?? undefined);
  const nameOf = (out: Rejected): string => {
    const { subgroupSize, f16, matrix } = capabilities(out);
    return JSON.stringify([subgroupSize, f16, matrix]);
  };
  const timed = async (out: Rejected, known?: WebGpuDevice): Promise<number> => {
    const name = nameOf(out);
    const before = seconds.get(name);
    if (before !== undefined) return before;
    let other = known ?? null;
    let took = Infinity;
    try {
      other ??= (await open(options, out)).device;
      took = await time(other);
    } catch {
      // what cannot be opened, or fails, is no choice
    }
    if (other !== known) await other?.destroy();
    seconds.set(name, took);
    return took;
  };
  let used: string | null = null;
  for (const tier of [...tiers].reverse()) {
    if (rejected.tiers.has(tier)) continue;
    used ??= await timedPipelines(capabilities(rejected), precision);
    if ((await timedPipelines(capabilities(without(tier)), precision)) === used) continue;
    const own = await timed(rejected, device);
    if (tier === "subgroup-matrix" && choice !== null) {
      const names = matrixChoices(facts).map(matrixName);
      for (const rival of names.filter((name) => name !== matrixName(choice) && !rejected.matrices.has(name))) {
        const others = names.filter((name) => name !== rival).map((name) => [name, ""] as const);
        const its = await timed({ ...rejected, matrices: new Map(others) });
        const better = clearly * its < own;
        const [slower, faster] = better ? [matrixName(choice), rival] : [rival, matrixName(choice)];
        rejected.matrices.set(slower, `not faster than ${faster}: ${better ? times(own, its) : times(its, own)}`);
        if (better) return true;
      }
    }
    const below = await timed(without(tier));
    if (clearly * below >= own) continue;
    rejected.tiers.set(tier, `slower than without: ${times(own, below)}`);
    return true;
  }
  return false;
}

function times(slow: number, fast: number): string {
  const milliseconds = (seconds: number): string => `${(1000 * seconds).toFixed(seconds < 0.01 ? 2 : 0)} ms`;
  return `a product takes ${milliseconds(slow)} instead of ${milliseconds(fast)}`;
}

/** The first matrices that were not rejected. */
function choiceOf(facts: AdapterFacts, { matrices }: Rejected): MatrixChoice | null {
  return matrixChoices(facts).find((choice) => !matrices.has(matrixName(choice))) ?? null;
}

/** The tier whose absence mends what failed; the most demanding one that was in use if no single one does, but for bits; null if none was. */
async function culprit(options: WebGpuOptions, facts: AdapterFacts, rejected: Rejected, failure: SelfTestFailure): Promise<Tier | null> {
  const choice = choiceOf(facts, rejected) ?? undefined;
  const candidates = await suspects(failure, options.precision ?? "f32", (tier) =>
    capabilitiesOf(facts, new Set([...rejected.tiers.keys(), ...(tier === null ? [] : [tier])]), choice),
  );
  for (const tier of candidates) {
    const { device } = await open(options, { ...rejected, tiers: new Map([...rejected.tiers, [tier, ""]]) });
    const again = await selfTest(device, { wanted: (name) => name === failure.test });
    await device.destroy();
    if (again === null) return tier;
  }
  return failure.bits ? null : (candidates[0] ?? null);
}

/** A new device on a new adapter: nothing of one that failed is left. */
async function open(options: WebGpuOptions, rejected: Rejected): Promise<Opened> {
  const adapter = await requestAdapter(options.gpu);
  const facts = factsOf(adapter);
  const choice = choiceOf(facts, rejected);
  const off = new Map(rejected.tiers);
  const left = [...rejected.matrices].map(([name, why]) => `no matrices ${name} (${why})`);
  const odd = rejected.bits === null ? [] : [`${differs} (${rejected.bits})`];
  // All that there are were rejected, each for a reason.
  const none = choice === null && matrixChoices(facts).length > 0 && !off.has("subgroup-matrix");
  if (none)
    off.set(
      "subgroup-matrix",
      [...rejected.matrices].map(([name, why]) => (rejected.matrices.size > 1 ? `${name}: ${why}` : why)).join("; "),
    );
  const capabilities = capabilitiesOf(facts, new Set(off.keys()), choice ?? undefined);
  const precision = options.precision ?? "f32";
  const device = new WebGpuDevice({
    device: await requestDevice(adapter, facts),
    capabilities,
    precision,
    description: describe(facts, capabilities, precision, [...tierReasons(facts, off)], [...odd, ...(none ? [] : left)]),
    adapter: { name: facts.name, vendor: facts.vendor, driver: facts.driver, software: facts.software },
    sources: options.sources,
    maxShardBytes: Math.min(options.maxShardBytes ?? capabilities.maxBinding, capabilities.maxBinding),
    maxMemoryBytes: options.maxMemoryBytes ?? Number.MAX_SAFE_INTEGER,
    readInterval: options.readInterval ?? 16,
    poison: options.poison ?? false,
    guard: options.guard ?? false,
    fuse: options.fuse ?? true,
    precompile: options.precompile ?? !facts.software,
  });
  return { device, facts, choice: capabilities.matrix === null ? null : choice };
}

async function requestAdapter(gpu: Gpu): Promise<GPUAdapter> {
  let said = "";
  // Dawn rejects where no name contains the one it was given, and lists the names there are.
  const adapter = await (gpu as GPU).requestAdapter({ powerPreference: "high-performance" }).catch((error: unknown) => {
    if (error instanceof DeviceError) throw error;
    const [, ...lines] = (error instanceof Error ? error.message : String(error)).split("\n").map((line) => line.trim());
    said = ` of that name. ${lines.join(" ")}`;
    return null;
  });
  if (adapter !== null) return adapter;
  throw new DeviceError({ where: "webgpu device", what: `no adapter was found${said}`, hint: "zerosearch doctor says what is missing." });
}

/** One line: adapter, driver, precision, tiers in use and why the others are not. */
function describe(
  facts: AdapterFacts,
  capabilities: Capabilities,
  precision: string,
  reasons: readonly (readonly [Tier, string])[],
  matrices: readonly string[],
): string {
  const used = tiersUsed(capabilities).values();
  const left = [...matrices, ...reasons.map(([tier, reason]) => `no ${tier} (${reason})`)];
  return `webgpu: ${facts.name}, ${facts.driver}${facts.software ? " (software)" : ""}; ${precision}; ${[...used, ...left].join(", ") || "f32 kernels"}`;
}
