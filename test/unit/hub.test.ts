/** Models in the local Hub cache and as folders, without a network; what a person is told where there is none. */
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { inspect } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { findModel, locateModel, type LocateOptions } from "../../src/hub/find-model.ts";
import { readHubSettings } from "../../src/hub/settings.ts";
import { parseHubId } from "../../src/hub/source.ts";
import { readOverride } from "../../src/config/source.ts";
import { packageFolder } from "../../src/config/package-folder.ts";
import { resolveConfig } from "../../src/config/resolve.ts";
import { messageOf } from "../helpers/message-of.ts";

const id = "Qwen/Qwen2.5-3B";
const commit = "3aab1f1954e9cc14eb9509a215f9e5ca08227a9b";
const other = "aa8e72537993ba99e69dfaafa59ed015b17504d1";

let folder: string;
let options: LocateOptions;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-hub-"));
  // An address where nobody answers: whoever asks it fails.
  options = { env: { HF_HOME: folder, HF_ENDPOINT: "http://127.0.0.1:9", HF_HUB_OFFLINE: "1" } };
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const index = (files: readonly string[]) => JSON.stringify({ weight_map: Object.fromEntries(files.map((file, i) => [`t${i}`, file])) });
const shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
const whole = { "config.json": "{}", "tokenizer.json": "{}", "model.safetensors": "w" };
const sharded = {
  "config.json": "{}",
  "tokenizer.json": "{}",
  "model.safetensors.index.json": index(shards),
  [shards[0]!]: "1",
  [shards[1]!]: "2",
};

/** Writes files into the cache as Python does: blobs, and relative links to them; or as on Windows, the files themselves. */
function cache(files: Readonly<Record<string, string>>, at = commit, { links = true, refs = ["main"] } = {}): string {
  const repo = join(folder, "hub", "models--Qwen--Qwen2.5-3B");
  const snapshot = join(repo, "snapshots", at);
  for (const one of [join(repo, "blobs"), join(repo, "refs"), snapshot]) mkdirSync(one, { recursive: true });
  for (const [name, text] of Object.entries(files)) {
    const hash = createHash("sha256").update(text).digest("hex");
    if (!links) writeFileSync(join(snapshot, name), text);
    else {
      writeFileSync(join(repo, "blobs", hash), text);
      symlinkSync(join("..", "..", "blobs", hash), join(snapshot, name));
    }
  }
  for (const ref of refs) {
    mkdirSync(resolve(repo, "refs", ref, ".."), { recursive: true });
    writeFileSync(join(repo, "refs", ref), at);
  }
  return snapshot;
}

describe("a model that is given", () => {
  it("is a folder where there is one with config.json, whatever the cache has under that name", async () => {
    cache(whole);
    const local = join(folder, "model");
    mkdirSync(local);
    writeFileSync(join(local, "config.json"), "{}");
    expect(await findModel(local, options)).toEqual({ folder: local, from: "folder", hub: null });
    // Also one that is called as a Hub id, in the working directory.
    const here = process.cwd();
    mkdirSync(join(folder, id), { recursive: true });
    writeFileSync(join(folder, id, "config.json"), "{}");
    process.chdir(folder);
    try {
      expect(await locateModel(id, options)).toBe(id);
    } finally {
      process.chdir(here);
    }
  });

  it("is the commit that refs/main names, read from the cache without a request", async () => {
    cache(whole, other, { refs: [] });
    const snapshot = cache(whole);
    expect(await findModel(id, options)).toEqual({ folder: snapshot, from: "cache", hub: { id, commit } });
    expect(await locateModel(id, { env: { HF_HOME: folder, HF_ENDPOINT: "http://127.0.0.1:9" } })).toBe(snapshot);
  });

  it("is complete when every weight file that the index lists is there", async () => {
    const snapshot = cache(sharded);
    expect(await locateModel(id, options)).toBe(snapshot);
  });

  it("may lie in the snapshot itself, where links cannot be made", async () => {
    const snapshot = cache(sharded, commit, { links: false });
    expect(await locateModel(id, options)).toBe(snapshot);
  });

  it.each([
    [commit, commit],
    ["3aab1f1", commit],
    ["v1.0", other],
    ["refs/pr/3", other],
  ])("may be pinned: @%s is %s", async (revision, expected) => {
    cache(whole);
    cache(whole, other, { refs: ["v1.0", "refs/pr/3"] });
    expect((await findModel(`${id}@${revision}`, options)).hub).toEqual({ id, commit: expected });
  });

  it("is in the first folder that HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME and the home directory name", async () => {
    const all = { HF_HUB_CACHE: "/a", HUGGINGFACE_HUB_CACHE: "/b", HF_HOME: "/c", XDG_CACHE_HOME: "/d" };
    const found: string[] = [];
    for (const name of [null, ...Object.keys(all)] as (keyof typeof all | null)[]) {
      if (name !== null) Object.assign(all, { [name]: "" });
      found.push((await readHubSettings(all)).cache);
    }
    const expected = ["/a", "/b", "/c/hub", "/d/huggingface/hub", join(homedir(), ".cache", "huggingface", "hub")];
    expect(found).toEqual(expected.map((path) => resolve(path)));
    expect((await readHubSettings({ HF_HOME: "~/hf" })).cache).toBe(join(homedir(), "hf", "hub"));
  });

  it("may be an adapter: adapter_config.json and adapter_model.safetensors", async () => {
    const snapshot = cache({ "adapter_config.json": "{}", "adapter_model.safetensors": "w" });
    expect(await locateModel(id, { ...options, kind: "adapter" })).toBe(snapshot);
    expect(await messageOf(locateModel(id, options))).toContain("only in part (config.json, tokenizer.json, model.safetensors missing");
  });
});

describe("a name", () => {
  it.each(["Qwen/Qwen2.5-3B", "meta-llama/Llama-3.2-3B-Instruct", "a/b@main", "a/b@refs/pr/1"])("%s can be a Hub id", (text) => {
    expect(parseHubId(text)).not.toBeNull();
  });

  it.each([
    "policy",
    "./Qwen/x",
    "../x",
    "/a/b",
    "a/b/c",
    "a/",
    "a\\b",
    "C:/x",
    "~/x",
    "a/b--c",
    "a/b..c",
    "a/.b",
    "a/b.git",
    "a/b@",
    "a/b@../../x",
    "a/b@/etc",
    "a/b@x@y",
    "a/b@refs/..",
    `a/${"b".repeat(95)}`,
    "",
  ])("%j cannot", (text) => {
    expect(parseHubId(text)).toBeNull();
  });

  it("passes through the configuration as it was written; {package} still stands for the package's folder", () => {
    const config = resolveConfig(
      [
        "model.policy=Qwen/Qwen2.5-3B@main",
        "simulator.path={package}/checkpoints/x",
        "simulator.adapter=org/adapter",
        "lora.from=./org/adapter",
        "data.train=t",
      ].map(readOverride),
    );
    expect([config.model.policy, config.simulator.adapter, config.lora.from]).toEqual([
      "Qwen/Qwen2.5-3B@main",
      "org/adapter",
      "./org/adapter",
    ]);
    expect(resolve(config.simulator.path ?? "")).toBe(join(packageFolder, "checkpoints", "x"));
  });
});

describe("where nobody may be asked", () => {
  it("a model that is not in the cache is an error that says the three ways to get it, and both readings of its name", async () => {
    const message = await messageOf(locateModel(id, { ...options, where: "model.policy" }));
    expect(message).toMatch(
      /^model\.policy: Qwen\/Qwen2\.5-3B is neither a folder nor in the local Hub cache, and the Hub may not be asked: HF_HUB_OFFLINE is set\n/,
    );
    expect(message).toContain("1. with a network, here: npx zerosearch download Qwen/Qwen2.5-3B (HF_ENDPOINT=URL takes a mirror)");
    expect(message).toMatch(
      /2\. on another machine: the same, or Python's hf download Qwen\/Qwen2\.5-3B; then copy .*models--Qwen--Qwen2\.5-3B from there into .*\/hub/,
    );
    expect(message).toMatch(/3\. as a folder: git clone http:\/\/127\.0\.0\.1:9\/Qwen\/Qwen2\.5-3B /);
    expect(message).toContain(`If a folder was meant: there is none at ${resolve(id)}.`);
    expect(await messageOf(locateModel(id, { env: { HF_HOME: folder, TRANSFORMERS_OFFLINE: "yes" } }))).toContain(
      "TRANSFORMERS_OFFLINE is set",
    );
  });

  it("a mistyped folder that looks like an id is answered with the folders that are there", async () => {
    expect(await messageOf(locateModel("test/unnit", options))).toMatch(/If a folder was meant: .*\n.*test has unit, /);
  });

  it.each([
    ["a weight file", [shards[1]!]],
    ["the tokenizer", ["tokenizer.json"]],
    ["both", ["tokenizer.json", shards[0]!]],
  ])("a model that lacks %s is said to be there in part, with what is missing", async (_, lacking) => {
    const rest = Object.fromEntries(Object.entries(sharded).filter(([name]) => !lacking.includes(name)));
    cache(rest);
    expect(await messageOf(locateModel(id, options))).toContain(
      `is in the local Hub cache only in part (${lacking.join(", ")} missing in `,
    );
  });

  it("a link that leads nowhere counts as missing, and an index that leads out of the folder is none", async () => {
    const snapshot = cache(whole);
    rmSync(join(snapshot, "model.safetensors"));
    symlinkSync("../../blobs/none", join(snapshot, "model.safetensors"));
    expect(await messageOf(locateModel(id, options))).toContain("(model.safetensors missing");
    const climbing = cache(
      { "config.json": "", "tokenizer.json": "", "model.safetensors.index.json": index(["../../x.safetensors"]) },
      other,
    );
    expect(await messageOf(locateModel(id, options))).toContain(`(a readable model.safetensors.index.json missing in ${climbing}`);
  });

  it("other commits of a model are named where the asked one is not there", async () => {
    cache(whole, other, { refs: [] });
    expect(await messageOf(locateModel(id, options))).toContain(`which has other commits of it (${other}; one is taken as ${id}@aa8e725)`);
  });
});

describe("a folder that is none", () => {
  it("is never silently taken for a Hub id", async () => {
    cache(whole);
    const local = join(folder, "models", "empty");
    mkdirSync(local, { recursive: true });
    writeFileSync(join(local, "adapter_config.json"), "{}");
    expect(await messageOf(locateModel(local, options))).toMatch(/empty has no config\.json; expected .*\n {2}It is a LoRA adapter/);
    expect(await messageOf(locateModel("test/unit", options))).toMatch(/test\/unit has no config\.json; .*\n.*never taken for a Hub id/);
    expect(await messageOf(locateModel("package.json", options))).toContain("It is a file: give the folder it is in.");
  });

  it("was cloned without its weights: that is said, and how to get them", async () => {
    const local = join(folder, "clone");
    mkdirSync(local);
    for (const [name, text] of Object.entries(sharded)) writeFileSync(join(local, name), text);
    expect(await locateModel(local, options)).toBe(local);
    writeFileSync(join(local, shards[0]!), "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 5\n");
    expect(await messageOf(locateModel(local, options))).toBe(
      `${local}: ${local} was cloned without its weights: ${shards[0]!} is a pointer of git-lfs\n  Install git-lfs, then: cd ${local} && git lfs pull`,
    );
  });

  it("is answered with what is beside it", async () => {
    mkdirSync(join(folder, "models", "mine"), { recursive: true });
    expect(await messageOf(locateModel(join(folder, "models", "mien"), options))).toMatch(
      /there is no folder .*mien; .*\n.*models has mine\./,
    );
    expect(await messageOf(locateModel("~/models/mine", options))).toContain("~ is not expanded here");
  });
});

describe("an access token", () => {
  const secret = "hf_doNotShowThis";

  it("comes from HF_TOKEN, then HUGGING_FACE_HUB_TOKEN, then the file HF_TOKEN_PATH, then HF_HOME/token", async () => {
    writeFileSync(join(folder, "token"), `${secret}-home\n`);
    writeFileSync(join(folder, "mine"), `${secret}-path`);
    const env: Record<string, string> = {
      HF_TOKEN: `${secret}-1`,
      HUGGING_FACE_HUB_TOKEN: `${secret}-2`,
      HF_TOKEN_PATH: join(folder, "mine"),
      HF_HOME: folder,
    };
    const found: string[] = [];
    for (const name of ["", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"]) {
      env[name] = "";
      found.push((await readHubSettings(env)).token?.header() ?? "");
    }
    expect(found).toEqual(["1", "2", "path", "home"].map((end) => `Bearer ${secret}-${end}`));
    expect((await readHubSettings({ HF_HOME: join(folder, "none") })).token).toBeNull();
  });

  it("is not shown by printing the settings, by JSON, nor by the complaint about a wrong one", async () => {
    const settings = await readHubSettings({ HF_TOKEN: secret, HF_HOME: folder });
    expect(settings.token).not.toBeNull();
    for (const text of [JSON.stringify(settings), inspect(settings, { depth: 9, showHidden: true }), String(settings.token)])
      expect(text).not.toContain(secret);
    expect(await messageOf(readHubSettings({ HF_TOKEN: `${secret}\nx` }))).toBe(
      "HF_TOKEN: holds no access token: it has spaces, line breaks or other letters in it",
    );
    for (const endpoint of [`https://user:${secret}@mirror`, `//${secret}`]) {
      const message = await messageOf(readHubSettings({ HF_ENDPOINT: endpoint }));
      expect(message).toMatch(/^HF_ENDPOINT: /);
      expect(message).not.toContain(secret);
    }
  });
});
