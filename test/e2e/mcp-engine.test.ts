/** Whole programs on MCP servers: one that fails and ends now and then, and the example's own. None is left behind, however a run ends. */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { buildIfStale, readRows, settingsFor, shortRun, start, train, type StartOptions } from "../helpers/program.ts";
import { root, tinyQuickstart } from "../helpers/tiny-quickstart.ts";

const key = "sk-of-this-e2e-test";
const program = join(root, "test", "fixtures", "mcp", "server.mjs");
let folder: string;
let world: string;
let settings: string[];

beforeAll(async () => {
  buildIfStale();
  folder = mkdtempSync(join(tmpdir(), "zerosearch-mcp-run-"));
  world = await tinyQuickstart();
  settings = [
    ...shortRun,
    ...settingsFor(world, folder),
    "train.steps=3",
    "device.kind=cpu",
    "data.validation=null",
    "data.test=null",
    "search.engine=mcp",
    `mcp.command=${process.execPath}`,
    "mcp.env=MCP_TEST_KEY",
  ];
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function run(name: string, more: readonly string[] = [], options: StartOptions = {}) {
  const file = join(folder, `${name}.served`);
  writeFileSync(file, "");
  const args = [...settings, `mcp.args=${JSON.stringify([program, "shaky", file])}`, `name=${name}`, ...more];
  const ended = await train(args, { ...options, env: { MCP_TEST_KEY: key } });
  const pids = readFileSync(file, "utf8").match(/^\d+$/gm)?.map(Number) ?? [];
  return { ended, pids, metrics: () => readRows(join(folder, "runs", name, "metrics.jsonl")) };
}

const sum = (rows: readonly Record<string, unknown>[], name: string): number => rows.reduce((total, row) => total + Number(row[name]), 0);
const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    // What nobody has waited for yet is still in the table.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
};

describe("a run on an MCP server of which one call in ten fails, and one in ten ends it", () => {
  it("starts it again each time, trains on all rollouts, and leaves none behind", async () => {
    const { ended, pids, metrics } = await run("patient", ["mcp.price=2"]);
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    expect(pids.length).toBeGreaterThan(2);
    expect(pids.filter(isAlive)).toEqual([]);
    const all = metrics();
    expect(sum(all, "search/failed")).toBe(0);
    expect(sum(all, "time/mcp_requests")).toBeGreaterThan(10);
    expect(sum(all, "time/mcp_retries")).toBeGreaterThanOrEqual(pids.length - 1);
    // What it says on standard error is told with a failure, and nowhere else.
    for (const line of ended.stdout.split("\n").filter((one) => one.includes("serving with")))
      expect(line).toMatch(/^mcp: .*its last words/);
    expect(ended.stdout).toMatch(/searches by mcp +\d+ +2 USD \/ 1,000 +0\.\d+ USD/);
  });

  it("ends at a search that fails where nothing is tried again, says why, and leaves none behind", async () => {
    const { ended, pids } = await run("ending", ["mcp.patience=0"]);
    expect(ended.code).toBe(1);
    expect(ended.stderr).toMatch(
      /^mcp \(node\): (the tool reports an error: "not now, \[key\]"|the server has ended \(it ended with exit code 7; .*\[key\]")/m,
    );
    expect(pids).toHaveLength(1);
    expect(pids.filter(isAlive)).toEqual([]);
  });

  it("leaves none behind at Ctrl-C", async () => {
    let killed = false;
    const { ended, pids } = await run("stopped", ["train.steps=500"], {
      onOutput(stdout, kill) {
        if (killed || !stdout.includes("step 1/")) return;
        killed = true;
        kill("SIGINT");
      },
    });
    expect(ended.code).toBe(130);
    expect(pids.length).toBeGreaterThan(0);
    expect(pids.filter(isAlive)).toEqual([]);
  });

  it("leaves none behind at Ctrl-C while it is slow to start", async () => {
    const pid = join(folder, "slow.pid");
    const text = `require("fs").writeFileSync(${JSON.stringify(pid)}, String(process.pid)); process.stdin.resume(); setInterval(() => undefined, 1000)`;
    const args = [...settings, "name=slow", "mcp.env=null", `mcp.args=${JSON.stringify(["-e", text])}`];
    const program = spawn(process.execPath, [join(root, "train.js"), ...args], { cwd: root, stdio: "ignore" });
    const ended = new Promise<number | null>((resolve) => program.on("close", resolve));
    await vi.waitFor(() => expect(existsSync(pid)).toBe(true), { timeout: 60_000 });
    await new Promise((resolve) => setTimeout(resolve, 200));
    const from = performance.now();
    program.kill("SIGINT");
    expect(await ended).toBe(130);
    expect(performance.now() - from).toBeLessThan(15_000);
    expect(isAlive(Number(readFileSync(pid, "utf8")))).toBe(false);
  });

  it("has its key in no file", () => {
    const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => statSync(join(folder, name)).isFile());
    expect(files).toContain(join("runs", "patient", "rollouts.jsonl"));
    for (const file of files) expect(readFileSync(join(folder, file)).includes(key), file).toBe(false);
  });
});

describe("a dry run on one", () => {
  it("says what its searches would cost, and starts none", async () => {
    const { ended, pids } = await run("planned", ["--dry-run", "mcp.price=2", "rollout.maxTurns=2"]);
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    // 3 steps of 4 x 4 rollouts.
    expect(ended.stdout).toMatch(/^searches by mcp +2 USD \/ 1,000 +48 = 0\.096 USD +96 = 0\.192 USD$/m);
    expect(ended.stdout).toContain("Together about 0.096 USD at one search a rollout, 0.192 USD at most. This is an estimate");
    expect(pids).toEqual([]);
  });
});

describe("the example's server", () => {
  it("judges a policy, and a recording of it does so again where it is not there", async () => {
    const evaluate = (...more: string[]) =>
      start(process.execPath, [join(root, "bin", "zerosearch.js"), "evaluate", ...own, ...more], { cwd: folder });
    const server = join(root, "examples", "mcp-server.js");
    const args = JSON.stringify([server, join(world, "world", "corpus.jsonl")]);
    const own = [
      ...settings.filter((one) => !/^(train|optimizer|search|mcp|output|data\.test)/.test(one)),
      `data.test=${join(world, "world", "test.jsonl")}`,
      "evaluation.engine=mcp",
      "evaluation.robustness=false",
      `mcp.command=${process.execPath}`,
      `mcp.args=${args}`,
    ];
    const planned = await evaluate("--dry-run", "mcp.price=2", "mcp.command=not-there");
    // Eight questions by the method, with up to three turns, and by RAG.
    expect(planned).toMatchObject({ code: 0, stderr: "" });
    expect(planned.stdout).toMatch(
      /^8 questions\n.*\n.*\nsearches by mcp +2 USD \/ 1,000 +16 = 0\.032 USD +32 = 0\.064 USD\nTogether about/m,
    );
    const recorded = await evaluate("search.record=kept.sqlite", "--json", "first.json", "mcp.price=2");
    expect(recorded.stdout).toMatch(/^searches by mcp +\d+ +2 USD \/ 1,000 +0\.\d+ USD$/m);
    expect(recorded).toMatchObject({ code: 0, stderr: "" });
    expect(recorded.stdout).toMatch(/^zerosearch +after +\w+ +8 +mcp /m);
    const asked = readFileSync(join(folder, "first.json"), "utf8");
    const replayed = await evaluate("search.replay=kept.sqlite", "--json", "second.json", "mcp.timeout=1");
    expect(replayed).toMatchObject({ code: 0, stderr: "" });
    const numbers = (text: string) => JSON.parse(text.replaceAll(/"engine": "[^"]*"/g, '"engine": ""')) as unknown;
    expect(numbers(readFileSync(join(folder, "second.json"), "utf8"))).toEqual(numbers(asked));
  });
});
