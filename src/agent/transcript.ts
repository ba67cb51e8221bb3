/**
 * The record of one rollout while it grows: what each token is (sampled or given), its log-probability, and the text for people.
 * It mirrors the ids of a `Sequence` and checks that they stay aligned.
 */
import type { Generated, SamplingSettings, Sequence, TrajectoryKey } from "../generate/types.ts";
import type { Aside, PageRecord, Question, SearchRecord, SearchTrajectory, TrajectoryStatus } from "../rl/trajectory.ts";
import { RequestError } from "../util/errors.ts";

export class Transcript {
  readonly searches: SearchRecord[] = [];
  readonly pages: PageRecord[] = [];
  readonly asides: Aside[] = [];
  turns = 0;
  invalidActions = 0;
  text = "";
  /** Of it, what the policy wrote. */
  written = "";
  readonly #promptLength: number;
  readonly #key: TrajectoryKey;
  readonly #sampling: SamplingSettings;
  readonly #lossMask: number[];
  readonly #logProbs: number[];

  constructor(promptLength: number, key: TrajectoryKey, sampling: SamplingSettings) {
    this.#promptLength = promptLength;
    this.#key = key;
    this.#sampling = sampling;
    this.#lossMask = new Array<number>(promptLength).fill(0);
    this.#logProbs = new Array<number>(promptLength).fill(0);
  }

  /**
   * Tokens the policy sampled: one turn.
   * @param learnt - of them, from the first on; the others get lossMask 0
   */
  sampled({ ids, logProbs }: Generated, text: string, learnt = ids.length): void {
    this.turns++;
    this.text += text;
    this.written += text;
    ids.forEach((_, i) => {
      this.#lossMask.push(i < learnt ? 1 : 0);
      this.#logProbs.push(i < learnt ? (logProbs[i] as number) : 0);
    });
  }

  /** Tokens that were put in: an observation or a correction. */
  given(ids: readonly number[], text: string): void {
    this.text += text;
    for (let i = 0; i < ids.length; i++) {
      this.#lossMask.push(0);
      this.#logProbs.push(0);
    }
  }

  /** @throws RequestError when the sequence does not hold exactly what was recorded. */
  finish(sequence: Sequence, question: Question, status: TrajectoryStatus, answer: string | null): SearchTrajectory {
    const ids = [...sequence.ids];
    if (ids.length !== this.#lossMask.length) {
      throw new RequestError({
        where: "rollout",
        what: "the sequence does not hold what was recorded",
        expected: `${this.#lossMask.length} tokens`,
        got: `${ids.length}`,
      });
    }
    return {
      key: this.#key,
      question,
      promptLength: this.#promptLength,
      sampling: this.#sampling,
      ids,
      lossMask: this.#lossMask,
      logProbs: this.#logProbs,
      status,
      answer,
      searches: this.searches,
      ...(this.pages.length === 0 ? {} : { pages: this.pages }),
      ...(this.asides.length === 0 ? {} : { asides: this.asides }),
      invalidActions: this.invalidActions,
      turns: this.turns,
      text: this.text,
    };
  }
}
