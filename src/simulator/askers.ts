/** Who searches, besides a policy in this process: a chat model at an endpoint, or the queries that a question brings. */
import type { Dialect } from "../agent/dialects/dialect.ts";
import { neutralise } from "../agent/dialects/dialect.ts";
import { promptOf, type PromptSettings } from "../agent/prompts.ts";
import { z } from "zod";
import type { ChatClient, ChatMessageText } from "../search/chat-client.ts";
import { spelled } from "../search/endpoint.ts";
import { partsOf } from "../text/prompt.ts";
import { withoutThoughts } from "../text/thinking.ts";
import { DataError, show } from "../util/errors.ts";
import { philox, streamKey, uniform } from "../util/philox.ts";
import type { Asker } from "./ask.ts";

export interface ChatAskerOptions {
  readonly client: Pick<ChatClient, "complete">;
  readonly dialect: Dialect;
  readonly prompts: PromptSettings;
  readonly maxTurns: number;
  readonly maxNewTokens: number;
  readonly temperature: number;
  readonly topP: number;
  /** Characters of an observation. */
  readonly maxCharacters: number;
  readonly seed: number;
}

/**
 * A chat model that is asked as a policy is: the dialect's prompt is the user's first message, what it searched for comes back as the next one. It
 * answers after `maxTurns` searches or not at all. @throws what the client and the engine throw
 */
export function chatAsker({ client, dialect, prompts, maxTurns, maxCharacters, seed, ...sampling }: ChatAskerOptions): Asker {
  return async ({ question }, search, { key, signal }) => {
    const messages: ChatMessageText[] = [{ role: "user", content: spelled(partsOf(promptOf(dialect, { question }, prompts))) }];
    for (let turn = 0; turn <= maxTurns; turn++) {
      const [word, ...own] = philox(streamKey(seed, "policySample"), [key.step, key.question, key.rollout, turn]);
      const said = await client.complete({
        messages,
        maxTokens: sampling.maxNewTokens,
        temperature: sampling.temperature,
        topP: sampling.topP,
        topK: 0,
        stop: dialect.stops,
        seed: word >>> 1,
        jitter: (n) => uniform([own[0], own[1]], [n, 0, 0, 0]),
        signal,
      });
      const text = closed(withoutThoughts(said) ?? "", dialect);
      const action = dialect.parse(text);
      if (action.kind === "answer") return action.text;
      if (turn === maxTurns) return null;
      const reply =
        action.kind === "search"
          ? dialect.observe(neutralise((await search(action.query)).text.slice(0, maxCharacters), dialect))
          : dialect.correction;
      messages.push({ role: "assistant", content: text }, { role: "user", content: spelled(reply).trim() });
    }
    return null;
  };
}

/** A text with the tag that ended it, which servers leave out. */
function closed(text: string, dialect: Dialect): string {
  if (dialect.parse(text).kind !== "invalid") return text;
  const whole = dialect.stops.map((stop) => text + stop).find((one) => dialect.parse(one).kind !== "invalid");
  return whole ?? text;
}

const querySchema = z.union([
  z.string().min(1),
  z.strictObject({ query: z.string().min(1), answers: z.array(z.string().min(1)).min(1).optional() }),
]);

/** Asks what `metadata.queries` of a question holds: a list of queries, or of {query, answers} with what the query itself asks for. @throws DataError where there is none */
export const queriesAsker: Asker = async ({ id, metadata }, search) => {
  const given = metadata?.["queries"];
  if (given === undefined || given === null || (Array.isArray(given) && given.length === 0))
    throw new DataError({
      where: `question ${id}`,
      what: "has no queries to ask",
      expected: 'metadata: { queries: ["a query", { query: "another", answers: ["what it asks for"] }] }',
      got: show(given),
      hint: "collect.policy=queries takes them from the questions; collect.policy=model lets a policy write them.",
    });
  const queries = Array.isArray(given) ? given.map((one, place) => queryIn(one, `question ${id}, metadata.queries[${place}]`)) : null;
  if (queries === null)
    throw new DataError({ where: `question ${id}, metadata.queries`, what: "is no list", expected: '["a query", ...]', got: show(given) });
  for (const one of queries) {
    if (typeof one === "string") await search(one);
    else await search(one.query, one.answers === undefined ? {} : { answers: one.answers });
  }
  return null;
};

/** @throws DataError that says what is wrong with it */
function queryIn(one: unknown, where: string): z.output<typeof querySchema> {
  const read = querySchema.safeParse(one);
  if (read.success) return read.data;
  const isObject = typeof one === "object" && one !== null && !Array.isArray(one);
  const { query, answers } = isObject ? (one as { query?: unknown; answers?: unknown }) : { query: one };
  const hasQuery = typeof query === "string" && query !== "";
  const isEmpty = Array.isArray(answers) && answers.length === 0;
  const unknown = isObject ? Object.keys(one).find((name) => name !== "query" && name !== "answers") : undefined;
  throw new DataError({
    where,
    what: !hasQuery
      ? "is no query"
      : unknown !== undefined
        ? `holds ${show(unknown)}, which is none of query and answers`
        : isEmpty
          ? "has an empty list of answers"
          : "has answers that are no list of texts",
    expected: '"a query", or { query: "a query", answers: ["what it asks for"] }',
    got: show(one),
    hint: hasQuery && unknown === undefined ? "Leave answers out where nobody knows them." : undefined,
  });
}
