/** Whatever the user gets wrong is one clear error and exit code 1, and nothing is half written. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compareRuns } from "../../scripts/kill-resume.js";
import { resolveConfig, readOverride, readYaml } from "../../src/config/index.ts";
import { openRun } from "../../src/run/open-run.ts";
import { Training, trainStep } from "../../src/train.ts";
import { buildIfStale, readRows, settingsFor, shortRun, train, writeRows, type Ended, type StartOptions } from "../helpers/program.ts";
import { root, tinyQuickstart } from "../helpers/tiny-quickstart.ts";

let folder: string;
let models: string;
let args: readonly string[];

beforeAll(async () => {
  buildIfStale();
  models = await tinyQuickstart();
  folder = mkdtempSync(join(tmpdir(), "zerosearch-bad-"));
  args = [...shortRun, "evaluation.baselines=false", ...settingsFor(models, folder)];
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** A copy of a model folder to be spoilt. */
function spoilt(name: string, part: "policy" | "simulator", spoil: (copy: string) => void): string {
  const copy = join(folder, name);
  cpSync(join(models, part), copy, { recursive: true });
  spoil(copy);
  return copy;
}

/** Sets one value inside a JSON file. */
function setIn(file: string, path: readonly string[], value: unknown): void {
  const json = JSON.parse(readFileSync(file, "utf8")) as object;
  let inner: Record<string, unknown> = json as Record<string, unknown>;
  for (const key of path.slice(0, -1)) inner = inner[key] as Record<string, unknown>;
  inner[path.at(-1)!] = value;
  writeFileSync(file, JSON.stringify(json));
}

const rowsOf = (file: string): Record<string, unknown>[] => readRows(join(models, "world", file)).slice(0, 20);

interface Mistake {
  readonly name: string;
  /** Makes it and returns the arguments that hold it. */
  readonly make: () => string[];
  readonly message: RegExp;
}

const mistakes: readonly Mistake[] = [
  {
    name: "a missing model",
    make: () => ["model.policy=/nowhere/policy"],
    message:
      /^model\.policy: there is no folder \/nowhere\/policy; expected a folder with config\.json, or a Hub id such as \S+, got \/nowhere\/policy$/,
  },
  {
    name: "a missing weight file",
    make: () => [
      `simulator.path=${spoilt("no-weights", "simulator", (copy) => {
        rmSync(join(copy, "model.safetensors"));
      })}`,
    ],
    message: /no-weights: there are no weights; expected model.safetensors, or model.safetensors.index.json with its files$/,
  },
  {
    name: "truncated weights",
    make: () => [
      `model.policy=${spoilt("truncated", "policy", (copy) => {
        truncateSync(join(copy, "model.safetensors"), statSync(join(copy, "model.safetensors")).size - 100);
      })}`,
    ],
    message:
      /truncated\/model.safetensors: tensor ".*" ends after the file; expected at least \d+ bytes, got \d+ bytes\n {2}the file is truncated/,
  },
  {
    name: "weights of the wrong shape",
    make: () => [
      `model.policy=${spoilt("shape", "policy", (copy) => {
        setIn(join(copy, "config.json"), ["intermediate_size"], 1000);
      })}`,
    ],
    message:
      /shape: the tensors are not the \d+ that are needed\n {2}\d+ have another shape: model.layers.0.mlp.gate_proj.weight: expected \[1000, \d+\], got \[\d+, \d+\]; /,
  },
  {
    name: "an unknown architecture",
    make: () => [
      `model.policy=${spoilt("gpt2", "policy", (copy) => {
        setIn(join(copy, "config.json"), ["architectures"], ["GPT2LMHeadModel"]);
        setIn(join(copy, "config.json"), ["model_type"], "gpt2");
      })}`,
    ],
    message: /gpt2\/config.json: .*; expected .*Llama.*, got .*(GPT2|gpt2)/i,
  },
  {
    name: "a tokenizer with more tokens than the model",
    make: () => [
      `model.policy=${spoilt("tokenizer", "policy", (copy) => {
        setIn(join(copy, "tokenizer.json"), ["model", "vocab", "zz zz"], 5000);
      })}`,
    ],
    message: /tokenizer.*5001/,
  },
  {
    name: "broken YAML",
    make: () => ["--config", broken("broken.yaml", "train:\n  steps: [1, 2\nseed: 3\n")],
    message: /^.*broken.yaml:\d+:\d+: not valid YAML: /,
  },
  {
    name: "an unknown key in a file",
    make: () => ["--config", broken("unknown.yaml", `extends: ${join(root, "configs/quickstart.yaml")}\ntrain:\n  stepps: 3\n`)],
    message: /unknown.yaml:3:3: unknown key train.stepps\n {2}did you mean train.steps\?/,
  },
  {
    name: "an unknown key on the command line",
    make: () => ["rollout.temprature=1"],
    message: /unknown key rollout.temprature\n {2}did you mean rollout.temperature\?/,
  },
  { name: "an unknown option", make: () => ["--resum"], message: /--resum: unknown option\n {2}did you mean --resume\?/ },
  {
    name: "a value out of range",
    make: () => ["train.groupSize=0"],
    message: /wrong value for train.groupSize; expected an integer from 1, got 0/,
  },
  {
    name: "sizes that do not fit together",
    make: () => ["train.microBatchTokens=100"],
    message: /train.microBatchTokens cannot hold one whole rollout/,
  },
  {
    name: "a GPU that is not there",
    make: () => ["--device", "webgpu", "device.adapter=no such GPU"],
    message: /webgpu device: no adapter was found.*\n {2}zerosearch doctor says what is missing/,
  },
  {
    name: "half precision on the CPU",
    make: () => ["--device", "cpu", "device.precision=f16"],
    message: /device.precision=f16: device.precision cannot be had with device.kind cpu; expected f32, or device.kind webgpu, got f16/,
  },
  {
    name: "a missing question file",
    make: () => ["data.train=/nowhere.jsonl"],
    message: /^\/nowhere.jsonl: cannot read the question file/,
  },
  {
    name: "an empty question file",
    make: () => [`data.train=${broken("empty.jsonl", "\n\n")}`],
    message: /empty.jsonl: the question file is empty; expected at least one row, got none/,
  },
  {
    name: "a row without answers",
    make: () => [
      `data.validation=${writeRows(
        join(folder, "unanswered.jsonl"),
        rowsOf("validation.jsonl").map((row, i) => (i === 2 ? { ...row, golden_answers: [] } : row)),
      )}`,
    ],
    message: /unanswered.jsonl:3: a row without answers; expected golden_answers: a list of at least one text \(or .*\), got \[\]/,
  },
  {
    name: "an id given twice",
    make: () => [
      `data.test=${writeRows(
        join(folder, "twice.jsonl"),
        rowsOf("test.jsonl").map((row, i) => (i === 1 ? { ...row, id: rowsOf("test.jsonl")[0]!["id"] } : row)),
      )}`,
    ],
    message: /twice.jsonl:2: duplicate id; expected an id that occurs once, got ".*", also in .*twice.jsonl:1$/m,
  },
  {
    name: "more questions in a step than there are",
    make: () => [`data.train=${writeRows(join(folder, "few.jsonl"), rowsOf("train.jsonl").slice(0, 3))}`],
    message: /train.questionsPerStep: .*; expected at most 3, got 4/,
  },
  {
    name: "a question that leaves no room in the context",
    make: () => [
      `data.train=${writeRows(
        join(folder, "long.jsonl"),
        rowsOf("train.jsonl").map((row, i) => (i === 4 ? { ...row, question: "Which region does Chad belong to? ".repeat(100) } : row)),
      )}`,
    ],
    message:
      /^question .*: its prompt leaves no room in the context; expected fewer than 560 tokens, got \d+\n {2}Raise rollout.maxContextTokens/,
  },
  { name: "a missing corpus", make: () => ["data.corpus=/nowhere.jsonl"], message: /^\/nowhere.jsonl: / },
  { name: "a run that is not there", make: () => ["--resume", "nobody"], message: /--resume: there is no run nobody/ },
  {
    name: "a folder that cannot be made",
    make: () => [`output.runs=${join(models, "policy", "config.json", "runs")}`],
    message: /runs: cannot be written: .*\n {2}write elsewhere \(a run: output.checkpoints=.*nothing was computed/,
  },
  {
    name: "a folder for states that cannot be made",
    make: () => [`output.checkpoints=${join(models, "policy", "config.json", "states")}`],
    message: /states: cannot be written: .*\n {2}write elsewhere \(a run: output.checkpoints=.*nothing was computed/,
  },
];

function broken(name: string, text: string): string {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
}

/** One message on stderr, no stack. */
function expectOneError({ code, stderr }: Ended, message: RegExp): void {
  expect(stderr.trimEnd()).toMatch(message);
  // no stack of ours; Dawn's warnings say where in Dawn
  expect(stderr).not.toMatch(/^ {4}at .*[.][jt]s:[0-9]/m);
  expect(code).toBe(1);
}

describe("a mistake is one error and writes nothing", () => {
  it.each(mistakes)("$name", async ({ make, message }) => {
    const ended = await train([...args, ...make()]);
    expectOneError(ended, message);
    expect(ended.stdout).toMatch(/^(configuration: .*\n)?(device: .*\n)?$/);
    for (const place of ["runs", "checkpoints"])
      expect(existsSync(join(folder, place)) ? readdirSync(join(folder, place)) : []).toEqual([]);
  });
});

describe("a run that goes on", () => {
  const output = (): string[] => [`output.runs=${join(folder, "runs")}`, `output.checkpoints=${join(folder, "checkpoints")}`];
  const state = (name: string, step: number, ...path: string[]): string => join(folder, "checkpoints", name, `step-00000${step}`, ...path);
  beforeAll(async () => {
    const ended = await train([...args, "name=base", "train.steps=3"]);
    expect([ended.code, ended.stderr]).toEqual([0, ""]);
  });
  /** The base run as it was after two of its steps. */
  const begun = (name: string): void => {
    for (const place of ["runs", "checkpoints"]) cpSync(join(folder, place, "base"), join(folder, place, name), { recursive: true });
    rmSync(state(name, 3), { recursive: true });
  };

  it("from a damaged state is refused, with the newest one that is whole", async () => {
    begun("damaged");
    truncateSync(state("damaged", 2, "policy", "model.safetensors"), 5000);
    const ended = await train(["--resume", "damaged", ...output()]);
    expectOneError(
      ended,
      /step-000002\/policy\/model.safetensors: is truncated; expected \d+ bytes, got 5000\n.*step-000001 is whole: delete .*step-000002 to go on from there/,
    );
    rmSync(state("damaged", 2), { recursive: true });
    const again = await train(["--resume", "damaged", ...output()]);
    expect([again.code, again.stderr]).toEqual([0, ""]);
    compareRuns(folder, "base", "damaged");
  });

  it("with another build or device, or another setting, is warned and goes on", async () => {
    begun("moved");
    const file = state("moved", 2, "state.json");
    setIn(file, ["build"], "0.0.1+0000000000000000");
    setIn(file, ["device"], "webgpu: somewhere else");
    const bytes = readFileSync(file);
    setIn(state("moved", 2, "manifest.json"), ["files", "state.json"], {
      bytes: bytes.length,
      sha256: createHash("sha256").update(bytes).digest("hex"),
    });
    const ended = await train(["--resume", "moved", ...output(), "train.saveEvery=2"]);
    expect([ended.code, ended.stderr]).toEqual([0, ""]);
    expect(ended.stdout).toMatch(/^warning: .*another build \(0.0.1\+0{16}, this is .*\)/m);
    expect(ended.stdout).toMatch(/^warning: .*another device \(webgpu: somewhere else, this is cpu: .*\)/m);
    expect(ended.stdout).toMatch(/^warning: train.saveEvery was 1 when this run was started, now it is 2$/m);
    compareRuns(folder, "base", "moved");
  });

  it("without its logs is warned", async () => {
    begun("logless");
    rmSync(join(folder, "runs", "logless", "rollouts.jsonl"));
    const ended = await train(["--resume", "logless", ...output()]);
    expect([ended.code, ended.stderr]).toEqual([0, ""]);
    expect(ended.stdout).toMatch(/^warning: .*rollouts.jsonl holds 0 bytes up to step 2, the saved state recorded \d+/m);
  });
});

/** Lets the first so many bytes reach the disk, as a full one does. */
const fullDisk = `
import fs from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
const open = fs.open;
let room = Number(process.env.ZEROSEARCH_TEST_ROOM);
fs.open = async (path, flags, ...rest) => {
  const handle = await open(path, flags, ...rest);
  if (flags !== "w" || !String(path).includes("checkpoints")) return handle;
  const write = handle.write.bind(handle);
  handle.write = async (data, ...more) => {
    room -= data.length;
    if (room < 0) throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
    return write(data, ...more);
  };
  return handle;
};
syncBuiltinESMExports();
`;

describe("a disk that is full while a state is saved", () => {
  const stateBytes = (): number => 3 * statSync(join(models, "policy", "model.safetensors")).size;

  /** Runs until the second state does not fit, makes room, and goes on. */
  async function fill(place: string, options: StartOptions, makeRoom: () => void): Promise<void> {
    const output = [`output.runs=${join(place, "runs")}`, `output.checkpoints=${join(place, "checkpoints")}`];
    const ended = await train([...args, ...output, "train.steps=3", "name=full"], options);
    expectOneError(ended, /checkpoints\/full\/.*: the disk is full\n {2}make room on the disk or write elsewhere/);
    expect(readdirSync(join(place, "checkpoints", "full"))).toEqual(["step-000001"]);
    makeRoom();
    const again = await train(["--resume", "full", ...output]);
    expect([again.code, again.stderr]).toEqual([0, ""]);
    expect(again.stdout).toContain("Going on after step 1 from");
    expect(readRows(join(place, "runs", "full", "metrics.jsonl")).map((row) => row["step"])).toEqual([1, 2, 3]);
  }

  it("is one error that leaves the older states whole, and the run goes on once there is room", async () => {
    const place = join(folder, "injected");
    mkdirSync(place);
    const env = {
      NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(fullDisk)}`,
      ZEROSEARCH_TEST_ROOM: String(Math.floor(1.6 * stateBytes())),
    };
    await fill(place, { env }, () => {});
  });

  it("is the same on a real disk that is full", async (context) => {
    const place = join(folder, "disk");
    mkdirSync(place);
    const mount = (options: string): number | null => spawnSync("mount", ["-t", "tmpfs", "-o", options, "tmpfs", place]).status;
    const size = (states: number): string => `size=${Math.ceil(states * stateBytes()) + (1 << 19)}`;
    if (process.platform !== "linux" || mount(size(1.6)) !== 0) {
      context.skip("small disks cannot be mounted here");
      return;
    }
    try {
      await fill(place, {}, () => {
        expect(mount(`remount,${size(8)}`)).toBe(0);
      });
    } finally {
      spawnSync("umount", [place]);
    }
  });
});

describe("a gradient that is not finite", () => {
  it("ends the run with an error that says so, and changes no weight", async () => {
    const config = resolveConfig([...readYaml(join(root, "configs", "quickstart.yaml")), ...[...args, "name=diverging"].map(readOverride)]);
    const opened = await openRun({ config, resume: false, changed: [] });
    try {
      const { run, journal, states } = await Training.begin(opened);
      const [first] = [...run.policy.decoder.parameters().values()];
      const before = await first!.readFloats();
      const update = run.optimizer.update.bind(run.optimizer);
      run.optimizer.update = (rate) => {
        first!.grad!.write(new Float32Array(first!.cols).fill(NaN), 0);
        return update(rate);
      };
      await expect(trainStep(run, 1)).rejects.toThrow(
        /^step 1: the gradient norm is not finite: training has diverged; expected a number, got NaN\n {2}Nothing of this step was kept/,
      );
      expect(await first!.readFloats()).toEqual(before);
      expect(journal.done).toBe(0);
      expect(existsSync(states.folder)).toBe(false);
    } finally {
      await opened.closing.close();
    }
  });

  it("is one error on the command line", async () => {
    const ended = await train([...args, "name=diverged", "optimizer.learningRate=1e30"]);
    expectOneError(ended, /not finite/);
  });
});
