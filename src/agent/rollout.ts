/**
 * The multi-turn loop: one rollout is one asynchronous function over one growing sequence, so that a batch of them stays full by
 * itself: those that wait for documents wait, the others go on.
 *
 * Source: ZeroSearch (arXiv 2505.04588) 3.1. Ids that were sampled are trained on as they are, never decoded and encoded again.
 */
import type { Sequence } from "../generate/types.ts";
import type { Question, SearchRecord, SearchTrajectory, TrajectoryStatus } from "../rl/trajectory.ts";
import { generateUnlessAborted } from "../generate/sequence.ts";
import { boundResult, renderDocuments } from "../search/documents.ts";
import { ask, type SearchResult } from "../search/search-engine.ts";
import type { TextCodec } from "../text/prompt.ts";
import { abortReason } from "../util/abort.ts";
import { ConfigError, RequestError, ServerError, TooLongError } from "../util/errors.ts";
import { containsAnswer } from "../util/normalise-answer.ts";
import { cutTurn } from "./cut-turn.ts";
import { neutralise, type Action, type Dialect, type PromptValues } from "./dialects/dialect.ts";
import type { AgentSettings, MethodContext } from "./methods/method.ts";
import { promptIds } from "./prompts.ts";
import { Transcript } from "./transcript.ts";

/**
 * Answers one question with at most `maxTurns` searches or corrections, then one last generation in which a search is not executed.
 * Status: "answered" once an answer tag is closed; "length" when the context is full, or the last turn ran out of its budget;
 * "failed" at a search that failed for good, with `onSearchFailure` "leave-out"; "noAnswer" otherwise.
 * @throws RequestError when the prompt does not fit, and whatever the engine throws.
 */
export async function rollout(question: Question, dialect: Dialect, context: MethodContext): Promise<SearchTrajectory> {
  const { settings, tokenizer, key } = context;
  let sequence = open(dialect, { question: question.question }, context);
  try {
    const transcript = new Transcript(sequence.ids.length, key, settings.sampling);
    const finish = (status: TrajectoryStatus, answer: string | null = null): SearchTrajectory =>
      transcript.finish(sequence, question, status, answer);
    for (let turn = 0; ; turn++) {
      if (roomOf(sequence, settings) < 1) return finish("length");
      const { action, outOfTokens, kept } = await takeTurn(sequence, transcript, dialect, context);
      sequence = kept;
      if (action.kind === "answer") return finish("answered", action.text);
      if (action.kind === "invalid") transcript.invalidActions++;
      if (turn === settings.maxTurns) {
        // A fault of the released code: nobody reads the result.
        if (action.kind === "search" && settings.faults?.lastSearch === true)
          await askEngine(action.query, turn, question, dialect, context);
        return finish(outOfTokens ? "length" : "noAnswer");
      }
      const reply = await respond(action, turn, roomOf(sequence, settings), question, transcript, dialect, context);
      if (isLeftOut(transcript.searches, context)) return finish("failed");
      if (reply === null) return finish("length");
      sequence.append(reply);
      transcript.given(reply, tokenizer.decode(reply, { continuation: true }));
    }
  } finally {
    sequence.close();
  }
}

/** One generation from the dialect's prompt, without search: the direct and RAG baselines. `searches` were made for its `documents`. */
export async function answerOnce(
  question: Question,
  dialect: Dialect,
  context: MethodContext,
  { documents, searches = [] }: { readonly documents?: string; readonly searches?: readonly SearchRecord[] } = {},
): Promise<SearchTrajectory> {
  let sequence = open(dialect, { question: question.question, ...(documents === undefined ? {} : { documents }) }, context);
  try {
    const transcript = new Transcript(sequence.ids.length, context.key, context.settings.sampling);
    transcript.searches.push(...searches);
    if (isLeftOut(searches, context)) return transcript.finish(sequence, question, "failed", null);
    if (roomOf(sequence, context.settings) < 1) return transcript.finish(sequence, question, "length", null);
    const { action, outOfTokens, kept } = await takeTurn(sequence, transcript, dialect, context);
    sequence = kept;
    if (action.kind === "answer") return transcript.finish(sequence, question, "answered", action.text);
    transcript.invalidActions++;
    return transcript.finish(sequence, question, outOfTokens ? "length" : "noAnswer", null);
  } finally {
    sequence.close();
  }
}

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
  dialect: Pick<Dialect, "tags">,
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
  const text = neutralise(renderDocuments(result), dialect).trim();
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

/**
 * The ids of an observation, whose documents are neutralised here: at most `limit`, cut from the right but always closed, never inside a
 * character.
 * @throws ConfigError when the tags alone need more.
 */
export function observationIds(documents: string, dialect: Dialect, tokenizer: TextCodec, limit: number): number[] {
  const parts = dialect.observe(neutralise(documents, dialect));
  const whole = tokenizer.encodePrompt(parts);
  if (whole.length <= limit) return whole;
  const end = parts.findIndex(({ foreign }) => foreign) + 1;
  const close = tokenizer.encodePrompt(parts.slice(end));
  const frame = frameOf(dialect, tokenizer);
  if (limit < frame)
    throw new ConfigError({
      where: "rollout.maxObservationTokens",
      what: "too few tokens for the tags of an observation",
      expected: `${frame} or more`,
      got: String(limit),
    });
  const open = tokenizer.encodePrompt(parts.slice(0, end));
  let length = limit - close.length;
  while (length > frame - close.length && tokenizer.decode(open.slice(0, length), { continuation: true }).endsWith("\ufffd")) length--;
  return [...open.slice(0, length), ...close];
}

/** Tokens of what stands around an observation's documents. */
function frameOf(dialect: Dialect, tokenizer: TextCodec): number {
  const parts = dialect.observe("");
  const at = parts.findIndex(({ foreign }) => foreign);
  return tokenizer.encodePrompt(parts.slice(0, at)).length + tokenizer.encodePrompt(parts.slice(at + 1)).length;
}

function open(dialect: Dialect, values: PromptValues, context: MethodContext): Sequence {
  const { tokenizer, settings, prompts, key } = context;
  const { maxContextTokens = Infinity } = settings;
  const ids = promptIds(dialect, values, prompts, tokenizer);
  if (ids.length >= maxContextTokens) {
    throw new RequestError({
      where: `rollout of question ${key.question}`,
      what: "the prompt fills the whole rollout",
      expected: `fewer than ${maxContextTokens} tokens`,
      got: String(ids.length),
      hint: "Raise rollout.maxContextTokens.",
    });
  }
  return sequenceOf(ids, context);
}

/** A sequence that goes on from these ids: what it samples is a function of them, of seed and key alone. */
function sequenceOf(ids: readonly number[], { generator, settings, key }: MethodContext): Sequence {
  const { model, adapter, seed, purpose } = settings;
  return generator.open({ model, adapter, key, seed, purpose, turn: 0, prompt: ids });
}

/** Tokens that may still be added to a rollout. */
function roomOf(sequence: Sequence, { maxContextTokens = Infinity }: AgentSettings): number {
  return Math.min(sequence.room, maxContextTokens - sequence.ids.length);
}

interface Turn {
  readonly action: Action;
  /** The turn ended because its budget or the context did. */
  readonly outOfTokens: boolean;
  /** What goes on: the sequence that was given, or another in its place, where its last tokens were cut off. */
  readonly kept: Sequence;
}

async function takeTurn(sequence: Sequence, transcript: Transcript, dialect: Dialect, context: MethodContext): Promise<Turn> {
  const { settings, stops, tokenizer, signal } = context;
  const { noStops = false, dropEos = false } = settings.faults ?? {};
  const stop = stops(noStops ? [] : dialect.stops);
  const maxNewTokens = Math.min(settings.maxNewTokens, roomOf(sequence, settings));
  const sampled = await generateUnlessAborted(sequence, { stop, maxNewTokens, sampling: settings.sampling }, signal);
  const generated = noStops
    ? cutTurn(
        sampled,
        dialect.stops.map((text) => stops([text])),
      )
    : sampled;
  const text = tokenizer.decode(generated.ids, { continuation: true });
  transcript.sampled(generated, text, generated.ids.length - (dropEos && generated.reason === "eos" ? 1 : 0));
  const kept = withoutLast(sequence, sampled.ids.length - generated.ids.length, context);
  return { action: dialect.parse(text), outOfTokens: generated.reason === "length", kept };
}

/** The sequence without its last `count` ids: another one, which shares its cache, where there are any. */
function withoutLast(sequence: Sequence, count: number, context: MethodContext): Sequence {
  if (count === 0) return sequence;
  const shorter = sequenceOf(sequence.ids.slice(0, -count), context);
  sequence.close();
  return shorter;
}

/** What is appended after a turn that did not answer, or null when it would leave no room for a token of the policy. */
async function respond(
  action: Action,
  turn: number,
  room: number,
  question: Question,
  transcript: Transcript,
  dialect: Dialect,
  context: MethodContext,
): Promise<number[] | null> {
  const { tokenizer, settings } = context;
  let reply: number[];
  if (action.kind === "search") {
    // A search whose observation cannot fit is not made: nobody would read it.
    if (room <= frameOf(dialect, tokenizer)) return null;
    const record = await askEngine(action.query, turn, question, dialect, context);
    transcript.searches.push(record);
    reply = observationIds(record.text, dialect, tokenizer, settings.maxObservationTokens);
  } else {
    reply = tokenizer.encodePrompt(dialect.correction);
  }
  return reply.length < room ? reply : null;
}
