/** All rollouts of a step, or of an evaluation, at once. */
import type { Question, SearchTrajectory } from "../rl/trajectory.ts";
import { abortReason } from "../util/abort.ts";
import type { TrajectoryKey } from "../generate/types.ts";
import type { AgentContext, Method } from "./methods/method.ts";

export interface RolloutTask {
  readonly question: Question;
  readonly key: TrajectoryKey;
}

export interface RolloutAllOptions {
  /** Fires to give up all rollouts; the call then rejects with its reason. */
  readonly signal?: AbortSignal;
  /** Called as each rollout ends, in the order in which they end. */
  readonly onFinished?: ((trajectory: SearchTrajectory, finished: number) => void) | undefined;
}

/** The tasks of one training step: `groupSize` rollouts of each question, in order. `index` names the question for its random numbers. */
export function groupTasks(
  asked: readonly { readonly index: number; readonly question: Question }[],
  groupSize: number,
  step: number,
): RolloutTask[] {
  return asked.flatMap(({ index, question }) =>
    Array.from({ length: groupSize }, (_, rollout) => ({ question, key: { step, question: index, rollout } })),
  );
}

/** The tasks of an evaluation: one rollout of each question, in order, at step 0. */
export function evaluationTasks(questions: readonly Question[]): RolloutTask[] {
  return questions.map((question, index) => ({ question, key: { step: 0, question: index, rollout: 0 } }));
}

/**
 * Starts every rollout together over one generator and returns the trajectories in the order of the tasks, whatever the order in
 * which they end. If one fails, the others are given up, their sequences closed, and its error is thrown.
 */
export async function rolloutAll(
  tasks: readonly RolloutTask[],
  method: Method,
  context: AgentContext,
  options: RolloutAllOptions = {},
): Promise<SearchTrajectory[]> {
  // One controller for each rollout: a signal warns about more than ten listeners.
  const controllers = tasks.map(() => new AbortController());
  let failure: { readonly reason: unknown } | null = null;
  const giveUp = (reason: unknown): void => {
    if (failure !== null) return;
    failure = { reason };
    for (const controller of controllers) controller.abort(reason);
  };
  const { signal } = options;
  const onAbort = (): void => giveUp((signal as AbortSignal).reason);
  if (signal?.aborted === true) throw abortReason(signal);
  signal?.addEventListener("abort", onAbort, { once: true });
  let finished = 0;
  const runs = tasks.map(async ({ question, key }, index): Promise<SearchTrajectory> => {
    const own = (controllers[index] as AbortController).signal;
    if (own.aborted) throw abortReason(own);
    const trajectory = await method.run(question, { ...context, key, signal: own });
    options.onFinished?.(trajectory, ++finished);
    return trajectory;
  });
  for (const run of runs) void run.catch(giveUp);
  try {
    const outcomes = await Promise.allSettled(runs);
    if (failure !== null) throw (failure as { readonly reason: unknown }).reason;
    return outcomes.map((outcome) => (outcome as PromiseFulfilledResult<SearchTrajectory>).value);
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}
