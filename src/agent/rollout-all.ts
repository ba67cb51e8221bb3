/** All rollouts of a step, or of an evaluation, at once. */
import type { Question, SearchTrajectory } from "../rl/trajectory.ts";
import { abortReason } from "../util/abort.ts";
import { DataError } from "../util/errors.ts";
import { callOwn, kindOf } from "../util/own-code.ts";
import type { TrajectoryKey } from "../generate/types.ts";
import { lastAnswer } from "./dialects/answer-tag.ts";
import { LockStep } from "./lock-step.ts";
import type { AgentContext, Method } from "./methods/method.ts";
import { isLeftOut } from "./ask-engine.ts";

export interface RolloutTask {
  readonly question: Question;
  readonly key: TrajectoryKey;
}

export interface RolloutAllOptions {
  /** Fires to give up all rollouts; the call then rejects with its reason. */
  readonly signal?: AbortSignal;
  /** Called as each rollout ends, in the order in which they end. */
  readonly onFinished?: ((trajectory: SearchTrajectory, finished: number) => void) | undefined;
  /** Token ids that there are, 0 to this: others are refused. */
  readonly vocabulary?: number;
  /** compat: simulators are told the questions of other rollouts (`LockStep`). False unless told. */
  readonly misaligned?: boolean;
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
 * @throws errors of ours as they are, others of the method's as ConfigError; DataError for what is not the trajectory that was asked for.
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
  const lockStep = options.misaligned === true ? new LockStep(tasks.map(({ question }) => question)) : null;
  const runs = tasks.map(async ({ question, key }, index): Promise<SearchTrajectory> => {
    const own = (controllers[index] as AbortController).signal;
    if (own.aborted) throw abortReason(own);
    const where = `method ${method.name} of rollout ${named(key)}`;
    const told = lockStep === null ? {} : { toldQuestion: (turn: number) => lockStep.question(index, turn) };
    let made: unknown;
    try {
      made = await callOwn(where, () => method.run(question, { ...context, key, signal: own, ...told }), { signal: own });
    } catch (error) {
      giveUp(error); // before those that wait for this one go on
      throw error;
    } finally {
      lockStep?.finish(index);
    }
    const whole = checked(where, made, { question, key }, options.vocabulary);
    // A method of the user's own may have gone on.
    const trajectory = withLastAnswer(isLeftOut(whole.searches, context) ? { ...whole, status: "failed" } : whole, context);
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

/** With what the released code would take for its answer, where that is asked for. */
function withLastAnswer(trajectory: SearchTrajectory, { promptAnswers, tokenizer }: AgentContext): SearchTrajectory {
  const last = promptAnswers === true ? lastAnswer(tokenizer.decode(trajectory.ids)) : undefined;
  return last === undefined ? trajectory : { ...trajectory, lastAnswer: last };
}

function named({ step, question, rollout }: TrajectoryKey): string {
  return `${step}/${question}/${rollout}`;
}

/** What a method made, which may be the user's own. @throws DataError where it is not the trajectory of `task`. */
function checked(where: string, made: unknown, { question, key }: RolloutTask, vocabulary = Infinity): SearchTrajectory {
  const expect = (right: boolean, what: string, expected: string, got: string): void => {
    if (!right) throw new DataError({ where, what, expected, got });
  };
  const isObject = (value: unknown): value is object => typeof value === "object" && value !== null;
  expect(isObject(made), "returns no trajectory", "a SearchTrajectory, or a promise of one", kindOf(made));
  const given = made as Readonly<Record<keyof SearchTrajectory, unknown>>;
  const { ids, lossMask, logProbs } = given;
  const others = { answer: given.answer === null || typeof given.answer === "string", searches: Array.isArray(given.searches) };
  const fields = { key: isObject(given.key), question: isObject(given.question), sampling: isObject(given.sampling), ...others };
  for (const [name, right] of Object.entries(fields))
    expect(right, `its trajectory has no ${name}`, "as in SearchTrajectory", kindOf(given[name as keyof typeof fields]));
  const own = named(given.key as TrajectoryKey);
  const { id } = given.question as { readonly id: unknown };
  expect(own === named(key), "returns the trajectory of another rollout", named(key), own);
  expect(id === question.id, "returns the trajectory of another question", question.id, String(id));
  const lengths = [ids, lossMask, logProbs].map((list) => (Array.isArray(list) ? String(list.length) : kindOf(list)));
  const aligned = Array.isArray(ids) && lengths.every((length) => length === String(ids.length));
  expect(aligned, "ids, lossMask and logProbs do not fit", "three lists of one length", lengths.join(", "));
  const wrong = (ids as number[]).find((token) => !Number.isInteger(token) || token < 0 || token >= vocabulary);
  expect(
    wrong === undefined,
    "its trajectory holds an id that is no token",
    vocabulary < Infinity ? `integers from 0 to ${vocabulary - 1}` : "integers from 0",
    String(wrong),
  );
  return made as SearchTrajectory;
}
