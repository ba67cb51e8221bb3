/** Training steps whose simulator runs behind an endpoint: a server on this machine that writes documents by script. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { openTraining, type SearchTrajectory } from "../../src/index.ts";
import { packagedConfig } from "../../src/config/index.ts";
import { drawKind } from "../../src/search/curriculum.ts";
import { completion, openChatServer, type ChatServer, type Reply } from "../helpers/chat-server.ts";
import { readRows, settingsFor, shortRun } from "../helpers/program.ts";
import { tinyQuickstart } from "../helpers/tiny-quickstart.ts";

const key = "sk-of-this-test";
let folder: string;
let models: string;
let server: ChatServer;
/** What the server says to its n-th request for a completion. */
let reply: (n: number, prompt: string) => Reply;
let asked = 0;

beforeAll(async () => {
  models = await tinyQuickstart();
  folder = mkdtempSync(join(tmpdir(), "zerosearch-endpoint-"));
  process.env["ZEROSEARCH_TEST_KEY"] = key;
  server = await openChatServer(({ path, body }) => {
    if (path.endsWith("/models")) return { body: { data: [{ id: "canned" }] } };
    return reply(asked++, (body as { messages: { content: string }[] }).messages[1]?.content ?? "");
  });
});
beforeEach(() => {
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    output += String(text);
    return true;
  });
});
afterEach(() => vi.restoreAllMocks());
afterAll(async () => {
  delete process.env["ZEROSEARCH_TEST_KEY"];
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

const open = (name: string, ...settings: string[]) =>
  openTraining({
    config: packagedConfig("quickstart"),
    settings: [
      ...shortRun,
      ...settingsFor(models, folder),
      "simulator.path=null",
      `simulator.endpoint=${server.endpoint}`,
      "simulator.endpointKey=ZEROSEARCH_TEST_KEY",
      "train.steps=2",
      "curriculum.end=1",
      "device.kind=cpu",
      "data.validation=null",
      "data.test=null",
      `name=${name}`,
      ...settings,
    ],
  });

/** What the last run said. */
let output = "";
const said = (): string => output;

/** The steps of a run, and what was logged of them. */
async function run(name: string, ...settings: string[]): Promise<SearchTrajectory[]> {
  asked = 0;
  output = "";
  const training = await open(name, ...settings);
  try {
    const all: SearchTrajectory[] = [];
    for await (const { scored } of training.steps()) all.push(...scored.map(({ trajectory }) => trajectory));
    return all;
  } finally {
    await training.close();
  }
}

/** Documents that tell which prompt they answer. */
const documents = (prompt: string): string =>
  `Doc 1: ${/Query: (.*)/.exec(prompt)?.[1] ?? ""}\nDoc 2: ${/(\w+) Output/.exec(prompt)?.[1] ?? ""}\nDoc 3: end\nDoc 4: cut`;

describe("a run whose simulator is behind an endpoint", () => {
  it("trains on what the server writes, counts every request and retry, and repeats with a server that does", async () => {
    reply = (n, prompt) => (n === 1 ? { status: 503, body: "busy" } : completion(documents(prompt)));
    const first = await run("first");
    const searches = first.flatMap((one) => one.searches.map((search) => ({ ...search, one })));
    expect(searches.length).toBeGreaterThan(10);
    for (const { query, kind, text: shown, turn, one } of searches) {
      expect(shown).toContain(`Doc 2: ${kind === "useful" ? "Useful" : "Noisy"}\nDoc 3: end`);
      expect(shown).not.toContain("cut");
      if (!/[<[\ufffd]/.test(query)) expect(shown).toContain(`Doc 1: ${query}`.trim());
      // From 0.25 to 1 over two steps.
      expect(kind).toBe(drawKind(1, one.key, turn, one.key.step === 2 ? 1 : 0.5));
    }
    expect(said()).toMatch(
      /simulator: \S+\/chat\/completions: HTTP 503: "busy"; trying again for up to 900 s \(simulator.endpointPatience\)\n/,
    );
    expect(said()).toMatch(/simulator: answers again, after \d+ s and 1 retry\n/);
    const rows = readRows(join(folder, "runs", "first", "metrics.jsonl"));
    const sum = (name: string): number => rows.reduce((total, row) => total + Number(row[`time/simulator_${name}`]), 0);
    expect(sum("requests")).toBe(searches.length);
    expect(sum("retries")).toBe(1);
    expect(sum("completion_tokens")).toBe(7 * searches.length);
    expect(sum("seconds")).toBeGreaterThan(0);

    reply = (_, prompt) => ({ ...completion(documents(prompt)), delay: 3 });
    expect(await run("again", "simulator.endpointConcurrency=3")).toEqual(first);
  });

  it("writes the key nowhere", () => {
    const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => statSync(join(folder, name)).isFile());
    expect(files).toContain(join("runs", "first", "config.yaml"));
    for (const file of files) expect(readFileSync(join(folder, file)).includes(key), file).toBe(false);
    const answered = server.asked.filter(({ headers }) => headers.authorization === `Bearer ${key}`);
    expect(answered).toHaveLength(server.asked.length);
  });

  it("ends with the server's error when it fails in the middle", async () => {
    reply = (n, prompt) => (n === 5 ? { status: 400, body: { error: { message: "no such thing" } } } : completion(documents(prompt)));
    await expect(run("failing")).rejects.toThrow(/\/v1\/chat\/completions: HTTP 400: "no such thing"\n {2}search.onFailure=void goes on/);
  });

  it("goes on without the results of searches that fail, and of those too long in any case, counts them, and says so once a step", async () => {
    const long: Reply = { status: 400, body: { error: { message: "maximum context length is 9 tokens" } } };
    const refused: Reply = { status: 400, body: { error: { message: "no such thing" } } };
    reply = (n, prompt) => (n === 2 ? long : n === 4 || n === 5 ? refused : n === 6 ? completion("") : completion(documents(prompt)));
    const all = (await run("void", "search.onFailure=void")).flatMap(({ searches }) => searches);
    const failed = all.filter(({ failure }) => failure !== undefined);
    expect(failed).toHaveLength(3);
    for (const { documents: none, text } of failed) expect({ none, text }).toEqual({ none: [], text: "No information available" });
    const [first] = readRows(join(folder, "runs", "void", "metrics.jsonl"));
    expect(first).toMatchObject({ "search/failed": 3, "search/empty": 1, "search/cut": 0 });
    expect(said().match(/warning: step 1: 3 of \d+ searches failed, and were shown as without results: .*HTTP 400.*\n/g)).toHaveLength(1);
    expect(said().match(/warning: step 1: 1 of \d+ searches were answered with empty documents\n/g)).toHaveLength(1);
    expect(said()).not.toMatch(/warning: step 2: .*search/);

    reply = (n, prompt) => (n === 2 ? long : completion(documents(prompt)));
    expect((await run("too-long")).flatMap(({ searches }) => searches).filter(({ failure }) => failure !== undefined)).toHaveLength(1);
  });

  it("shares its requests between several endpoints, and trains on the same", async () => {
    reply = (_, prompt) => completion(documents(prompt));
    const one = await run("one");
    const other = await openChatServer(({ path, body }, n) => {
      if (path.endsWith("/models")) return { body: { data: [{ id: "canned" }] } };
      const prompt = (body as { messages: { content: string }[] }).messages[1]?.content ?? "";
      return n % 4 === 3 ? { hangUp: true } : completion(documents(prompt));
    });
    expect(await run("two", `simulator.endpoint=${JSON.stringify([server.endpoint, other.endpoint])}`)).toEqual(one);
    await other.close();
    expect(other.asked.length).toBeGreaterThan(5);
    const rows = readRows(join(folder, "runs", "two", "metrics.jsonl"));
    const sum = (name: string): number => rows.reduce((total, row) => total + Number(row[`time/simulator_${name}`]), 0);
    expect(sum("requests")).toBe(one.flatMap(({ searches }) => searches).length);
    expect(sum("moved")).toBeGreaterThan(0);
    expect(sum("retries")).toBe(0);
    expect(said()).toMatch(/simulator: \S+\/chat\/completions: no answer \(.*\); the other endpoint takes its requests\n/);
  });

  it("does not begin without its server, its model or its key, and leaves no run behind", async () => {
    await expect(open("unknown", "simulator.endpointModel=other")).rejects.toThrow(
      /simulator.endpointModel: is not served at .*; expected one of canned, got "other"/,
    );
    await expect(open("keyless", "simulator.endpointKey=ZEROSEARCH_NO_SUCH_KEY")).rejects.toThrow(
      "simulator.endpointKey: the environment variable ZEROSEARCH_NO_SUCH_KEY is not set",
    );
    await expect(open("nowhere", "simulator.endpoint=http://127.0.0.1:9/v1")).rejects.toThrow(/127\.0\.0\.1:9\/v1\/models: no answer/);
    expect(readdirSync(join(folder, "runs")).sort()).toEqual(["again", "failing", "first", "one", "too-long", "two", "void"]);
  });
});

describe("a run on a real search engine", () => {
  it("trains without a simulator: its searches are real, and it has no curriculum", async () => {
    asked = 0;
    const searches = (await run("real", "search.engine=bm25", "simulator.endpoint=null", "simulator.endpointKey=null")).flatMap(
      (one) => one.searches,
    );
    expect(searches.length).toBeGreaterThan(10);
    for (const { kind, documents: found, noiseProbability } of searches) {
      expect({ kind, noiseProbability }).toEqual({ kind: "real", noiseProbability: undefined });
      expect(found.every(({ id, score }) => id !== undefined && score !== undefined)).toBe(true);
    }
    expect(searches.some(({ documents: found }) => found.length > 0)).toBe(true);
    expect(asked).toBe(0);
    const rows = readRows(join(folder, "runs", "real", "metrics.jsonl"));
    expect(rows.map((row) => "curriculum/noise_probability" in row)).toEqual([false, false]);
  });
});
