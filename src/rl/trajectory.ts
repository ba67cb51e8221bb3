/** The types of a rollout, for all rooms. No code here. */
import type { SamplingSettings, TrajectoryKey } from "../generate/types.ts";

/** A question row. */
export interface Question {
  readonly id: string;
  readonly question: string;
  /** All right answers; at least one. */
  readonly goldenAnswers: readonly string[];
  readonly dataSource: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
}

export type DocumentKind = "useful" | "noisy" | "real";

export interface SearchDocument {
  readonly text: string;
  readonly title?: string;
  readonly url?: string;
  readonly id?: string;
  /** Higher is better. */
  readonly score?: number;
}

/** One call of a search engine inside a rollout. */
export interface SearchRecord {
  readonly turn: number;
  readonly query: string;
  /** How the documents were asked for: useful or noisy from the simulator, real from an engine. */
  readonly kind: DocumentKind;
  /** The probability of noise at that step; absent for real engines. */
  readonly noiseProbability?: number;
  readonly documents: readonly SearchDocument[];
  /** What the policy was shown of them, tags neutralised. */
  readonly text: string;
  /** Whether a gold answer occurs in the text (normalised): the leak meter. */
  readonly containsGold: boolean;
  /** With compat.misalignedContext: id of the question that the simulator was told in place of the rollout's own. */
  readonly toldQuestion?: string;
  /** Why it failed for good, where it did: the policy was shown that there are no results. */
  readonly failure?: string;
  /** Characters left out of what the engine returned, where it was more than an observation could ever show. */
  readonly leftOut?: number;
}

/** A page that was fetched inside a rollout. */
export interface PageRecord {
  readonly turn: number;
  /** As the policy wrote it. */
  readonly address: string;
  /** Whether there was one. */
  readonly found: boolean;
  /** What the policy was shown of it, tags neutralised. */
  readonly text: string;
}

/**
 * What the policy's model wrote beside the rollout, in a sequence of its own, such as Search-o1's reading of documents. No update sees it: what
 * of it comes into the rollout is put in (`lossMask` 0).
 */
export interface Aside {
  readonly turn: number;
  /** What it was for, such as "reason-in-documents". */
  readonly purpose: string;
  readonly prompt: string;
  readonly promptTokens: number;
  readonly ids: readonly number[];
  /** What it wrote. */
  readonly text: string;
  /** What of it was put into the rollout. */
  readonly outcome: string;
}

export type TrajectoryStatus =
  | "answered" // an answer tag was closed
  | "length" // ran out of room or of tokens in a turn
  | "noAnswer" // all turns used, no answer
  | "failed"; // a search failed for good, and search.onFailure=leave-out

/**
 * What an update needs of a rollout, whatever its task. `ids`, `lossMask` and `logProbs` are aligned and cover the whole sequence,
 * prompt included.
 */
export interface Trajectory {
  /** Rollouts of one step and question are a group. */
  readonly key: TrajectoryKey;
  readonly promptLength: number;
  readonly ids: readonly number[];
  /**
   * 1 on tokens the policy sampled, 0 on all that was put in: prompt, observations, corrections. The only mask there is. (With compat.dropEos 0
   * on end-of-sequence tokens, too.)
   */
  readonly lossMask: readonly number[];
  /** Log-probability under the sampling policy at `sampling.temperature`; not read where lossMask is 0. */
  readonly logProbs: readonly number[];
  /** How its tokens were sampled. An update computes log-probabilities at this temperature. */
  readonly sampling: SamplingSettings;
}

/** A rollout of the search agent: one question, answered with searches. */
export interface SearchTrajectory extends Trajectory {
  readonly question: Question;
  readonly status: TrajectoryStatus;
  /** The text inside the answer tag that the policy itself wrote, or null. */
  readonly answer: string | null;
  /** With compat.promptAnswers: the text in the last answer tag of the prompt and the rollout, which is scored in place of `answer`. */
  readonly lastAnswer?: string;
  readonly searches: readonly SearchRecord[];
  /** Whole pages that it fetched, where its method can. */
  readonly pages?: readonly PageRecord[];
  /** What else the model wrote for it, where its method asks it to. */
  readonly asides?: readonly Aside[];
  readonly invalidActions: number;
  readonly turns: number;
  /** Policy text, observations and corrections in order, for people. */
  readonly text: string;
}

/** A trajectory and what it earned. A reward is never overwritten by an advantage. */
export interface Scored<T extends Trajectory = Trajectory> {
  readonly trajectory: T;
  readonly reward: number;
  /** One for all tokens the policy sampled, or one per token of `ids`, read where lossMask is 1. */
  readonly advantage: number | ArrayLike<number>;
  /** With a critic: what its value before each token of `ids` should have been, read where lossMask is 1. */
  readonly returns?: ArrayLike<number>;
}

/** A trajectory whose reward failed, or that was never paid since a search of it failed: it is in no group, no update and no mean of rewards. */
export interface Unpaid<T extends Trajectory = Trajectory> {
  readonly trajectory: T;
  /** Why, in one line. */
  readonly failure: string;
  /** What failed; the reward unless given. */
  readonly cause?: "search";
}
