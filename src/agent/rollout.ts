/**
 * The multi-turn loop: one rollout is one asynchronous function over one growing sequence, so that a batch of them stays full by
 * itself: those that wait for documents wait, the others go on.
 *
 * Source: ZeroSearch (arXiv 2505.04588) 3.1. Ids that were sampled are trained on as they are, never decoded and encoded again.
 */
import type { Generated, Sequence } from "../generate/types.ts";
import type { Aside, PageRecord, Question, SearchRecord, SearchTrajectory, TrajectoryStatus } from "../rl/trajectory.ts";
import { generateUnlessAborted } from "../generate/sequence.ts";
import { RequestError } from "../util/errors.ts";
import { askEngine, isLeftOut } from "./ask-engine.ts";
import { cutTurn } from "./cut-turn.ts";
import type { Action, Dialect, PromptValues } from "./dialects/dialect.ts";
import type { AgentSettings, MethodContext } from "./methods/method.ts";
import { frameOf, observationIds } from "./observation.ts";
import { promptIds } from "./prompts.ts";
import { Transcript } from "./transcript.ts";

/** What a rollout has been so far. What its method does is pushed into it. */
export interface RolloutSoFar {
  readonly searches: SearchRecord[];
  readonly pages: PageRecord[];
  readonly asides: Aside[];
  /** Policy text, observations and corrections in order. */
  readonly text: string;
}

/** A turn that did not answer, for whoever makes a reply to it. */
export interface OpenTurn {
  readonly action: Exclude<Action, { readonly kind: "answer" }>;
  /** From 0. */
  readonly turn: number;
  /** How the turn ended: its last id may be an end of sequence. */
  readonly generated: Generated;
  /** Tokens so far, of all that the rollout may have. */
  readonly used: number;
  /** Tokens that may still be added, the policy's next ones included. */
  readonly room: number;
  readonly transcript: RolloutSoFar;
}

/** Ids that are appended; "full" where they would leave no room for a token of the policy; "end" where nothing is to come. */
export type Reply = readonly number[] | "full" | "end";

export interface ConverseOptions {
  /** Turns that are replied to; one last one follows. */
  readonly turns: number;
  readonly respond: (turn: OpenTurn) => Promise<Reply>;
  /** The answer in all that the policy wrote, where its last turn has none. */
  readonly answerIn?: (written: string) => string | undefined;
  /** What is done after the last turn. */
  readonly onLast?: (turn: OpenTurn) => Promise<void>;
}

/**
 * Answers one question with at most `maxTurns` searches or corrections, then one last generation in which a search is not executed.
 * Status: "answered" once an answer tag is closed; "length" when the context is full, or the last turn ran out of its budget;
 * "failed" at a search that failed for good, with `onSearchFailure` "leave-out"; "noAnswer" otherwise.
 * @throws RequestError when the prompt does not fit, and whatever the engine throws.
 */
export async function rollout(question: Question, dialect: Dialect, context: MethodContext): Promise<SearchTrajectory> {
  const { settings } = context;
  return converse(question, dialect, context, {
    turns: settings.maxTurns,
    respond: (turn) => respond(turn, question, dialect, context),
    // A fault of the released code: nobody reads the result.
    onLast: async ({ action, turn }) => {
      if (action.kind === "search" && settings.faults?.lastSearch === true) await askEngine(action.query, turn, question, dialect, context);
    },
  });
}

/** The loop itself, with replies of one's own. @throws as `rollout` */
export async function converse(
  question: Question,
  dialect: Dialect,
  context: MethodContext,
  { turns, respond, answerIn, onLast }: ConverseOptions,
): Promise<SearchTrajectory> {
  const { settings, tokenizer, key } = context;
  let sequence = open(dialect, valuesOf(question, context), context);
  try {
    const transcript = new Transcript(sequence.ids.length, key, settings.sampling);
    const finish = (status: TrajectoryStatus, answer: string | null = null): SearchTrajectory => {
      const late = answer === null && status !== "failed" ? answerIn?.(transcript.written) : undefined;
      return late === undefined
        ? transcript.finish(sequence, question, status, answer)
        : transcript.finish(sequence, question, "answered", late);
    };
    for (let turn = 0; ; turn++) {
      if (roomOf(sequence, settings) < 1) return finish("length");
      const { action, generated, kept } = await takeTurn(sequence, transcript, dialect, context);
      sequence = kept;
      if (action.kind === "answer") return finish("answered", action.text);
      if (isInvalid(action)) transcript.invalidActions++;
      const taken: OpenTurn = { action, turn, generated, used: sequence.ids.length, room: roomOf(sequence, settings), transcript };
      if (turn === turns) {
        await onLast?.(taken);
        return finish(generated.reason === "length" ? "length" : "noAnswer");
      }
      const reply = await respond(taken);
      if (isLeftOut(transcript.searches, context)) return finish("failed");
      if (reply === "full") return finish("length");
      if (reply === "end") return finish(generated.reason === "length" ? "length" : "noAnswer");
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
  let sequence = open(dialect, { ...valuesOf(question, context), ...(documents === undefined ? {} : { documents }) }, context);
  try {
    const transcript = new Transcript(sequence.ids.length, context.key, context.settings.sampling);
    transcript.searches.push(...searches);
    if (isLeftOut(searches, context)) return transcript.finish(sequence, question, "failed", null);
    if (roomOf(sequence, context.settings) < 1) return transcript.finish(sequence, question, "length", null);
    const { action, generated, kept } = await takeTurn(sequence, transcript, dialect, context);
    sequence = kept;
    if (action.kind === "answer") return transcript.finish(sequence, question, "answered", action.text);
    transcript.invalidActions++;
    return transcript.finish(sequence, question, generated.reason === "length" ? "length" : "noAnswer", null);
  } finally {
    sequence.close();
  }
}

/** A call that cannot be made counts as a turn that asked for nothing. */
function isInvalid(action: Action): boolean {
  return action.kind === "invalid" || (action.kind === "calls" && action.calls.some((call) => "problem" in call));
}

/** What a prompt is told of a question. */
export function valuesOf({ question, dataSource }: Question, { settings }: Pick<MethodContext, "settings">): PromptValues {
  return { question, dataSource, maxSearches: settings.maxTurns };
}

/** Ids that are appended, if they leave room for a token of the policy. */
export function fitting(ids: readonly number[], room: number): Reply {
  return ids.length < room ? ids : "full";
}

/** What is appended after a turn that searched once, or asked for nothing. */
export async function respond(
  { action, turn, room, transcript }: OpenTurn,
  question: Question,
  dialect: Dialect,
  context: MethodContext,
): Promise<Reply> {
  const { tokenizer, settings } = context;
  if (action.kind !== "search") return fitting(tokenizer.encodePrompt(dialect.correction), room);
  // A search whose observation cannot fit is not made: nobody would read it.
  if (room <= frameOf((text) => dialect.observe(text), tokenizer)) return "full";
  const record = await askEngine(action.query, turn, question, dialect, context);
  transcript.searches.push(record);
  return fitting(observationIds(record.text, dialect, tokenizer, settings.maxObservationTokens), room);
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

/** A sequence that goes on from these ids: what it samples is a function of them, of seed and key alone. `turn` tells others of one rollout apart. */
export function sequenceOf(ids: readonly number[], { generator, settings, key }: MethodContext, turn = 0): Sequence {
  const { model, adapter, seed, purpose } = settings;
  return generator.open({ model, adapter, key, seed, purpose, turn, prompt: ids });
}

/** Tokens that may still be added to a rollout. */
function roomOf(sequence: Sequence, { maxContextTokens = Infinity }: AgentSettings): number {
  return Math.min(sequence.room, maxContextTokens - sequence.ids.length);
}

interface Turn {
  readonly action: Action;
  readonly generated: Generated;
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
  return { action: dialect.parse(text), generated, kept };
}

/** The sequence without its last `count` ids: another one, which shares its cache, where there are any. */
function withoutLast(sequence: Sequence, count: number, context: MethodContext): Sequence {
  if (count === 0) return sequence;
  const shorter = sequenceOf(sequence.ids.slice(0, -count), context);
  sequence.close();
  return shorter;
}
