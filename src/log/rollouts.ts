/** Every rollout of a run, one row each in `rollouts.jsonl`: what was seen, what was sampled, what it earned. */
import type { Scored, SearchTrajectory } from "../rl/trajectory.ts";
import { JsonLines } from "./json-lines.ts";

/** A row: the trajectory, field for field, with the step by which the log is cut, and what it earned. */
export interface RolloutRow extends SearchTrajectory {
  readonly step: number;
  readonly reward: number;
  /** One for all policy tokens, or one per token of `ids`, 0 where lossMask is 0. */
  readonly advantage: number | readonly number[];
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
  append(scored: readonly Scored<SearchTrajectory>[]): void {
    this.#lines.append(scored.map(rolloutRow));
  }

  sync(): void {
    this.#lines.sync();
  }

  close(): void {
    this.#lines.close();
  }
}

export function rolloutRow({ trajectory, reward, advantage }: Scored<SearchTrajectory>): RolloutRow {
  const { ids, lossMask, logProbs, ...rest } = trajectory;
  const logged = typeof advantage === "number" ? advantage : ids.map((_, t) => (lossMask[t] === 1 ? (advantage[t] as number) : 0));
  return { step: trajectory.key.step, reward, advantage: logged, ...rest, ids, lossMask, logProbs };
}
