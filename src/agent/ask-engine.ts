/** A rollout's searches: asked with its own question, recorded, and shown without tags. */
import type { Question, SearchDocument, SearchRecord } from "../rl/trajectory.ts";
import { boundResult, renderDocuments } from "../search/documents.ts";
import { ask, askPage, type SearchResult } from "../search/search-engine.ts";
import { abortReason } from "../util/abort.ts";
import { ServerError, TooLongError } from "../util/errors.ts";
import { containsAnswer } from "../util/normalise-answer.ts";
import { neutralise, type Dialect } from "./dialects/dialect.ts";
import type { AgentSettings, MethodContext } from "./methods/method.ts";

/**
 * Characters of a search's documents for each token that an observation may have: many times what tokens hold, so that only what an observation
 * could never show is left out before it is read token by token.
 */
const charactersPerToken = 32;

/** What a search needs of its rollout. */
export type SearchContext = Pick<MethodContext, "engine" | "key" | "signal" | "rules" | "toldQuestion" | "onSearchFailure"> & {
  readonly settings: Pick<AgentSettings, "maxObservationTokens">;
};

/**
 * Searches for one rollout, with that rollout's own question and answers (but for compat.misalignedContext), and records it. Its text comes back neutralised. A search that is too
 * long for its engine, or fails for good where `onSearchFailure` is "void" or "leave-out", is recorded with its failure, and without documents.
 * @throws as `ask`
 */
export async function askEngine(
  query: string,
  turn: number,
  question: Question,
  dialect: Pick<Dialect, "tags" | "render">,
  { engine, key, signal, settings, rules, toldQuestion, onSearchFailure = "end" }: SearchContext,
): Promise<SearchRecord> {
  const told = toldQuestion !== undefined && "simulate" in engine ? await toldQuestion(turn) : question;
  if (signal?.aborted === true) throw abortReason(signal);
  const request = {
    query,
    question: told.question,
    goldenAnswers: told.goldenAnswers,
    key,
    turn,
    ...(signal === undefined ? {} : { signal }),
  };
  let failure: string | undefined;
  const found = await ask(engine, request).catch((error: unknown): SearchResult => {
    if (signal?.aborted === true) throw error;
    const isVoid = error instanceof TooLongError || (error instanceof ServerError && onSearchFailure !== "end");
    if (!isVoid) throw withWayOut(error);
    [failure] = error.message.split("\n");
    return { documents: [], kind: "simulate" in engine ? "noisy" : "real" };
  });
  const { result, leftOut } = boundResult(found, charactersPerToken * settings.maxObservationTokens);
  const { documents, kind, noiseProbability } = result;
  const text = neutralise(dialect.render?.(result) ?? renderDocuments(result), dialect).trim();
  return {
    turn,
    query,
    kind,
    ...(noiseProbability === undefined ? {} : { noiseProbability }),
    documents,
    text,
    containsGold: containsAnswer(text, question.goldenAnswers, rules),
    ...(told === question ? {} : { toldQuestion: told.id }),
    ...(failure === undefined ? {} : { failure }),
    ...(leftOut === 0 ? {} : { leftOut }),
  };
}

/**
 * The page of that address: a document that the rollout has found, else one that the engine has; null for neither. What fails for good is none, where
 * `onSearchFailure` is not "end".
 * @throws as `askPage`
 */
export async function fetchPage(
  address: string,
  turn: number,
  searches: readonly SearchRecord[],
  { engine, key, signal, onSearchFailure = "end" }: SearchContext,
): Promise<SearchDocument | null> {
  const found = searches.flatMap(({ documents }) => documents).find(({ url, id }) => address === url || address === id);
  if (found !== undefined) return found;
  return askPage(engine, { address, key, turn, ...(signal === undefined ? {} : { signal }) }).catch((error: unknown) => {
    if (signal?.aborted === true) throw error;
    if (error instanceof ServerError && onSearchFailure !== "end") return null;
    throw withWayOut(error);
  });
}

/** Whether a rollout with these searches is left out of what is learnt. */
export function isLeftOut(searches: readonly SearchRecord[], { onSearchFailure }: Pick<MethodContext, "onSearchFailure">): boolean {
  return onSearchFailure === "leave-out" && searches.some(({ failure }) => failure !== undefined);
}

/** A server's error, and that there is a setting for it. */
function withWayOut(error: unknown): unknown {
  if (!(error instanceof ServerError)) return error;
  const { hint, ...complaint } = error.complaint;
  const wayOut = "search.onFailure=void goes on without the results of a search that fails; leave-out, without its rollout.";
  return new ServerError({ ...complaint, hint: hint === undefined ? wayOut : `${hint}\n  ${wayOut}` }, { cause: error });
}
