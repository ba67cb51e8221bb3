/**
 * compat.misalignedContext: whose question a simulator is told. The released code goes turn by turn over all rollouts of a step: it gathers the
 * queries of those that search, and pairs them by place with the questions of all. So the i-th rollout that searches in a turn has its documents
 * written for question and answers of the i-th rollout of the step.
 *
 * Here rollouts go on by themselves, and one that searches waits until those before it have got as far: only they decide its place. Each waits
 * for smaller indices alone, and one that waits holds no row and no cache that others could not take, so none waits for ever; and nothing depends
 * on the order in which they come.
 *
 * Source: ZeroSearch's code, `llm_agent/generation.py` 503 and 592.
 */
import type { Question } from "../rl/trajectory.ts";

export class LockStep {
  readonly #questions: readonly Question[];
  readonly #rollouts: readonly Turns[];

  /** @param questions - of the rollouts of a step, in their order */
  constructor(questions: readonly Question[]) {
    this.#questions = questions;
    this.#rollouts = questions.map(() => new Turns());
  }

  /**
   * The question that belongs to a search in `turn` (from 0) of rollout `index`, once the rollouts before it have had that turn. A rollout asks
   * once a turn at most, in their order; a turn it passes over is one without a search.
   */
  async question(index: number, turn: number): Promise<Question> {
    this.#rollouts[index]?.searches(turn);
    let place = 0;
    for (const before of this.#rollouts.slice(0, index)) if (await before.searched(turn)) place++;
    return this.#questions[place] as Question;
  }

  /** Rollout `index` has ended, however: it searches no more. */
  finish(index: number): void {
    this.#rollouts[index]?.finish();
  }
}

interface Waiting {
  readonly promise: Promise<boolean>;
  readonly resolve: (searched: boolean) => void;
}

/** The turns of one rollout, as they become known. */
class Turns {
  readonly #searches = new Set<number>();
  /** Turns that somebody waits for. */
  readonly #waiting = new Map<number, Waiting>();
  /** All turns before it are known. */
  #known = 0;

  searches(turn: number): void {
    this.#searches.add(turn);
    this.#knownBefore(turn + 1);
  }

  finish(): void {
    this.#knownBefore(Infinity);
  }

  /** Whether the rollout searched in a turn, once that is known. */
  searched(turn: number): Promise<boolean> {
    if (turn < this.#known) return Promise.resolve(this.#searches.has(turn));
    let waiting = this.#waiting.get(turn);
    if (waiting === undefined) {
      let resolve: Waiting["resolve"] = () => undefined;
      const promise = new Promise<boolean>((settle) => (resolve = settle));
      this.#waiting.set(turn, (waiting = { promise, resolve }));
    }
    return waiting.promise;
  }

  #knownBefore(turn: number): void {
    this.#known = Math.max(this.#known, turn);
    for (const [at, { resolve }] of this.#waiting)
      if (at < this.#known) {
        this.#waiting.delete(at);
        resolve(this.#searches.has(at));
      }
  }
}
