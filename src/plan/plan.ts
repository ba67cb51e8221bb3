/** How much memory a run will take, and whether it fits: the run's own program, rehearsed on a device that only counts. */
import type { Config } from "../config/index.ts";
import type { Target } from "../device/kind.ts";
import { DeviceError } from "../util/errors.ts";
import { cachedModels, cacheUnknown, cacheWithin, withCache, type Cached } from "../setup/cache-size.ts";
import { simulatorPositions } from "../setup/open-agents.ts";
import type { Question } from "../rl/trajectory.ts";
import { Ledger, type Peak } from "./ledger.ts";
import { readModels, type PlannedWeights } from "./models.ts";
import type { PlannedPassages } from "./passages.ts";
import { rehearse, type TrainStep } from "./rehearse.ts";
import { rehearseTuning } from "./rehearse-tuning.ts";
import type { Device } from "../device/device.ts";

export interface Plan {
  readonly config: Config;
  readonly models: readonly PlannedWeights[];
  /** The books when the device held most. */
  readonly peak: Peak;
  /** By phase. */
  readonly phases: ReadonlyMap<string, Peak>;
  /** Null where nobody knows how much memory there is. */
  readonly fits: boolean | null;
  /** Why not, in a few words; null where it fits. */
  readonly why: string | null;
}

/** What a configuration is planned with. */
export interface Planning {
  /** Those of training and test, which decide how long the simulator's prompts can be. */
  readonly questions: readonly Question[];
  readonly target: Target;
  /** Embeddings that are searched; none unless given. */
  readonly passages?: PlannedPassages | null;
  /** The program that is rehearsed. */
  readonly step: TrainStep;
}

/**
 * Plans a run. No weights are read: config.json suffices.
 * @throws FileError, ConfigError where a configuration is missing or wrong.
 */
export async function planRun(config: Config, { questions, target, step, passages = null }: Planning): Promise<Plan> {
  const models = await readModels(config, { simulatorPositions: simulatorPositions(config, questions) });
  const plan = (one: Config): Promise<Plan> =>
    planned(one, models, target, (device, ledger) => rehearse(one, models, device, ledger, step, { passages }));
  return config.rollout.cacheMiB === 0 ? withSizedCache(config, models, target, plan) : plan(config);
}

/**
 * Of what a plan leaves, the share that caches may take, and of all memory what they leave at least: the pool of a GPU's buffers has gaps, and a
 * machine's memory has other programs.
 */
const cacheShare = { GPU: 0.9, memory: 0.5 } as const;
const gaps = 0.02;

/** Plans with caches as small as can be, then with those that what is left has room for. */
async function withSizedCache(
  config: Config,
  models: readonly PlannedWeights[],
  { memory, kept, place }: Target,
  plan: (config: Config) => Promise<Plan>,
): Promise<Plan> {
  const cached = cachedModels(config, cachedOf(models, "policy")!, cachedOf(models, "simulator"));
  if (memory === null) return plan(cacheUnknown(config));
  const least = await plan(withCache(config, 1));
  const there = memory.bytes - kept - least.peak.total;
  let left = Math.min(there * cacheShare[place], there - gaps * memory.bytes);
  if (least.fits === false || left <= 0) return least;
  for (;;) {
    const sized = await plan(cacheWithin(config, cached, left));
    if (sized.fits !== false || sized.config.rollout.cacheMiB === 1) return sized;
    left *= 0.8; // more rows at once need more besides the cache
  }
}

/** What the cache of a role is made for; null where no model of this process plays it. */
export function cachedOf(models: readonly PlannedWeights[], role: "policy" | "simulator"): Cached | null {
  for (const { copy, config } of models) {
    const played = copy.roles.find((one) => one.role === role);
    if (played !== undefined) return { decoder: { config }, maxPositions: Math.min(played.maxPositions, config.maxPositions) };
  }
  return null;
}

/**
 * Plans a fine-tuning.
 * @param config - as `tuningConfig` makes it
 * @throws as `planRun`
 */
export async function planTuning(config: Config, target: Target): Promise<Plan> {
  const models = await readModels(config, { simulatorPositions: 0, simulates: false });
  return planned(config, models, target, (device, ledger) => rehearseTuning(config, models, device, ledger));
}

async function planned(
  config: Config,
  models: readonly PlannedWeights[],
  target: Target,
  program: (device: Device, ledger: Ledger) => Promise<void>,
): Promise<Plan> {
  const ledger = new Ledger();
  const device = await target.open(ledger);
  let refused: DeviceError | null = null;
  try {
    await program(device, ledger);
  } catch (error) {
    // A kernel that cannot take its sizes, whatever the memory.
    if (!(error instanceof DeviceError)) throw error;
    refused = error;
  } finally {
    await device.destroy();
  }
  const { overflow } = device;
  const why = refused !== null ? refused.message : overflow === undefined ? null : `no room for ${overflow.what}`;
  const fits = refused !== null ? false : overflow !== undefined ? false : target.memory === null ? null : true;
  return { config, models, peak: ledger.peak, phases: ledger.phases, fits, why };
}

/** Of Node itself, and of a tokenizer for each token of its vocabulary. Measured: 2026-11-23, Node 20, Qwen2.5's tokenizer (151,665 tokens: 174 MB). */
const nodeBytes = 100e6;
const tokenBytes = 1150;
/** Held at most besides the device while weights are read or written. */
const transferBytes = 256 * 2 ** 20;

/** What the process takes besides the device, about. */
export function hostBytes({ models }: Plan): number {
  const vocabularies = new Map(models.map(({ copy, config }) => [copy.folder, config.vocabulary]));
  return [...vocabularies.values()].reduce((sum, vocabulary) => sum + tokenBytes * vocabulary, nodeBytes + transferBytes);
}
