/**
 * What the policy does with the first documents it gets: after a set that holds nothing useful it should search again, after one
 * that tells the answer it should not have to. The curriculum exists to teach the difference.
 */
import type { AgentContext, Method } from "../agent/methods/method.ts";
import type { RolloutAllOptions } from "../agent/rollout-all.ts";
import type { Question } from "../rl/trajectory.ts";
import { mean } from "../util/stats.ts";
import { evaluate, type JudgedTrajectory } from "./evaluate.ts";

export interface RobustnessSummary {
  /** Which sets came first, by what they held: not by how they were asked for. */
  readonly first: "useful" | "nothing useful";
  readonly n: number;
  /** Share of rollouts that searched again. */
  readonly again: number;
  readonly f1: number;
}

/**
 * Runs every question twice: with an engine whose first documents are meant to be noisy, and with one whose first documents are meant
 * to be useful. Rollouts are counted by what the first set really held; those that never searched are left out. `onFinished` counts the rollouts of both runs.
 */
export async function measureRobustness(
  questions: readonly Question[],
  method: Method,
  noisyFirst: AgentContext,
  usefulFirst: AgentContext,
  options: RolloutAllOptions = {},
): Promise<RobustnessSummary[]> {
  const judged: JudgedTrajectory[] = [];
  for (const context of [noisyFirst, usefulFirst]) {
    const before = judged.length;
    const onFinished: RolloutAllOptions["onFinished"] = (trajectory, finished) => options.onFinished?.(trajectory, before + finished);
    judged.push(...(await evaluate(questions, method, context, { ...options, onFinished })));
  }
  const searched = judged.filter(({ trajectory }) => trajectory.searches.length > 0);
  return (["useful", "nothing useful"] as const).map((first) => {
    const rows = searched.filter(({ trajectory }) => (trajectory.searches[0]?.containsGold === true) === (first === "useful"));
    const average = (value: (row: JudgedTrajectory) => number): number => mean(rows.map(value));
    return {
      first,
      n: rows.length,
      again: average(({ trajectory }) => (trajectory.searches.length > 1 ? 1 : 0)),
      f1: average(({ scores }) => scores.f1),
    };
  });
}
