/** Runs that end before their time: what is kept, what is said, and that nobody else writes them. */
import { spawn } from "node:child_process";
import {
  appendFileSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { SavedDivergence } from "../../src/run/diverged.ts";
import { buildIfStale, readRows, settingsFor, shortRun, start, train, type Ended, type StartOptions } from "../helpers/program.ts";
import { root, tinyQuickstart } from "../helpers/tiny-quickstart.ts";

let folder: string;
let args: readonly string[];
const runs = (name: string, ...path: string[]): string => join(folder, "runs", name, ...path);
const states = (name: string, ...path: string[]): string => join(folder, "checkpoints", name, ...path);
const saved = (name: string): string[] =>
  existsSync(states(name))
    ? readdirSync(states(name))
        .filter((one) => one.startsWith("step-"))
        .sort()
    : [];

/** One update a step and no evaluation, so that runs are short; nothing is saved before the end by itself. */
const plain = ["train.updatesPerStep=1", "train.saveEvery=0", "train.validateEvery=0", "data.test=null", "data.validation=null"];
const run = (name: string, more: readonly string[] = [], options?: StartOptions): Promise<Ended> =>
  train([...args, ...plain, `name=${name}`, ...more], options);
/** Goes on with a run, its folder of runs given as a user would. */
const resume = (name: string, more: readonly string[] = []): Promise<Ended> => train(["--resume", runs(name), ...more]);

/** Does something when a step has been shown. */
const after = (step: number, act: (kill: (signal: NodeJS.Signals) => void) => void): StartOptions => {
  let done = false;
  return {
    onOutput(stdout, kill) {
      if (done || !stdout.includes(`step ${step}/`)) return;
      done = true;
      act(kill);
    },
  };
};

beforeAll(async () => {
  buildIfStale();
  folder = mkdtempSync(join(tmpdir(), "zerosearch-ends-"));
  args = [...shortRun, ...settingsFor(await tinyQuickstart(), folder)];
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** So many steps that whoever acts after the first is in time, on a busy machine too. */
const many = ["train.steps=20"];
const stepFolder = (step = ""): string => `step-${step.padStart(6, "0")}`;

describe("a run that is ended from outside is saved, and says how it goes on", () => {
  for (const [signal, code] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const)
    it(`by ${signal}, with exit code ${code}`, async () => {
      const name = signal.toLowerCase();
      const ended = await run(
        name,
        many,
        after(1, (kill) => kill(signal)),
      );
      expect(ended.stderr).toBe("");
      expect(ended.code).toBe(code);
      const [, step, place] = /^Stopped after step (\d+) of 20; saved in (.*)\.$/m.exec(ended.stdout) ?? [];
      expect(place).toBe(states(name, stepFolder(step)));
      expect(saved(name)).toEqual([stepFolder(step)]);
      expect(ended.stdout).toContain(`--resume ${name} output.runs=${join(folder, "runs")}\n`);
    });

  it("by a reader of its output that goes away, told on standard error", async () => {
    const child = spawn(process.execPath, [join(root, "train.js"), ...args, ...plain, ...many, "name=pipe"], { cwd: root });
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      if (text.includes("step 1/20")) child.stdout.destroy();
    });
    const code = await new Promise((resolve) => child.on("close", resolve));
    expect(stderr).toMatch(/^Stopped after step \d+ of 20; saved in .*\nGo on with: .*--resume pipe .*\n$/);
    expect(code).toBe(141);
    expect(saved("pipe")).toHaveLength(1);
  });

  it.skipIf(process.platform !== "linux")("by a standard output that has no room, without a stack", async () => {
    const full = openSync("/dev/full", "w");
    const child = spawn(process.execPath, [join(root, "train.js"), ...args, ...plain, "name=full"], { stdio: ["ignore", full, "pipe"] });
    closeSync(full);
    let stderr = "";
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    expect(await new Promise((resolve) => child.on("close", resolve))).toBe(1);
    expect(stderr).toMatch(/^zerosearch: standard output cannot be written: ENOSPC/);
    expect(stderr).not.toContain("    at ");
  });

  it("and goes on to the bits of a run that was not", async () => {
    const whole = await run("whole", many);
    expect(whole.code).toBe(0);
    const ended = await resume("sighup");
    expect(ended.code).toBe(0);
    const weights = (name: string): Buffer => readFileSync(states(name, "step-000020", "policy", "model.safetensors"));
    expect(weights("sighup").equals(weights("whole"))).toBe(true);
  });
});

describe("a run that fails", () => {
  const engine = (text: string): string => {
    const file = join(folder, `engine-${text.length}.mjs`);
    writeFileSync(file, `let asked = 0;\nexport default { name: "own", search: async () => { ${text} }, close: async () => undefined };\n`);
    return `search.engine=${file}`;
  };

  it("because its engine does, keeps every whole step", async () => {
    const ended = await run("engine", [
      engine(`if (++asked > 40) throw new Error("no more money"); return { documents: [{ text: "The region is Asia." }], kind: "real" };`),
    ]);
    expect(ended.code).toBe(1);
    expect(ended.stderr).toContain("no more money");
    const [, step] = /^Stopped after step ([1-4]) of 5; saved in /m.exec(ended.stdout) ?? [];
    expect(saved("engine")).toEqual([`step-00000${step}`]);
    expect(readRows(runs("engine", "metrics.jsonl"))).toHaveLength(Number(step));
  });

  it("because its validation does, keeps the step that was to be validated", async () => {
    const failing = `throw new Error("no more money");`;
    const ended = await run("validation", [
      engine(failing).replace("search.engine", "evaluation.engine"),
      "train.validateEvery=3",
      "evaluation.validationQuestions=4",
      ...args.filter((one) => one.startsWith("data.validation=")),
    ]);
    expect(ended.code).toBe(1);
    expect(ended.stderr).toContain("no more money");
    expect(saved("validation")).toEqual(["step-000003"]);
  });

  it("because code that nobody waits for does, keeps every whole step", async () => {
    const stray = `if (++asked === 40) void Promise.reject(new Error("loose")); return { documents: [{ text: "The region is Asia." }], kind: "real" };`;
    const ended = await run("stray", [engine(stray)]);
    expect(ended.code).toBe(1);
    expect(ended.stderr).toMatch(/^zerosearch: code that nobody waits for fails: loose\n/);
    const [, step] = /^Stopped after step ([1-4]) of 5; saved in /m.exec(ended.stdout) ?? [];
    expect(saved("stray")).toEqual([`step-00000${step}`]);
  });

  it("because it is stopped while its engine never answers and holds a timer, keeps every whole step", async () => {
    const silent = `setInterval(() => undefined, 1000); if (++asked > 40) return new Promise(() => undefined); return { documents: [{ text: "The region is Asia." }], kind: "real" };`;
    const ended = await run(
      "silent",
      [engine(silent)],
      after(1, (kill) => setTimeout(() => kill("SIGTERM"), 3000)),
    );
    expect(ended.code).toBe(143);
    const [, step] = /^Stopped after step ([1-4]) of 5; saved in /m.exec(ended.stdout) ?? [];
    expect(saved("silent")).toEqual([`step-00000${step}`]);
  });

  it("because it diverges, keeps the step before", async () => {
    const ended = await run("diverged", ["algorithm.klCoef=1e38", "algorithm.clipHigh=10", "optimizer.warmupSteps=0"]);
    expect(ended.code).toBe(1);
    expect(ended.stderr).toContain("training has diverged");
    const [, step] = /^Stopped after step ([1-4]) of 5; saved in /m.exec(ended.stdout) ?? [];
    expect(saved("diverged")).toEqual([`step-00000${step}`]);
    expect(ended.stderr).toContain(`npx zerosearch explain ${runs("diverged")}\n`);
  });

  it("because it diverges, says why: rollout, token and text, until that step has gone well", async () => {
    const file = runs("diverged", "divergence.json");
    const dump = JSON.parse(readFileSync(file, "utf8")) as SavedDivergence;
    const step = readRows(runs("diverged", "metrics.jsonl")).length + 1;
    expect(dump).toMatchObject({ version: 1, run: "diverged", step, whose: "policy", settings: { algorithm: { klCoef: 1e38 } } });
    expect(dump.metrics.map((row) => row.step)).toEqual(Array.from({ length: step - 1 }, (_, i) => i + 1));
    const { tokens, rollouts, summary } = dump.explained!;
    const [token] = tokens.shown;
    // Of the step that was refused, whose rollouts are in no log: their text is here.
    expect(token!.rollout.step).toBe(step);
    const text = rollouts.shown.find(({ rollout }) => JSON.stringify(rollout) === JSON.stringify(token!.rollout))?.text;
    expect(text).toContain(token!.text);
    expect(text).toContain(token!.after);
    const named = `rollout ${step}/${token!.rollout.question}/${token!.rollout.rollout}`;
    expect(summary).toContain(`token ${token!.position} (${JSON.stringify(token!.text)}) of ${named}`);

    const explain = (...words: string[]): Promise<Ended> =>
      start(process.execPath, [join(root, "bin", "zerosearch.js"), "explain", ...words]);
    for (const words of [[runs("diverged")], ["diverged", `output.runs=${join(folder, "runs")}`]]) {
      const told = await explain(...words);
      expect([told.code, told.stderr]).toEqual([0, ""]);
      expect(told.stdout).toContain(`What came first: ${summary}`);
      expect(told.stdout).toContain(`Around token ${token!.position} of ${named}`);
      expect(told.stdout).toMatch(/^step +reward +entropy/m);
      expect(told.stdout).toContain("optimizer.learningRate=");
    }
    expect(JSON.parse((await explain(runs("diverged"), "--json")).stdout)).toEqual(dump);
    const nothing = await explain(runs("engine"));
    expect([nothing.code, nothing.stdout]).toEqual([1, ""]);
    expect(nothing.stderr).toContain("run engine: has left nothing to explain");
    expect((await explain(runs("none"))).stderr).toContain("there is no run none");

    expect((await resume("diverged", ["algorithm.klCoef=0"])).code).toBe(0);
    expect(existsSync(file)).toBe(false);
  });

  it("because its policy died, says so, and ends as asked", async () => {
    const ended = await run("dead", [
      "optimizer.learningRate=1e30",
      "optimizer.warmupSteps=0",
      "optimizer.maxGradNorm=0",
      "train.onCollapse=fail",
    ]);
    expect(ended.stdout).toContain("warning: Collapse: since step 2 no rollout was valid");
    expect(ended.stdout.trim().split("\n").at(-1)).toContain("Collapse: since step 2");
    expect(ended.code).toBe(1);
  });

  it("because its states cannot be written, saves elsewhere if asked, and goes on from there", async () => {
    const spare = join(folder, "spare");
    // the run may be writing there at that very moment
    const put = (triesLeft: number): void => {
      try {
        rmSync(states("blocked"), { recursive: true, force: true });
        writeFileSync(states("blocked"), "in the way");
      } catch (error) {
        if (triesLeft === 0) throw error;
        put(triesLeft - 1);
      }
    };
    const block = after(1, () => put(100));
    const ended = await run("blocked", [...many, "train.saveEvery=1", `output.spare=${spare}`], block);
    expect(ended.code).toBe(1);
    expect(ended.stdout).toMatch(/^Step \d+ could not be saved in .*blocked: /m);
    expect(ended.stdout).toContain(`saved in ${join(spare, "blocked", "step-0000")}`);
    const command = /^Go on with: node train\.js (.*)$/m.exec(ended.stdout)?.[1] ?? "";
    expect(command).toContain(`output.checkpoints=${spare}`);
    rmSync(states("blocked"));
    const on = await train(command.split(" "));
    expect(on.stderr).toBe("");
    expect(on.code).toBe(0);
    expect(readdirSync(join(spare, "blocked"))).toContain("step-000020");
    expect(readRows(runs("blocked", "metrics.jsonl")).map((row) => row["step"])).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
  });

  it("because a folder cannot be made, does so soon and in one line", async () => {
    for (const key of ["runs", "checkpoints"]) {
      const ended = await run("nowhere", [`output.${key}=/proc/zerosearch`]);
      expect(ended.code).toBe(1);
      expect(ended.stderr).toMatch(/^\/proc\/zerosearch: /);
      expect(ended.stderr).not.toContain("    at ");
    }
  }, 60_000);
});

it("saves after so many minutes besides", async () => {
  expect((await run("minutes", ["train.saveMinutes=1e-6"])).code).toBe(0);
  expect(saved("minutes")).toEqual([1, 2, 3, 4, 5].map((step) => `step-00000${step}`));
});

describe("a run that goes on", () => {
  beforeAll(async () => {
    expect((await run("base", ["train.steps=2", `data.train=${join(folder, "train.jsonl")}`], prepared())).code).toBe(0);
  });
  function prepared(): StartOptions {
    const from = args.find((one) => one.startsWith("data.train="))?.slice("data.train=".length) ?? "";
    copyFileSync(from, join(folder, "train.jsonl"));
    return {};
  }

  it("is refused to a second program, with the first one's number, and taken over from one that was killed", async () => {
    let second: Promise<Ended> | undefined;
    let pid = 0;
    const first = await run("locked", ["train.saveEvery=1"], {
      onOutput(stdout, kill) {
        if (!stdout.includes("step 1/5") || second !== undefined) return;
        pid = Number(readFileSync(runs("locked", "run.lock"), "utf8").split(" ")[1]);
        process.kill(pid, "SIGSTOP");
        second = resume("locked").finally(() => kill("SIGKILL"));
      },
    });
    expect(first.signal).toBe("SIGKILL");
    const refused = await second;
    expect(refused?.code).toBe(1);
    expect(refused?.stderr).toContain(`the run locked is under way: process ${pid} writes it`);
    expect((await resume("locked")).code).toBe(0);
    expect(existsSync(runs("locked", "run.lock"))).toBe(false);
  });

  it("reads nothing that stands behind the recorded bytes of a log", async () => {
    appendFileSync(runs("base", "metrics.jsonl"), Buffer.from([0xff, 0xfe, 10, 1, 2, 3, 10]));
    const ended = await resume("base", ["train.steps=3"]);
    expect(ended.stderr).toBe("");
    expect(ended.code).toBe(0);
    expect(readRows(runs("base", "metrics.jsonl")).map((row) => row["step"])).toEqual([1, 2, 3]);
  });

  it("names what has changed, and asks whether that is meant", async () => {
    const file = join(folder, "train.jsonl");
    const before = readFileSync(file);
    appendFileSync(
      file,
      before
        .subarray(0, before.indexOf(10) + 1)
        .toString()
        .replace(/"id":"/, '"id":"new-'),
    );
    const refused = await resume("base", ["train.steps=4"]);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain("changed since the state was saved: data.train\n");
    const on = await resume("base", ["train.steps=4", "--allow-changed"]);
    expect(on.stdout).toContain("warning: changed since the state was saved: data.train\n");
    expect(on.code).toBe(0);
    writeFileSync(file, before);
  });

  it("says where there is nothing left to do, and what has no say", async () => {
    const ended = await resume("base", ["train.steps=2", "--allow-changed", `model.policy=${join(await tinyQuickstart(), "simulator")}`]);
    expect(ended.stdout).toMatch(/the run has done \d steps, and train.steps is 2: nothing is left to train/);
    expect(ended.stdout).toContain("note: model.policy has no say in the weights of a run that goes on");
  });

  it("does not begin again where its states have gone", async () => {
    renameSync(states("minutes"), states("elsewhere"));
    const ended = await resume("minutes");
    expect(ended.code).toBe(1);
    expect(ended.stderr).toContain("there is no saved state here");
    expect(readRows(runs("minutes", "metrics.jsonl"))).toHaveLength(5);
  });
});
