/** Searches kept in a file, and answered from it. */
import { copyFileSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Recording, type EngineIdentity } from "../../src/search/recording.ts";
import {
  ask,
  askPage,
  type Engine,
  type SearchEngine,
  type SearchResult,
  type Simulator,
  type SimulatorRequest,
} from "../../src/search/search-engine.ts";
import { openDatabase } from "../../src/search/sqlite.ts";
import { FileError, ServerError, TooLongError } from "../../src/util/errors.ts";
import { errorOf } from "../helpers/message-of.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch recording #1 ä%20"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;
const newFile = (): string => join(folder, `${++files}.sqlite`);
const open = async (record: string | null, replay: string | null): Promise<Recording> =>
  (await Recording.open({ record, replay, now: () => 0 })) as Recording;

/** An engine whose every answer is another, as those of the world are; `asked` are the queries it was asked. */
function changing(name = "web"): SearchEngine & { readonly asked: string[] } {
  const asked: string[] = [];
  return {
    name,
    asked,
    search: async ({ query }) => ({ documents: [{ text: `${query} ${asked.push(query)}`, score: NaN }], kind: "real" }),
    close: async () => undefined,
  };
}

const identity: EngineIdentity = { name: "web", settings: { documents: 3 } };
const request = (query: string, rollout = 0, turn = 0): SimulatorRequest => ({
  query,
  question: "Q?",
  goldenAnswers: ["A"],
  key: { step: 1, question: 2, rollout },
  turn,
});
const textOf = ({ documents }: SearchResult): string => documents[0]!.text;

describe("a recording", () => {
  it("answers every search of a run as it was answered, without the engine", async () => {
    const file = newFile();
    const engine = changing();
    const recording = await open(file, null);
    const recorded = recording.over(engine, identity);
    // The same query in two rollouts: the world said two things, and each is told again where it was told.
    const requests = [request("a", 0), request("a", 1), request("b", 0, 1), request("", 3)];
    const said = await Promise.all(requests.map((one) => ask(recorded, one)));
    expect(said.map(textOf)).toEqual(["a 1", "a 2", "b 3", " 4"]);
    expect(recording.takeCounts()).toEqual({ recorded: 4, replayed: 0 });
    await recording.close();
    const replaying = await open(null, file);
    expect(replaying.stands).toBe(true);
    const absent = replaying.instead(identity, null);
    expect(await Promise.all(requests.map((one) => ask(absent, one)))).toEqual(said);
    expect(replaying.takeCounts()).toEqual({ recorded: 0, replayed: 4 });
    await replaying.close();
    expect(readdirSync(folder).filter((name) => name.startsWith(`${files}.`))).toEqual([`${files}.sqlite`]);
  });

  it("keeps pages that were fetched, and that there were none; an engine that had none is told from one", async () => {
    const file = newFile();
    const fetched: string[] = [];
    const paged: SearchEngine = {
      ...changing(),
      page: async ({ address }) => (fetched.push(address), address === "p1" ? { id: "p1", text: "one" } : null),
    };
    const recording = await open(file, null);
    const { key, turn } = request("");
    const page = (engine: Engine, address: string) => askPage(engine, { key, turn, address });
    const recorded = recording.over(paged, identity);
    expect([await page(recorded, "p1"), await page(recorded, "p2")]).toEqual([{ id: "p1", text: "one" }, null]);
    // A page is no search of that query.
    await ask(recorded, request("p1"));
    const bare = recording.over(changing("bare"), { name: "bare", settings: {} });
    expect(await page(bare, "p1")).toBeNull();
    await recording.close();
    const replaying = await open(null, file);
    const absent = replaying.instead(identity, null);
    expect([await page(absent, "p1"), await page(absent, "p2")]).toEqual([{ id: "p1", text: "one" }, null]);
    expect(textOf(await ask(absent, request("p1")))).toBe("p1 1");
    expect((await errorOf(() => page(absent, "p3"))).message).toContain("holds no answer of web pages");
    expect(await page(replaying.instead({ name: "bare", settings: {} }, null), "p1")).toBeNull();
    expect(fetched).toEqual(["p1", "p2"]);
    await replaying.close();
  });

  it("answers another rollout's query by what was first said to it; where it lacks one, says what it has instead", async () => {
    const file = newFile();
    const recording = await open(file, null);
    const recorded = recording.over(changing(), identity);
    for (const rollout of [0, 1]) await ask(recorded, request("a", rollout));
    await recording.close();
    const replaying = await open(null, file);
    expect(textOf(await ask(replaying.instead(identity, null), request("a", 7)))).toBe("a 1");
    const error = await errorOf(() => ask(replaying.instead(identity, null), request("other", 7, 2)));
    expect(error.message).toContain(
      `search.replay=${file}: holds no answer of web to "other" (rollout 1/2/7, turn 3); expected every search of the run, got 2 searches of this engine, and not this one`,
    );
    const others = await errorOf(() => ask(replaying.instead({ ...identity, settings: { documents: 5 } }, null), request("a")));
    expect(others.message).toContain("other settings: 2 with documents 3, here 5");
    const none = await errorOf(() => ask(replaying.instead({ ...identity, name: "bm25" }, null), request("a")));
    expect(none.message).toContain("got no search of this engine");
    await replaying.close();
  });

  it("asks for what it lacks where it is recorded as well, once for one query, and keeps it", async () => {
    const file = newFile();
    for (const round of [1, 2]) {
      const engine = changing();
      const recording = await open(file, file);
      const recorded = recording.over(engine, identity);
      const said = await Promise.all([request("a", 0), request("a", 1), request("b", 2)].map((one) => ask(recorded, one)));
      expect(said.map(textOf)).toEqual(["a 1", "a 1", "b 2"]);
      expect(engine.asked).toEqual(round === 1 ? ["a", "b"] : []);
      await recording.close();
    }
  });

  it("answers what a run asks again after it was killed as before, so that it goes on to the same bits", async () => {
    const file = newFile();
    const texts: string[] = [];
    for (let run = 0; run < 2; run++) {
      const recording = await open(file, null);
      texts.push(textOf(await ask(recording.over(changing(), identity), request("a"))));
      if (run === 0) await ask(recording.over(changing(), identity), request("b"));
      await recording.close();
    }
    expect(texts).toEqual(["a 1", "a 1"]);
  });

  it("keeps failures, and fails again as they did; where the engine is there, it is asked again", async () => {
    const file = newFile();
    const failing = (error: Error): SearchEngine => ({ name: "web", search: () => Promise.reject(error), close: async () => undefined });
    const server = new ServerError({ where: "web", what: "HTTP 500", hint: "wait" });
    const long = new TooLongError({ where: "web", what: "too long" });
    const recording = await open(file, null);
    for (const [i, error] of [server, long].entries())
      expect(await errorOf(() => ask(recording.over(failing(error), identity), request("a", i)))).toBe(error);
    // A fault of the program is no failure of the search.
    expect(
      (await errorOf(() => ask(recording.over(failing(new FileError({ where: "x", what: "y" })), identity), request("z")))).message,
    ).toBe("x: y");
    expect(recording.takeCounts()).toEqual({ recorded: 2, replayed: 0 });
    await recording.close();
    const replaying = await open(null, file);
    for (const [i, error] of [server, long].entries()) {
      const again = await errorOf(() => ask(replaying.instead(identity, null), request("a", i)));
      expect(again).toBeInstanceOf(error.constructor);
      expect(again.message).toBe(error.message);
    }
    await replaying.close();
    const mended = await open(file, null);
    expect(textOf(await ask(mended.over(changing(), identity), request("a")))).toBe("a 1");
    await mended.close();
    const after = await open(null, file);
    expect(textOf(await ask(after.instead(identity, null), request("a")))).toBe("a 1");
    await after.close();
  });

  it("knows a simulator's search by its question, rollout and turn, and never takes another's for it", async () => {
    const file = newFile();
    let asked = 0;
    const simulator: Simulator = {
      name: "simulated",
      simulate: async () => ({ documents: [], text: String(++asked), kind: "noisy", noiseProbability: 0.5 }),
      noiseProbability: (step) => step / 10,
      close: async () => undefined,
    };
    const own = { ...identity, name: "simulated" };
    const recording = await open(file, file);
    const recorded = recording.over(simulator, own) as Simulator;
    expect(recorded.noiseProbability(3)).toBe(0.3);
    const first = await recorded.simulate(request("a"));
    expect(first).toEqual({ documents: [], text: "1", kind: "noisy", noiseProbability: 0.5 });
    for (const other of [request("a", 1), request("a", 0, 1), { ...request("a"), goldenAnswers: ["B"] }])
      expect((await recorded.simulate(other)).text).toBe(String(asked));
    expect(asked).toBe(4);
    expect((await recorded.simulate(request("a"))).text).toBe("1");
    await recording.close();
    const replaying = await open(null, file);
    const absent = replaying.instead(own, () => 0.25) as Simulator;
    expect(absent.noiseProbability(1)).toBe(0.25);
    expect(await absent.simulate(request("a"))).toEqual(first);
    expect((await errorOf(() => absent.simulate(request("a", 9)))).message).toContain("holds no answer");
    await replaying.close();
  });

  it("gives back any query's documents, whatever is in them", async () => {
    const file = newFile();
    const recording = await open(file, file);
    const engine: SearchEngine = {
      name: "echo",
      search: async ({ query }) => ({ documents: [{ text: query, title: query }], kind: "real" }),
      close: async () => undefined,
    };
    const recorded = recording.over(engine, identity);
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: fc.nat(0xffff).map((code) => String.fromCharCode(code)), maxLength: 40 }), async (query) => {
        for (let i = 0; i < 2; i++) expect(textOf(await ask(recorded, request(query)))).toBe(query);
      }),
      { numRuns: 300 },
    );
    for (const query of ["a\0b", "\ud800", "'; drop table searches; --", "x".repeat(100_000)])
      for (let i = 0; i < 2; i++) expect(textOf(await ask(recorded, request(query)))).toBe(query);
    await recording.close();
  });

  it("says what cannot be recorded", async () => {
    const circular: Record<string, unknown> = { text: "x" };
    circular["self"] = circular;
    const engine: SearchEngine = {
      name: "web",
      search: async () => ({ documents: [circular as never], kind: "real" }),
      close: async () => undefined,
    };
    const recording = await open(newFile(), null);
    const error = await errorOf(() => ask(recording.over(engine, identity), request("a")));
    expect(error.message).toMatch(/^search engine web: its result cannot be recorded: .*circular.*; expected what JSON can hold$/);
    await recording.close();
  });
});

describe("a recording that is damaged", () => {
  it("is no failed search, which a run may bear: it is named", async () => {
    const file = newFile();
    const recording = await open(file, null);
    for (const rollout of [0, 1]) await ask(recording.over(changing(), identity), request("a", rollout));
    await recording.close();
    const database = await openDatabase("test", file);
    await database.execute("update searches set result = '{\"documents\":{}}' where rollout = 0");
    await database.execute("update searches set result = '{\"docu' where rollout = 1");
    database.close();
    const replaying = await open(null, file);
    for (const rollout of [0, 1]) {
      const error = await errorOf(() => ask(replaying.instead(identity, null), request("a", rollout)));
      expect(error).toBeInstanceOf(FileError);
      expect(error.message).toContain(`search.replay=${file}: the recording is damaged: `);
    }
    await replaying.close();
  });
});

describe("a file that is no recording", () => {
  it("is refused, and left as it is", async () => {
    const missing = await errorOf(() => open(null, join(folder, "none.sqlite")));
    expect(missing.message).toContain("none.sqlite: does not exist; expected a recording, as search.record makes it");
    expect(existsSync(join(folder, "none.sqlite"))).toBe(false);
    const text = newFile();
    writeFileSync(text, "no database, but a text that is somewhat longer than the header of one. ".repeat(4));
    for (const [record, replay] of [
      [text, null],
      [null, text],
    ] as const)
      expect((await errorOf(() => open(record, replay))).message).toMatch(/: cannot be opened as a recording: .*not a database/);
    expect(readFileSync(text, "utf8")).toMatch(/^no database/);
    const foreign = newFile();
    const other = await openDatabase("test", foreign);
    await other.execute("create table searches (a)");
    other.close();
    expect((await errorOf(() => open(foreign, null))).message).toContain(
      "is no recording; expected a file as search.record makes it, got another SQLite database",
    );
    await expect(open(join(folder, "no-folder", "x.sqlite"), null)).rejects.toThrow(FileError);
  });

  it("is one of another version, or cut", async () => {
    const file = newFile();
    await (await open(file, null)).close();
    const copy = newFile();
    copyFileSync(file, copy);
    const database = await openDatabase("test", copy);
    await database.execute("pragma user_version = 9");
    database.close();
    expect((await errorOf(() => open(null, copy))).message).toContain("another version of this program; expected version 1, got version 9");
    writeFileSync(copy, readFileSync(file).subarray(0, 6000));
    expect((await errorOf(() => open(copy, null))).message).toContain("cannot be opened as a recording");
  });
});
