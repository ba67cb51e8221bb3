/** `zerosearch index` and `zerosearch retriever`, as a user starts them. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Bm25Search } from "../../src/index.ts";
import { openDatabase } from "../../src/search/sqlite.ts";
import { buildIfStale, start } from "../helpers/program.ts";
import { root } from "../helpers/tiny-quickstart.ts";

const program = join(root, "bin", "zerosearch.js");
let folder: string;
let corpus: string;
beforeAll(async () => {
  buildIfStale();
  folder = await mkdtemp(join(tmpdir(), "zerosearch retrieval "));
  corpus = join(folder, "corpus.jsonl");
  const rows = Array.from({ length: 20_000 }, (_, i) => ({
    id: String(i),
    contents: `"Title ${i % 97}"\nPassage ${i} tells of ${["rivers", "mountains", "cities"][i % 3] ?? ""} and of number${i * 7}.`,
  }));
  await writeFile(corpus, rows.map((row) => JSON.stringify(row)).join("\n"));
}, 120_000);
afterAll(() => rm(folder, { recursive: true }));

/** Builds with small parts in a process of its own, which is killed once it has written as many parts. */
function build(file: string, killAfter: number): Promise<NodeJS.Signals | null> {
  const module = pathToFileURL(join(root, "dist/search/bm25/build.js")).href;
  const code = `
    const { buildIndex } = await import(${JSON.stringify(module)});
    let told = 0;
    await buildIndex({ corpus: ${JSON.stringify(corpus)}, source: "corpus.jsonl", file: ${JSON.stringify(file)}, part: 20000,
      onProgress: ({ phase, done }) => { if (phase !== "hash") console.log(++told); } });`;
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--input-type=module", "-e", code], { stdio: ["ignore", "pipe", "inherit"] });
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      if (Number(text.trim().split("\n").at(-1)) >= killAfter) child.kill("SIGKILL");
    });
    child.on("error", reject).on("close", (_, signal) => resolve(signal));
  });
}

async function dump(file: string): Promise<unknown> {
  const client = await openDatabase("test", file);
  const tables = [];
  for (const sql of ["select n, row from passages order by n", "select term, count, hex(list) from words order by term"])
    tables.push((await client.execute(sql)).rows.map((row) => Object.values(row)));
  client.close();
  return tables;
}

describe("zerosearch index", () => {
  it("goes on after kills without notice, and becomes what an index is that was never stopped", async () => {
    const whole = join(folder, "whole.bm25");
    const made = await start(process.execPath, [program, "index", corpus, "--to", whole]);
    expect([made.code, made.stderr]).toEqual([0, ""]);
    expect(made.stdout).toMatch(/merging lists 256\/256/);
    expect(made.stdout).toContain(`${whole}: 20,000 passages of corpus.jsonl, `);
    const killed = join(folder, "killed.bm25");
    const signals = [];
    // 40 signs of reading, 256 of merging.
    for (const after of [3, 17, 29, 70, 180]) signals.push(await build(killed, after));
    expect(signals).toContain("SIGKILL");
    expect(existsSync(killed)).toBe(false);
    const last = await start(process.execPath, [program, "index", corpus, "--to", killed]);
    expect(last.code).toBe(0);
    expect(last.stdout).toMatch(/killed\.bm25\.partial has [\d,]+ passages: going on behind them/);
    expect(await dump(killed)).toEqual(await dump(whole));
    const again = await start(process.execPath, [program, "index", corpus, "--to", killed]);
    expect(again.stdout).toContain("killed.bm25: is there already: 20,000 passages");
    const engine = await Bm25Search.fromIndex(killed, 1);
    expect(await engine.find("number700")).toMatchObject([{ id: "100", title: "Title 3" }]);
    await engine.close();
  }, 240_000);

  it.skipIf(process.platform === "win32")(
    "says that it may not grow, and goes on where it can",
    async () => {
      const file = join(folder, "small.bm25");
      const script = 'trap "" XFSZ; ulimit -f 1000; exec "$@"';
      const full = await start("bash", ["-c", script, "bash", process.execPath, program, "index", corpus, "--to", file]);
      expect(full.code).toBe(1);
      expect(full.stderr).toMatch(/small\.bm25: (cannot be written|the disk is full)/);
      expect(full.stderr).toContain("he same command goes on where this one stopped");
      expect(existsSync(file)).toBe(false);
      expect((await start(process.execPath, [program, "index", corpus, "--to", file])).code).toBe(0);
      expect(await dump(file)).toEqual(await dump(join(folder, "whole.bm25")));
    },
    240_000,
  );

  it("says in one line what is wrong with a corpus", async () => {
    const wrong = join(folder, "wrong.jsonl");
    await writeFile(wrong, '{"id": 1, "text": "one"}\n{"id": 1, "text": "two"}\n');
    const twice = await start(process.execPath, [program, "index", wrong]);
    expect([twice.code, twice.stderr]).toEqual([1, `${wrong}:2: duplicate id; expected an id that occurs once, got "1", also in row 1\n`]);
    const none = await start(process.execPath, [program, "index"]);
    expect([none.code, none.stderr]).toEqual([
      1,
      "zerosearch index: no corpus is named; expected a file of passages, such as passages.jsonl\n",
    ]);
  }, 60_000);
});

describe("zerosearch retriever", () => {
  it("serves an index until Ctrl-C, and ends with exit code 0", async () => {
    const index = join(folder, "whole.bm25");
    const answered: Promise<unknown>[] = [];
    const { code, stdout, stderr } = await start(process.execPath, [program, "retriever", `bm25.index=${index}`, "--port", "0"], {
      onOutput: (text, kill) => {
        const address = /at (\S+)\/retrieve/.exec(text)?.[1];
        if (address === undefined || answered.length > 0) return;
        const body = JSON.stringify({ queries: ["number700", "of rivers"], return_scores: true });
        const reply = fetch(`${address}/retrieve`, { method: "POST", body }).then((response) => response.json());
        answered.push(reply.finally(() => kill("SIGINT")));
      },
    });
    expect([code, stderr]).toEqual([0, ""]);
    const { result } = (await answered[0]) as { result: { document: unknown; score: number }[][] };
    expect(result[0]?.[0]?.document).toEqual({ id: "100", contents: '"Title 3"\nPassage 100 tells of mountains and of number700.' });
    expect(result[1]).toHaveLength(3);
    expect(stdout).toContain("no more requests are taken");
    const simulated = await start(process.execPath, [program, "retriever", "evaluation.engine=simulated"]);
    expect(simulated.code).toBe(1);
    expect(simulated.stderr).toContain("evaluation.engine");
  }, 60_000);
});
