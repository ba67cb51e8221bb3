/** Which questions a training step asks: a pure function of seed and step, so that a resumed run asks what the killed one would have. */
import { ConfigError } from "../util/errors.ts";
import { makeRandom } from "./random.ts";

export interface SampledQuestion<T> {
  /** Position in the question set: part of the trajectory key, the same in every process. */
  readonly index: number;
  readonly question: T;
}

export class QuestionSampler<T> {
  readonly #questions: readonly T[];
  readonly #perStep: number;
  readonly #seed: number;
  #epoch = -1;
  #order: number[] = [];

  /**
   * Questions are asked in epochs; each epoch is a fresh shuffle named by seed and epoch, and steps run through the epochs end to end.
   * @throws ConfigError if a step asks for more questions than there are (a question would meet itself in one step).
   */
  constructor(questions: readonly T[], perStep: number, seed: number) {
    if (perStep > questions.length) {
      throw new ConfigError({
        where: "train.questionsPerStep",
        what: "a step asks for more questions than the training set has",
        expected: `at most ${questions.length}`,
        got: String(perStep),
      });
    }
    this.#questions = questions;
    this.#perStep = perStep;
    this.#seed = seed;
  }

  /** The questions of `step` (from 1). Within a step no question occurs twice, also where an epoch ends inside it. */
  step(step: number): SampledQuestion<T>[] {
    const first = (step - 1) * this.#perStep;
    const taken: SampledQuestion<T>[] = [];
    const seen = new Set<number>();
    for (let i = first; i < first + this.#perStep; i++) {
      let index = this.#at(i);
      // At the seam of two epochs a question may come up again: its place goes to the next one that has not.
      while (seen.has(index)) index = (index + 1) % this.#questions.length;
      seen.add(index);
      taken.push({ index, question: this.#questions[index] as T });
    }
    return taken;
  }

  /**
   * Other questions for a step, in its `round`-th try (from 1) to replace some: `count` at random of those whose index is not in `asked`, or as
   * many as there are.
   */
  others(step: number, round: number, count: number, asked: ReadonlySet<number>): SampledQuestion<T>[] {
    const left = [...this.#questions.keys()].filter((index) => !asked.has(index));
    const order = makeRandom(`${this.#seed}/questions/step ${step}/round ${round}`).shuffle(left);
    return order.slice(0, count).map((index) => ({ index, question: this.#questions[index] as T }));
  }

  #at(i: number): number {
    const epoch = Math.floor(i / this.#questions.length);
    if (epoch !== this.#epoch) {
      this.#order = makeRandom(`${this.#seed}/questions/${epoch}`).shuffle([...this.#questions.keys()]);
      this.#epoch = epoch;
    }
    return this.#order[i % this.#questions.length] as number;
  }
}
