/** Files of data sets on the Hub: addresses, the cache that Python's tools share, what a run reads, hashes and remembers. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { readOverride } from "../../src/config/source.ts";
import { resolveConfig } from "../../src/config/resolve.ts";
import { loadQuestions } from "../../src/data/questions.ts";
import { findDataFile, locateDataFile, parseDataAddress, type LocateFileOptions } from "../../src/hub/find-data-file.ts";
import { hashInputs } from "../../src/run/inputs.ts";
import { openData } from "../../src/run/run-data.ts";
import { locateData } from "../../src/setup/locate-data.ts";
import { gitSha1, sha256, startHubServer, type HubServer } from "../helpers/hub-server.ts";
import { messageOf } from "../helpers/message-of.ts";

const commit = "0123456789".repeat(4);
const moved = "9876543210".repeat(4);
const row = (fields: object): string => `${JSON.stringify({ question: "Why?", golden_answers: ["because"], ...fields })}\n`;
const parquet = readFileSync(join(import.meta.dirname, "../fixtures/data/zerosearch.parquet"));
const files = {
  "README.md": "hello",
  "nq/test.jsonl": row({ id: "a" }),
  "nq/train.jsonl": row({ id: "b", question: "How?" }),
  "train.parquet": parquet,
};

let server: HubServer;
let folder: string;
let options: LocateFileOptions;
beforeAll(async () => {
  server = await startHubServer({});
});
afterAll(() => server.close());
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-hub-data-"));
  options = { env: { HF_HOME: folder, HF_ENDPOINT: server.url }, patience: { stall: 5000, waits: [5, 5] } };
  server.repos.clear();
  const large = (path: string): boolean => path.endsWith(".parquet");
  server.repos.set("datasets/org/set", { commit, files, large, refs: ["v1", "refs/convert/parquet"] });
  server.repos.set("datasets/org/gated", { commit, files, gatedFor: [] });
  server.requests.length = server.faults.length = 0;
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const repo = (): string => join(folder, "hub", "datasets--org--set");
const snapshot = (at = commit): string => join(repo(), "snapshots", at);

describe("an address of a file", () => {
  it.each([
    ["hf://datasets/org/set/train.parquet", "main", "train.parquet"],
    ["hf://datasets/org/set/nq/test.jsonl@v1", "v1", "nq/test.jsonl"],
    ["hf://datasets/org/set/nq/test.jsonl@refs/convert/parquet", "refs/convert/parquet", "nq/test.jsonl"],
    ["hf://datasets/org/set@v1/nq/test.jsonl", "v1", "nq/test.jsonl"],
    ["hf://datasets/org/set@refs%2Fconvert%2Fparquet/a.parquet", "refs/convert/parquet", "a.parquet"],
  ])("may be %s", (source, revision, file) => {
    expect(parseDataAddress(source)).toEqual({ hubId: { id: "org/set", type: "dataset", revision }, file });
  });

  it.each([
    "hf://datasets/org/set",
    "hf://datasets/org/set/",
    "hf://models/org/set/file",
    "hf://org/set/file",
    "hf://datasets/org/../file",
    "hf://datasets/org/set/../../file",
    "hf://datasets/org/set/a//b",
    "hf://datasets/org/set/a\\b",
    "hf://datasets/org/set/file@../x",
  ])("is refused with what one is: %s", (source) => {
    expect(() => parseDataAddress(source, "data.train")).toThrow(
      `data.train: ${source} is no address of a data set's file; expected hf://datasets/OWNER/NAME/FILE, or that and @REVISION`,
    );
  });

  it("has one revision", () => {
    expect(() => parseDataAddress("hf://datasets/org/set@v1/file@v2")).toThrow("has two revisions");
  });
});

describe("a file of a data set", () => {
  it("is fetched once into the cache that Python's tools share, checked by its hash, and then found without a request", async () => {
    const source = "hf://datasets/org/set/train.parquet";
    const found = await findDataFile(source, options);
    const file = join(snapshot(), "train.parquet");
    expect(found).toEqual({ file, from: "download", id: "org/set", commit, pinned: `${source}@${commit}` });
    expect(readFileSync(file)).toEqual(parquet);
    expect(readdirSync(join(repo(), "blobs"))).toEqual([sha256(parquet)]);
    expect(readFileSync(join(repo(), "refs", "main"), "utf8")).toBe(commit);
    server.requests.length = 0;
    expect(await findDataFile(source, options)).toEqual({ ...found, from: "cache" });
    expect(await findDataFile(found.pinned, { ...options, env: { ...options.env, HF_HUB_OFFLINE: "1" } })).toEqual({
      ...found,
      from: "cache",
    });
    expect(server.requests).toEqual([]);
  });

  it("in a folder is found there; others of its data set are left", async () => {
    expect(await locateDataFile("hf://datasets/org/set/nq/test.jsonl@v1", options)).toBe(join(snapshot(), "nq", "test.jsonl"));
    expect(readdirSync(join(repo(), "blobs"))).toEqual([gitSha1(files["nq/test.jsonl"])]);
    expect(existsSync(join(snapshot(), "train.parquet"))).toBe(false);
    expect((await loadQuestions(join(snapshot(), "nq", "test.jsonl")))[0]).toMatchObject({ id: "a", dataSource: "nq" });
  });

  it("goes on where a download stopped", async () => {
    server.faults.push({ file: "train.parquet", times: 1, cutAfter: 9000 });
    await locateDataFile("hf://datasets/org/set/train.parquet", options);
    expect(readFileSync(join(snapshot(), "train.parquet"))).toEqual(parquet);
    const ranges = server.requests.filter((request) => request.server === "content").map(({ range }) => range);
    expect(ranges).toHaveLength(2);
    expect(ranges[1]).toMatch(/^bytes=[1-9]\d*-$/);
  });

  it("is linked to in the snapshot, not copied", async () => {
    await locateDataFile("hf://datasets/org/set/train.parquet", options);
    expect(readlinkSync(join(snapshot(), "train.parquet"))).toBe(join("..", "..", "blobs", sha256(parquet)));
  });

  it.each([
    [
      "hf://datasets/org/set/test.parquet",
      /^org\/set: the data set has no file test\.parquet; expected one of its files, got README\.md, train\.parquet/,
    ],
    ["hf://datasets/org/set/none/a.jsonl", /^data\.train: org\/set has no such file .*\n {2}Its files: .*\/datasets\/org\/set\/tree\/main/],
    ["hf://datasets/org/none/a.jsonl", /^data\.train: there is no data set org\/none at /],
    ["hf://datasets/org/set/train.parquet@v9", /^data\.train: org\/set has no revision v9/],
    [
      "hf://datasets/org/gated/train.parquet",
      /^data\.train: org\/gated is gated.*\n {2}Ask for access at .*\/datasets\/org\/gated, then make a token/s,
    ],
  ])("that is not to be had is said: %s", async (source, message) => {
    expect(await messageOf(findDataFile(source, { ...options, where: "data.train" }))).toMatch(message);
  });

  it("without a network is said, with the ways to get it", async () => {
    const message = await messageOf(
      findDataFile("hf://datasets/org/set/train.parquet", { env: { ...options.env, HF_HUB_OFFLINE: "1" }, where: "data.train" }),
    );
    expect(message).toMatch(
      /^data\.train: hf:\/\/datasets\/org\/set\/train\.parquet is not in the local Hub cache, and the Hub may not be asked: HF_HUB_OFFLINE is set/,
    );
    expect(message).toContain(
      "hf download org/set train.parquet --repo-type dataset; then copy ~/.cache/huggingface/hub/datasets--org--set",
    );
    expect(message).toContain("/datasets/org/set/resolve/main/train.parquet");
  });
});

describe("the data of a configuration", () => {
  const configOf = (...settings: string[]) => resolveConfig(["model.policy=p", "simulator.path=s", ...settings].map(readOverride));
  const stream = { text: "", isTTY: false, columns: 80, write: (text: string) => ((stream.text += text), true) };

  it("is files and addresses, one or several; a run reads the files, hashes them, and remembers the commits", async () => {
    const own = join(folder, "own.jsonl");
    writeFileSync(own, row({ id: "own", question: "Where?" }));
    const train = ["hf://datasets/org/set/train.parquet", own];
    const config = configOf(`data.train=${JSON.stringify(train)}`, "data.test=hf://datasets/org/set/nq/test.jsonl@v1", "data.corpus=c");
    expect(config.data.train).toEqual(train);
    stream.text = "";
    const { opened, pinned } = await locateData(config, { ...options, stream });
    expect(opened.data).toMatchObject({
      train: [join(snapshot(), "train.parquet"), own],
      test: join(snapshot(), "nq", "test.jsonl"),
      corpus: "c",
    });
    expect(pinned.data).toMatchObject({ train: [`${train[0]}@${commit}`, own], test: `hf://datasets/org/set/nq/test.jsonl@${commit}` });
    expect(stream.text).toContain(`data.train ${train[0]}@${commit} downloaded from the Hub\n`);
    const data = await openData(opened);
    expect(data.train).toHaveLength(26);
    expect(data.train.at(-1)).toMatchObject({ id: "own", dataSource: "own" });
    expect(data.test[0]).toMatchObject({ id: "a", dataSource: "nq" });
    expect(await hashInputs(opened)).toMatchObject({
      "data.train[0]": sha256(parquet),
      "data.train[1]": sha256(row({ id: "own", question: "Where?" })),
      "data.test": sha256(files["nq/test.jsonl"]),
    });
    // The branch moves on; the run does not.
    server.repos.set("datasets/org/set", { commit: moved, files: { "train.parquet": "else" }, refs: ["v1"] });
    rmSync(join(repo(), "refs"), { recursive: true });
    expect((await locateData(pinned, { ...options, stream })).opened.data).toEqual(opened.data);
  });

  it("is looked for in the cache alone where nothing may be fetched", async () => {
    const config = configOf("data.train=hf://datasets/org/set/nq/train.jsonl", "data.corpus=hf://datasets/org/set/train.parquet");
    await findDataFile("hf://datasets/org/set/train.parquet", options);
    server.requests.length = 0;
    const { opened } = await locateData(config, { ...options, stream, cacheOnly: true });
    expect(opened.data).toMatchObject({ train: "hf://datasets/org/set/nq/train.jsonl", corpus: join(snapshot(), "train.parquet") });
    expect(server.requests).toEqual([]);
  });

  it("that is one file under two names is refused unless it is allowed, and shared questions are told", async () => {
    mkdirSync(join(folder, "nq"));
    const [train, test] = [join(folder, "nq", "train.jsonl"), join(folder, "nq", "test.jsonl")];
    writeFileSync(train, row({ id: 1 }) + row({ id: 2, question: "Who?", golden_answers: ["he", ""] }));
    writeFileSync(test, row({ id: 1, question: "WHY ?" }));
    const { notes } = await openData(configOf(`data.train=${train}`, `data.test=${test}`, "data.corpus=c"));
    expect(notes).toEqual([
      `${train}: 1 golden answer is empty or no text, and left out (${train}:2: "")`,
      '1 of the 1 questions of data.test is in data.train as well, such as "WHY ?"',
    ]);
    const same = [`data.train=${train}`, `data.test=${train}`, "data.corpus=c"];
    expect(await messageOf(openData(configOf(...same)))).toContain("data.test: has the same file as data.train");
    expect((await openData(configOf(...same, "data.allowSameFile=true"))).test).toHaveLength(2);
    // A set that is not read is no matter.
    const unread = [`data.train=${train}`, `data.validation=${train}`, "data.corpus=c", "train.validateEvery=0"];
    expect((await openData(configOf(...unread))).validation).toEqual([]);
  });
});
