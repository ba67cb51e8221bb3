/** `collect.policy=queries`: the queries that a question brings are asked as they are, and what is wrong with one is said. */
import { describe, expect, it } from "vitest";
import type { Question } from "../../src/rl/trajectory.ts";
import type { AskedSearch } from "../../src/simulator/ask.ts";
import { queriesAsker } from "../../src/simulator/askers.ts";
import { messageOf } from "../helpers/message-of.ts";

const context = { key: { step: 0, question: 0, rollout: 0 }, signal: new AbortController().signal };

async function asked(queries: unknown): Promise<unknown[]> {
  const question = { id: "q1", question: "Where?", goldenAnswers: ["Asia"], dataSource: "t", metadata: { queries } } as Question;
  const searches: unknown[] = [];
  const search: AskedSearch = (query, about) => {
    searches.push([query, about?.answers]);
    return Promise.resolve({ documents: [], text: "" });
  };
  await queriesAsker(question, search, context);
  return searches;
}

describe("the queries of a question", () => {
  it("are asked in their order, with what each asks for where that is told", async () => {
    expect(await asked(["a", { query: "b", answers: ["c"] }, { query: "d" }])).toEqual([
      ["a", undefined],
      ["b", ["c"]],
      ["d", undefined],
    ]);
  });

  it.each<[unknown, RegExp]>([
    [undefined, /^question q1: has no queries to ask; .*got nothing/],
    [[], /^question q1: has no queries to ask; .*got \[\]/],
    ["a", /^question q1, metadata\.queries: is no list; .*got "a"/],
    [["a", ""], /^question q1, metadata\.queries\[1\]: is no query; .*got ""/],
    [[{ answers: [] }], /^question q1, metadata\.queries\[0\]: is no query; expected "a query", or \{ query: .*got \{"answers":\[\]\}$/],
    [[{ query: "a", answers: [] }], /queries\[0\]: has an empty list of answers; .*\n {2}Leave answers out where nobody knows them\.$/],
    [[{ query: "a", answers: "b" }], /queries\[0\]: has answers that are no list of texts/],
    [[{ query: "a", answers: [""] }], /queries\[0\]: has answers that are no list of texts/],
    [[{ query: "a", answer: "b" }], /queries\[0\]: holds "answer", which is none of query and answers; .*"b"\}$/],
    [[null], /queries\[0\]: is no query; .*got null/],
    [[["a"]], /queries\[0\]: is no query; .*got \["a"\]/],
  ])("that are %j are an error that says why, before any is asked", async (queries, message) => {
    expect(await messageOf(asked(queries))).toMatch(message);
  });
});
