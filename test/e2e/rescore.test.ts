/** `zerosearch rescore`: what a run or an evaluation stored, scored by another metric, a module or a model. */
import { appendFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { GridReport } from "../../src/evaluation/grid-report.ts";
import type { JudgedRow } from "../../src/evaluation/judge.ts";
import type { RescoredRow } from "../../src/evaluation/rescore.ts";
import { completion, openChatServer } from "../helpers/chat-server.ts";
import { evaluationFolder, wholeTable } from "../helpers/evaluation-folder.ts";
import { readRows, start, writeRows, type Ended } from "../helpers/program.ts";
import { root } from "../helpers/tiny-quickstart.ts";

let folder: string;
const zerosearch = (...args: string[]): Promise<Ended> =>
  start(process.execPath, [join(root, "bin", "zerosearch.js"), ...args], { cwd: folder });
const report = (name: string): GridReport => JSON.parse(readFileSync(join(folder, name, "evaluation.json"), "utf8")) as GridReport;

beforeAll(async () => {
  folder = await evaluationFolder();
  expect((await zerosearch("evaluate", ...wholeTable, "--out", "whole")).code).toBe(0);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("zerosearch rescore", () => {
  const rescore = (...args: string[]): Promise<Ended> => zerosearch("rescore", ...args);
  const tables = (file: string): Record<string, RescoredRow[]> =>
    JSON.parse(readFileSync(join(folder, file), "utf8")) as Record<string, RescoredRow[]>;

  it("finds the stored scores again, and means that are those of evaluation.json", async () => {
    const { code, stdout, stderr } = await rescore("whole", "--metric", "f1", "--json", "f1.json");
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/^method +when +questions +engine +n +f1 +95 % +stored f1 +difference +changed$/m);
    const { judged = [] } = tables("f1.json");
    expect(judged.map(({ n, changed, difference, failed }) => [n, changed, difference, failed])).toEqual(
      report("whole").rows.map(({ n }) => [n, 0, 0, 0]),
    );
    for (const { group, mean } of judged)
      expect(mean).toBe(
        report("whole").rows.find(
          ({ method, engine, dataset }) => method === group["method"] && engine === group["engine"] && dataset === group["questions"],
        )?.f1,
      );
  });

  it("scores by a module of one's own, says which rollouts failed, and writes a line for each", async () => {
    writeFileSync(
      join(folder, "short.mjs"),
      "export default function short({ answer, question }) {\n  if (question.dataSource === 'nq') throw new Error('not these');\n  return answer === null ? 0 : 1 / answer.length;\n}\n",
    );
    const { code, stderr } = await rescore(
      "whole",
      "--metric",
      "./short.mjs",
      "--json",
      "short.json",
      "--rows",
      "short.jsonl",
      "reward.normalizer=unicode",
    );
    expect([code, stderr]).toEqual([0, ""]);
    const rows = readRows(join(folder, "short.jsonl")) as {
      dataSource: string;
      answer: string | null;
      score: number | null;
      stored: number | null;
    }[];
    expect(rows.length).toBe(5 * 22);
    for (const { dataSource, answer, score, stored } of rows)
      expect([score, stored]).toEqual([dataSource === "nq" ? null : answer === null ? 0 : 1 / answer.length, null]);
    const { judged = [] } = tables("short.json");
    expect(judged.map(({ group, failed }) => (group["questions"] === "nq") === (failed === 10))).toEqual(judged.map(() => true));
  });

  it("scores the rollouts of a run beside what they were paid, a stretch of steps at a time", async () => {
    mkdirSync(join(folder, "runs", "old"), { recursive: true });
    const rows = readRows(join(folder, "whole", "judged.jsonl")).slice(0, 40);
    const paid = rows.map((row, i) => ({ ...row, step: 1 + Math.floor(i / 2), reward: i % 4 === 0 ? null : row["f1"], advantage: 0 }));
    writeRows(join(folder, "runs", "old", "rollouts.jsonl"), paid);
    appendFileSync(join(folder, "runs", "old", "rollouts.jsonl"), '{"step":21,"rew');
    const { code, stdout, stderr } = await rescore("old", "--metric", "f1", "--json", "old.json");
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/^steps +n +f1 +95 % +stored reward \(f1\) +difference +changed$/m);
    const { rollouts = [] } = tables("old.json");
    expect(rollouts.map(({ group, n, changed }) => [group["steps"], n, changed])).toEqual(
      Array.from({ length: 10 }, (_, i) => [`${2 * i + 1}-${2 * i + 2}`, 4, 0]),
    );
    // A run may be writing it.
    expect(readFileSync(join(folder, "runs", "old", "rollouts.jsonl"), "utf8").endsWith('{"step":21,"rew')).toBe(true);
  });

  it("asks a model behind an endpoint, once for each answer, and says how far it agrees with EM and what it cost", async () => {
    const rows = readRows(join(folder, "whole", "judged.jsonl")) as unknown as JudgedRow[];
    const golden = new Map(rows.map(({ question }) => [question.question, question.goldenAnswers]));
    // Grades as exact match does, but calls one answer right that is wrong.
    const favourite = rows.find(({ em, answer }) => em === 0 && answer !== null)?.answer?.trim();
    const server = await openChatServer(({ body, path }) => {
      if (path.endsWith("/models")) return { body: { data: [{ id: "judge" }] } };
      const prompt = String((body as { messages: { content: string }[] }).messages[0]?.content);
      const [, question = "", answer = ""] = /Question: (.*)\nGolden answers: .*\nAnswer to grade: (.*)\n/.exec(prompt) ?? [];
      return completion(
        answer.trim() === favourite || golden.get(question)?.includes(answer.trim()) === true ? "Right." : "That is wrong.",
      );
    });
    try {
      const { code, stdout, stderr } = await rescore(
        "whole",
        "--metric",
        "judge",
        "--rows",
        "graded.jsonl",
        "judge.kind=endpoint",
        `judge.endpoint=${server.endpoint}`,
        "cost.judgePromptMillion=5",
      );
      expect([code, stderr]).toEqual([0, ""]);
      const answers = new Set(
        rows.filter(({ answer }) => answer !== null).map(({ question, answer }) => `${question.question}/${answer ?? ""}`),
      );
      expect(server.asked.length - 1).toBe(answers.size);
      const alone = rows.filter(({ answer, em }) => answer?.trim() === favourite && em === 0).length;
      expect(alone).toBeGreaterThan(0);
      expect(stdout).toContain(
        `The judge agrees with EM on ${110 - alone} of 110 answers (${((100 * (110 - alone)) / 110).toFixed(1)} %).`,
      );
      expect(stdout).toMatch(
        new RegExp(`^tokens read by the judge +${(100 * answers.size).toLocaleString("en-US")} +5 USD / million`, "m"),
      );
      const graded = readRows(join(folder, "graded.jsonl")) as { answer: string | null; score: number; stored: number }[];
      for (const { answer, score, stored } of graded) expect(score).toBe(answer?.trim() === favourite ? 1 : stored);
    } finally {
      await server.close();
    }
    const away = await rescore(
      "whole",
      "--metric",
      "judge",
      "judge.kind=endpoint",
      `judge.endpoint=${server.endpoint}`,
      "judge.endpointPatience=0",
    );
    expect([away.code, away.stderr.includes("judge.endpoint")]).toEqual([1, true]);
  });

  it("keeps a judge's replies, and asks only for those that are missing", async () => {
    const rows = readRows(join(folder, "whole", "judged.jsonl")) as unknown as JudgedRow[];
    const answers = new Set(
      rows.filter(({ answer }) => answer !== null).map(({ question, answer }) => `${question.question}/${answer ?? ""}`),
    ).size;
    let credit = 7;
    const server = await openChatServer(({ path }) => {
      if (path.endsWith("/models")) return { body: { data: [{ id: "judge" }] } };
      return credit-- > 0 ? completion("right") : { status: 401, body: { error: "no credit left" } };
    });
    const asked = (): number => server.asked.filter(({ path }) => !path.endsWith("/models")).length;
    const judge = (...more: string[]): Promise<Ended> =>
      rescore(
        "whole",
        "--metric",
        "judge",
        "--replies",
        "replies.jsonl",
        ...more,
        "judge.kind=endpoint",
        `judge.endpoint=${server.endpoint}`,
      );
    try {
      const broke = await judge();
      expect([broke.code, broke.stderr.includes("no credit left")]).toEqual([1, true]);
      // What was under way when the credit ended is given up.
      const kept = readRows(join(folder, "replies.jsonl")).length;
      expect(kept).toBeGreaterThan(0);
      expect(kept).toBeLessThanOrEqual(7);
      credit = 10_000;
      const before = asked();
      expect((await judge("--json", "first.json")).code).toBe(0);
      expect(asked() - before).toBe(answers - kept);
      const paid = asked();
      const again = await judge("--json", "second.json");
      expect([again.code, asked()]).toEqual([0, paid]);
      expect(readFileSync(join(folder, "second.json"), "utf8")).toBe(readFileSync(join(folder, "first.json"), "utf8"));
      // Another judge's replies are its own.
      await judge("judge.maxNewTokens=3");
      expect(asked() - paid).toBe(answers);
    } finally {
      await server.close();
    }
    expect((await rescore("whole", "--replies", "replies.jsonl")).stderr).toContain("--replies: are a judge's; expected --metric judge");
    writeRows(join(folder, "others.jsonl"), [{ answer: "Paris", score: 1 }]);
    const other = await rescore(
      "whole",
      "--metric",
      "judge",
      "--replies",
      "others.jsonl",
      "judge.kind=endpoint",
      "judge.endpoint=http://127.0.0.1:9/v1",
    );
    expect(other.stderr).toContain("--replies others.jsonl:1: is no reply of a judge; expected key and reply");
  });

  it("asks a model in this process, and says so where it is no judge", async () => {
    const { code, stderr } = await rescore("whole", "--metric", "judge", "judge.kind=model", "judge.path=policy");
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/^--metric judge: fails for every rollout of .*: judge: says neither right nor wrong/),
    ]);
    expect((await rescore("whole", "--metric", "judge")).stderr).toContain(
      "--metric judge: needs a model that judges; expected judge.kind=endpoint judge.endpoint=URL, or judge.kind=model judge.path=MODEL",
    );
  });

  it("tells what is wrong: a metric, a folder, a row", async () => {
    const refused = async (...args: string[]): Promise<string> => {
      const { code, stderr } = await rescore(...args);
      expect(code).toBe(1);
      return stderr;
    };
    expect(await refused("whole", "--metric", "ff1")).toMatch(/^--metric: there is no ff1; expected .*\n {2}did you mean f1\?/);
    expect(await refused("nowhere")).toContain("zerosearch rescore nowhere: there is no such folder, and no such run");
    expect(await refused("policy")).toContain("policy: holds nothing to score; expected rollouts.jsonl or judged.jsonl");
    mkdirSync(join(folder, "broken"));
    writeFileSync(join(folder, "broken", "judged.jsonl"), '{"f1":1}\n');
    expect(await refused("broken")).toContain("judged.jsonl:1: is no stored rollout");
    expect(await refused()).toContain("needs what it is to score");
  });
});
