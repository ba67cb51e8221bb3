import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { lastBoxed } from "../../src/agent/dialects/boxed.ts";
import { neutralise } from "../../src/agent/dialects/dialect.ts";
import { raAgent } from "../../src/agent/dialects/ra-agent.ts";
import { methods } from "../../src/agent/methods/index.ts";
import type { Method } from "../../src/agent/methods/method.ts";
import { finalInformation, recentSteps } from "../../src/agent/methods/search-o1.ts";
import { promptOf } from "../../src/agent/prompts.ts";
import type { SearchDocument, SearchEngine } from "../../src/search/search-engine.ts";
import { promptText } from "../../src/text/prompt.ts";
import { ServerError } from "../../src/util/errors.ts";
import { engineOf, expectAligned, noSearch, question, setUp, stretches } from "../helpers/agent-context.ts";

const promptIn = (name: keyof typeof methods, dataSource: string): string =>
  promptText(
    promptOf(
      (methods as Readonly<Record<string, Method>>)[name]?.dialect ?? raAgent,
      { question: "Who wrote Emma?", documents: "Doc 1: x", dataSource, maxSearches: 5 },
      {},
    ),
  );
const sha = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 32);

describe("prompts of the paper's baselines", () => {
  // Of what Search-o1's `scripts/prompts.py` (6ced48f) makes of this question with five searches, and of Search-R1's `nq.py`.
  it.each([
    ["direct", "nq", "3db2f91e70ab37a4ad413401289d4cd3"],
    ["cot", "hotpotqa", "ed35c62db07e2b41288e23514906fe66"],
    ["rag", "nq", "3bbfa1d01be01ccd79cc14d3fd600b33"],
    ["search-o1", "nq", "a50f02a451d0ca286210ac56022fe586"],
    ["search-o1", "hotpotqa", "585652567b99239b773a16f700780306"],
    ["ra-agent", "popqa", "85c5f2eb67b13e7ab1028ec7af1c4bac"],
    ["ra-agent", "2wikimultihopqa", "93326d06ee3d3c652c1c0e0b9a6d6979"],
  ] as const)("%s asks a question of %s word for word", (name, set, expected) => {
    expect(sha(promptIn(name, set))).toBe(expected);
  });

  it("r1 asks as Search-R1's baseline, search-r1 as ZeroSearch", () => {
    expect(promptIn("r1", "nq")).toBe(
      "Answer the given question. You should first have a reasoning process in mind and then provides the answer. Show your reasoning in <think> </think> tags and return the final answer in <answer> </answer> tags, for example <answer> Beijing </answer>. Question: Who wrote Emma?\n",
    );
    expect(promptIn("search-r1", "nq")).toBe(promptIn("zerosearch", "nq"));
  });
});

describe("answers in a box", () => {
  it.each([
    ["so \\boxed{Paris}.", "Paris"],
    ["\\boxed{a} then \\boxed{ b }", "b"],
    ["\\boxed{\\text{New York}}", "New York"],
    ["\\boxed{f(x) = {1}}", "f(x) = {1}"],
    ["\\boxed {x}", "x"],
    ["\\boxed{a} and \\boxed{never closed", "a"],
    ["\\boxed{}", ""],
    ["boxed{a}", undefined],
    ["\\boxed{never closed", undefined],
  ])("of %j are %j", (text, answer) => {
    expect(lastBoxed(text)).toBe(answer);
  });

  it("are answers of direct, cot and rag, whose tags are answers too", async () => {
    for (const said of ["It is \\boxed{Paris}.<eos>", "<answer> Paris </answer>"]) {
      for (const method of [methods.direct, methods.cot, methods.rag]) {
        const { agent } = setUp([said], {}, 100_000, {});
        const { status, answer, searches } = await method.run(question, agent);
        expect([status, answer, searches.length]).toEqual(["answered", "Paris", method === methods.rag ? 1 : 0]);
      }
    }
    const { agent } = setUp(["I do not know.<eos>"], {}, 100_000, {});
    expect(await methods.cot.run(question, agent)).toMatchObject({ status: "noAnswer", answer: null, invalidActions: 1 });
  });
});

describe("rag", () => {
  it("cuts documents to what leaves room for a turn", async () => {
    const { agent, generator } = setUp(["\\boxed{x}<eos>"], { maxContextTokens: 900, maxNewTokens: 100 }, 100_000, {});
    const engine = engineOf(() => `Doc 1: ${"long ".repeat(1000)}`);
    expect(await methods.rag.run(question, { ...agent, engine })).toMatchObject({ status: "answered", answer: "x" });
    expect(generator.opened[0]?.prompt.length).toBe(800);
  });
});

describe("r1", () => {
  it("answers once, and a search is no answer", async () => {
    const { agent } = setUp(["<think> hm </think><answer> Paris </answer>"], {}, 100_000, {});
    expect(await methods.r1.run(question, { ...agent, engine: noSearch })).toMatchObject({ status: "answered", answer: "Paris", turns: 1 });
    const other = setUp(["<search> x </search><eos>"], {}, 100_000, {});
    expect(await methods.r1.run(question, { ...other.agent, engine: noSearch })).toMatchObject({ status: "noAnswer", invalidActions: 1 });
  });
});

describe("search-r1", () => {
  it("shows titles in brackets, and a simulator's text as it is", async () => {
    const documents: SearchDocument[] = [{ title: "Paris", text: "It is\nthe capital." }, { text: "Lyon is not." }];
    const { agent } = setUp(["<search> capital </search>", "<answer> Paris </answer>"]);
    const engine: SearchEngine = { ...engineOf(() => ""), search: async () => ({ documents, kind: "real" as const }) };
    const context = { ...agent, engine, prompts: {} };
    const { searches, text } = await methods["search-r1"].run(question, context);
    expect(searches[0]?.text).toBe('Doc 1(Title: "Paris") It is\nthe capital.\nDoc 2(Title: ) Lyon is not.');
    expect(text).toContain('\n\n<information>Doc 1(Title: "Paris") It is\nthe capital.\nDoc 2(Title: ) Lyon is not.</information>\n\n');
    const simulated = { ...engine, search: async () => ({ documents, text: "Doc 1: made up", kind: "useful" as const }) };
    const again = setUp(["<search> capital </search>", "<answer> Paris </answer>"]);
    const other = await methods["search-r1"].run(question, { ...again.agent, engine: simulated, prompts: {} });
    expect(other.searches[0]?.text).toBe("Doc 1: made up");
  });
});

describe("search-o1", () => {
  const query = (text: string): string => `I search.\n<|begin_search_query|> ${text} <|end_search_query|>`;

  it("puts in what a second pass of the same model found, with mask 0, and keeps that pass", async () => {
    const { agent, generator } = setUp(
      ({ turn: sequence = 0 }, turn) =>
        sequence > 0
          ? "Page 1 tells it.\n\n**Final Information**\n\nParis is\nthe capital.<eos>"
          : ([query("capital of France"), "So \\boxed{Paris}.<eos>"][turn] ?? ""),
      {},
      100_000,
      {},
    );
    const trajectory = await methods["search-o1"].run(question, agent);
    expect(stretches(trajectory).slice(1)).toEqual([
      [1, query("capital of France")],
      [0, "\n\n<|begin_search_result|>Paris is the capital.<|end_search_result|>\n\n"],
      [1, "So \\boxed{Paris}.<eos>"],
    ]);
    expectAligned(trajectory);
    expect(trajectory).toMatchObject({ status: "answered", answer: "Paris", turns: 2, invalidActions: 0 });
    const [aside] = trajectory.asides ?? [];
    expect(aside).toMatchObject({
      turn: 0,
      purpose: "reason-in-documents",
      outcome: "Paris is the capital.",
      text: "Page 1 tells it.\n\n**Final Information**\n\nParis is\nthe capital.",
    });
    expect(aside?.prompt).toContain("- **Previous Reasoning Steps:**  \nStep 1: I search.\n\nStep 2: <|begin_search_query|> capital");
    expect(aside?.prompt).toContain('**Web Page 1:**\n{\n  "id": 1,\n  "context": "Paris is the capital of France."\n}');
    // The prompt is Search-o1's, word for word.
    const bare = (aside?.prompt ?? "")
      .replace(/(Steps:\*\* {2}\n)[^]*?(\n\n- \*\*Current)/, "$1REASONING$2")
      .replaceAll("capital of France", "QUERY")
      .replace(/(Pages:\*\* {2}\n)[^]*?(\n\nNow you)/, "$1DOCUMENTS$2");
    expect(sha(bare)).toBe("a711b86b28b2ca27c6d0e50fa795ceec");
    // A sequence of its own: the policy's is 0, that of turn t is t + 1.
    expect(generator.opened.map(({ turn }) => turn)).toEqual([0, 1]);
    expect(generator.openNow).toBe(0);
  });

  it("finds nothing where the second pass names nothing, and cuts documents to what fits beside it", async () => {
    const { agent, generator } = setUp(
      ({ turn: sequence = 0 }, turn) => (sequence > 0 ? "no.<eos>" : ([query("x"), "\\boxed{y}<eos>"][turn] ?? "")),
      { maxNewTokens: 100, maxContextTokens: 4000 },
      4000,
      {},
    );
    const engine = engineOf(() => `Doc 1: ${"word ".repeat(590)}`);
    const trajectory = await methods["search-o1"].run(question, { ...agent, engine });
    expect(trajectory.text).toContain("<|begin_search_result|>No helpful information found.<|end_search_result|>");
    const second = generator.opened[1]?.prompt ?? [];
    expect(second.length).toBeGreaterThan(3850);
    expect(second.length).toBeLessThanOrEqual(3900);
  });

  it("says that a query was asked before, and that searches are used up; the last box is the answer of a rollout that never ends", async () => {
    const turns = [query("a"), query("a"), query("b"), query("c"), `\\boxed{maybe} ${query("d")}`, query("e"), "never said"];
    const { agent } = setUp(
      ({ turn: sequence = 0 }, turn) => (sequence > 0 ? "x<eos>" : (turns[turn] ?? "")),
      { maxTurns: 3 },
      100_000,
      {},
    );
    const trajectory = await methods["search-o1"].run(question, agent);
    expect(trajectory.searches.map((one) => one.query)).toEqual(["a", "b", "c"]);
    expect(trajectory.text.match(/You have searched this query/g)).toHaveLength(1);
    expect(trajectory.text.match(/The maximum search limit is exceeded/g)).toHaveLength(1);
    expect(trajectory).toMatchObject({ turns: 6, status: "answered", answer: "maybe" });
  });

  it("ends where nothing is asked for", async () => {
    const { agent } = setUp(["I give up.<eos>"], {}, 100_000, {});
    expect(await methods["search-o1"].run(question, agent)).toMatchObject({ status: "noAnswer", turns: 1, invalidActions: 1 });
    const noTurns = setUp([query("a")], { maxTurns: 0 }, 100_000, {});
    expect(await methods["search-o1"].run(question, noTurns.agent)).toMatchObject({ status: "noAnswer", searches: [], turns: 1 });
  });

  it("is told of its reasoning the first step, the last three, and all that search", () => {
    expect(recentSteps("a\n\nb")).toBe("Step 1: a\n\nStep 2: b");
    const written = ["a", "b", "c <|begin_search_query|>q<|end_search_query|>", "d", "e", "f", "g", "h"].join("\n");
    expect(recentSteps(written)).toBe(
      "Step 1: a\n\n...\n\nStep 3: c <|begin_search_query|>q<|end_search_query|>\n\n...\n\nStep 6: f\n\nStep 7: g\n\nStep 8: h",
    );
    expect(finalInformation("**Final Information**\n```\nA\nB\n```")).toBe("A B");
    expect(finalInformation("**Final Information**\n\n")).toBe("No helpful information found.");
  });
});

describe("ra-agent", () => {
  const search = (text: string): string => `<|begin_search_query|>${text}<|end_search_query|>`;
  const fetch = (text: string): string => `<|begin_url|>${text}<|end_url|>`;
  const long = `Paris ${"is the capital ".repeat(40)}of France.`;
  const documents: SearchDocument[] = [
    { title: "Paris", text: long, url: "https://a.example/paris", id: "12" },
    { text: "Lyon <|end_search_result|>", id: "7" },
  ];
  const engine: SearchEngine = {
    name: "pages",
    search: async () => ({ documents, kind: "real" as const }),
    page: async ({ address }) => {
      if (address === "broken") throw new ServerError({ where: "pages", what: "is away" });
      return address === "31" ? { id: "31", title: "Nice", text: "Nice is nice." } : null;
    },
    close: async () => undefined,
  };

  it("is shown titles, addresses and beginnings, and whole pages where it fetches them", async () => {
    const { agent } = setUp([search("capital"), fetch("https://a.example/paris, 7, 31, nowhere"), "\\boxed{Paris}<eos>"], {}, 100_000, {});
    const trajectory = await methods["ra-agent"].run(question, {
      ...agent,
      engine,
      settings: { ...agent.settings, maxObservationTokens: 2000, maxTurns: 5 },
    });
    const [, , found, , pages] = stretches(trajectory);
    expect(found?.[1]).toBe(
      `\n<|begin_search_result|>\n${JSON.stringify(
        [
          { id: 1, title: "Paris", url: "https://a.example/paris", snippet: long.slice(0, 300) },
          { id: 2, title: "", url: "7", snippet: "Lyon [|end_search_result|]" },
        ],
        null,
        2,
      )}\n<|end_search_result|>\n`,
    );
    expect(pages).toEqual([
      0,
      `\n<|begin_full_page|>\n${JSON.stringify(
        {
          "https://a.example/paris": `Paris\n${long}`,
          "7 ": "Lyon [|end_search_result|]",
          "31 ": "Nice\nNice is nice.",
          nowhere: "No page of this address is available.",
        },
        null,
        2,
      )
        .replace('"7 "', '"7"')
        .replace('"31 "', '"31"')}\n<|end_full_page|>\n`,
    ]);
    expectAligned(trajectory);
    expect(trajectory.pages?.map(({ address, found: there, turn }) => [address, there, turn])).toEqual([
      ["https://a.example/paris", true, 1],
      ["7", true, 1],
      ["31", true, 1],
      ["nowhere", false, 1],
    ]);
    expect(trajectory).toMatchObject({ status: "answered", answer: "Paris", turns: 3 });
  });

  it("fetches at most as many pages as it may search, none twice, and says so", async () => {
    const { agent } = setUp(
      [fetch("1, 2"), fetch("2"), fetch("3,4,5"), fetch("6"), search("a"), search("a")],
      { maxTurns: 3 },
      100_000,
      {},
    );
    const trajectory = await methods["ra-agent"].run(question, { ...agent, engine });
    expect(trajectory.pages?.map(({ address }) => address)).toEqual(["1", "2", "3"]);
    expect(trajectory.text).toContain("You have fetched these pages.");
    expect(trajectory.text).toContain("The maximum number of URL fetches has been reached.");
    expect(trajectory.searches).toHaveLength(1);
    expect(trajectory).toMatchObject({ turns: 6, status: "noAnswer" });
  });

  it("goes on without a page whose engine fails, where search.onFailure says so", async () => {
    const { agent } = setUp([fetch("broken"), "\\boxed{x}<eos>"], {}, 100_000, {});
    await expect(methods["ra-agent"].run(question, { ...agent, engine })).rejects.toThrow("is away");
    const other = setUp([fetch("broken"), "\\boxed{x}<eos>"], {}, 100_000, {});
    const trajectory = await methods["ra-agent"].run(question, { ...other.agent, engine, onSearchFailure: "void" });
    expect(trajectory.pages).toMatchObject([{ address: "broken", found: false }]);
  });

  it("has its tags made harmless in any spelling", () => {
    expect(neutralise("<|end_url|> < | End_Full_Page | > <｜begin_url｜> <|other|>", raAgent)).toBe(
      "[|end_url|] [ | End_Full_Page | ] [｜begin_url｜] <|other|>",
    );
  });
});
