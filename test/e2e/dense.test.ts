/** Search by embeddings as a user starts it: an index that is killed and goes on, training, evaluation, questions and the retriever. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DenseFile } from "../../src/search/dense/file-index.ts";
import { buildIfStale, readRows, settingsFor, shortRun, start, train, writeRows } from "../helpers/program.ts";
import { embedded, openEmbeddingsServer } from "../helpers/embeddings-server.ts";
import { root, tinyQuickstart } from "../helpers/tiny-quickstart.ts";

const program = join(root, "bin", "zerosearch.js");
let folder: string;
let from: string;
let corpus: string;
let index: string;
let model: string[];
beforeAll(async () => {
  buildIfStale();
  folder = mkdtempSync(join(tmpdir(), "zerosearch dense "));
  from = await tinyQuickstart();
  corpus = writeRows(join(folder, "corpus.jsonl"), readRows(join(from, "world", "corpus.jsonl")).slice(0, 1500));
  index = join(folder, "corpus.dense");
  model = [`dense.path=${join(from, "policy")}`, "dense.maxTokens=64", "device.kind=cpu"];
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const zerosearch = (args: readonly string[], more: Parameters<typeof start>[2] = {}) =>
  start(process.execPath, [program, ...args], { cwd: folder, ...more });

async function dump(file: string): Promise<unknown> {
  const opened = await DenseFile.open(file);
  const parts = [];
  for await (const { first, values } of opened.vectors()) parts.push([first, Buffer.from(values.buffer).toString("base64")]);
  const passages = await opened.passages([0, 700, 1499]);
  opened.close();
  return { parts, passages, about: opened.about };
}

describe("search by embeddings", () => {
  it("has an index that goes on after a kill, and becomes what one is that was never stopped", async () => {
    const whole = join(folder, "whole.dense");
    const made = await zerosearch(["index", corpus, "--dense", "--to", whole, ...model]);
    expect([made.code, made.stderr]).toEqual([0, ""]);
    expect(made.stdout).toMatch(/embedding .*corpus\.jsonl, MiB .*passages 1,500  passages\/s [\d,]+  tokens [\d,]+  tokens\/s [\d,]+/);
    expect(made.stdout).toMatch(/1,500 passages of corpus\.jsonl, 64 numbers each, by .*policy.* MiB, in/);
    // Killed without notice as soon as it says that it has begun.
    const killed = await zerosearch(["index", corpus, "--dense", "--to", index, ...model], {
      onOutput: (stdout, kill) => {
        if (stdout.includes("embedding ")) kill("SIGKILL");
      },
    });
    expect(killed.signal).toBe("SIGKILL");
    expect(existsSync(index)).toBe(false);
    const resumed = await zerosearch(["index", corpus, "--dense", "--to", index, ...model]);
    expect([resumed.code, resumed.stderr]).toEqual([0, ""]);
    expect(await dump(index)).toEqual(await dump(whole));
    expect(existsSync(`${index}.partial`)).toBe(false);
    const again = await zerosearch(["index", corpus, "--dense", "--to", index, ...model]);
    expect(again.stdout).toContain("is there already: 1,500 passages");
    const other = await zerosearch(["index", corpus, "--dense", "--to", index, ...model, "dense.form=bare"]);
    expect([other.code, other.stderr]).toEqual([1, expect.stringMatching(/dense\.form is another; expected bare, got instruct/)]);
    const without = await zerosearch(["index", corpus, ...model]);
    expect([without.code, without.stderr]).toEqual([1, expect.stringMatching(/is of no use; expected no settings, or --dense/)]);
  });

  it("answers in training and evaluation from an index as from the corpus, bit for bit, and is planned", async () => {
    const engine = ["search.engine=dense", "evaluation.engine=dense", ...model, `data.corpus=${corpus}`, "simulator.path=null"];
    const run = (name: string, more: readonly string[]) =>
      train(
        [...settingsFor(from, folder), ...shortRun, "train.steps=2", "evaluation.robustness=false", ...engine, `name=${name}`, ...more],
        { cwd: folder },
      );
    const [made, indexed] = [await run("made", []), await run("indexed", [`dense.index=${index}`])];
    expect([made.code, made.stderr, indexed.code, indexed.stderr]).toEqual([0, "", 0, ""]);
    expect(made.stdout).toMatch(/embedding .*corpus\.jsonl 1,500\/1,500/);
    expect(indexed.stdout).not.toContain("embedding ");
    const rollouts = (name: string): Record<string, unknown>[] => readRows(join(folder, "runs", name, "rollouts.jsonl"));
    expect(rollouts("indexed")).toEqual(rollouts("made"));
    const searched = rollouts("made").flatMap(({ searches }) => searches as { query: string; documents: { score: number }[] }[]);
    expect(searched.length).toBeGreaterThan(5);
    expect(searched.filter(({ query, documents }) => query.trim() !== "" && documents.length !== 5)).toEqual([]);
    const metrics = readRows(join(folder, "runs", "indexed", "metrics.jsonl"));
    expect(metrics[0]!["time/dense_queries"]).toBeGreaterThan(0);
    const judged = JSON.parse(readFileSync(join(folder, "runs", "indexed", "evaluation.json"), "utf8")) as { rows?: unknown };
    expect(JSON.stringify(judged)).toContain('"dense"');
    const plan = await run("planned", [`dense.index=${index}`, "--dry-run"]);
    expect(plan.stdout).toMatch(/embedder: frozen weights/);
    // 1,500 embeddings of 64 numbers, in a size class.
    expect(plan.stdout).toMatch(/embeddings of passages +memory +(38[4-9]|39\d|4\d\d|5[01]\d|52[0-4])\d{3} /);
  });

  it("is given up by Ctrl-C while a corpus is embedded, in evaluation and in training", async () => {
    const rows = Array.from({ length: 30_000 }, (_, i) => ({ id: String(i), text: `passage ${i} of a corpus that takes its time` }));
    const long = writeRows(join(folder, "long.jsonl"), rows);
    const engine = [...settingsFor(from, folder), "search.engine=dense", "evaluation.engine=dense", ...model, `data.corpus=${long}`];
    const interrupt = {
      cwd: folder,
      onOutput: (stdout: string, kill: (signal: NodeJS.Signals) => void) => {
        if (stdout.includes("embedding ")) kill("SIGINT");
      },
    };
    for (const ended of [await zerosearch(["evaluate", ...engine], interrupt), await train([...engine, "name=stopped"], interrupt)]) {
      // Before a run is open there is nothing to save: the signal itself ends it.
      expect([ended.signal === "SIGINT" ? 130 : ended.code, ended.stderr]).toEqual([130, expect.not.stringContaining("    at ")]);
      expect(ended.stdout).not.toContain("30,000/30,000");
    }
  });

  it("says of what does not fit together what it is, before a model is loaded", async () => {
    const evaluate = (...more: string[]) =>
      zerosearch(["evaluate", ...settingsFor(from, folder), "evaluation.engine=dense", "evaluation.questions=2", ...model, ...more]);
    const other = writeRows(join(folder, "other.jsonl"), [{ id: "1", text: "x" }]);
    for (const [more, message] of [
      [[`dense.index=${index}`, `data.corpus=${other}`], /corpus\.dense: is an index of another corpus/],
      [[`dense.index=${corpus}`, "data.corpus=null"], /corpus\.jsonl: is no index/],
      [["dense.endpoint=http://127.0.0.1:9/v1"], /dense\.(path|endpoint) and dense\.(path|endpoint) are both given/],
      [["dense.path=null"], /dense\.path is missing; expected one of dense\.path/],
      [["data.corpus=null"], /data\.corpus is missing/],
    ] as const) {
      const { code, stdout, stderr } = await evaluate(...more);
      expect([code, stderr]).toEqual([1, expect.stringMatching(message)]);
      expect(stdout).not.toContain("device:");
    }
    const model2 = await evaluate(`dense.index=${index}`, "data.corpus=null", `dense.path=${join(from, "simulator")}`);
    expect([model2.code, model2.stderr]).toEqual([1, expect.stringMatching(/its embeddings were made in another way: by another model/)]);
  });

  it("answers a question, and is served, without and with a policy", async () => {
    const asked = await zerosearch([
      "ask",
      "Where is it?",
      ...settingsFor(from, folder),
      "evaluation.engine=dense",
      `dense.index=${index}`,
      "data.corpus=null",
      ...model,
    ]);
    expect([asked.code, asked.stderr]).toEqual([0, ""]);
    expect(asked.stdout).toContain(`engine: dense over ${index}`);
    let found: unknown = null;
    const served = await zerosearch(["retriever", "--port", "0", "evaluation.engine=dense", `dense.index=${index}`, ...model], {
      onOutput: (stdout, kill) => {
        const address = /dense at (\S+)\/retrieve/.exec(stdout)?.[1];
        if (address === undefined || found !== null) return;
        found = "asked";
        const body = JSON.stringify({ queries: ["region", "capital"], topk: 7, return_scores: true });
        void fetch(`${address}/retrieve`, { method: "POST", body })
          .then((reply) => reply.json())
          .then(async (reply) => (found = { reply, health: await (await fetch(`${address}/health`)).json() }))
          .finally(() => kill("SIGTERM"));
      },
    });
    expect(served.code).toBe(0);
    const { reply, health } = found as { reply: { result: { document: { contents: string }; score: number }[][] }; health: object };
    expect(reply.result.map((list) => list.length)).toEqual([7, 7]);
    expect(reply.result[0]!.map(({ score }) => score)).toEqual(reply.result[0]!.map(({ score }) => score).sort((a, b) => b - a));
    expect(health).toEqual({ status: "ok", engine: "dense", passages: 1500 });
  });

  it("makes embeddings at a server, whose tokens are counted and priced", async () => {
    const server = await openEmbeddingsServer((asked) => ({ json: embedded(asked) }));
    try {
      const small = writeRows(join(folder, "small.jsonl"), readRows(corpus).slice(0, 40));
      const { code, stdout, stderr } = await train(
        [
          ...settingsFor(from, folder),
          ...shortRun,
          "train.steps=1",
          "evaluation.robustness=false",
          "evaluation.baselines=false",
          "device.kind=cpu",
          "search.engine=dense",
          "evaluation.engine=dense",
          `dense.endpoint=${server.url}/v1`,
          "dense.endpointModel=m",
          `data.corpus=${small}`,
          "simulator.path=null",
          "cost.embeddingMillion=20",
          "name=served",
        ],
        { cwd: folder },
      );
      expect([code, stderr]).toEqual([0, ""]);
      expect(stdout).toMatch(/tokens embedded by the endpoint +[\d,]+ +20 USD \/ million +0\.\d+ USD/);
    } finally {
      await server.close();
    }
  });
});
