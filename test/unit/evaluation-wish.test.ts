/** What the options of `zerosearch evaluate` ask for, and how they are refused. */
import { describe, expect, it } from "vitest";
import { openMethods, readWish, type TableWish } from "../../src/commands/evaluate/wish.ts";
import { readOverride } from "../../src/config/source.ts";
import { resolveConfig } from "../../src/config/resolve.ts";
import { messageOf } from "../helpers/message-of.ts";

const wish = (options: Readonly<Record<string, string>>): TableWish | null => readWish(new Map(Object.entries(options)));
const config = (...settings: string[]) => resolveConfig(["model.policy=m", ...settings].map(readOverride), "compare");

describe("the options of a table", () => {
  it("ask for none where none is given: evaluate is then as it was", () => {
    expect(wish({ run: "x", out: "y", when: "after" })).toBeNull();
  });

  it("are read, and stand for what the configuration says where they are left out", () => {
    expect(wish({ engines: "bm25, simulated:noisy", sets: "nq", limit: "7", metric: "f1" })).toEqual({
      ...{ methods: null, sets: "nq", engines: ["bm25", "simulated:noisy"], compareTo: null, metric: "f1" },
      ...{ subset: null, limit: 7, resume: false },
    });
    expect(wish({ engine: "./mine.js", methods: "rag,./own.mjs" })).toMatchObject({
      engines: ["./mine.js"],
      methods: ["rag", "./own.mjs"],
      metric: "em",
    });
  });

  it.each([
    [
      { methods: "zerosaerch" },
      /^--methods zerosaerch: there is no method zerosaerch; expected .*, or a module such as .*\n {2}did you mean zerosearch\?$/,
    ],
    [{ methods: "rag,,direct" }, /there is no method without a name/],
    [{ methods: "rag,rag" }, /rag is there twice; expected each method once/],
    [{ engine: "simulated:usefull" }, /there is no engine simulated:usefull; .*\n {2}did you mean simulated:useful\?$/],
    [{ engines: "bm25,bm25" }, /bm25 is there twice; expected each engine once/],
    [{ engines: "bm25", engine: "bm25" }, /^--engine: and --engines are both given; expected one of them$/],
    [{ metric: "bleu" }, /^--metric: wrong value; expected em, subem or f1, got bleu$/],
    [{ metric: "subm" }, /did you mean subem\?/],
    [{ resume: "" }, /^--resume: needs the folder to go on with; expected --out FOLDER$/],
    [{ limit: "5" }, /^--limit: is of --sets, which are not given/],
    [{ sets: "nq", limit: "0" }, /^--limit: wrong value; expected an integer from 1, got 0$/],
    [{ sets: "nq", subset: "all" }, /^--subset: wrong value; expected paper or paper-dropped, got all$/],
  ])("are refused by name: %j", (options, message) => {
    expect(() => wish(options as Record<string, string>)).toThrow(message);
  });
});

describe("the methods of a table", () => {
  const opened = async (options: Readonly<Record<string, string>>, ...settings: string[]) => {
    const { methods, reference, own } = await openMethods(wish(options) as TableWish, config(...settings));
    return [methods.map(({ name }) => name).join(), reference, own?.name];
  };

  it("are the run's own and its baselines unless they are named, compared with the run's own", async () => {
    expect(await opened({ metric: "em" })).toEqual(["direct,rag,zerosearch", "zerosearch", "zerosearch"]);
    expect(await opened({ metric: "em" }, "rollout.method=rag")).toEqual(["direct,rag", "rag", "rag"]);
    expect(await opened({ metric: "em" }, "evaluation.baselines=false")).toEqual(["zerosearch", "zerosearch", "zerosearch"]);
  });

  it("are compared with the first that is named, or with the one that is asked for", async () => {
    expect(await opened({ methods: "rag,direct" })).toEqual(["rag,direct", "rag", undefined]);
    expect(await opened({ methods: "rag,direct", "compare-to": "direct" })).toEqual(["rag,direct", "direct", undefined]);
    expect(await messageOf(opened({ methods: "rag,direct", "compare-to": "dirct" }))).toMatch(
      /^--compare-to dirct: there is no method dirct; expected rag, direct\n {2}did you mean direct\?$/,
    );
  });
});
