/** What `zerosearch collect` keeps of a rollout: its searches, whoever made them. No code here. */
import type { Question, SearchDocument } from "../rl/trajectory.ts";

export interface CollectedSearch {
  readonly turn: number;
  readonly query: string;
  /** What the query itself asks for, where whoever asked said so. */
  readonly answers?: readonly string[];
  /** As the engine returned them, in its order. */
  readonly documents: readonly SearchDocument[];
  /** Why it failed for good: there are no documents then. */
  readonly failure?: string;
}

export interface CollectedRollout {
  /** The question's number in its file, and which of its rollouts this is. */
  readonly index: number;
  readonly rollout: number;
  readonly question: Pick<Question, "id" | "question" | "goldenAnswers" | "dataSource">;
  readonly answer: string | null;
  /** Of the answer against the golden ones, 0 to 1. */
  readonly f1: number;
  readonly searches: readonly CollectedSearch[];
}

/** Whether a document is useful for its query; null where the judge did not say. */
export type Label = boolean | null;

/** The labels of a rollout's documents, by search. */
export interface JudgedRollout {
  readonly index: number;
  readonly rollout: number;
  readonly labels: readonly (readonly Label[])[];
}
