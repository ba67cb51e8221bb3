/** The folder of an evaluation: rows read back, what is refused, costs over kills, and tables of names that are not nice. */
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { PartCosts } from "../../src/commands/evaluate/costs.ts";
import { readOverride } from "../../src/config/source.ts";
import { resolveConfig } from "../../src/config/resolve.ts";
import { compare } from "../../src/evaluation/compare.ts";
import { canResume, clearFolder, judgedRows } from "../../src/evaluation/folder.ts";
import { gridJson, gridReport, type GridReport } from "../../src/evaluation/grid-report.ts";
import { gridSvg } from "../../src/evaluation/grid-svg.ts";
import { gridMarkdown, gridText } from "../../src/evaluation/grid-text.ts";
import type { JudgedRow } from "../../src/evaluation/judge.ts";
import { Tally } from "../../src/evaluation/tally.ts";
import { wholeRows } from "../../src/log/whole-rows.ts";
import { messageOf } from "../helpers/message-of.ts";
import { writeRows } from "../helpers/program.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-evaluation-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function all<T>(rows: AsyncIterable<T>): Promise<T[]> {
  const read: T[] = [];
  for await (const row of rows) read.push(row);
  return read;
}

describe("wholeRows", () => {
  it("reads rows larger than what is read at once, and letters that lie across two reads", async () => {
    const rows = Array.from({ length: 5 }, (_, i) => ({ i, text: "ä€𝄞".repeat(150_000 + i) }));
    const file = writeRows(join(folder, "rows.jsonl"), rows);
    expect(await all(wholeRows(file))).toEqual(rows);
  });

  it("cuts a half-written row off, but where somebody may be writing it", async () => {
    const file = writeRows(join(folder, "rows.jsonl"), [{ a: 1 }, { a: 2 }]);
    const whole = readFileSync(file, "utf8");
    appendFileSync(file, '{"a":3');
    expect(await all(wholeRows(file, { cut: false }))).toEqual([{ a: 1 }, { a: 2 }]);
    expect(readFileSync(file, "utf8")).toBe(`${whole}{"a":3`);
    expect(await all(wholeRows(file))).toEqual([{ a: 1 }, { a: 2 }]);
    expect(readFileSync(file, "utf8")).toBe(whole);
    expect(await all(wholeRows(join(folder, "none.jsonl")))).toEqual([]);
  });

  it("names the line of a row that is none", async () => {
    const file = join(folder, "rows.jsonl");
    writeFileSync(file, '{"a":1}\n[2]\n{"a":3}\n');
    expect(await messageOf(all(wholeRows(file)))).toContain(`${file}:2: is no row; expected a JSON object, got [2]`);
  });
});

describe("canResume", () => {
  const identity = { seed: 1, methods: ["a", "b"], "rollout.maxTurns": 3 };
  const settings = (): string => join(folder, "settings.json");

  it("goes on with the same, and begins where there is nothing", () => {
    expect(canResume(folder, identity)).toBe(false);
    writeFileSync(settings(), JSON.stringify(identity));
    expect(canResume(folder, identity)).toBe(true);
  });

  it("refuses others and names what differs, also what one of them does not know", () => {
    writeFileSync(settings(), JSON.stringify(identity));
    expect(() => canResume(folder, { ...identity, seed: 2 })).toThrow("made with other settings: seed 1, here 2");
    expect(() => canResume(folder, { ...identity, device: "cpu" })).toThrow('device nothing, here "cpu"');
    expect(() => canResume(folder, { seed: 1, methods: ["a"] })).toThrow('methods ["a","b"], here ["a"]; rollout.maxTurns 3, here nothing');
  });

  it("refuses rows of which nobody knows what they are, and damaged settings", () => {
    writeFileSync(join(folder, "judged.jsonl"), "{}\n");
    expect(() => canResume(folder, identity)).toThrow("holds judged.jsonl, and nothing that says of what");
    writeFileSync(settings(), "[");
    expect(() => canResume(folder, identity)).toThrow("settings.json: is damaged; expected a JSON object, got [");
  });

  it("leaves what is not its own when it begins anew", () => {
    writeFileSync(join(folder, "judged.jsonl"), "{}\n");
    writeFileSync(join(folder, "notes.txt"), "mine");
    clearFolder(folder);
    expect(readFileSync(join(folder, "notes.txt"), "utf8")).toBe("mine");
    expect(canResume(folder, identity)).toBe(false);
  });
});

const question = (id: string, dataSource: string) => ({ id, question: "q?", goldenAnswers: ["a"], dataSource });

function row(method: string, engine: string, id: string, dataSource = "x"): JudgedRow {
  return {
    ...{ when: "after", method, engine, step: null, em: 1, subem: 1, f1: 0.5, question: question(id, dataSource) },
    ...{ key: { step: 0, question: 0, rollout: 0 }, status: "answered", answer: "a", invalidActions: 0, turns: 1, searches: [], text: "" },
    ...{ promptLength: 1, ids: [1, 2], lossMask: [0, 1], logProbs: [0, 0], sampling: { temperature: 0, topK: 0, topP: 1 } },
  };
}

describe("judgedRows", () => {
  const questions = [question("1", "x"), question("2", "x")];
  const cells = [
    { method: "a", engine: "e" },
    { method: "b", engine: "none" },
  ];

  it("reads what was judged so far, and refuses a row in the wrong place or one too many", async () => {
    const good = [row("a", "e", "1"), row("a", "e", "2"), row("b", "none", "1")];
    writeRows(join(folder, "judged.jsonl"), good);
    expect(await all(judgedRows(folder, cells, questions))).toEqual(good);
    writeRows(join(folder, "judged.jsonl"), [good[0]!, good[2]!]);
    expect(await messageOf(all(judgedRows(folder, cells, questions)))).toContain(
      "judged.jsonl:2: is not the row that belongs here; expected a with e, question x 2, got b with none, question x 1",
    );
    writeRows(join(folder, "judged.jsonl"), [...good, row("b", "none", "2"), row("b", "none", "1")]);
    expect(await messageOf(all(judgedRows(folder, cells, questions)))).toContain(
      "judged.jsonl:5: is not the row that belongs here; expected no more rows",
    );
  });
});

describe("costs of an evaluation's rows", () => {
  const config = resolveConfig(["model.policy=m", "data.corpus=c", "http.api=tavily", "cost.deviceHour=3.6"].map(readOverride), "evaluate");

  it("are those of searches and hours, a row at a time, over all programs that judged", async () => {
    const first = new PartCosts(config);
    await first.keepIn(folder);
    first.add({ method: "a", engine: "http", questions: 10, seconds: 100, counts: { http_requests: 30 } });
    appendFileSync(join(folder, "parts.jsonl"), '{"method":"a","eng');
    const second = new PartCosts(config);
    await second.keepIn(folder);
    second.add({ method: "a", engine: "http", questions: 30, seconds: 100, counts: { http_requests: 70 } });
    second.add({ method: "b", engine: "none", questions: 40, seconds: 1000, counts: {} });
    const rows = second.rows();
    expect(rows.map(({ method, questions, seconds }) => [method, questions, seconds])).toEqual([
      ["a", 40, 200],
      ["b", 40, 1000],
    ]);
    // Tavily asks 8 USD for 1,000 (configs/engines/tavily.yaml); an hour of 3.6 is .001 a second.
    expect(rows[0]?.cost["USD"]).toBeCloseTo(0.1 * 8 + 0.2, 12);
    expect(rows[1]?.cost["USD"]).toBeCloseTo(1, 12);
    expect(second.text()).toMatch(/^searches by tavily +100 /m);
  });
});

describe("the tables", () => {
  const report = (name: string): GridReport => {
    const cells = ["a", name].map((method) => {
      const tally = new Tally(method, "e", { maxNewTokens: 9 });
      for (const set of ["nq", "own"])
        for (const id of ["1", "2", "3"]) tally.add({ ...row(method, "e", id, set), em: method === "a" ? 0 : 1 });
      return tally.take();
    });
    const head = {
      model: name,
      when: "after",
      step: null,
      seed: 1,
      samples: 100,
      metric: "em",
      reference: "a",
      hotpotYesNo: false,
    } as const;
    const sets = [
      { name: "own", title: name, group: null, n: 3, source: "own.jsonl" },
      { name: "nq", title: "NQ", group: "single-hop", n: 3, source: "nq.jsonl" },
    ] as const;
    return gridReport(head, sets, cells, compare(cells, head), [{ set: "nq", n: 3, missing: 1 }]);
  };

  it("have the sets of the paper first, their groups above them, and all comparisons below", () => {
    const lines = gridText(report("b"), [{ method: "b", engine: "e", questions: 4, seconds: 2, cost: { USD: 1 } }]).split("\n");
    const at = lines.indexOf("EM, in percent");
    expect(lines[at + 1]?.trim()).toMatch(/^single-hop +other +mean over sets$/);
    expect(lines[at + 2]).toMatch(/^method +engine +NQ \(3\) +b \(3\) +average +95 %$/);
    expect((lines[at + 1] ?? "").indexOf("single-hop")).toBe((lines[at + 2] ?? "").indexOf("NQ (3)"));
    expect(lines).toContainEqual(expect.stringMatching(/^b with e +a with e +6 +\+100\.0 +\+100\.0 to \+100\.0 +0\.031 +0\.031$/));
    expect(lines).toContainEqual(expect.stringMatching(/^b +e +6 .* 0\.500 +0\.250 USD$/));
    expect(lines).toContainEqual(expect.stringMatching(/^NQ +3 +1 +33\.3 %$/));
  });

  it("are whole whatever things are called", () => {
    const hostile = 'x|<script>&"\u0007';
    const svg = gridSvg(report(hostile));
    expect(svg).not.toMatch(/<script|\u0007/);
    expect(svg).toContain("x|&lt;script&gt;&amp;&quot;");
    const table = gridMarkdown(report(hostile))
      .split("\n")
      .filter((line) => line.startsWith("| a |") || line.startsWith("| x"));
    for (const line of table.slice(0, 2)) expect(line.match(/(?<!\\)\|/g)?.length).toBe(7);
    expect((JSON.parse(gridJson(report(hostile))) as GridReport).model).toBe(hostile);
  });
});
