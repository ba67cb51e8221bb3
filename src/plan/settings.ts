/** Settings that would make a run smaller: each is tried by planning again. */
import type { Config } from "../config/index.ts";
import { usesLora } from "../setup/model-roles.ts";
import type { Plan } from "./plan.ts";

/** One thing to change. */
export interface Change {
  /** As on the command line. */
  readonly settings: readonly string[];
  /** What it costs. */
  readonly price: string;
  readonly apply: (config: Config) => Config;
}

/** A change, alone or after those before it, and what would be held then. */
export interface Trial {
  readonly changes: readonly Change[];
  readonly plan: Plan;
}

export interface Remedies {
  /** Each applicable change alone, the mildest first; those that bring less than 1 % are left out. */
  readonly alone: readonly Trial[];
  /** The first that fits; null where nothing does. */
  readonly enough: Trial | null;
  /** All together. */
  readonly all: Trial | null;
}

type Sections = Pick<Config, "train" | "rollout" | "optimizer" | "model" | "simulator" | "algorithm" | "lora">;
/** Values by section. */
type Patch = { readonly [Name in keyof Sections]?: Partial<Sections[Name]> };

function patched(config: Config, patch: Patch): Config {
  const sections = Object.entries(patch).map(([name, values]) => [name, { ...config[name as keyof Sections], ...values }]);
  return { ...config, ...(Object.fromEntries(sections) as Partial<Sections>) };
}

/** Changes that apply to a configuration, those that cost least first. */
export function changesFor(config: Config): Change[] {
  const { train, optimizer, model, algorithm, simulator, rollout } = config;
  const changes: Change[] = [];
  const add = (settings: readonly string[], price: string, patch: Patch): void => {
    changes.push({ settings, price, apply: (one) => patched(one, patch) });
  };
  if (!train.recompute) add(["train.recompute=true"], "about a third more time in updates", { train: { recompute: true } });
  for (const divisor of [2, 4, 8]) {
    const microBatchTokens = Math.max(rollout.maxContextTokens, Math.floor(train.microBatchTokens / divisor));
    const setting = `train.microBatchTokens=${microBatchTokens}`;
    if (microBatchTokens < train.microBatchTokens && changes.at(-1)?.settings[0] !== setting)
      add([setting], "smaller products; the result is the same", { train: { microBatchTokens } });
  }
  const cacheMiB = Math.max(256, Math.floor(rollout.cacheMiB / 4));
  if (cacheMiB < rollout.cacheMiB)
    add([`rollout.cacheMiB=${cacheMiB}`], "fewer rollouts at once; the result is the same", { rollout: { cacheMiB } });
  const smaller = { f32: ["bf16", "8bit"], bf16: ["8bit"], "8bit": [] } as const;
  for (const moments of smaller[optimizer.moments]) add([`optimizer.moments=${moments}`], "rounded moments", { optimizer: { moments } });
  if (model.cacheDtype === "f32") add(["model.cacheDtype=f16"], "rounded keys and values", { model: { cacheDtype: "f16" } });
  const frozen = simulator.path !== null || algorithm.klCoef !== 0 || usesLora(config);
  const weights = (dtype: "bf16" | "f16", price: string): void => add([`model.dtype=${dtype}`], price, { model: { dtype } });
  // Products in f16 read weights that are stored so as they lie.
  if (frozen && config.device.precision === "f16" && model.dtype !== "f16")
    weights("f16", "weights that do not learn are rounded to f16, which ends at 65504");
  else if (frozen && model.dtype === "f32") weights("bf16", "weights that do not learn are rounded; those of a bf16 checkpoint are not");
  if (simulator.path !== null)
    add(["simulator.path=null", "simulator.endpoint=URL"], "a server for the simulator", {
      simulator: { path: null, adapter: null, endpoint: "http://127.0.0.1/v1" },
    });
  if (algorithm.klCoef !== 0)
    add(["algorithm.klCoef=0"], "no KL term: nothing holds the policy to where it started", {
      model: { referencePolicy: null },
      algorithm: { klCoef: 0 },
    });
  if (!usesLora(config)) add(["lora.rank=16"], "an adapter learns instead of all weights", { lora: { rank: 16 } });
  return changes;
}

/** Those of a fine-tuning. */
export function changesForTuning(config: Config): Change[] {
  const obeyed = ["train.recompute", "train.microBatchTokens", "optimizer.moments", "model.dtype", "lora.rank"];
  return changesFor(config).filter((change) => obeyed.includes(keyOf(change)));
}

/** Tries the changes: each alone, then, where none is enough, more and more of them together. */
export async function findRemedies(
  plan: Plan,
  planAgain: (config: Config) => Promise<Plan>,
  changes: readonly Change[] = changesFor(plan.config),
): Promise<Remedies> {
  const attempt = async (tried: readonly Change[]): Promise<Trial> => {
    const config = tried.reduce((below, { apply }) => apply(below), plan.config);
    return { changes: tried, plan: await planAgain(config) };
  };
  const alone: Trial[] = [];
  for (const change of changes) {
    const trial = await attempt([change]);
    if (trial.plan.peak.total < 0.99 * plan.peak.total || (plan.fits === false && trial.plan.fits !== false)) alone.push(trial);
  }
  const single = alone.find((trial) => trial.plan.fits === true);
  if (single !== undefined || alone.length === 0) return { alone, enough: single ?? null, all: null };
  const applicable = alone.flatMap((trial) => trial.changes);
  return { alone, ...(await together(applicable, attempt)) };
}

async function together(
  changes: readonly Change[],
  attempt: (tried: readonly Change[]) => Promise<Trial>,
): Promise<{ enough: Trial | null; all: Trial }> {
  const all = await attempt(strongest(changes));
  if (all.plan.fits !== true) return { enough: null, all };
  let needed = all;
  const keepIfFits = async (tried: readonly Change[]): Promise<boolean> => {
    const trial = await attempt(tried);
    if (trial.plan.fits === true) needed = trial;
    return trial.plan.fits === true;
  };
  // Without what costs most first; then what is left in milder forms.
  for (const change of [...needed.changes].reverse()) await keepIfFits(needed.changes.filter((one) => one !== change));
  for (const change of needed.changes)
    for (const milder of changes.filter((one) => keyOf(one) === keyOf(change) && one !== change))
      if (await keepIfFits(needed.changes.map((one) => (one === change ? milder : one)))) break;
  return { enough: needed, all };
}

function keyOf({ settings: [first = ""] }: Change): string {
  return first.split("=")[0] ?? "";
}

/** Of changes to one key, the last one, which saves most. */
function strongest(changes: readonly Change[]): Change[] {
  return changes.filter((change, i) => !changes.slice(i + 1).some((later) => keyOf(later) === keyOf(change)));
}
