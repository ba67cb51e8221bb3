/** Whole runs on a search service that fails for three calls in ten: none ends, and every rollout is trained on or accounted for. */
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildIfStale, readRows, settingsFor, shortRun, start, train, type Ended, type StartOptions } from "../helpers/program.ts";
import { openSearchServer, status, type Answer, type AskedOf, type SearchServer } from "../helpers/search-server.ts";
import { root, tinyQuickstart } from "../helpers/tiny-quickstart.ts";

const key = "sk-of-this-e2e-test";
let folder: string;
let settings: string[];
let server: SearchServer;
/** Requests by what became of them. */
let counts: Record<string, number>;

/**
 * By the query and how often it was asked: three of ten requests fail, one of them each by a wrong reply, by an error that may pass, and by a closed
 * connection.
 */
function answer({ text }: AskedOf): Answer {
  const { query } = JSON.parse(text) as { query: string };
  const nth = (asked.get(query) ?? 0) + 1;
  asked.set(query, nth);
  const draw = createHash("sha256").update(`${query} ${nth}`).digest().readUInt16BE(0) % 10;
  const count = (name: string): void => void (counts[name] = (counts[name] ?? 0) + 1);
  if (draw === 0) {
    count("wrong");
    return { json: { message: `who is ${key}?` } };
  }
  if (draw === 1) {
    count("busy");
    return status(503, `busy ${key}`);
  }
  if (draw === 2) {
    count("closed");
    return (response) => response.destroy();
  }
  count("good");
  return { json: ["Africa", "Asia", "Europe"].map((region) => ({ text: `The region is ${region}. ${key}` })) };
}
const asked = new Map<string, number>();

beforeAll(async () => {
  buildIfStale();
  folder = mkdtempSync(join(tmpdir(), "zerosearch-http-run-"));
  server = await openSearchServer(answer);
  const own = join(folder, "mine.yaml");
  writeFileSync(
    own,
    `vendor: https://a.example/\nchecked: "2026-11-30"\nverified: false\nkey: ZEROSEARCH_E2E_KEY\nurl: http://127.0.0.1:9\nmethod: POST\n` +
      `headers: { X-Key: "{key}" }\nbody: { query: "{query}", top_k: "{documents}" }\nreply: { results: ., text: text }\n`,
  );
  settings = [
    ...shortRun,
    ...settingsFor(await tinyQuickstart(), folder),
    "train.steps=3",
    "device.kind=cpu",
    "data.validation=null",
    "data.test=null",
    "search.engine=http",
    `http.api=${own}`,
    `http.url=${server.url}`,
    "http.patience=0",
  ];
});
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

const zerosearch = (args: readonly string[], options?: StartOptions): Promise<Ended> =>
  start(process.execPath, [join(root, "bin", "zerosearch.js"), ...args], { cwd: folder, ...options });

async function run(name: string, ...more: string[]) {
  counts = {};
  asked.clear();
  const ended = await train([...settings, `name=${name}`, ...more], { env: { ZEROSEARCH_E2E_KEY: key } });
  const logs = join(folder, "runs", name);
  return { ended, metrics: () => readRows(join(logs, "metrics.jsonl")), rollouts: () => readRows(join(logs, "rollouts.jsonl")) };
}

const sum = (rows: readonly Record<string, unknown>[], name: string): number => rows.reduce((total, row) => total + Number(row[name]), 0);
interface Row {
  readonly step: number;
  readonly status: string;
  readonly reward: number | null;
  readonly advantage: number;
  readonly rewardFailure?: string;
  readonly searches: readonly { readonly failure?: string; readonly documents: readonly unknown[] }[];
}

describe("a run on a search service of which three calls in ten fail", () => {
  it("leaves out the rollouts whose search failed for good, and trains on all others", async () => {
    const { ended, metrics, rollouts } = await run("left", "search.onFailure=leave-out");
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    const rows = rollouts() as unknown as Row[];
    expect(rows).toHaveLength(3 * 16);
    const failedIn = ({ searches }: Row): boolean => searches.some(({ failure }) => failure !== undefined);
    const left = rows.filter(failedIn);
    expect(left.length).toBeGreaterThan(3);
    expect(left.length).toBeLessThan(rows.length / 2);
    for (const row of rows) {
      if (!failedIn(row)) expect(typeof row.reward).toBe("number");
      else
        expect(row).toMatchObject({
          status: "failed",
          reward: null,
          advantage: 0,
          rewardFailure: expect.stringContaining("a search failed") as string,
        });
    }
    const all = metrics();
    expect(sum(all, "search/left_out")).toBe(left.length);
    expect(sum(all, "reward/failed")).toBe(0);
    // Requests are the service's own count.
    expect(sum(all, "time/http_requests")).toBe(counts["good"]);
    expect(sum(all, "time/http_failed")).toBe((counts["wrong"] ?? 0) + (counts["busy"] ?? 0) + (counts["closed"] ?? 0));
    expect(sum(all, "time/http_failed") + sum(all, "time/http_refused")).toBe(sum(all, "search/failed"));
    expect(ended.stdout).toMatch(/warning: step 1: \d+ of 16 rollouts were left out.*: rollout 1\/\d+\/\d+: a search failed: http:/);
  });

  it("tells the policy that there are no results where they are void, and trains on every rollout", async () => {
    const { ended, metrics, rollouts } = await run("void", "search.onFailure=void");
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    const rows = rollouts() as unknown as Row[];
    expect(rows).toHaveLength(3 * 16);
    expect(rows.every(({ reward, status: end }) => typeof reward === "number" && end !== "failed")).toBe(true);
    const failures = rows.flatMap(({ searches }) => searches.filter(({ failure }) => failure !== undefined));
    expect(failures.length).toBeGreaterThan(3);
    expect(sum(metrics(), "search/failed")).toBe(failures.length);
    expect(sum(metrics(), "search/left_out")).toBe(0);
  });

  it("loses nothing where what fails is tried again, but for replies that are wrong", async () => {
    const { ended, metrics } = await run("patient", "search.onFailure=leave-out", "http.patience=60");
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    const all = metrics();
    expect(sum(all, "time/http_retries")).toBe((counts["busy"] ?? 0) + (counts["closed"] ?? 0));
    expect(sum(all, "time/http_failed")).toBe(counts["wrong"] ?? 0);
  });

  it("ends at the first that fails where nothing else is asked for, with exit code 1 and a way out", async () => {
    const { ended } = await run("ending");
    expect(ended.code).toBe(1);
    expect(ended.stderr).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/: (HTTP 503|no answer|an answer without results)/m);
    expect(ended.stderr).toContain(
      "search.onFailure=void goes on without the results of a search that fails; leave-out, without its rollout.",
    );
  });

  it("does not begin without its key, and writes it nowhere", async () => {
    const none = await train([...settings, "name=keyless"]);
    expect(none.code).toBe(1);
    expect(none.stderr).toContain("the environment variable ZEROSEARCH_E2E_KEY is not set");
    const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => statSync(join(folder, name)).isFile());
    expect(files).toContain(join("runs", "left", "rollouts.jsonl"));
    for (const file of files) expect(readFileSync(join(folder, file)).includes(key), file).toBe(false);
    expect(server.asked.every(({ headers }) => headers["x-key"] === key)).toBe(true);
  });
});

describe("a run with a budget", () => {
  const priced = (): string => {
    const file = join(folder, "priced.yaml");
    const text = readFileSync(join(folder, "mine.yaml"), "utf8");
    writeFileSync(file, `${text}price: { perThousand: 10, currency: USD, page: "https://a.example/prices" }\n`);
    return file;
  };

  it("ends before it is exceeded, keeps what is whole, and goes on with a larger one; the end says what it cost", async () => {
    const paid = [`http.api=${priced()}`, "search.onFailure=void"];
    const { ended } = await run("poor", ...paid, "search.budget=0.3");
    expect(ended.code).toBe(1);
    expect(ended.stderr).toMatch(
      /search\.budget=0\.3: one more search by http \(priced\) would exceed it; expected at most 0\.3 USD .*, got 30 searches so far/,
    );
    expect((counts["good"] ?? 0) + (counts["wrong"] ?? 0) + (counts["busy"] ?? 0) + (counts["closed"] ?? 0)).toBeLessThanOrEqual(30);
    const resumed = await train(["--resume", "poor", "search.budget=5", ...settings.filter((one) => one.startsWith("output."))], {
      env: { ZEROSEARCH_E2E_KEY: key },
    });
    expect(resumed).toMatchObject({ code: 0 });
    expect(resumed.stdout).toMatch(/searches by priced +\d+ +10 USD \/ 1,000 +0\.\d+ USD/);
  });

  it("bounds questions and a retriever, too, whose errors say how they go on; one that pays for no search is refused before models are loaded", async () => {
    const good = await openSearchServer(() => ({ json: ["Africa", "Asia"].map((text) => ({ text })) }));
    const paid = [`http.api=${priced()}`, `http.url=${good.url}`, "evaluation.engine=http"];
    const env = { ZEROSEARCH_E2E_KEY: key };
    try {
      const asking = ["ask", "Where?", ...settings.filter((one) => !one.startsWith("http.")), ...paid, "rollout.method=rag"];
      expect(await zerosearch([...asking, "search.budget=0.01"], { env })).toMatchObject({ code: 0, stderr: "" });
      const none = await zerosearch([...asking, "search.budget=0"], { env });
      expect([none.code, none.stderr]).toEqual([
        1,
        expect.stringMatching(/search\.budget=0: is less than one search by http \(priced\) costs/),
      ]);
      expect(none.stdout).not.toContain("device:");
      const replies: string[] = [];
      let begun = false;
      const served = await zerosearch(["retriever", "--port", "0", ...paid, "search.budget=0.02"], {
        env,
        onOutput: (stdout, kill) => {
          const address = /http \(priced\) at (\S+)\/retrieve/.exec(stdout)?.[1];
          if (address === undefined || begun) return;
          begun = true;
          const askThrice = async (): Promise<void> => {
            for (const query of ["a", "b", "c"]) {
              const reply = await fetch(`${address}/retrieve`, { method: "POST", body: JSON.stringify({ queries: [query] }) });
              replies.push(`${reply.status} ${await reply.text()}`);
            }
          };
          void askThrice().finally(() => kill("SIGTERM"));
        },
      });
      expect(served.code).toBe(0);
      expect(replies.map((reply) => reply.slice(0, 3))).toEqual(["200", "200", "502"]);
      expect(replies[2]).toMatch(/search\.budget=0\.02: one more search .*got 2 searches so far.*started anew has its whole budget again/);
      // One of ask, two of the retriever.
      expect(good.asked).toHaveLength(3);
    } finally {
      await good.close();
    }
  });

  it("is refused where nobody knows what a search costs", async () => {
    const { ended } = await run("unpriced", "search.budget=1");
    expect(ended.code).toBe(1);
    expect(ended.stderr).toContain("search.budget: cannot be kept: nothing says what a search by");
  });
});
