/** Opens the WebGPU device on one adapter: picks the tiers of kernels and says which. */
import { DeviceError } from "../../util/errors.ts";
import type { Device } from "../device.ts";
import { capabilitiesOf, factsOf, requestDevice, tierReasons, type AdapterFacts } from "./adapter.ts";
import { tiersUsed, type Capabilities, type Tier } from "./capabilities.ts";
import { selfTest, suspects, type SelfTestFailure } from "./self-test.ts";
import type { Gpu, WebGpuOptions } from "./options.ts";
import { WebGpuDevice } from "./webgpu-device.ts";

/** Tiers that are off, and why. */
type TiersOff = ReadonlyMap<Tier, string>;

/** @throws DeviceError if there is no adapter, it gives no device, or kernels that need no tier do not compute what they should. */
export async function createWebGpuDevice(options: WebGpuOptions): Promise<Device> {
  const off = new Map<Tier, string>((options.tiersOff ?? []).map((tier) => [tier, "switched off"]));
  for (;;) {
    const { device, facts } = await open(options, off);
    if (options.selfTest === false) return device;
    const failure = await selfTest(device);
    if (failure === null) {
      device.trim();
      return device;
    }
    await device.destroy();
    const tier = await culprit(options, facts, off, failure);
    const message = `its self-test failed: ${failure.test}: ${failure.message}`;
    if (tier === null)
      throw new DeviceError({
        where: `webgpu device ${facts.name}`,
        what: message,
        hint: "The driver or the adapter computes wrongly: update the driver, or use --device cpu.",
      });
    off.set(tier, message);
  }
}

/** The tier whose absence mends what failed; the most demanding one that was in use if no single one does; null if none was. */
async function culprit(options: WebGpuOptions, facts: AdapterFacts, off: TiersOff, failure: SelfTestFailure): Promise<Tier | null> {
  const candidates = await suspects(failure, options.precision ?? "f32", (tier) =>
    capabilitiesOf(facts, new Set([...off.keys(), ...(tier === null ? [] : [tier])])),
  );
  for (const tier of candidates) {
    const { device } = await open(options, new Map([...off, [tier, ""]]));
    const again = await selfTest(device, [failure.test]);
    await device.destroy();
    if (again === null) return tier;
  }
  return candidates[0] ?? null;
}

/** A new device on a new adapter: nothing of one that failed is left. */
async function open(options: WebGpuOptions, off: TiersOff): Promise<{ readonly device: WebGpuDevice; readonly facts: AdapterFacts }> {
  const adapter = await requestAdapter(options.gpu);
  const facts = factsOf(adapter);
  const capabilities = capabilitiesOf(facts, new Set(off.keys()));
  const precision = options.precision ?? "f32";
  const device = new WebGpuDevice({
    device: await requestDevice(adapter, facts),
    capabilities,
    precision,
    description: describe(facts, capabilities, precision, tierReasons(facts, off)),
    adapter: { name: facts.name, vendor: facts.vendor, software: facts.software },
    sources: options.sources,
    maxShardBytes: Math.min(options.maxShardBytes ?? capabilities.maxBinding, capabilities.maxBinding),
    maxMemoryBytes: options.maxMemoryBytes ?? Number.MAX_SAFE_INTEGER,
    readInterval: options.readInterval ?? 16,
    poison: options.poison ?? false,
    guard: options.guard ?? false,
    fuse: options.fuse ?? true,
    precompile: options.precompile ?? !facts.software,
  });
  return { device, facts };
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
function describe(facts: AdapterFacts, capabilities: Capabilities, precision: string, reasons: ReadonlyMap<Tier, string>): string {
  const used = tiersUsed(capabilities).values();
  const left = [...reasons].map(([tier, reason]) => `no ${tier} (${reason})`);
  return `webgpu: ${facts.name}, ${facts.driver}${facts.software ? " (software)" : ""}; ${precision}; ${[...used, ...left].join(", ") || "f32 kernels"}`;
}
