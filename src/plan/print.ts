/** A plan as text: what is held where, by phase, against what there is; the time of a step; what would make it fit. */
import type { Target } from "../device/kind.ts";
import { blocksFor } from "../generate/block-manager.ts";
import { formatTable } from "../log/table.ts";
import { KvCache } from "../nn/kv-cache.ts";
import { cacheBytes, decodeRows, usualSimulatorTokens } from "../setup/cache-size.ts";
import { cachedOf, hostBytes, type Plan } from "./plan.ts";
import type { Rates } from "./rates.ts";
import { parts, phases } from "./rehearse.ts";
import type { Remedies, Trial } from "./settings.ts";
import { stepTime, type StepTime } from "./step-time.ts";

/** What a plan is printed with. */
export interface PlanText {
  readonly plan: Plan;
  readonly target: Target;
  readonly rates: Rates | null;
  /** The same run with train.recompute the other way round; null where that could not be planned. */
  readonly other: Plan | null;
  /** Where it does not fit. */
  readonly remedies: Remedies | null;
  /** What could not be found out. */
  readonly notes: readonly string[];
}

export function planText({ plan, target, rates, other, remedies, notes }: PlanText): string {
  const blocks = [
    [`plan: ${target.name} (${[memoryOf(target), ...target.notes].join("; ")})`, ...plan.models.map(modelLine), ...notes].join("\n"),
    `${heldTable(plan, target)}\nBesides, the process itself takes about ${gib(hostBytes(plan))} GiB: Node, tokenizers, and weights on their way.`,
    cacheText(plan),
    recomputation(plan, other),
    phaseTable(plan),
    timeText(plan, target, rates),
    verdict(plan, target),
    ...(remedies === null ? [] : [remedyText(plan, remedies, target)]),
  ];
  return `${blocks.filter((block) => block !== "").join("\n\n")}\n`;
}

/** Of a fine-tuning; `other` is the same with train.recompute the other way round. */
export function tuningText({ plan, target, other, remedies }: Omit<PlanText, "rates" | "notes">): string {
  const { train, sft } = plan.config;
  const blocks = [
    [`plan: ${target.name} (${[memoryOf(target), ...target.notes].join("; ")})`, ...plan.models.map(modelLine)].join("\n"),
    `A micro-batch holds up to ${Math.max(train.microBatchTokens, sft.maxTokens)} tokens, an example up to ${sft.maxTokens} (sft.maxTokens).`,
    `${heldTable(plan, target)}\nBesides, the process itself takes about ${gib(hostBytes(plan))} GiB: Node, tokenizers, and weights on their way.`,
    recomputation(plan, other),
    verdict(plan, target),
    ...(remedies === null ? [] : [remedyText(plan, remedies, target)]),
  ];
  return `${blocks.filter((block) => block !== "").join("\n\n")}\n`;
}

export function gib(bytes: number): string {
  const value = bytes / 2 ** 30;
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : value >= 0.995 ? 2 : 3);
}

function memoryOf({ memory }: Target): string {
  return memory === null ? "memory unknown: give device.memoryGiB" : `${gib(memory.bytes)} GiB, says ${memory.source}`;
}

function modelLine({ copy, config, parameters }: Plan["models"][number]): string {
  const roles = copy.roles.map(({ role, source, adapter }) => `${role} ${source}${adapter === null ? "" : " with a LoRA adapter"}`);
  return `${roles.join("; ")}: ${(parameters / 1e6).toFixed(parameters < 1e7 ? 2 : 0)} M parameters in ${copy.dtype}, ${config.layers} layers of ${config.width}`;
}

interface Line {
  readonly what: string;
  readonly where: string;
  readonly bytes: number;
}

function heldTable({ peak }: Plan, { place: where }: Target): string {
  const lines: Line[] = [...peak.parts].sort((a, b) => b[1] - a[1]).map(([what, bytes]) => ({ what, where, bytes }));
  lines.push({ what: "all, at the moment of the most", where, bytes: peak.total });
  return formatTable<Line>(
    [
      { title: "what is held", value: ({ what }) => what },
      { title: "where", value: (line) => line.where },
      { title: "bytes", value: ({ bytes }) => bytes },
      { title: "GiB", value: ({ bytes }) => gib(bytes) },
      { title: "share", value: ({ bytes }) => `${((100 * bytes) / peak.total).toFixed(1)} %` },
    ],
    lines,
  );
}

/** How many rollouts go on at once. */
function cacheText({ config, models }: Plan): string {
  const cached = (["policy", "simulator"] as const).flatMap((role) => {
    const model = cachedOf(models, role);
    return model === null ? [] : [{ role, model }];
  });
  const rows = decodeRows(config);
  return cached
    .map(({ role, model }) => {
      const longest = role === "policy" ? Math.min(config.rollout.maxContextTokens, model.maxPositions) : usualSimulatorTokens(config);
      const bytes = cacheBytes(config, model, role === "policy" ? config.rollout.maxContextTokens : usualSimulatorTokens(config));
      const blocks = Math.floor(bytes / KvCache.bytesFor(model.decoder.config, 1, config.model.cacheDtype));
      const whole = Math.min(rows, Math.floor(blocks / blocksFor(longest)));
      const length = `${role === "policy" ? "full length" : "a usual length"} (${longest} tokens)`;
      const slow = 8 * whole < rows ? ". So few at once take longer" : "";
      const more = whole < rows ? `, more of shorter ones${slow}` : "";
      return `KV cache of the ${role}: ${gib(bytes)} GiB, ${64 * blocks} tokens: at ${length} ${whole} of ${rows} sequences decode at once${more}.`;
    })
    .join("\n");
}

/** Activations with and without recomputation. */
function recomputation(plan: Plan, other: Plan | null): string {
  const activations = (one: Plan): string => gib(one.phases.get(phases.update)?.parts.get(parts.activations) ?? 0);
  if (other === null) return "";
  const [without, withIt] = plan.config.train.recompute ? [other, plan] : [plan, other];
  return `Activations of an update: ${activations(without)} GiB with train.recompute=false (all: ${gib(without.peak.total)}), ${activations(withIt)} GiB with train.recompute=true (all: ${gib(withIt.peak.total)}).`;
}

function phaseTable({ phases: all }: Plan): string {
  return formatTable(
    [
      { title: "phase", value: ([name]) => name },
      { title: "GiB at most", value: ([, { total }]) => gib(total) },
    ],
    [...all],
  );
}

function timeText(plan: Plan, { rateKey }: Target, rates: Rates | null): string {
  if (rates === null)
    return `Time of a step: unknown, as nobody has measured ${rateKey}. Measure it: npm run bench -- --save-rates --no-peers prefill train decode`;
  const seconds = (time: StepTime): string => {
    const of = (value: number): string => `${value < 10 ? value.toPrecision(2) : Math.round(value)} s`;
    const { total, prefill, decode, reference, update } = time;
    const items = [`prefill ${of(prefill)}`, `decode ${of(decode)}`, ...(reference === 0 ? [] : [`reference ${of(reference)}`])];
    return `${of(total)} (${items.join(", ")}, update ${of(update)})`;
  };
  const at = (share: number): string => seconds(stepTime(plan.config, plan.models, rates, share));
  return [
    `Time of a step, estimated from the bench's rates (${rates.measured}); small batches and scheduling add to it:`,
    `  ${at(1 / 3)} where rollouts take a third of the turns and tokens they may,`,
    `  ${at(1)} where they take all.`,
  ].join("\n");
}

/** In one line: whether it fits, or what is lacking. */
function verdict({ fits, why, peak }: Plan, { memory, kept, title }: Target): string {
  if (fits === null)
    return `It is unknown whether this fits: nothing on this machine says how much memory the GPU has. Give device.memoryGiB=N; ${gib(peak.total)} GiB are needed.`;
  const there = memory === null ? Infinity : memory.bytes - kept;
  if (fits) return `This fits: ${gib(peak.total)} of ${gib(there)} GiB.`;
  const lack = peak.total > there ? `${gib(peak.total)} GiB are needed, ${gib(there)} GiB are there` : (why ?? "");
  return `This does not fit ${title}: ${lack}.`;
}

/** What would make it fit, the least change first; or what memory would do. */
export function remedyText(plan: Plan, { alone, enough, all }: Remedies, { larger }: Target): string {
  const saved = ({ plan: one }: Trial): number => plan.peak.total - one.peak.total;
  const words = (trial: Trial): string => trial.changes.flatMap(({ settings }) => settings).join(" ");
  const rows = alone.length === 0 ? "" : `${trialTable(alone, saved, words)}\n\n`;
  if (enough !== null) {
    const prices = enough.changes.map(({ price }) => price).join("; ");
    return `${rows}With ${words(enough)} it fits: ${gib(enough.plan.peak.total)} GiB, ${gib(saved(enough))} less (${prices}).`;
  }
  const best = all ?? alone[0];
  const least =
    best === undefined
      ? ""
      : ` With ${words(best)}, ${gib(best.plan.peak.total)} GiB would do (${Math.ceil(best.plan.peak.total / 2 ** 30 / 0.97)} GiB of memory).`;
  return `${rows}No setting makes it fit.${least} As it is, ${Math.ceil(plan.peak.total / 2 ** 30 / 0.97)} GiB of memory would do.${larger === null ? "" : ` ${larger}`}`;
}

function trialTable(trials: readonly Trial[], saved: (trial: Trial) => number, words: (trial: Trial) => string): string {
  return formatTable<Trial>(
    [
      { title: "what would be smaller", value: words },
      { title: "GiB less", value: (trial) => gib(saved(trial)) },
      { title: "GiB then", value: ({ plan }) => gib(plan.peak.total) },
      { title: "fits", value: ({ plan }) => (plan.fits === true ? "yes" : "no") },
      { title: "price", value: ({ changes }) => changes.map(({ price }) => price).join("; ") },
    ],
    trials,
  );
}
