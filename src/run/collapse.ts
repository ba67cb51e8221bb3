/** A policy that has died: whatever it is asked, it writes useless tokens, earns nothing, and learns nothing from that. */
import type { Config } from "../config/index.ts";
import type { Metrics } from "../rl/metrics.ts";
import { ZeroSearchError } from "../util/errors.ts";
import type { Recorded, RunHistory } from "./journal.ts";
import { resumeCommand } from "./leave.ts";

/** Returns to an earlier state, after which a sign of collapse ends the run. */
export const mostRollbacks = 3;

/** Ends a run that shows new signs of collapse, where that is asked for. @throws ZeroSearchError */
export function refuseCollapse(
  config: Config,
  { step, signs: seen, lasting }: Pick<Recorded, "step" | "signs" | "lasting">,
  { best, rollbacks = [] }: RunHistory,
): void {
  const { guard } = config;
  // A run that may go back is not ended by what no way back mends: that was a warning.
  const signs = guard.action === "rollback" ? seen.filter((one) => !lasting.includes(one)) : seen;
  if (signs.length === 0 || guard.action === "warn" || guard.action === "off") return;
  const tried =
    guard.action === "stop"
      ? ""
      : rollbacks.length === 0
        ? "There is no good state to go back to. "
        : `It went back ${rollbacks.length} ${rollbacks.length === 1 ? "time" : "times"}. `;
  const good = best === null || best.step === step ? "" : `The best state is that of step ${best.step}. `;
  throw new ZeroSearchError({
    where: `step ${step}`,
    what: `training is about to collapse: ${signs.join("; ")}`,
    hint:
      `${tried}${good}A lower optimizer.learningRate, a KL term (algorithm.klCoef) or fewer train.updatesPerStep may keep it alive; docs/collapse.md. ` +
      `To go on all the same: ${resumeCommand(config)} guard.action=warn.`,
  });
}

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
