/** `zerosearch download`, and the models of a configuration: what is printed, and what a run remembers. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { run } from "../../src/commands/index.ts";
import { readOverride } from "../../src/config/source.ts";
import { printConfig } from "../../src/config/print.ts";
import { resolveConfig } from "../../src/config/resolve.ts";
import type { Config } from "../../src/config/schema.ts";
import { findShown } from "../../src/setup/download-progress.ts";
import { locateConfigModels } from "../../src/setup/locate-models.ts";
import { startHubServer, type HubServer } from "../helpers/hub-server.ts";

const commit = "0123456789".repeat(4);
const moved = "9876543210".repeat(4);
const secret = "hf_doNotShowThis";
const model = { "config.json": "{}", "tokenizer.json": "{}", "model.safetensors": Buffer.alloc(3 * 2 ** 20, "w") };
let server: HubServer;
let folder: string;
let out: string, err: string;
beforeAll(async () => {
  const adapter = { "adapter_config.json": "{}", "adapter_model.safetensors": "a" };
  server = await startHubServer({
    "org/model": { commit, files: model, refs: ["v1"] },
    "org/adapter": { commit, files: adapter },
    "org/gated": { commit, files: model, gatedFor: [] },
  });
});
afterAll(() => server.close());
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-hub-"));
  for (const [name, value] of Object.entries({ HF_HOME: folder, HF_ENDPOINT: server.url, HF_TOKEN: secret })) vi.stubEnv(name, value);
  for (const name of ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]) vi.stubEnv(name, "");
  out = err = "";
  server.requests.length = server.faults.length = 0;
  vi.spyOn(process.stdout, "write").mockImplementation((text) => ((out += String(text)), true));
  vi.spyOn(process.stderr, "write").mockImplementation((text) => ((err += String(text)), true));
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  expect(out + err).not.toContain(secret);
  expect(process.listenerCount("SIGINT")).toBe(0);
  process.exitCode = 0;
  rmSync(folder, { recursive: true, force: true });
});

const snapshot = (id: string, at = commit) => join(folder, "hub", `models--${id.replace("/", "--")}`, "snapshots", at);
const download = (...words: string[]) => run(["download", ...words]);

describe("zerosearch download", () => {
  it("prints the folder alone to stdout, and how it goes to stderr", async () => {
    await download("org/model");
    expect(out).toBe(`${snapshot("org/model")}\n`);
    expect(err).toMatch(/^downloading org\/model @ 0123456, MiB 0\/3\.0 ░{20} {2}files 0\/3\n/);
    expect(err).toMatch(
      /\ndownloading org\/model @ 0123456, MiB 3\.0\/3\.0 █{20} {2}files 3\/3 {2}[\d,.]+ MiB\/s {2}\d\.\d s\norg\/model @ 0123456 downloaded from the Hub\n$/,
    );
    out = err = "";
    await download("org/model");
    expect([out, err]).toEqual([`${snapshot("org/model")}\n`, "org/model @ 0123456 from the Hub cache\n"]);
  });

  it("takes a revision, written either way, and adapters", async () => {
    await download("org/model", "--revision", "v1");
    await download("org/model@v1");
    await download("org/adapter", "--adapter");
    expect(out).toBe(`${snapshot("org/model")}\n`.repeat(2) + `${snapshot("org/adapter")}\n`);
    expect(existsSync(join(snapshot("org/model"), "..", "..", "refs", "v1"))).toBe(true);
    await download("org/model@v1", "--revision", "v1");
    expect(err).toContain("--revision: is given twice: org/model@v1 has one, too; got v1");
    expect(process.exitCode).toBe(1);
  });

  it.each([
    [[], "zerosearch download: no model is named; expected an id such as Qwen/Qwen2.5-3B\n"],
    [["org/gated"], "org/gated: org/gated is gated: its owner lets in who asks, and the token of HF_TOKEN is not let in (the Hub says: "],
    [
      ["nothing"],
      "nothing: there is no folder nothing; expected a folder with config.json, or a Hub id such as Qwen/Qwen2.5-3B, got nothing\n",
    ],
    [["org/model", "--revison", "v1"], "argument --revison: unknown option\n  did you mean --revision?\n"],
  ])("%j is a mistake in words", async (words, message) => {
    await download(...words);
    expect(err).toContain(message);
    expect([out, process.exitCode]).toEqual(["", 1]);
  });

  it("stops at Ctrl-C, with exit code 130, and says how to go on", async () => {
    server.faults.push({ file: "model.safetensors", times: 1, stallAfter: 2 ** 20 });
    const running = download("org/model");
    await vi.waitFor(() => expect(server.requests.some((request) => request.server === "content")).toBe(true), 10_000);
    process.emit("SIGINT", "SIGINT");
    await running;
    expect(err).toMatch(/Interrupted: the same command goes on where this one stopped\.\n$/);
    expect([out, process.exitCode]).toEqual(["", 130]);
  });

  it("explains itself, its environment variables too", async () => {
    await download("--help");
    expect(out).toContain("Usage: zerosearch download ID [options]");
    for (const name of ["--revision", "--adapter", "HF_HOME", "HF_HUB_CACHE", "HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"])
      expect(out).toContain(name);
  });
});

describe("the models of a configuration", () => {
  const stream = { text: "", write: (text: string) => (stream.text += text) };
  const local = () => {
    mkdirSync(join(folder, "mine"));
    writeFileSync(join(folder, "mine", "config.json"), "{}");
    return join(folder, "mine");
  };
  const configOf = (...settings: string[]) => resolveConfig(["data.train=t", ...settings].map(readOverride));
  const locate = (config: Config) =>
    locateConfigModels(config, {}, (source, where, kind) => findShown(source, { where, kind }, stream, `${where} `));
  beforeEach(() => (stream.text = ""));

  it("are found under every key that takes one; folders stay as they are, ids become folders", async () => {
    const mine = local();
    const config = configOf(
      "model.policy=org/model",
      "model.referencePolicy=org/model@v1",
      "algorithm.klCoef=0.1",
      `simulator.path=${mine}`,
      "simulator.adapter=org/adapter",
      "lora.from=org/adapter",
    );
    const { opened, pinned } = await locate(config);
    expect([opened.model.policy, opened.model.referencePolicy, opened.simulator.path]).toEqual([
      snapshot("org/model"),
      snapshot("org/model"),
      mine,
    ]);
    expect([opened.lora.from, opened.simulator.adapter]).toEqual([snapshot("org/adapter"), snapshot("org/adapter")]);
    expect(pinned.model.policy).toBe(`org/model@${commit}`);
    expect({ ...pinned, model: 0, lora: 0, simulator: 0 }).toEqual({ ...config, model: 0, lora: 0, simulator: 0 });
    expect(stream.text).toContain("model.policy org/model @ 0123456 downloaded from the Hub\n");
    expect(stream.text).toContain("model.referencePolicy org/model @ 0123456 from the Hub cache\n");
    expect(stream.text).not.toContain("mine");
  });

  it("that are pinned are the same when the branch has moved", async () => {
    const config = configOf("model.policy=org/model", `simulator.path=${local()}`);
    const { pinned } = await locate(config);
    const files = { ...model, "config.json": '{"changed": true}' };
    server.repos.set("org/model", { commit: moved, files });
    await download("org/model");
    expect((await locate(config)).opened.model.policy).toBe(snapshot("org/model", moved));
    // What a run saves and is resumed from.
    expect(printConfig(pinned)).toContain(`policy: org/model@${commit}\n`);
    expect((await locate(pinned)).opened.model.policy).toBe(snapshot("org/model"));
  });

  it("that nobody asks are not looked for, are not opened, and stay in what is saved", async () => {
    const unused = ["simulator.path=org/none", "simulator.adapter=org/none", "data.corpus=c"];
    for (const other of ["rollout.method=direct", "search.engine=bm25"]) {
      const config = configOf("model.policy=org/model", other, ...unused);
      const { located, opened, pinned } = await locate(config);
      expect([located.simulator, opened.simulator.path, opened.simulator.adapter]).toEqual([null, null, null]);
      expect(pinned).toEqual({ ...config, model: { ...config.model, policy: pinned.model.policy } });
      expect(pinned.model.policy).toMatch(/^org\/model@[0-9a-f]{40}$/);
    }
  });

  it("that cannot be found are an error under their key", async () => {
    const config = configOf("model.policy=org/none", `simulator.path=${local()}`);
    await expect(locate(config)).rejects.toThrow(/^model\.policy: there is no model org\/none at /);
  });
});
