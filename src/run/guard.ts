/**
 * Watches a run for collapse: a policy that learns less and less of what it is for, and at last nothing. What comes first is that the step's own
 * right answers become less likely by its updates ("lazy likelihood displacement", arXiv 2512.04220); reward, valid share and length follow. Where the
 * simulator is the cause, it gives answers away from the first step on.
 * LOG.md, 2026-11-30, has the runs that the bounds were taken from.
 */
import type { Metrics } from "../rl/metrics.ts";
import { mean, median } from "../util/stats.ts";

/** What is remembered of a step. Undefined: it was not measured. */
export interface Watched {
  readonly step: number;
  readonly reward?: number;
  readonly valid?: number;
  readonly repeated?: number;
  readonly policyTokens?: number;
  readonly entropy?: number;
  readonly gradNorm?: number;
  readonly kl?: number;
  /** What the updates added to a rewarded rollout's log-probability, in nats. */
  readonly gain?: number;
  readonly validation?: number;
  /** Noisy sets of the simulator, and how many of them tell a right answer. */
  readonly noisy?: number;
  readonly leaked?: number;
}

/** What a guard remembers, as it is saved with a run. */
export interface GuardMemory {
  /** The newest steps. */
  readonly rows: readonly Watched[];
  /** Validations, the newest ones, and the best of all. */
  readonly validations: readonly { readonly step: number; readonly f1: number }[];
  readonly best: { readonly step: number; readonly f1: number } | null;
  /** The best means of `shortMean` steps so far, by what rises and what falls in a run that goes well. */
  readonly levels: { readonly reward: number; readonly valid: number };
  /** Signs that have been told, and are still there. */
  readonly told: readonly string[];
}

export const newGuard: GuardMemory = { rows: [], validations: [], best: null, levels: { reward: 0, valid: 0 }, told: [] };

/** After a change that signs were answered with: what is seen from here on is judged by itself. The best that was reached stays. */
export function afresh(memory: GuardMemory = newGuard): GuardMemory {
  return { ...memory, rows: [], validations: [], told: [] };
}

/** Steps that are remembered; over which a level is taken; and which a short mean is over. */
const spans = { kept: 25, level: 20, short: 3, push: 5, validations: 10 } as const;

/** Where a sign begins. */
const bounds = {
  /** Nats that a rewarded rollout loses in 5 steps, or in fewer: e^-.3 is 26 % less likely. */
  lost: 0.3,
  /** Nats by which one step moves a rewarded rollout, up or down: e^.55 is 1.7 times as likely. */
  stride: 0.55,
  /** F1 below the best validation, in two of them on end; or in one, where the mean of the last ten (five at least) is half as far below. */
  validation: 0.05,
  /** Share of rollouts that repeat themselves. */
  repeated: 0.1,
  /** Of the best level so far. */
  valid: 0.7,
  reward: 0.6,
  /** Times the median of the last 20 steps. */
  gradNorm: 5,
  policyTokens: 2.5,
  kl: 5,
  entropy: 3,
  /** Share of noisy sets that tell a right answer, of so many sets at least. */
  leak: 0.3,
  leakSets: 20,
  /** Nats below which a policy tries nothing new; and above which, with growth, it writes at random. */
  lowEntropy: 0.002,
  highEntropy: 1,
} as const;

/** What a step shows that was not told yet, in words. */
export interface Guarded {
  readonly memory: GuardMemory;
  readonly signs: readonly string[];
  /** Those of them that a lower learning rate does not mend. */
  readonly lasting: readonly string[];
}

/** The guard after one more step. */
export function guardStep(
  memory: GuardMemory,
  { step, metrics, validation }: { readonly step: number; readonly metrics: Metrics; readonly validation: number | null },
): Guarded {
  const row = watchedOf(step, metrics, validation);
  const rows = [...memory.rows, row].slice(-spans.kept);
  const point = validation === null ? [] : [{ step, f1: validation }];
  const validations = [...memory.validations, ...point].slice(-spans.validations);
  const best = validation !== null && (memory.best === null || validation > memory.best.f1) ? { step, f1: validation } : memory.best;
  const shortOf = (name: "reward" | "valid"): number => meanOf(rows.slice(-spans.short), name) ?? 0;
  const whole = rows.length >= spans.short;
  const levels = whole
    ? { reward: Math.max(memory.levels.reward, shortOf("reward")), valid: Math.max(memory.levels.valid, shortOf("valid")) }
    : memory.levels;
  const now = { ...memory, rows, validations, best, levels };
  const shown = signs.flatMap(({ name, seen, lasting }) => {
    const words = seen(now);
    return words === null ? [] : [{ name, words, lasting }];
  });
  const told = shown.map(({ name }) => name);
  const fresh = shown.filter(({ name }) => !memory.told.includes(name));
  return {
    memory: { ...now, told },
    signs: fresh.map(({ words }) => words),
    lasting: fresh.filter(({ lasting }) => lasting === true).map(({ words }) => words),
  };
}

function watchedOf(step: number, metrics: Metrics, validation: number | null): Watched {
  const gain = metrics["policy/rewarded_logprob_gain"];
  const tokens = metrics["rollout/policy_tokens"];
  const leak = metrics["simulator/leak_noisy"];
  const noisy = leak === undefined ? undefined : (metrics["simulator/searches"] ?? 0) * (metrics["simulator/noise_share"] ?? 0);
  const row: { -readonly [Name in keyof Watched]: Watched[Name] | undefined } = {
    step,
    reward: metrics["reward/mean"],
    valid: metrics["rollout/valid"],
    repeated: metrics["rollout/repeated"],
    policyTokens: tokens,
    // Of an update that had nothing to learn from, nothing is measured.
    entropy: (metrics["policy/trained_tokens"] ?? 0) > 0 ? metrics["policy/entropy"] : undefined,
    gradNorm: metrics["policy/grad_norm"],
    kl: metrics["policy/kl_reference"],
    gain: gain === undefined || tokens === undefined ? undefined : gain * tokens,
    validation: validation ?? undefined,
    noisy,
    leaked: leak === undefined || noisy === undefined ? undefined : leak * noisy,
  };
  return Object.fromEntries(Object.entries(row).filter(([, value]) => value !== undefined)) as unknown as Watched;
}

type Name = Exclude<keyof Watched, "step">;

function valuesOf(rows: readonly Watched[], name: Name): number[] {
  return rows.flatMap((row) => row[name] ?? []);
}

function totalOf(rows: readonly Watched[], name: Name): number {
  return valuesOf(rows, name).reduce((all, value) => all + value, 0);
}

/** The mean over steps; undefined where fewer than half of them were measured. */
function meanOf(rows: readonly Watched[], name: Name): number | undefined {
  const values = valuesOf(rows, name);
  return values.length === 0 || values.length < rows.length / 2 ? undefined : mean(values);
}

interface Sign {
  readonly name: string;
  /** In words, where it is there. */
  readonly seen: (memory: GuardMemory) => string | null;
  /** Whether it lasts whatever the policy does. */
  readonly lasting?: true;
}

const show = (value: number): string => (value === 0 ? "0" : Number(value.toPrecision(3)).toString());

/** The newest `short` steps against the median of those before: a number that has grown by a factor. */
function grown(name: Name, factor: number, words: (now: number, before: number) => string, least = 0): Sign {
  return {
    name,
    seen: ({ rows }) => {
      const [before, newest] = [rows.slice(-spans.level - spans.short, -spans.short), rows.slice(-spans.short)];
      const now = meanOf(newest, name);
      const known = valuesOf(before, name);
      if (now === undefined || known.length < spans.level / 2) return null;
      const usual = median(known);
      return usual > 0 && now > factor * usual && now > least ? words(now, usual) : null;
    },
  };
}

/** The newest `short` steps against the best level so far: a share that has fallen. */
function fallen(name: "reward" | "valid", share: number, words: (now: number, best: number) => string): Sign {
  return {
    name,
    seen: ({ rows, levels }) => {
      const now = rows.length < spans.short ? undefined : meanOf(rows.slice(-spans.short), name);
      return now !== undefined && levels[name] > 0.05 && now < share * levels[name] ? words(now, levels[name]) : null;
    },
  };
}

const signs: readonly Sign[] = [
  {
    name: "lost",
    seen: ({ rows }) => {
      const lost = valuesOf(rows.slice(-spans.push), "gain").reduce((all, gain) => all + Math.max(0, -gain), 0);
      if (lost <= bounds.lost) return null;
      const percent = Math.min(99, Math.round(100 * (1 - Math.exp(-lost))));
      const steps = rows.length === 1 ? "this step" : `the last ${Math.min(rows.length, spans.push)} steps`;
      return `the updates push right answers down with the wrong ones: ${steps} made a rewarded rollout ${percent} % less likely`;
    },
  },
  {
    name: "stride",
    seen: ({ rows }) => {
      const gains = valuesOf(rows.slice(-spans.push), "gain");
      const [most] = gains.sort((a, b) => Math.abs(b) - Math.abs(a));
      if (most === undefined || Math.abs(most) <= bounds.stride) return null;
      const times = Number(Math.exp(Math.abs(most)).toPrecision(2));
      return `the updates take steps too large to hold on to what they reach: one made a rewarded rollout ${times} times as ${most > 0 ? "likely" : "unlikely"}`;
    },
  },
  {
    name: "validation",
    seen: ({ validations, best }) => {
      if (best === null) return null;
      const below = validations.map(({ f1 }) => best.f1 - f1);
      const [before = 0, now = 0] = below.slice(-2);
      const wane = below.length >= spans.push && mean(below) > bounds.validation / 2;
      if (now <= bounds.validation || !(before > bounds.validation || wane)) return null;
      const newest = validations.slice(-2).map(({ f1 }) => show(f1));
      return `validation has fallen from F1 ${show(best.f1)} (step ${best.step}) to ${newest.join(" and ")}: what the reward pays is not what it is judged by`;
    },
  },
  {
    name: "leak",
    lasting: true,
    seen: ({ rows }) => {
      const newest = rows.length < spans.short ? [] : rows.slice(-spans.short);
      const [noisy, leaked] = [totalOf(newest, "noisy"), totalOf(newest, "leaked")];
      return noisy >= bounds.leakSets && leaked > bounds.leak * noisy
        ? `the simulator gives answers away: ${Math.round((100 * leaked) / noisy)} % of its noisy sets tell the right one, so that reading with doubt does not pay`
        : null;
    },
  },
  {
    name: "repeated",
    seen: ({ rows }) => {
      const now = rows.length < spans.short ? undefined : meanOf(rows.slice(-spans.short), "repeated");
      const usual = median(valuesOf(rows.slice(0, -spans.short), "repeated"));
      return now !== undefined && now > bounds.repeated && !(now < 2 * usual)
        ? `${Math.round(100 * now)} % of the rollouts say one thing over and over`
        : null;
    },
  },
  fallen("valid", bounds.valid, (now, best) => `the share of valid rollouts has fallen from ${show(best)} to ${show(now)}`),
  fallen("reward", bounds.reward, (now, best) => `the reward has fallen from ${show(best)} to ${show(now)}`),
  grown("gradNorm", bounds.gradNorm, (now, usual) => `the gradient norm has grown from ${show(usual)} to ${show(now)}`),
  grown("policyTokens", bounds.policyTokens, (now, usual) => `rollouts have grown from ${show(usual)} policy tokens to ${show(now)}`),
  grown("kl", bounds.kl, (now, usual) => `KL to the reference policy has grown from ${show(usual)} to ${show(now)} a token`, 0.2),
  grown("entropy", bounds.entropy, (now, usual) => `entropy has grown from ${show(usual)} to ${show(now)} nats`, bounds.highEntropy),
  {
    name: "low entropy",
    seen: ({ rows }) => {
      const now = rows.length < spans.short ? undefined : meanOf(rows.slice(-spans.short), "entropy");
      return now !== undefined && now < bounds.lowEntropy ? `entropy is ${show(now)} nats: nothing new is tried any more` : null;
    },
  },
];
