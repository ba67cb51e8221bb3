/** Code of the user's that fails, gives something else or never answers: one error that names it, with its own as cause. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { AgentContext, Method } from "../../src/agent/methods/method.ts";
import { groupTasks, rolloutAll } from "../../src/agent/rollout-all.ts";
import { untilInterrupted } from "../../src/commands/program.ts";
import { readOverride, resolveConfig } from "../../src/config/index.ts";
import type { SearchTrajectory } from "../../src/rl/trajectory.ts";
import { openReward, payAll, type Reward } from "../../src/run/reward.ts";
import { ask, type SearchEngine, type Simulator } from "../../src/search/search-engine.ts";
import { Closing } from "../../src/setup/closing.ts";
import { Engines } from "../../src/setup/open-engines.ts";
import { openMethod } from "../../src/setup/open-method.ts";
import { ServerError, ZeroSearchError } from "../../src/util/errors.ts";
import { callOwn, giveUpOne } from "../../src/util/own-code.ts";
import { trajectoryOf } from "../helpers/trajectories.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-own-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let files = 0;
/** A module with this text; its name begins with `own`. */
function module(text: string, kind = "mjs"): string {
  const file = join(folder, `own${files++}.${kind}`);
  writeFileSync(file, text);
  return file;
}

async function errorOf(work: () => unknown): Promise<ZeroSearchError> {
  const error = await (async () => work())().then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ZeroSearchError);
  return error as ZeroSearchError;
}

const config = (file: string) => resolveConfig([`search.engine=${file}`, "model.policy=p", "data.train=t"].map(readOverride));
const openEngine = async (file: string, closing = new Closing()) => (await Engines.open(config(file), [file], closing)).get(file);

describe("code of the user's", () => {
  it.each([
    ["an Error", new Error("no luck"), "no luck"],
    ["a text", "no luck", 'it throws "no luck", which is no Error'],
    ["nothing", undefined, "it throws undefined, which is no Error"],
    ["an object", { code: 1 }, "it throws an object with code, which is no Error"],
  ])("that throws %s is one error with it as cause", async (_, thrown, text) => {
    const error = await errorOf(() =>
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors
      callOwn("reward mine", () => Promise.reject(thrown)),
    );
    expect(error.complaint).toMatchObject({ where: "reward mine", what: `fails: ${text}` });
    expect(error.cause).toBe(thrown);
  });

  it("shows the lines of its own in the stack, and no others", async () => {
    const reward = await openReward(module("export default function mine() {\n  return undefined.length;\n}\n"));
    const error = await errorOf(() => payAll(reward, [trajectoryOf({ ids: [1, 2], mask: "01" })]));
    expect(error.message).toMatch(
      /^reward mine of rollout 1\/0\/0: fails: Cannot read properties of undefined .*\n {2}at .*own\d+\.mjs:2:/,
    );
    expect(error.message).not.toMatch(/src\/(run|util)\//);
  });

  it("that never answers is given up by name, the call that began last first", async () => {
    expect(giveUpOne()).toBe(false);
    const never = () => new Promise<never>(() => undefined);
    const outer = errorOf(() => callOwn("method outer", () => callOwn("search engine inner", never)));
    expect(giveUpOne()).toBe(true);
    expect((await outer).message).toMatch(/^search engine inner: never answers/);
    expect(giveUpOne()).toBe(false);
  });
});

describe("a reward of the user's", () => {
  const rollouts = (count: number) => Array.from({ length: count }, (_, rollout) => trajectoryOf({ ids: [1, 2], mask: "01", rollout }));
  /** Pays 1, but the rollout of index 1 what is given. */
  const mine = (second: () => unknown): Reward =>
    Object.defineProperty<Reward>(({ key }) => (key.rollout === 1 ? (second() as number) : 1), "name", { value: "mine" });

  it.each<[string, () => unknown, string]>([
    [
      "throws",
      () => {
        throw new Error("no luck\nat all");
      },
      "fails: no luck",
    ],
    ["rejects", () => Promise.reject(new Error("no luck")), "fails: no luck"],
    ["gives NaN", () => NaN, "is not a number; expected a finite number, got NaN"],
    ["gives a promise of infinity", async () => Infinity, "is not a number; expected a finite number, got Infinity"],
    ["gives a text", () => "1", 'is not a number; expected a finite number, got "1"'],
    ["comes too late", () => new Promise(() => undefined), "takes too long; expected a number within 0.05 s, got none"],
  ])("that %s for one rollout leaves that one unpaid, and says why", async (_, second, failure) => {
    const trajectories = rollouts(3);
    const { rewards, unpaid } = await payAll(mine(second), trajectories, { timeoutSeconds: 0.05 });
    expect(rewards).toEqual([1, null, 1]);
    expect(unpaid).toEqual([{ trajectory: trajectories[1], failure: `reward mine of rollout 1/0/1: ${failure}` }]);
  });

  it("is not asked for a rollout that a failed search has ended, and which is unpaid; where all are, that is the error", async () => {
    const [first, ...others] = rollouts(3) as [SearchTrajectory, ...SearchTrajectory[]];
    const search = { turn: 0, query: "q", kind: "real" as const, documents: [], text: "", containsGold: false, failure: "engine: gone" };
    const failed: SearchTrajectory = { ...first, status: "failed", searches: [search] };
    const asked: SearchTrajectory[] = [];
    const paid = await payAll(
      (one) => {
        asked.push(one);
        return 1;
      },
      [failed, ...others],
    );
    expect(asked).toEqual(others);
    expect(paid.rewards).toEqual([null, 1, 1]);
    expect(paid.unpaid).toEqual([{ trajectory: failed, failure: "rollout 1/0/0: a search failed: engine: gone", cause: "search" }]);
    const error = await errorOf(() => payAll(() => 1, [failed, failed]));
    expect(error.message).toMatch(/^rollout 1\/0\/0: a search failed: engine: gone\n {2}With search.onFailure=leave-out/);
  });

  it("that fails for all is an error, that of the first rollout", async () => {
    const error = await errorOf(() => payAll(() => NaN, rollouts(3)));
    expect(error.message).toMatch(/^reward .* of rollout 1\/0\/0: is not a number; expected a finite number, got NaN$/);
    const late = await errorOf(() => payAll(async () => new Promise(() => undefined), rollouts(2), { timeoutSeconds: 0.01 }));
    expect(late.complaint).toMatchObject({ what: "takes too long", hint: expect.stringContaining("reward.timeoutSeconds") as string });
  });

  it("has its time, leaves no timer behind, and has no say once it is too late, not even by an error", async () => {
    vi.useFakeTimers();
    const stray = vi.fn();
    process.on("unhandledRejection", stray);
    try {
      const after = (seconds: number, fails = false) =>
        new Promise<number>((resolve, reject) => {
          setTimeout(() => (fails ? reject(new Error("late")) : resolve(seconds)), 1000 * seconds);
        });
      const paying = payAll(({ key }) => after([1, 59, 61, 62][key.rollout] ?? 0, key.rollout === 3), rollouts(4), { timeoutSeconds: 60 });
      await vi.advanceTimersByTimeAsync(60_000);
      const { rewards, unpaid } = await paying;
      expect([rewards, unpaid.length]).toEqual([[1, 59, null, null], 2]);
      await vi.advanceTimersByTimeAsync(10_000);
      expect(rewards).toEqual([1, 59, null, null]);
      expect(vi.getTimerCount()).toBe(0);
      await payAll(() => 1, rollouts(4), { timeoutSeconds: 60 });
      expect(vi.getTimerCount()).toBe(0);
      const unbounded = payAll(() => after(90_000), rollouts(1), { timeoutSeconds: 0 });
      await vi.advanceTimersByTimeAsync(90_000_000);
      expect((await unbounded).rewards).toEqual([90_000]);
    } finally {
      vi.useRealTimers();
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
    process.off("unhandledRejection", stray);
    expect(stray).not.toHaveBeenCalled();
  });

  it("is told of a stop without a warning about listeners, however many there are", async () => {
    const warned = vi.fn();
    process.on("warning", warned);
    for (const timeoutSeconds of [0, 60])
      await payAll(async () => 1, rollouts(20), { timeoutSeconds, signal: new AbortController().signal });
    await new Promise((resolve) => setTimeout(resolve, 5));
    process.off("warning", warned);
    expect(warned).not.toHaveBeenCalled();
  });

  it.each([0, 60])("is given up where the run is stopped, which is no failure of it, with %d s to answer", async (timeoutSeconds) => {
    const stop = new AbortController();
    const paying = payAll(
      mine(() => new Promise(() => undefined)),
      rollouts(2),
      { timeoutSeconds, signal: stop.signal },
    );
    stop.abort(new Error("enough"));
    await expect(paying).rejects.toThrow(/^enough$/);
    await expect(payAll(() => 1, rollouts(2), { timeoutSeconds, signal: stop.signal })).rejects.toThrow(/^enough$/);
    expect((await payAll(() => 1, rollouts(2), { timeoutSeconds })).rewards).toEqual([1, 1]);
  });
});

describe("a module of the user's", () => {
  it.each([
    ["throws a text", 'throw "no luck";', /does not load: it throws "no luck", which is no Error/],
    ["exports a class", "export default class Mine { run() {} }", /its default export is something else; .*got the class Mine, not an/],
    ["exports another object", "export default { name: 'x', answer() {} };", /got an object with name, answer/],
    ["exports nothing", "export const run = () => 1;", /got no default export/],
    [
      "has half a dialect",
      "export default { run() {}, dialect: { name: 'x' } };",
      /tags, stops, prompt, .*got an object with run, dialect/,
    ],
    ["is frozen without a name", "export default Object.freeze({ run() {} });", /has no name, and cannot be given one/],
  ])("that %s is one error that names it", async (_, text, message) => {
    const file = module(text);
    const error = await errorOf(() => openMethod(file));
    expect(error.message).toMatch(message);
    expect(error.complaint.where).toBe(`rollout.method=${file}`);
  });

  it("that is CommonJS by its name is told what is loaded", async () => {
    const file = module("module.exports = () => 1;", "cjs");
    expect(resolveConfig([`reward.kind=${file}`, "model.policy=p", "data.train=t", "simulator.path=s"].map(readOverride)).reward.kind).toBe(
      file,
    );
    const error = await errorOf(() => openReward(file));
    expect(error.message).toContain("is no kind of module that is loaded here; expected an ES module: .js or .mjs, or .ts or .mts");
  });

  it.each([
    ["fails to open", "export default () => { throw new Error('no luck'); };", /does not open: no luck\n {2}at .*own\d+\.mjs:1:/],
    ["opens with what is no Error", "export default async () => { throw undefined; };", /does not open: it throws undefined/],
    ["opens nothing", "export default () => undefined;", /its function returns no engine; .*got undefined/],
    ["opens half an engine", "export default () => ({ search() {} });", /its function returns no engine; .*got an object with search/],
    ["is a class of engines", "export default class Mine { search() {} close() {} }", /got the class Mine, not an object of it/],
  ])("that is an engine and %s is one error that names it", async (_, text, message) => {
    const file = module(text);
    const error = await errorOf(() => openEngine(file));
    expect(error.message).toMatch(message);
    expect(error.complaint.where).toBe(`search.engine=${file}`);
  });

  it("whose engine does not close is named, and all else is closed", async () => {
    const closed: string[] = [];
    const closing = new Closing();
    closing.add("first", (name) => closed.push(name));
    await openEngine(module("export default { name: 'mine', async search() {}, close() { throw 'stuck'; } };"), closing);
    closing.add("last", (name) => closed.push(name));
    const error = await errorOf(() => closing.close());
    expect(error.message).toBe('search engine mine: does not close: it throws "stuck", which is no Error');
    expect(closed).toEqual(["last", "first"]);
  });

  it("whose engine was not opened is an error of `get`, not a fault of ours", async () => {
    const file = module("export default { async search() {}, async close() {} };");
    const engines = await Engines.open(config(file), [file], new Closing());
    expect((await errorOf(() => engines.get("mine"))).message).toMatch(
      /^engines\.get: that engine is not open; expected .*own\d+\.mjs, got mine$/,
    );
  });
});

describe("an engine's call", () => {
  const asked = { query: "q", question: "?", goldenAnswers: ["a"], key: { step: 1, question: 0, rollout: 0 }, turn: 0 };
  const real = (search: () => unknown): SearchEngine => ({ name: "mine", search: search as never, close: async () => undefined });

  it("that fails is a ServerError, a simulator's too", async () => {
    const fail = (): never => {
      throw new TypeError("no luck");
    };
    const simulator: Simulator = { name: "mine", simulate: fail, noiseProbability: () => 0, close: async () => undefined };
    for (const engine of [real(fail), simulator]) {
      const error = await errorOf(() => ask(engine, asked));
      expect(error).toBeInstanceOf(ServerError);
      expect(error.message).toMatch(/^search engine mine: fails: no luck/);
    }
  });

  it.each([
    [undefined, "holds no documents"],
    [null, "holds no documents"],
    [{ documents: [], kind: "good" }, 'the kind of its result is none; .*got "good"'],
    [{ documents: [], text: 3 }, "the text of its result is none; .*got 3"],
  ])("that gives %j is an error", async (result, message) => {
    expect(
      (
        await errorOf(() =>
          ask(
            real(async () => result),
            asked,
          ),
        )
      ).message,
    ).toMatch(new RegExp(message));
  });
});

describe("a method's trajectory", () => {
  const question = { id: "q7", question: "?", goldenAnswers: ["a"], dataSource: "d" };
  const tasks = groupTasks([{ index: 3, question }], 2, 1);
  const search = { question, status: "answered", answer: null, searches: [], invalidActions: 0, turns: 1, text: "" } as const;
  const run = (make: (right: SearchTrajectory) => unknown, name = "mine") => {
    const method: Method = {
      name,
      run: async (_, { key }) => make({ ...trajectoryOf({ ids: [1, 2], mask: "01" }), ...search, key }) as SearchTrajectory,
    };
    return rolloutAll(tasks, method, {} as AgentContext, { vocabulary: 10 });
  };

  it("is taken where it is right", async () => {
    expect((await run((right) => right)).map(({ key }) => key.rollout)).toEqual([0, 1]);
  });

  it.each<[string, (right: SearchTrajectory) => unknown, string]>([
    ["nothing", () => undefined, "returns no trajectory; expected a SearchTrajectory, or a promise of one, got undefined"],
    ["no key", (right) => ({ ...right, key: undefined }), "its trajectory has no key"],
    ["another sample's key", (right) => ({ ...right, key: { ...right.key, rollout: 0 } }), "another rollout; expected 1/3/1, got 1/3/0"],
    ["another question's key", (right) => ({ ...right, key: { ...right.key, question: 4 } }), "another rollout; expected 1/3/., got 1/4/."],
    ["another question", (right) => ({ ...right, question: { ...question, id: "q8" } }), "another question; expected q7, got q8"],
    ["no searches", (right) => ({ ...right, searches: undefined }), "has no searches"],
    ["an answer that is no text", (right) => ({ ...right, answer: 3 }), "has no answer"],
    ["a mask too short", (right) => ({ ...right, lossMask: [1] }), "do not fit; expected three lists of one length, got 2, 1, 2"],
    ["an id out of the vocabulary", (right) => ({ ...right, ids: [1, 10] }), "no token; expected integers from 0 to 9, got 10"],
    ["an id that is no integer", (right) => ({ ...right, ids: [1, 1.5] }), "no token; .*got 1.5"],
    ["a negative id", (right) => ({ ...right, ids: [-1, 1] }), "no token; .*got -1"],
  ])("with %s is an error that names method and rollout", async (_, make, message) => {
    const error = await errorOf(() => run(make));
    expect(error.message).toMatch(/^method mine of rollout 1\/3\/[01]: /);
    expect(error.message).toMatch(new RegExp(message));
  });
});

describe("untilInterrupted", () => {
  it("takes what the signal ended for no error, also below another, and throws all others", async () => {
    const before = process.exitCode;
    await untilInterrupted(async (signal) => {
      process.emit("SIGTERM", "SIGTERM");
      throw new Error("outer", { cause: signal.reason });
    });
    expect(process.exitCode).toBe(143);
    process.exitCode = before;
    const other = untilInterrupted(async () => {
      process.emit("SIGTERM", "SIGTERM");
      throw new Error("the disk is full");
    });
    await expect(other).rejects.toThrow("the disk is full");
    expect(process.exitCode).toBe(before);
  });
});
