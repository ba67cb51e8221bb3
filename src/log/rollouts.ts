/** Every rollout of a run, one row each in `rollouts.jsonl`: what was seen, what was sampled, what it earned. */
import type { ScoredTrajectory, Trajectory } from "../rl/trajectory.ts";
import { JsonLines } from "./json-lines.ts";

/** A row. `ids`, `lossMask` and `logProbs` are aligned and cover the whole sequence. */
export interface RolloutRow {
  readonly step: number;
  readonly [key: string]: unknown;
}

export class RolloutLog {
  readonly #lines: JsonLines<RolloutRow>;

  /** @throws FileError when the file cannot be written. */
  constructor(file: string) {
    this.#lines = new JsonLines(file);
  }

  get bytes(): number {
    return this.#lines.bytes;
  }

  /** The rollouts of a step, all or none. */
  append(scored: readonly ScoredTrajectory[]): void {
    this.#lines.append(scored.map(rolloutRow));
  }

  sync(): void {
    this.#lines.sync();
  }

  close(): void {
    this.#lines.close();
  }
}

export function rolloutRow({ trajectory, reward, advantage }: ScoredTrajectory): RolloutRow {
  return trajectoryRow(trajectory, { reward, advantage });
}

/** All that a trajectory is, and what it was found to be worth. */
export function trajectoryRow(trajectory: Trajectory, worth: Readonly<Record<string, number>>): RolloutRow {
  const { step, questionIndex, rollout, question, ids, promptLength, lossMask, logProbs, text, ...outcome } = trajectory;
  return {
    step,
    questionIndex,
    rollout,
    questionId: question.id,
    question: question.question,
    goldenAnswers: question.goldenAnswers,
    ...worth,
    ...outcome,
    text,
    promptLength,
    ids,
    lossMask,
    logProbs,
  };
}
