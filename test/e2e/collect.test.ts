/** `zerosearch collect`: searches that are kept, judged and made into examples; stopped and gone on with; and a simulator tuned on them. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { completion, openChatServer } from "../helpers/chat-server.ts";
import { buildIfStale, readRows, start, writeRows, type Ended, type StartOptions } from "../helpers/program.ts";
import { openSearchServer, status } from "../helpers/search-server.ts";
import { root, tinyQuickstart } from "../helpers/tiny-quickstart.ts";

let folder: string;
let models: string;
let asked: string[];
const zerosearch = (args: readonly string[], options?: StartOptions): Promise<Ended> =>
  start(process.execPath, [join(root, "bin", "zerosearch.js"), ...args], { cwd: folder, ...options });
const sets = ["collect.sets=sorted", "collect.documents=3", "bm25.documents=12", "simulator.prompt=quickstart"];
const rollouts = ["rollout.maxTurns=2", "rollout.maxNewTokens=40", "rollout.maxObservationTokens=110", "rollout.maxContextTokens=560"];
const collect = (to: string, settings: readonly string[], options?: StartOptions): Promise<Ended> =>
  zerosearch(["collect", ...asked, ...sets, ...rollouts, "device.kind=cpu", ...settings, "--to", to], options);
const text = (file: string): string => readFileSync(join(folder, file), "utf8");
const rows = (file: string) =>
  readRows(join(folder, file)) as { prompt: string; output: string; kind: string; query: string; question_id: string }[];

beforeAll(async () => {
  buildIfStale();
  models = await tinyQuickstart();
  folder = mkdtempSync(join(tmpdir(), "zerosearch-collect-"));
  const world = (name: string): string => join(models, "world", `${name}.jsonl`);
  asked = [
    `model.policy=${join(models, "policy")}`,
    "rollout.prompt=quickstart",
    `data.train=${world("train")}`,
    `data.corpus=${world("corpus")}`,
  ];
  const own = [0, 1, 2, 3].map((i) => ({
    id: `q${i}`,
    question: `Which region has land ${i}?`,
    golden_answers: ["Asia"],
    metadata: { queries: [`region of land ${i}`] },
  }));
  writeRows(join(folder, "own.jsonl"), own);
  writeRows(join(folder, "held.jsonl"), [{ id: "h", question: " WHICH region  has land 1 ", golden_answers: ["Asia"] }]);
  writeRows(join(folder, "more.jsonl"), [{ id: "m", question: "which region has land 2?", golden_answers: ["Asia"] }]);
  writeRows(
    join(folder, "passages.jsonl"),
    ["Asia has land 0.", "Land 0 is far.", "Land 3 is Asia.", "Region of seas.", "Land of the region."].map((passage, i) => ({
      id: String(i),
      text: passage,
    })),
  );
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("zerosearch collect", () => {
  it("stopped by Ctrl-C or killed, goes on by the same command to the same examples, and asks nothing twice", async () => {
    const settings = ["collect.questions=120", "collect.rollouts=4"];
    expect(await collect("whole.jsonl", settings)).toMatchObject({ code: 0, stderr: "" });
    for (const [signal, expected] of [
      ["SIGINT", 130],
      ["SIGKILL", null],
    ] as const) {
      const to = `after-${signal}.jsonl`;
      let sent = false;
      const stopped = await collect(to, settings, {
        onOutput(said, kill) {
          if (sent || !/searching \d+\/480/.test(said)) return;
          sent = true;
          kill(signal);
        },
      });
      expect(stopped.code).toBe(expected);
      expect(existsSync(join(folder, to))).toBe(false);
      const again = await collect(to, settings);
      expect([again.code, again.stderr]).toEqual([0, ""]);
      for (const file of [to, to.replace(".jsonl", ".validation.jsonl")])
        expect(text(file)).toBe(text(file.replace(`after-${signal}`, "whole")));
      const kept = readRows(join(folder, `${to}.collect`, "rollouts.jsonl"));
      expect(new Set(kept.map(({ index, rollout }) => `${String(index)}/${String(rollout)}`)).size).toBe(480);
      expect(kept).toHaveLength(480);
    }
  });

  it("keeps its searches: judged otherwise they are not asked again, searched otherwise they are refused", async () => {
    expect((await collect("kept.jsonl", ["collect.questions=30"])).code).toBe(0);
    const searched = text("kept.jsonl.collect/rollouts.jsonl");
    const before = text("kept.jsonl");
    expect((await collect("kept.jsonl", ["collect.questions=30"])).code).toBe(0);
    expect(text("kept.jsonl")).toBe(before);
    writeFileSync(join(folder, "kept.jsonl"), "mine\n");
    const there = await collect("kept.jsonl", ["collect.questions=30"]);
    expect(there.code).toBe(1);
    expect(there.stderr).toMatch(
      /kept\.jsonl is there already, and is not what this collection made\n.*kept\.jsonl\.collect, and is not asked again/,
    );
    rmSync(join(folder, "kept.jsonl"));
    const other = await collect("kept.jsonl", ["collect.questions=30", "rollout.maxTurns=1"]);
    expect(other.stderr).toMatch(/searches were made with other settings or files: rollout\.maxTurns was 2, now 1/);
    const shorter = await collect("kept.jsonl", ["collect.questions=30", "collect.maxWords=4", "collect.sets=returned"]);
    expect([shorter.code, shorter.stderr]).toEqual([0, ""]);
    expect(text("kept.jsonl.collect/rollouts.jsonl")).toBe(searched);
    for (const { output } of rows("kept.jsonl"))
      for (const line of output.split("\n")) expect(line.split(" ").length).toBeLessThanOrEqual(6);
  });

  it("leaves out questions that are evaluated, whatever their case and spaces", async () => {
    const files = ["data.train=own.jsonl", "data.test=held.jsonl", "collect.exclude=more.jsonl", "data.corpus=passages.jsonl"];
    const { code, stdout, stderr } = await collect("free.jsonl", [
      "collect.policy=queries",
      "collect.documents=2",
      "collect.validationShare=0",
      ...files,
    ]);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toContain("2 of 4 questions are searched for; 2 are kept for evaluation, and left out.");
    expect(new Set(rows("free.jsonl").map((one) => one.question_id))).toEqual(new Set(["q0", "q3"]));
    const none = await collect("none.jsonl", ["collect.policy=queries", ...files, "collect.exclude=own.jsonl"]);
    expect(none.stderr).toContain("all of its questions are in data.validation, data.test or collect.exclude");
    expect(readdirSync(folder).filter((name) => name.startsWith("none"))).toEqual([]);
  });

  it("takes a chat model as policy and another as judge, counts their tokens, and writes their keys nowhere", async () => {
    const [policyKey, judgeKey] = ["sk-of-the-policy", "sk-of-the-judge"];
    const policy = await openChatServer(({ body, path }) => {
      if (path.endsWith("/models")) return { body: { data: [{ id: "chatty" }] } };
      const { content } = body.messages.at(-1) as { content: string };
      // Servers leave out the stop that ended the text.
      if (body.messages.length === 1) return completion(`<think>hm</think>I look it up. <search> ${/land \d/.exec(content)?.[0] ?? ""}`);
      expect(content).toMatch(/^<information>Doc 1: .*<\/information>$/s);
      return completion("<answer> Asia");
    });
    const judge = await openChatServer(({ body, path }) => {
      if (path.endsWith("/models")) return { body: { data: [{ id: "judge" }] } };
      return completion(/Document: .*Asia/.test(body.messages[0].content as string) ? "useful" : "I would say noisy.");
    });
    try {
      const own = ["data.train=own.jsonl", "data.corpus=passages.jsonl", "collect.documents=2", "collect.validationShare=0"];
      const chat = ["collect.policy=endpoint", `collect.endpoint=${policy.endpoint}`, "collect.endpointKey=POLICY_KEY"];
      const judging = [
        "judge.kind=endpoint",
        `judge.endpoint=${judge.endpoint}`,
        "judge.endpointKey=JUDGE_KEY",
        "cost.policyPromptMillion=2",
      ];
      const env = { POLICY_KEY: policyKey, JUDGE_KEY: judgeKey };
      const ended = await collect("chat.jsonl", [...own, ...chat, ...judging, "rollout.prompt=paper"], { env });
      expect([ended.code, ended.stderr]).toEqual([0, ""]);
      expect(
        policy.asked
          .filter(({ path }) => path.endsWith("completions"))
          .every(({ headers }) => headers.authorization === `Bearer ${policyKey}`),
      ).toBe(true);
      expect(policy.asked.at(-1)!.body).toMatchObject({ model: "chatty", stop: ["</search>", "</answer>"] });
      expect(judge.asked.at(-1)!.body).not.toHaveProperty("stop");
      const report = JSON.parse(text("chat.jsonl.collect/report.json"));
      expect(report).toMatchObject({ rollouts: 4, rightAnswers: 1, searches: 4 });
      expect(report.counts).toMatchObject({ policy_requests: 8, policy_prompt_tokens: 800, policy_completion_tokens: 56 });
      const judged = judge.asked.filter(({ path }) => path.endsWith("completions")).length;
      expect(report.counts.judge_requests).toBe(judged);
      expect(report.counts.judge_prompt_tokens).toBe(100 * judged);
      expect(ended.stdout).toMatch(/^tokens read by the policy's endpoint +800 +2 USD \/ million +0\.002 USD$/m);
      expect(ended.stdout).toMatch(/^tokens read by the judge +[\d,]+ +-/m);
      expect(
        rows("chat.jsonl")
          .filter(({ kind }) => kind === "useful")
          .every(({ output }) => output.includes("Asia")),
      ).toBe(true);
      const written = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.startsWith("chat"));
      for (const name of written.filter((one) => /\.(jsonl?|yaml)$/.test(one) && !one.endsWith(".collect")))
        expect(text(name)).not.toMatch(new RegExp(`${policyKey}|${judgeKey}`));
      expect(ended.stdout).not.toMatch(new RegExp(`${policyKey}|${judgeKey}`));
    } finally {
      await policy.close();
      await judge.close();
    }
  });

  it("ends before the budget is exceeded, makes examples of what there is, and goes on with a larger one", async () => {
    const server = await openSearchServer(() => ({ json: { results: [{ body: "Asia it is." }, { body: "no." }, { body: "nor this." }] } }));
    try {
      writeFileSync(
        join(folder, "paid.yaml"),
        `vendor: https://a.example/\nchecked: "2026-11-30"\nverified: true\nprice: { perThousand: 10, currency: USD, page: "https://a.example/" }\nurl: ${server.url}\nmethod: POST\nbody: { query: "{query}" }\nreply: { results: results, text: body }\n`,
      );
      const paid = [
        "collect.policy=queries",
        "data.train=own.jsonl",
        "collect.documents=2",
        "collect.validationShare=0",
        "evaluation.engine=http",
        "http.api=./paid.yaml",
      ];
      const first = await collect("paid.jsonl", [...paid, "search.budget=0.025"]);
      expect([first.code, first.stderr]).toEqual([0, ""]);
      expect(first.stdout).toMatch(/one more search by .*paid.* would exceed it/);
      expect(first.stdout).toContain("going on with what there is.");
      expect(server.asked).toHaveLength(2);
      expect(new Set(rows("paid.jsonl").map((one) => one.question_id)).size).toBe(2);
      rmSync(join(folder, "paid.jsonl"));
      const second = await collect("paid.jsonl", [...paid, "search.budget=0.05"]);
      expect(second.code).toBe(0);
      expect(server.asked).toHaveLength(4);
      expect(second.stdout).toMatch(/^searches by paid +4 +10 USD \/ 1,000 +0\.040 USD$/m);
    } finally {
      await server.close();
    }
  });

  it("says beforehand what it would ask for and what that would cost, and asks for nothing", async () => {
    const priced = [
      "evaluation.engine=http",
      "http.api=tavily",
      "http.documents=10",
      "judge.kind=endpoint",
      "judge.endpoint=http://127.0.0.1:9/v1",
    ];
    const settings = [...priced, "cost.judgePromptMillion=1", "data.train=own.jsonl", "collect.rollouts=2", "collect.policy=model"];
    const { code, stdout, stderr } = await zerosearch(["collect", ...asked, ...rollouts, ...settings, "--dry-run"]);
    expect([code, stderr]).toEqual([0, ""]);
    // 4 questions, twice, at most two searches each.
    expect(stdout).toMatch(/^searches by tavily +8 USD \/ 1,000 +8 = 0\.064 USD +16 = 0\.128 USD$/m);
    expect(stdout).toMatch(/^tokens read by the judge +1 USD \/ million +[\d,]+ = 0\.\d+ USD/m);
    expect(readdirSync(folder).filter((name) => name.includes("undefined"))).toEqual([]);
  });

  it("refuses a method that does more than search and answer for a chat model behind an endpoint", async () => {
    const chat = ["collect.policy=endpoint", "collect.endpoint=http://127.0.0.1:9/v1", "data.train=own.jsonl"];
    const { code, stderr } = await collect("none.jsonl", [...chat, "rollout.method=search-o1"]);
    expect([code, stderr]).toEqual([1, expect.stringContaining("rollout.method: cannot search for collect.policy=endpoint")]);
  });

  it("asks an engine outside once for each query, whatever stops it: killed, at the end of its budget, or where searches fail", async () => {
    let failing = false;
    const server = await openSearchServer((one) => {
      const { query } = JSON.parse(one.text) as { query: string };
      if (failing && query.startsWith("second")) return status(400, "no");
      return (response) => {
        const results = [{ body: `${query}: Asia it is.` }, { body: `${query}: no.` }, { body: `${query}: nor this.` }];
        setTimeout(() => response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ results })), 150);
      };
    });
    try {
      const own = Array.from({ length: 12 }, (_, i) => ({
        ...{ id: `t${i}`, question: `Where is land ${i}?`, golden_answers: ["Asia"] },
        metadata: { queries: [`first ${i}`, `second ${i}`] },
      }));
      writeRows(join(folder, "twelve.jsonl"), own);
      writeFileSync(
        join(folder, "slow.yaml"),
        `vendor: https://a.example/\nchecked: "2026-11-30"\nverified: true\nprice: { perThousand: 10, currency: USD, page: "https://a.example/" }\nurl: ${server.url}\nmethod: POST\nbody: { query: "{query}" }\nreply: { results: results, text: body }\n`,
      );
      const asking = ["collect.policy=queries", "data.train=twelve.jsonl", "collect.documents=2", "collect.validationShare=0"];
      const settings = [...asking, "evaluation.engine=http", "http.api=./slow.yaml", "http.concurrency=2", "http.patience=0"];
      let sent = false;
      const killed = await collect("once.jsonl", [...settings, "search.budget=1"], {
        onOutput(_, kill) {
          if (sent) return;
          sent = true;
          setTimeout(() => kill("SIGKILL"), 900);
        },
      });
      expect(killed.signal).toBe("SIGKILL");
      const paid = server.asked.length;
      expect(paid).toBeGreaterThan(0);
      failing = true;
      const half = await collect("once.jsonl", [...settings, "search.budget=1", "search.onFailure=void"]);
      expect([half.code, half.stderr]).toEqual([0, ""]);
      failing = false;
      const whole = await collect("once.jsonl", [...settings, "search.budget=1", "search.onFailure=void"]);
      expect([whole.code, whole.stderr]).toEqual([0, ""]);
      expect(rows("once.jsonl").filter(({ kind }) => kind === "useful")).toHaveLength(24);
      const answered = server.asked.map((one) => (JSON.parse(one.text) as { query: string }).query);
      // At most those under way at the kill are asked again, and the twelve that failed.
      expect(answered.length).toBeLessThanOrEqual(24 + 2 + 12);
      expect(new Set(answered).size).toBe(24);
      // Those that were answered, the two under way at the kill perhaps once more.
      const told = Number(/^searches by slow +(\d+) /m.exec(whole.stdout)?.[1]);
      expect([24, 25, 26]).toContain(told);
    } finally {
      await server.close();
    }
  });

  it("takes a policy that is a module of one's own, and says whose fault its faults are", async () => {
    writeFileSync(
      join(folder, "mine.js"),
      `export default async ({ question }, search) => { const { documents } = await search(question.slice(-7)); return documents.length > 0 ? "Asia" : null; };\n`,
    );
    writeFileSync(join(folder, "broken.js"), `export default async () => { throw new Error("mine is broken"); };\n`);
    const own = ["data.train=own.jsonl", "data.corpus=passages.jsonl", "collect.documents=2", "collect.validationShare=0"];
    expect(await collect("mine.jsonl", [...own, "collect.policy=./mine.js"])).toMatchObject({ code: 0, stderr: "" });
    const broken = await collect("broken.jsonl", [...own, "collect.policy=./broken.js"]);
    expect(broken.code).toBe(1);
    expect(broken.stderr).toMatch(/collect\.policy=\.\/broken\.js on question q0: fails: mine is broken/);
  });

  it("judges with a model in this process, which comes after the policy has done its part", async () => {
    const judging = ["judge.kind=model", `judge.path=${join(models, "simulator")}`, "judge.maxNewTokens=4", "collect.questions=4"];
    const { stderr } = await collect("by-model.jsonl", judging);
    // The quickstart's simulator is no judge: it says neither word.
    expect(stderr).toContain("no search gave an example");
    const labels = readRows(join(folder, "by-model.jsonl.collect", "judged.jsonl"));
    expect(labels).toHaveLength(4);
    expect(labels.flatMap((one) => (one["labels"] as unknown[][]).flat()).every((label) => label === null)).toBe(true);
  });

  it("makes what a simulator learns from: its held-out loss falls", async () => {
    const base = [
      `model.policy=${join(models, "policy")}`,
      "sft.raw=true",
      "sft.tokensPerUpdate=512",
      "sft.learningRate=1e-3",
      "device.kind=cpu",
    ];
    const { code, stdout, stderr } = await zerosearch([
      "sft",
      ...base,
      "sft.data=whole.jsonl",
      "sft.validation=whole.validation.jsonl",
      "--to",
      "simulator",
    ]);
    expect([code, stderr]).toEqual([0, ""]);
    const before = Number(/^validation loss before: ([\d.]+)$/m.exec(stdout)![1]);
    const after = readRows(join(folder, "simulator.sft", "log.jsonl")).at(-1)!["validationLoss"];
    expect(after).toBeLessThan(before / 2);
  });
});

describe("zerosearch simulator report", () => {
  it("asks simulator and engine for the same queries, lets the policy answer with both, and says the same each time", async () => {
    const world = (name: string): string => join(models, "world", `${name}.jsonl`);
    const settings = [
      ...asked,
      ...rollouts,
      `simulator.path=${join(models, "simulator")}`,
      "simulator.prompt=quickstart",
      "simulator.documents=3",
    ];
    const judged = [
      `data.test=${world("test")}`,
      "evaluation.questions=12",
      "simulator.maxNewTokens=64",
      "bm25.documents=3",
      "device.kind=cpu",
    ];
    const report = (...more: string[]): Promise<Ended> => zerosearch(["simulator", "report", ...settings, ...judged, ...more]);
    const first = await report("--gap", "--json", "one.json", "--markdown", "one.md");
    expect([first.code, first.stderr]).toEqual([0, ""]);
    const read = JSON.parse(text("one.json"));
    expect(read.rows.map(({ set }: { set: string }) => set)).toEqual(["useful", "noisy", "sloppy", "real"]);
    expect(read.rows[0].n).toBe(12);
    expect(read.gap).toMatchObject({ n: 12 });
    expect(read.gap.difference).toBeCloseTo(read.gap.simulated - read.gap.real, 12);
    expect(read.setsPerSecond).toBeGreaterThan(0);
    expect(text("one.md")).toMatch(/^\| useful \| 12 \|/m);
    expect((await report("--json", "two.json")).code).toBe(0);
    expect(JSON.parse(text("two.json")).rows).toEqual(read.rows);
    const alone = await report("--no-engine");
    expect(alone.code).toBe(0);
    expect(alone.stdout).not.toContain("bm25  ");
  });

  it("takes the queries that a collection asked", async () => {
    const own = [
      ...asked,
      `simulator.path=${join(models, "simulator")}`,
      "simulator.prompt=quickstart",
      "simulator.documents=3",
      "simulator.maxNewTokens=64",
    ];
    const { code, stdout } = await zerosearch([
      "simulator",
      "report",
      ...own,
      "data.test=own.jsonl",
      "--no-engine",
      "--searches",
      "chat.jsonl.collect/rollouts.jsonl",
      "device.kind=cpu",
    ]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^useful +4 /m);
  });
});
