/** What every search engine, simulated or real, is to the agent. */
import type { TrajectoryKey } from "../generate/types.ts";
import type { DocumentKind, SearchDocument } from "../rl/trajectory.ts";
import { DataError, ServerError, ZeroSearchError } from "../util/errors.ts";

export type { SearchDocument };

/** One search. */
export interface SearchRequest {
  readonly query: string;
  readonly key: TrajectoryKey;
  readonly turn: number;
  /** Fires when the result is no longer wanted: the engine gives back what it holds and rejects. */
  readonly signal?: AbortSignal;
}

/** What a simulator is told besides: question and answers of the rollout that asks. Golden answers reach simulators only. */
export interface SimulatorRequest extends SearchRequest {
  readonly question: string;
  readonly goldenAnswers: readonly string[];
}

export interface SearchResult {
  /** Best first. */
  readonly documents: readonly SearchDocument[];
  /** As a simulator wrote it: shown instead of `documents`, which are then a view of it. */
  readonly text?: string;
  readonly kind: DocumentKind;
  /** Of simulators. */
  readonly noiseProbability?: number;
}

export interface SearchEngine {
  readonly name: string;
  /** @throws when the engine cannot answer; never retries for ever. */
  search(request: SearchRequest): Promise<SearchResult>;
  close(): Promise<void>;
}

/** An engine that makes its documents up. */
export interface Simulator {
  readonly name: string;
  /** @throws as `SearchEngine.search` */
  simulate(request: SimulatorRequest): Promise<SearchResult>;
  /** The probability that a search of this step is answered with noise. */
  noiseProbability(step: number): number;
  close(): Promise<void>;
}

/** What `simulate` can be called on is a simulator. */
export type Engine = SearchEngine | Simulator;

/**
 * Asks an engine: a real one is not told question and answers.
 * @throws what the engine throws, an error of its own code as ServerError; DataError where it returns no list of documents.
 */
export async function ask(engine: Engine, request: SimulatorRequest): Promise<SearchResult> {
  const { question, goldenAnswers, ...told } = request;
  let result: SearchResult;
  try {
    result = await ("simulate" in engine ? engine.simulate({ ...told, question, goldenAnswers }) : engine.search(told));
  } catch (cause) {
    if (cause instanceof ZeroSearchError || request.signal?.aborted === true || "simulate" in engine) throw cause;
    throw new ServerError({ where: `search engine ${engine.name}`, what: `fails: ${String(cause)}` }, { cause });
  }
  const documents: unknown = (result as SearchResult | undefined)?.documents;
  if (!Array.isArray(documents) || documents.some((one) => typeof (one as SearchDocument | null)?.text !== "string"))
    throw new DataError({
      where: `search engine ${engine.name}`,
      what: "its result holds no documents",
      expected: "documents, a list of {text}",
      got: JSON.stringify(documents)?.slice(0, 80) ?? "nothing",
    });
  // A module of the user's own may leave it out.
  return (result.kind as string | undefined) === undefined ? { ...result, kind: "real" } : result;
}
