/** What every search engine, simulated or real, is to the agent. */
import type { TrajectoryKey } from "../generate/types.ts";
import type { DocumentKind } from "../rl/trajectory.ts";

/** One search. A record per call: the question and answers are those of the rollout that asks. */
export interface SearchRequest {
  readonly query: string;
  readonly question: string;
  readonly goldenAnswers: readonly string[];
  readonly key: TrajectoryKey;
  readonly turn: number;
  /** Fires when the result is no longer wanted: the engine gives back what it holds and rejects. */
  readonly signal?: AbortSignal;
}

export interface SearchResult {
  /** What goes between the information tags: `Doc 1: ...\nDoc 2: ...`. */
  readonly documents: string;
  readonly kind: DocumentKind;
  readonly noiseProbability?: number;
}

export interface SearchEngine {
  readonly name: string;
  /** @throws when the engine cannot answer; never retries for ever. */
  search(request: SearchRequest): Promise<SearchResult>;
  close(): Promise<void>;
}
