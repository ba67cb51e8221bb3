/** A policy that has died: whatever it is asked, it writes useless tokens, earns nothing, and learns nothing from that. */
import type { Metrics } from "../rl/metrics.ts";

/** Steps in a row after which a run is said to have collapsed. */
export const collapseSteps = 3;

/** Whether a step earned nothing, held no valid rollout, and gave the update nothing to learn from (then neither entropy nor gradient is measured). */
export function isDead(metrics: Metrics): boolean {
  const of = (name: string): number => metrics[name] ?? 0;
  return of("reward/mean") === 0 && of("rollout/valid") === 0 && of("policy/entropy") < 1e-3 && of("policy/grad_norm") < 1e-6;
}

/** What is said of the last `dead` steps in a row, before `done`; undefined where the policy lives. */
export function collapseNote(dead: number, done: number, best: { readonly step: number } | null): string | undefined {
  if (dead < collapseSteps) return undefined;
  const from = done - dead + 1;
  const state =
    best === null
      ? "No state was chosen as the best."
      : best.step >= from
        ? `The best state, step ${best.step}, is one of them: nothing good was found.`
        : `The best state, step ${best.step}, is from before.`;
  return (
    `Collapse: since step ${from} no rollout was valid or earned anything, and the update found nothing to learn from. ${state} ` +
    "A lower optimizer.learningRate, or a higher algorithm.klCoef, may keep it alive."
  );
}
