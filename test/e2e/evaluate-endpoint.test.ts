/** `zerosearch evaluate` of a policy behind an OpenAI-compatible server, by every method. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { methods } from "../../src/agent/methods/index.ts";
import type { GridReport } from "../../src/evaluation/grid-report.ts";
import { openChatServer, type Asked, type ChatServer } from "../helpers/chat-server.ts";
import { buildIfStale, readRows, start, type Ended } from "../helpers/program.ts";
import { root } from "../helpers/tiny-quickstart.ts";

let folder: string;
let server: ChatServer;
const evaluate = (...args: string[]): Promise<Ended> =>
  start(process.execPath, [join(root, "bin", "zerosearch.js"), "evaluate", "--config", "judge.yaml", ...args], {
    cwd: folder,
    env: { ...process.env, POLICY_KEY: "secret-of-the-policy" },
  });

/** Searches once where it may, in whatever form it is asked for, and answers with the word before "sea" in what it was told. */
function speak({ body }: Asked): object {
  const {
    messages,
    tools,
    stop = [],
  } = body as { messages: { role: string; content: string | null }[]; tools?: object[]; stop?: string[] };
  const told = messages.map(({ content }) => content ?? "").join("\n");
  const sea = /the (\w+) Sea/.exec(told)?.[1];
  const first = messages.length === 1;
  const say = (content: string | null, more: object = {}): object => ({ message: { role: "assistant", content, ...more } });
  if (told.startsWith("**Task Instruction")) return say(`**Final Information**\n\nIt is the ${sea ?? "?"} Sea.`.replace("**F", "\n**F"));
  if (first && tools !== undefined)
    return say(null, { tool_calls: [{ id: "c1", type: "function", function: { name: "search", arguments: '{"query": "Avia sea"}' } }] });
  if (first && stop.includes("</search>")) return say("<search>Avia sea");
  if (first && stop.includes("<|end_search_query|>")) return say("<|begin_search_query|>Avia sea");
  return say(`I say <answer>${sea ?? "none"}</answer> \\boxed{${sea ?? "none"}}`);
}

beforeAll(async () => {
  buildIfStale();
  folder = mkdtempSync(join(tmpdir(), "zerosearch-endpoint-"));
  server = await openChatServer((asked) =>
    asked.path === "/v1/models"
      ? { body: { data: [{ id: "a-chat-model" }] } }
      : { body: { choices: [{ ...speak(asked), finish_reason: "stop" }], usage: { prompt_tokens: 1000, completion_tokens: 10 } } },
  );
  const row = { id: "1", question: "Which sea lies at Avia?", golden_answers: ["Amber"], data_source: "nq" };
  writeFileSync(join(folder, "test.jsonl"), `${JSON.stringify(row)}\n`);
  writeFileSync(join(folder, "corpus.jsonl"), `${JSON.stringify({ id: "p1", title: "Avia", text: "Avia lies at the Amber Sea." })}\n`);
  writeFileSync(
    join(folder, "judge.yaml"),
    `data: { test: test.jsonl, corpus: corpus.jsonl }\nevaluation: { endpoint: "${server.endpoint}", endpointKey: POLICY_KEY }\ncost: { policyPromptMillion: 2, policyCompletionMillion: 5 }\n`,
  );
});
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

describe("a policy behind an endpoint", () => {
  it("is judged by every method, with its own searches and passes, without a model or a device here", async () => {
    const names = Object.keys(methods);
    const { code, stdout, stderr } = await evaluate("--methods", names.join(","), "--out", "all");
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/^policy a-chat-model at http:\/\/127\.0\.0\.1:\d+\/v1 \| seed 1$/m);
    const { averages, rows } = JSON.parse(readFileSync(join(folder, "all", "evaluation.json"), "utf8")) as GridReport;
    expect(averages.map(({ method, em, searches, valid }) => [method, em, searches, valid])).toEqual(
      names.map((name) => {
        const searches = ["direct", "cot", "r1"].includes(name) ? 0 : 1;
        return [name, searches, searches, 1];
      }),
    );
    expect(rows[0]?.model).toBe("a-chat-model");
    // They say the same but for the second pass.
    const tokensOf = (name: string): number => averages.find(({ method }) => method === name)?.tokens ?? 0;
    expect(tokensOf("search-o1")).toBeGreaterThan(tokensOf("ra-agent"));
    const judged = readRows(join(folder, "all", "judged.jsonl")) as { method: string; asides?: { outcome: string }[]; text: string }[];
    expect(judged.find(({ method }) => method === "search-o1")?.asides?.[0]?.outcome).toBe("It is the Amber Sea.");
    // One request for each method, one more where it searches, and the second pass: 16 of 1,000 and 10 tokens.
    const asked = server.asked.filter(({ path }) => path !== "/v1/models");
    expect(asked).toHaveLength(3 + 1 + 5 * 2 + 1);
    expect(asked.every(({ headers }) => headers.authorization === "Bearer secret-of-the-policy")).toBe(true);
    expect(stdout).toMatch(/the policy's endpoint/);
    for (const file of ["settings.json", "judged.jsonl", "costs.json", "evaluation.json"])
      expect(readFileSync(join(folder, "all", file), "utf8")).not.toContain("secret-of-the-policy");
  });

  it("goes on in its folder, and refuses another server's", async () => {
    const before = server.asked.length;
    const again = await evaluate("--methods", Object.keys(methods).join(","), "--out", "all", "--resume");
    expect([again.code, again.stderr]).toEqual([0, ""]);
    // What it serves is asked; no question is.
    expect(server.asked.length - before).toBe(1);
    const other = await evaluate(
      "--methods",
      Object.keys(methods).join(","),
      "--out",
      "all",
      "--resume",
      "evaluation.endpointTurns=continued",
    );
    expect(other.code).toBe(1);
    expect(other.stderr).toContain("evaluation.endpointTurns");
  });

  it("is judged beside its baselines without the options of a table, too", async () => {
    const { code, stdout } = await evaluate("rollout.method=tools", "--out", "one");
    expect(code).toBe(0);
    expect(stdout).toMatch(/^tools +after +nq +1 +bm25 +1\.000/m);
  });

  it("cannot be trained, and says what it does not offer", async () => {
    const trained = await start(
      process.execPath,
      [join(root, "train.js"), "--config", "judge.yaml", "data.train=test.jsonl", "model.policy=x"],
      { cwd: folder },
    );
    expect([trained.code, trained.stderr]).toEqual([1, expect.stringContaining("evaluation.endpoint cannot be trained")]);
    const asked = await start(
      process.execPath,
      [join(root, "bin", "zerosearch.js"), "ask", "Why?", "--config", "judge.yaml", "model.policy=x"],
      {
        cwd: folder,
      },
    );
    expect([asked.code, asked.stderr]).toEqual([1, expect.stringContaining("evaluation.endpoint is never asked")]);
    // What is refused costs nothing that was judged before.
    const before = readFileSync(join(folder, "all", "judged.jsonl"), "utf8");
    const text = await evaluate("--methods", "tools", "--out", "all", "evaluation.endpointTurns=text");
    expect(readFileSync(join(folder, "all", "judged.jsonl"), "utf8")).toBe(before);
    expect([text.code, text.stderr]).toEqual([1, expect.stringContaining("no chat template to call tools by")]);
  });
});
