/** Runs the cases of the self-test on a device, and finds which tier is to blame where one fails. */
import { tiers, type Capabilities, type Tier } from "./capabilities.ts";
import { collect, prepareAll } from "./prepare.ts";
import type { Specialisation } from "./pipelines.ts";
import { selfTestCases } from "./self-test-cases.ts";
import { DifferentBits, Trial, type SelfTestCase } from "./self-test-values.ts";
import type { WebGpuDevice } from "./webgpu-device.ts";

export interface SelfTestFailure {
  /** The case's name. */
  readonly test: string;
  /** What was wrong, in one line. */
  readonly message: string;
  /** Whether all that is wrong is that bits differ which should not: no result is. */
  readonly bits: boolean;
}

export interface SelfTestOptions {
  /** Which cases by name, all unless told. */
  readonly wanted?: (name: string) => boolean;
  /** Whether bits may differ that should not: false unless told. */
  readonly bitsMayDiffer?: boolean;
}

/** The pipelines that a case uses with these capabilities. */
export function pipelinesOf(
  test: SelfTestCase,
  capabilities: Capabilities,
  precision: "f32" | "f16",
): Promise<ReadonlyMap<string, Specialisation>> {
  return collect({ capabilities, precision, fuse: true }, (device) => {
    test.run(new Trial(device));
  });
}

/**
 * The first case that fails: by a wrong result, a pipeline that does not compile, or an error of the device; null where all pass. What
 * they compile stays for later. A device on which a case failed must not be used any more.
 */
export async function selfTest(
  device: WebGpuDevice,
  { wanted = () => true, bitsMayDiffer = false }: SelfTestOptions = {},
): Promise<SelfTestFailure | null> {
  const { capabilities, precision } = device;
  const cases = selfTestCases(precision, capabilities).filter(({ name }) => wanted(name));
  const needs = await Promise.all(cases.map((test) => pipelinesOf(test, capabilities, precision)));
  // All at once; whose pipeline does not compile is found out below.
  await prepareAll(
    device.pipelines,
    needs.flatMap((one) => [...one.values()]),
  ).catch(() => undefined);
  for (const [i, test] of cases.entries()) {
    const trial = new Trial(device);
    try {
      await prepareAll(device.pipelines, needs[i]!.values());
      await test.run(trial)();
    } catch (error) {
      const bits = error instanceof DifferentBits;
      if (!bits || !bitsMayDiffer)
        return { test: test.name, message: error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error), bits };
    }
    trial.release();
  }
  return null;
}

/** Tiers that the kernels of a failed case depend on, the most demanding first: one of them is to blame. */
export async function suspects(
  { test: name }: SelfTestFailure,
  precision: "f32" | "f16",
  capabilitiesWithout: (tier: Tier | null) => Capabilities,
): Promise<readonly Tier[]> {
  const test = selfTestCases(precision, capabilitiesWithout(null)).find((one) => one.name === name);
  if (test === undefined) return [];
  const keys = async (tier: Tier | null): Promise<string> =>
    [...(await pipelinesOf(test, capabilitiesWithout(tier), precision)).keys()].sort().join("\n");
  const used = await keys(null);
  const others = await Promise.all([...tiers].reverse().map(async (tier) => ({ tier, keys: await keys(tier) })));
  return others.filter((other) => other.keys !== used).map(({ tier }) => tier);
}
