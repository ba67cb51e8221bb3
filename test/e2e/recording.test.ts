/** A run whose searches were kept is run again without its engines, to the same bits. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openDatabase } from "../../src/search/sqlite.ts";
import { completion, openChatServer, type ChatServer } from "../helpers/chat-server.ts";
import { buildIfStale, readRows, settingsFor, shortRun, start, train, type Ended } from "../helpers/program.ts";
import { root, tinyQuickstart } from "../helpers/tiny-quickstart.ts";

let folder: string;
let models: string;
let server: ChatServer;
let settings: string[];
const key = "sk-secret-of-the-endpoint";

beforeAll(async () => {
  buildIfStale();
  models = await tinyQuickstart();
  folder = mkdtempSync(join(tmpdir(), "zerosearch-recording-"));
  // A server, and a real engine, that never say the same twice.
  let answers = 0;
  server = await openChatServer(({ path }) =>
    path.endsWith("/models") ? { body: { data: [{ id: "m" }] } } : completion(`Doc 1: answer ${++answers}`),
  );
  const web = join(folder, "web.js");
  writeFileSync(
    web,
    'let n = 0;\nexport default () => ({ name: "web", search: async ({ query }) => ({ documents: [{ text: `${query} ${++n} ${process.pid}` }], kind: "real" }), close: async () => undefined });\n',
  );
  settings = [
    ...[...shortRun, ...settingsFor(models, folder)].filter((one) => !one.startsWith("simulator.path")),
    ...[
      "train.steps=3",
      "simulator.path=null",
      `simulator.endpoint=${server.endpoint}`,
      "simulator.endpointKey=ENDPOINT_KEY",
      `evaluation.engine=${web}`,
    ],
  ];
});
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

const file = (name: string): string => join(folder, name);
const run = (name: string, ...more: string[]): Promise<Ended> =>
  train([...settings, `name=${name}`, ...more], { env: { ENDPOINT_KEY: key } });
/** All that a run did, without its times. */
const traces = (name: string): unknown => ({
  rollouts: readRows(file(`runs/${name}/rollouts.jsonl`)),
  metrics: readRows(file(`runs/${name}/metrics.jsonl`)).map((row) =>
    Object.fromEntries(Object.entries(row).filter(([key]) => !key.startsWith("time/"))),
  ),
  judged: readRows(file(`runs/${name}/judged.jsonl`)),
  weights: readFileSync(file(`checkpoints/${name}/policy/model.safetensors`)).toString("base64"),
});

describe("a run with search.record", () => {
  it("keeps every search, and no key", async () => {
    const ended = await run("first", `search.record=${file("kept.sqlite")}`);
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    const database = await openDatabase("test", file("kept.sqlite"));
    const { rows } = await database.execute("select name, count(*) as n from searches s join engines e on e.id = s.engine group by name");
    database.close();
    const counts = Object.fromEntries(rows.map((row) => [String(row["name"]), Number(row["n"])]));
    const rollouts = readRows(file("runs/first/rollouts.jsonl")) as { searches: unknown[] }[];
    const searches = rollouts.reduce((sum, row) => sum + row.searches.length, 0);
    expect(searches).toBeGreaterThan(10);
    expect(counts["simulated"]).toBeGreaterThanOrEqual(searches);
    expect(counts["web.js"] ?? counts["web"] ?? counts[file("web.js")]).toBeGreaterThan(0);
    const metrics = readRows(file("runs/first/metrics.jsonl")) as Record<string, number>[];
    expect(metrics[0]!["time/search_recorded"]).toBeGreaterThan(0);
    expect(metrics[0]!["time/search_replayed"]).toBe(0);
    expect(readFileSync(file("kept.sqlite")).includes(key)).toBe(false);
    expect(readdirSync(folder).filter((name) => name.startsWith("kept"))).toEqual(["kept.sqlite"]);
  });

  it("runs again by search.replay without server and key, to the same bits", async () => {
    await server.close();
    const ended = await train([...settings, "name=again", `search.replay=${file("kept.sqlite")}`], { env: { ENDPOINT_KEY: "" } });
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    expect(traces("again")).toEqual(traces("first"));
    const [metrics] = readRows(file("runs/again/metrics.jsonl")) as Record<string, number>[];
    expect(metrics!["time/search_replayed"]).toBeGreaterThan(0);
  });

  it("says what is missing where another run is replayed, and keeps what is whole", async () => {
    const ended = await run("other", "seed=2", `search.replay=${file("kept.sqlite")}`);
    expect(ended.code).toBe(1);
    expect(ended.stderr).toMatch(
      /search\.replay=.*kept\.sqlite: holds no answer of simulated to ".*" \(rollout .*, turn 1\); expected every search of the run/,
    );
    expect(ended.stderr).toContain("With search.record as well, and the same file");
  });
});

describe("zerosearch evaluate", () => {
  it("judges again offline what was judged with a recording", async () => {
    const evaluate = (...more: string[]): Promise<Ended> =>
      start(process.execPath, [
        ...[join(root, "bin", "zerosearch.js"), "evaluate", "--run", "first", ...settings.filter((one) => one.startsWith("output."))],
        ...more,
      ]);
    const record = await evaluate("--out", file("live"), `search.record=${file("judged.sqlite")}`, "evaluation.robustness=false");
    expect(record).toMatchObject({ code: 0, stderr: "" });
    // Every query of the program's another process id.
    const replay = await evaluate("--out", file("offline"), `search.replay=${file("judged.sqlite")}`, "evaluation.robustness=false");
    expect(replay).toMatchObject({ code: 0, stderr: "" });
    expect(readRows(file("offline/judged.jsonl"))).toEqual(readRows(file("live/judged.jsonl")));
    const live = await evaluate("--out", file("other"), "evaluation.robustness=false");
    expect(live.code).toBe(0);
    expect(readRows(file("other/judged.jsonl"))).not.toEqual(readRows(file("live/judged.jsonl")));
  });
});
