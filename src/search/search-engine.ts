/** What every search engine, simulated or real, is to the agent. */
import type { TrajectoryKey } from "../generate/types.ts";
import type { DocumentKind, SearchDocument } from "../rl/trajectory.ts";
import { DataError, ServerError } from "../util/errors.ts";
import { callOwn, kindOf } from "../util/own-code.ts";

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

/** One whole page, by the `url` or `id` of a document. */
export interface PageRequest extends Omit<SearchRequest, "query"> {
  readonly address: string;
}

export interface SearchEngine {
  readonly name: string;
  /** @throws when the engine cannot answer; never retries for ever. */
  search(request: SearchRequest): Promise<SearchResult>;
  /** Null where it has none of that address. An engine without it has no pages. @throws as `search` */
  page?(request: PageRequest): Promise<SearchDocument | null>;
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

/** A page of an engine; null where it has none. @throws as `ask` */
export async function askPage(engine: Engine, request: PageRequest): Promise<SearchDocument | null> {
  if (!("search" in engine) || engine.page === undefined) return null;
  const where = `search engine ${engine.name}`;
  const page: unknown = await callOwn(where, () => engine.page?.(request), { signal: request.signal, Kind: ServerError });
  if (page === null || page === undefined) return null;
  if (typeof (page as Partial<SearchDocument>).text === "string") return page as SearchDocument;
  throw new DataError({ where, what: "its page has no text", expected: "{text}, or null", got: kindOf(page) });
}

/**
 * Asks an engine: a real one is not told question and answers.
 * @throws errors of ours as they are, others of the engine's as ServerError; DataError where it returns no list of documents.
 */
export async function ask(engine: Engine, request: SimulatorRequest): Promise<SearchResult> {
  const { question, goldenAnswers, ...told } = request;
  const where = `search engine ${engine.name}`;
  const search = (): Promise<unknown> =>
    "simulate" in engine ? engine.simulate({ ...told, question, goldenAnswers }) : engine.search(told);
  const result = (await callOwn(where, search, { signal: request.signal, Kind: ServerError })) as Partial<SearchResult> | null | undefined;
  const documents: unknown = result?.documents;
  const wrong = (what: string, expected: string, got: unknown): DataError => new DataError({ where, what, expected, got: kindOf(got) });
  if (!Array.isArray(documents)) throw wrong("its result holds no documents", "documents, a list of {text}", documents);
  const other = documents.findIndex((one) => typeof (one as SearchDocument | null | undefined)?.text !== "string");
  if (other >= 0) {
    const one = documents[other] as Partial<SearchDocument> | null | undefined;
    const what = `document ${other + 1} of its result has no text`;
    throw typeof one === "object" && one !== null && "text" in one
      ? wrong(what, "text, a text", one.text)
      : wrong(what, "{text}, a text", one);
  }
  // A module of the user's own may leave it out.
  const { kind = "real", text } = result as Partial<SearchResult>;
  if (!["useful", "noisy", "real"].includes(kind)) throw wrong("the kind of its result is none", "useful, noisy or real, or nothing", kind);
  if (!["undefined", "string"].includes(typeof text)) throw wrong("the text of its result is none", "a text, or nothing", text);
  return { ...(result as SearchResult), kind };
}
