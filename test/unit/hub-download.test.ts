/** Downloads from a Hub on this machine: what is fetched, how it is gone on with, what is refused, and who sees the access token. */
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { scanCachedRepo } from "@huggingface/hub";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { findModel, locateModel, type DownloadProgress, type LocateOptions } from "../../src/hub/find-model.ts";
import { gitSha1, sha256, silentUrl, startHubServer, type HubRepo, type HubServer } from "../helpers/hub-server.ts";
import { messageOf } from "../helpers/message-of.ts";

const commit = "c".repeat(40);
const newer = "d".repeat(40);
const secret = "hf_doNotShowThis";
/** Bytes that do not repeat, so that a piece in the wrong place is seen. */
const bytes = (length: number, seed: number): Buffer => {
  const content = Buffer.alloc(length);
  for (let i = 0, x = seed; i < length; i++) content[i] = (x = (Math.imul(x, 1103515245) + 12345) >>> 0) >>> 24;
  return content;
};
const shards = { "model-00001-of-00002.safetensors": bytes(300_000, 1), "model-00002-of-00002.safetensors": bytes(200_001, 2) };
const [first, second] = Object.keys(shards) as [keyof typeof shards, keyof typeof shards];
const files = {
  "config.json": '{"model_type": "llama"}',
  "generation_config.json": "{}",
  "tokenizer.json": '{"version": "1.0"}',
  "tokenizer_config.json": "",
  "model.safetensors.index.json": JSON.stringify({ weight_map: { a: first, b: second, c: first } }),
  ...shards,
};
/** What no one needs. */
const others = {
  ".gitattributes": "x",
  "README.md": "x",
  "pytorch_model.bin": "x",
  "consolidated.safetensors": "x",
  "model.fp16.safetensors": "x",
  "original/consolidated.00.pth": "x",
  "onnx/model.onnx": "x",
  "x.gguf": "x",
};
const adapter = { "adapter_config.json": "{}", "adapter_model.safetensors": bytes(1000, 3), "README.md": "x", "tokenizer.json": "{}" };
const repos: Readonly<Record<string, HubRepo>> = {
  "org/model": { commit, files: { ...others, ...files }, refs: ["v1.0"] },
  "org/single": {
    commit,
    files: { "config.json": "{}", "tokenizer.json": "{}", "model.safetensors": bytes(2_000_000, 4), LICENSE: "free" },
  },
  "org/adapter": { commit, files: adapter },
  "org/gated": { commit, files, gatedFor: [secret] },
  "org/private": { commit, files, privateTo: [secret] },
  "org/pickled": { commit, files: { "config.json": "{}", "tokenizer.json": "{}", "pytorch_model.bin": "x" } },
};

let server: HubServer;
let folder: string;
let options: LocateOptions & { readonly env: Readonly<Record<string, string>> };
let notes: string[];
let progress: DownloadProgress[];
beforeAll(async () => {
  server = await startHubServer(repos);
});
afterAll(() => server.close());
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-hub-"));
  notes = [];
  progress = [];
  options = {
    env: { HF_HOME: folder, HF_ENDPOINT: server.url },
    onNote: (note) => notes.push(note),
    onProgress: (one) => progress.push(one),
    patience: { stall: 10_000, waits: [1, 1, 1] },
    lockTimes: { beat: 20, look: 5, ended: 60, silent: 2000 },
  };
  server.requests.length = 0;
  server.faults.length = 0;
  server.pageSize = 1000;
  server.pagesAt = null;
  server.cursor = null;
  server.listing = undefined;
  server.apiFaults = null;
  for (const [id, repo] of Object.entries(repos)) server.repos.set(id, repo);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const repoOf = (id: string) => join(folder, "hub", `models--${id.replace("/", "--")}`);
const contentRequests = () => server.requests.filter((request) => request.server === "content");
const leftovers = (id = "org/model") => readdirSync(join(repoOf(id), "blobs")).filter((name) => !/^[0-9a-f]+$/.test(name));

describe("a download", () => {
  it("fetches what a model is made of and nothing else, and leaves the layout that Python's tools know", async () => {
    server.pageSize = 3;
    const found = await findModel("org/model", options);
    const snapshot = join(repoOf("org/model"), "snapshots", commit);
    expect(found).toEqual({ folder: snapshot, from: "download", hub: { id: "org/model", commit } });
    expect(readdirSync(snapshot)).toEqual(Object.keys(files).sort());
    for (const [name, content] of Object.entries(files)) {
      const etag = name.endsWith(".safetensors") ? sha256(content) : gitSha1(content);
      expect(readlinkSync(join(snapshot, name))).toBe(join("..", "..", "blobs", etag));
      expect(readFileSync(join(snapshot, name)).equals(Buffer.from(content))).toBe(true);
    }
    expect(readFileSync(join(repoOf("org/model"), "refs", "main"), "utf8")).toBe(commit);
    expect(readdirSync(repoOf("org/model"))).toEqual(["blobs", "refs", "snapshots"]);
    expect(leftovers()).toEqual([]);
    expect(readdirSync(join(folder, "hub", ".locks", "models--org--model"))).toEqual([]);
    // An independent reader of the layout.
    const cached = await scanCachedRepo(repoOf("org/model"));
    expect(cached.revisions.map(({ commitOid, refs }) => [commitOid, refs])).toEqual([[commit, ["main"]]]);
    expect(cached.size).toBe(Object.values(files).reduce((sum, content) => sum + content.length, 0));
    // The listing came in pages; contents were asked of another origin.
    expect(server.requests.filter(({ path }) => path.includes("/tree/"))).toHaveLength(5);
    expect(contentRequests()).toHaveLength(2);
  });

  it("counts the bytes of all files, from the index alone to all", async () => {
    await locateModel("org/model", options);
    const total = Object.values(files).reduce((sum, content) => sum + content.length, 0);
    const index = files["model.safetensors.index.json"].length;
    const done = progress.map((one) => one.done);
    expect(done).toEqual([...done].sort((a, b) => a - b));
    expect(progress[0]).toEqual({ id: "org/model", commit, done: index, total, files: 2, allFiles: 7 });
    expect(progress.at(-1)).toEqual({ id: "org/model", commit, done: total, total, files: 7, allFiles: 7 });
    expect(done.some((count) => count > index && count < total)).toBe(true);
  });

  it("fetches a content once that two files have", async () => {
    const place = await locateModel("org/single", options);
    expect(server.requests.filter(({ path }) => path.includes("/resolve/"))).toHaveLength(3);
    expect(readlinkSync(join(place, "config.json"))).toBe(readlinkSync(join(place, "tokenizer.json")));
    expect(progress.at(-1)).toMatchObject({ done: 2_000_008, total: 2_000_008, files: 4, allFiles: 4 });
  });

  it("is not asked for again: what is in the cache needs no request", async () => {
    const found = await findModel("org/model@v1.0", options);
    expect(readFileSync(join(repoOf("org/model"), "refs", "v1.0"), "utf8")).toBe(commit);
    server.requests.length = 0;
    expect(await findModel("org/model@v1.0", options)).toEqual({ ...found, from: "cache" });
    expect(await findModel(`org/model@${commit}`, options)).toEqual({ ...found, from: "cache" });
    expect(server.requests).toEqual([]);
  });

  it("takes a single weight file where there is one, with the licence", async () => {
    expect(readdirSync(await locateModel("org/single", options)).sort()).toEqual([
      "LICENSE",
      "config.json",
      "model.safetensors",
      "tokenizer.json",
    ]);
  });

  it("takes the two files of an adapter", async () => {
    const place = await locateModel("org/adapter", { ...options, kind: "adapter" });
    expect(readdirSync(place).sort()).toEqual(["adapter_config.json", "adapter_model.safetensors"]);
    expect(await messageOf(locateModel("org/adapter", options))).toMatch(
      /holds no model; expected config\.json, got .*\n {2}It is a LoRA adapter/,
    );
    expect(await messageOf(locateModel("org/single", { ...options, kind: "adapter" }))).toMatch(
      /holds no LoRA adapter; .*\n {2}It is a model/,
    );
  });

  it("puts the files themselves into the snapshot where links may not be made", async () => {
    const env = { ...options.env, HF_HUB_DISABLE_SYMLINKS: "1" };
    const snapshot = await locateModel("org/model", { ...options, env });
    expect(readdirSync(snapshot).filter((name) => !lstatSync(join(snapshot, name)).isFile())).toEqual([]);
    expect(readdirSync(join(repoOf("org/model"), "blobs"))).toEqual([]);
    expect((await findModel("org/model", options)).from).toBe("cache");
  });

  it("asks for the newest commit on request, and fetches only what changed", async () => {
    await locateModel("org/model", options);
    server.repos.set("org/model", { ...repos["org/model"]!, commit: newer, files: { ...files, "config.json": '{"model_type": "qwen2"}' } });
    server.requests.length = 0;
    expect((await findModel("org/model", options)).hub?.commit).toBe(commit);
    expect(server.requests).toEqual([]);
    expect(await findModel("org/model", { ...options, update: true })).toMatchObject({ from: "download", hub: { commit: newer } });
    expect(contentRequests()).toEqual([]);
    expect((await findModel("org/model", options)).hub?.commit).toBe(newer);
    expect((await findModel(`org/model@${commit}`, options)).from).toBe("cache");
  });

  it("uses the cache, and says so, where the newest commit cannot be asked for", async () => {
    const found = await findModel("org/model", options);
    const env = { ...options.env, HF_ENDPOINT: await silentUrl() };
    expect(await findModel("org/model", { ...options, env, update: true })).toEqual({ ...found, from: "cache" });
    expect(await findModel("org/model", { ...options, env: { ...env, HF_HUB_OFFLINE: "1" }, update: true })).toEqual({
      ...found,
      from: "cache",
    });
    expect(notes).toEqual([
      expect.stringMatching(/^org\/model: the Hub cannot be asked \(.*refused.*\); taking c{40} from the cache$/),
      `org/model: the Hub is not asked, as HF_HUB_OFFLINE is set; taking ${commit} from the cache`,
    ]);
  });

  it("of two at the same time fetches every file once", async () => {
    const [one, two] = await Promise.all([findModel("org/model", options), findModel("org/model", options)]);
    expect(one.folder).toBe(two.folder);
    expect([one.from, two.from].sort()).toEqual(["cache", "download"]);
    expect(contentRequests()).toHaveLength(2);
    expect(notes).toEqual(["org/model: another program is fetching it; waiting"]);
    expect(readFileSync(join(one.folder, first)).equals(shards[first])).toBe(true);
  });
});

describe("an interrupted download", () => {
  it("goes on where the connection was cut, by a Range request", async () => {
    server.faults.push({ file: first, times: 1, cutAfter: 100_000 });
    const place = await locateModel("org/model", options);
    expect(readFileSync(join(place, first)).equals(shards[first])).toBe(true);
    const ranges = contentRequests()
      .filter(({ path }) => path.includes(first))
      .map(({ range }) => range);
    // A socket that is cut may take bytes with it that were sent.
    expect(ranges).toEqual([undefined, expect.stringMatching(/^bytes=\d+-$/)]);
    const from = Number(/\d+/.exec(ranges[1] as string)?.[0]);
    expect(from).toBeGreaterThan(0);
    expect(from).toBeLessThanOrEqual(100_000);
    const share = Math.floor((100 * from) / shards[first].length);
    expect(notes).toEqual([`${first} at ${share} %: the connection was cut (UND_ERR_SOCKET); again in 0.001 s (1 of 3)`]);
  });

  it("goes on in a later call, with what the earlier one left", async () => {
    server.faults.push({ file: first, times: 4, cutAfter: 50_000 });
    expect(await messageOf(locateModel("org/model", options))).toContain("the connection was cut");
    expect(leftovers()).toEqual([`${sha256(shards[first])}.zerosearch.incomplete`]);
    expect(existsSync(join(repoOf("org/model"), "snapshots", commit, first))).toBe(false);
    expect(existsSync(join(repoOf("org/model"), "refs"))).toBe(false);
    server.requests.length = 0;
    progress.length = 0;
    const place = await locateModel("org/model", options);
    expect(readFileSync(join(place, first)).equals(shards[first])).toBe(true);
    expect(contentRequests().map(({ range }) => range)).toEqual(["bytes=200000-"]);
    expect(progress[0]?.total).toBe(progress.at(-1)?.done);
    expect(progress.map(({ done }) => done).every((done, i, all) => i === 0 || done >= all[i - 1]!)).toBe(true);
    expect(leftovers()).toEqual([]);
  });

  it("gives a server up that stops sending", async () => {
    server.faults.push({ file: first, times: 1, stallAfter: 250_000 });
    await locateModel("org/model", { ...options, patience: { stall: 500, waits: [1, 1, 1] } });
    expect(notes).toContain(`${first} at 83 %: nothing came for 0.5 s; again in 0.001 s (1 of 3)`);
  });

  it("starts again where the server cannot go on in the middle", async () => {
    server.faults.push({ file: first, times: 1, cutAfter: 100_000 }, { file: first, times: 1, ignoreRange: true });
    const place = await locateModel("org/model", options);
    expect(readFileSync(join(place, first)).equals(shards[first])).toBe(true);
    expect(progress.at(-1)?.done).toBe(progress.at(-1)?.total);
    expect(notes.at(-1)).toContain("cannot go on in the middle of a file");
  });

  it("fetches a file from the start whose first part is damaged", async () => {
    const unfinished = join(repoOf("org/model"), "blobs", `${sha256(shards[first])}.zerosearch.incomplete`);
    for (const left of [Buffer.alloc(1000), Buffer.alloc(300_000), Buffer.alloc(400_000)]) {
      rmSync(repoOf("org/model"), { recursive: true, force: true });
      mkdirSync(dirname(unfinished), { recursive: true });
      writeFileSync(unfinished, left);
      const place = await locateModel("org/model", options);
      expect(readFileSync(join(place, first)).equals(shards[first])).toBe(true);
      expect(progress.at(-1)?.done).toBe(progress.at(-1)?.total);
    }
    expect(notes.filter((note) => note.includes("is damaged"))).toHaveLength(2);
  });

  it("takes up after a program that was killed while it held the lock", async () => {
    const lock = join(folder, "hub", ".locks", "models--org--model", "zerosearch.lock");
    mkdirSync(dirname(lock), { recursive: true });
    writeFileSync(lock, "another-machine 1 00000000-0000-0000-0000-000000000000 000000000007");
    await locateModel("org/model", { ...options, lockTimes: { beat: 20, look: 5, ended: 60, silent: 100 } });
    expect(notes).toEqual(["org/model: another program is fetching it; waiting"]);
    expect(existsSync(lock)).toBe(false);
  });

  it("fetches a file again that another tool left too short", async () => {
    const place = await locateModel("org/model", options);
    truncateSync(join(place, second), 5);
    await locateModel("org/model", { ...options, update: true });
    expect(statSync(join(place, second)).size).toBe(shards[second].length);
    expect(notes).toEqual([expect.stringContaining(`${sha256(shards[second])}: has 5 bytes instead of 200001; fetching it again`)]);
  });

  it("ends at a signal, and goes on in the next call", async () => {
    const interrupt = new AbortController();
    server.faults.push({ file: first, times: 1, stallAfter: 120_000 });
    const onProgress = ({ done }: DownloadProgress): void => {
      if (done >= 320_000) interrupt.abort(new Error("interrupted"));
    };
    const patience = { stall: 5000, waits: [1] };
    expect(await messageOf(locateModel("org/model", { ...options, onProgress, patience, signal: interrupt.signal }))).toBe("interrupted");
    await locateModel("org/model", options);
    expect(contentRequests().at(-1)?.range).toBe("bytes=120000-");
  });
});

describe("what is refused", () => {
  it("content that is not what its hash says: it is deleted, and nothing appears in the snapshot", async () => {
    for (const file of [first, "config.json"]) {
      rmSync(folder, { recursive: true });
      server.faults.push({ file, times: 1, corrupt: true });
      const message = await messageOf(locateModel("org/model", options));
      const etag = file === first ? sha256(files[first]) : gitSha1(files["config.json"]);
      expect(message).toMatch(new RegExp(`not the right one: its hash differs; expected ${etag}, got [0-9a-f]+\\n`));
      expect(message).toContain(`/org/model/resolve/${commit}/${file}: `);
      expect(existsSync(join(repoOf("org/model"), "snapshots", commit, file))).toBe(false);
      expect(leftovers().filter((name) => name.startsWith(etag))).toEqual([]);
    }
    await locateModel("org/model", options);
  });

  it.each(["../../x.safetensors", "/etc/x", "a/../../config.json", "..", "C:x", "a\\b", "a//b", "x\n", ""])(
    "a listing with the path %j",
    async (path) => {
      server.listing = [{ type: "file", oid: gitSha1(""), size: 0, path }];
      expect(await messageOf(locateModel("org/model", options))).toContain(
        "a path that leads out of the model's folder; expected plain names",
      );
      expect(readdirSync(folder)).toEqual([]);
    },
  );

  it.each([
    ["hash", { oid: "../../../x", size: 1 }],
    ["hash", { lfs: { oid: "A".repeat(64), size: 1 } }],
    ["hash", {}],
    ["size", { oid: gitSha1(""), size: -1 }],
    ["size", { oid: gitSha1(""), size: "7" }],
  ])("a listing without a %s that can be one", async (what, entry) => {
    server.listing = [{ type: "file", path: "config.json", ...entry }];
    expect(await messageOf(locateModel("org/model", options))).toContain(`has no ${what} for config.json`);
  });

  it.each([[{ error: "none" }], [[null]], [[7]], [["config.json"]]])("a listing that is %j", async (listing) => {
    server.listing = listing;
    expect(await messageOf(locateModel("org/model", options))).toMatch(/answers otherwise than the Hub|a path that leads out/);
  });

  it("an index that names files that are not there", async () => {
    const index = JSON.stringify({ weight_map: { a: "model-9.safetensors" } });
    server.repos.set("org/model", { commit, files: { ...files, "model.safetensors.index.json": index } });
    expect(await messageOf(locateModel("org/model", options))).toContain("names model-9.safetensors, which the repository lacks");
    server.repos.set("org/model", {
      commit,
      files: { ...files, "model.safetensors.index.json": '{"weight_map": {"a": "../x.safetensors"}}' },
    });
    expect(await messageOf(locateModel("org/model", options))).toContain("model.safetensors.index.json is no index of weight files");
  });

  it("a model that has pickled weights only", async () => {
    expect(await messageOf(locateModel("org/pickled", options))).toContain(
      "no weights in safetensors; expected model.safetensors, got pytorch_model.bin, config.json, tokenizer.json",
    );
  });

  it("an answer that is not the Hub's", async () => {
    server.apiFaults = { status: 200, times: 1, body: "<html>Log in to\u001b[2J the hotel's network</html>" };
    expect(await messageOf(locateModel("org/model", options))).toContain(`did not answer with JSON, but "<html>Log in to [2J the hotel's`);
  });

  it("to go on when the disk is full: what was fetched stays", async () => {
    const probe = await open(join(folder, "probe"), "w");
    const prototype = Object.getPrototypeOf(probe) as FileHandle;
    await probe.close();
    const write = prototype.write;
    let left = 300_000;
    const full = vi.spyOn(prototype, "write").mockImplementation(function (this: FileHandle, ...args: unknown[]) {
      const chunk = args[0];
      if (chunk instanceof Uint8Array && (left -= chunk.length) < 0)
        return Promise.reject(Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC", syscall: "write" }));
      return Reflect.apply(write, this, args);
    } as never);
    try {
      expect(await messageOf(locateModel("org/model", options))).toMatch(
        /incomplete: the disk is full\n {2}HF_HOME=FOLDER puts the cache elsewhere/,
      );
    } finally {
      full.mockRestore();
    }
    await locateModel("org/model", options);
    expect(contentRequests().some(({ range }) => range !== undefined)).toBe(true);
  });

  it("to begin where the disk has no room", async () => {
    const huge = [{ type: "file", path: "model.safetensors", lfs: { oid: "a".repeat(64), size: 2 ** 50 } }];
    const small = ["config.json", "tokenizer.json"].map((path) => ({ type: "file", path, oid: gitSha1("{}"), size: 2 }));
    server.listing = [...huge, ...small];
    expect(await messageOf(locateModel("org/model", options))).toMatch(
      /no room for the model; expected 1048576\.00 GiB free, got [\d.]+ GiB\n/,
    );
    expect(contentRequests()).toEqual([]);
  });
});

describe("tries", () => {
  it("are made again for a busy Hub, as often as there is patience, and said", async () => {
    server.apiFaults = { status: 503, times: 2 };
    await locateModel("org/model", options);
    expect(notes).toHaveLength(2);
    expect(notes[0]).toMatch(/^asking .*\/api\/models\/org\/model\/revision\/main: .* answered 503; again in 0\.001 s \(1 of 3\)$/);
    server.apiFaults = { status: 500, times: 99 };
    expect(await messageOf(locateModel("org/single", options))).toContain("org/single cannot be fetched: ");
    expect(server.apiFaults.times).toBe(99 - 4);
  });

  it("wait as long as the Hub asks for", async () => {
    server.apiFaults = { status: 429, times: 1, headers: { "retry-after": "0.05" } };
    await locateModel("org/model", options);
    expect(notes[0]).toContain("again in 0.05 s");
  });

  it("end at once where nobody answers, with the three ways", async () => {
    const env = { ...options.env, HF_ENDPOINT: await silentUrl() };
    const message = await messageOf(locateModel("org/model", { ...options, env, patience: { stall: 60_000, waits: [60_000] } }));
    expect(message).toMatch(
      /neither a folder nor in the local Hub cache, and http:\/\/127\.0\.0\.1:\d+ cannot be reached: the connection is refused \(ECONNREFUSED\)\n {2}Three ways/,
    );
  });
});

describe("who may see what", () => {
  const withToken = (token: string) => ({ ...options, env: { ...options.env, HF_TOKEN: token } });

  it("the token goes to the Hub with every request, and never to the server that it redirects to", async () => {
    await locateModel("org/gated", withToken(secret));
    const to = (name: string) => new Set(server.requests.filter((one) => one.server === name).map((one) => one.authorization));
    expect(to("hub")).toEqual(new Set([`Bearer ${secret}`]));
    expect(to("content")).toEqual(new Set([undefined]));
    expect(contentRequests().length).toBeGreaterThan(0);
    expect(JSON.stringify([notes, progress])).not.toContain(secret);
  });

  it.each([
    ["whose next page is the page itself", (): number => 0, 3],
    ["that goes in a circle", (next: number): number => next % 9, 5],
  ])("a list of files %s ends with one error, soon", async (_, cursor, most) => {
    server.pageSize = 3;
    server.cursor = cursor;
    expect(await messageOf(locateModel("org/model", options))).toMatch(
      /answers with a list of files whose next page is one of those before it/,
    );
    expect(server.requests.filter(({ path }) => path.includes("/tree/")).length).toBeLessThanOrEqual(most);
  });

  it("a list of files without an end ends with one error", async () => {
    server.cursor = (next) => next + 1;
    expect(await messageOf(locateModel("org/model", options))).toMatch(/answers with a list of files of more than 200 pages/);
  });

  it("a list of files that is said to go on elsewhere does not take the token there", async () => {
    server.pageSize = 3;
    server.pagesAt = server.contentUrl;
    await messageOf(locateModel("org/model", withToken(secret)));
    expect(contentRequests().map(({ path, authorization }) => [path.includes("cursor=3"), authorization])).toEqual([[true, undefined]]);
  });

  it("a token that does not begin with hf_, as a company's mirror has them, is taken", async () => {
    await locateModel("org/model", withToken("mirror-key"));
    expect(server.requests[0]?.authorization).toBe("Bearer mirror-key");
  });

  it("a gated model says so, where to ask for access, and how to give a token", async () => {
    const message = await messageOf(locateModel("org/gated", { ...options, where: "model.policy" }));
    expect(message).toBe(
      `model.policy: org/gated is gated: its owner lets in who asks, and no token was given (the Hub says: Access to model org/gated is restricted. You must have access to it and be authenticated to access it.)
  Ask for access at ${server.url}/org/gated, then make a token at ${server.url}/settings/tokens and give it as the environment variable HF_TOKEN.`,
    );
  });

  it("a token that is not let in is named by where it came from, and not shown", async () => {
    const env = { ...options.env, HUGGING_FACE_HUB_TOKEN: `${secret}2` };
    const message = await messageOf(locateModel("org/gated", { ...options, env }));
    expect(message).toContain("the token of HUGGING_FACE_HUB_TOKEN is not let in");
    expect(message).not.toContain(secret);
    writeFileSync(join(folder, "token"), "hf_expired\n");
    const expired = await messageOf(locateModel("org/model", options));
    expect(expired).toContain(`the Hub does not accept the token of ${join(folder, "token")}`);
    expect(expired).not.toContain("hf_expired");
  });

  it("a server that sends the token back in its answer does not get it printed", async () => {
    server.apiFaults = { status: 400, times: 1, body: JSON.stringify({ error: `bad request with Bearer ${secret}` }) };
    await locateModel("org/model", withToken(secret)).catch(() => undefined);
    server.apiFaults = { status: 500, times: 9, body: JSON.stringify({ error: `bad request with Bearer ${secret}` }) };
    const message = await messageOf(
      locateModel("org/model", { ...withToken(secret), env: { ...withToken(secret).env, HF_HOME: `${folder}/b` } }),
    );
    expect(message).toContain("bad request with Bearer [token]");
    expect(notes.join()).toContain("[token]");
    expect(notes.join()).not.toContain(secret);
  });

  it("a private model, or none, is answered with both readings of the name", async () => {
    for (const id of ["org/private", "org/none"]) {
      const message = await messageOf(locateModel(id, options));
      expect(message).toContain(`there is no model ${id} at ${server.url}, or it is private and cannot be seen`);
      expect(message).toContain(`If a folder was meant: there is none at ${join(process.cwd(), id)}.`);
    }
    expect(await messageOf(locateModel("org/none", withToken(secret)))).toContain("cannot be seen with the token of HF_TOKEN");
    await locateModel("org/private", withToken(secret));
  });

  it("a revision that is none is named", async () => {
    expect(await messageOf(locateModel("org/model@v9", options))).toContain(
      "org/model has no revision v9 (the Hub says: Invalid rev id: v9)",
    );
  });

  it("the address of a content server is printed without its signature", async () => {
    server.faults.push({ file: first, times: 9, status: 403 });
    const message = await messageOf(locateModel("org/model", options));
    expect(message).not.toContain("secret");
    expect(message + notes.join()).not.toContain("X-Signature");
  });
});
