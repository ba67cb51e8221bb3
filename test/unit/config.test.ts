import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { argumentsHelp, parseArguments, type ArgumentSpec } from "../../src/config/arguments.ts";
import { keys } from "../../src/config/keys.ts";
import { editDistance, nearest } from "../../src/util/nearest.ts";
import { changedKeys, keysHelp, printConfig } from "../../src/config/print.ts";
import { resolveConfig } from "../../src/config/resolve.ts";
import { claimRunName, newestRunName } from "../../src/config/run-name.ts";
import { readOverride, readYaml, savedSource } from "../../src/config/source.ts";
import { packagedConfig, readTrainCommand, type TrainCommand } from "../../src/config/train-command.ts";
import { advantageNames, presetNames } from "../../src/rl/settings.ts";
import { termNames } from "../../src/rl/reward-terms.ts";
import { ConfigError } from "../../src/util/errors.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const needed = ["model.policy=p", "simulator.path=s", "data.train=t"];
const configOf = (...settings: string[]) => resolveConfig([...needed, ...settings].map(readOverride));

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-config-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function yaml(text: string, name = "a.yaml"): string {
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}

function messageOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    expect(error).toBeInstanceOf(Error);
    return (error as Error).message;
  }
  throw new Error("nothing was thrown");
}

describe("a configuration", () => {
  it("needs a policy, a simulator and training questions, and has a default for everything else", () => {
    const config = configOf();
    expect(config.train.groupSize).toBe(5);
    expect(config.data.test).toBeNull();
    expect(keys.filter((key) => key.default === undefined).map((key) => key.key)).toEqual(["model.policy"]);
    expect(() => configOf("data.train=null")).toThrow(/data\.train is missing; expected a path/);
    expect(() => configOf("simulator.path=null")).toThrow(
      /simulator\.path is missing; expected one of them: a model in this process, or a server/,
    );
    expect(() => configOf("simulator.endpoint=http://127.0.0.1:6001/v1")).toThrow(/simulator\.path and simulator\.endpoint are both given/);
    expect(configOf("simulator.path=null", "simulator.endpoint=http://127.0.0.1:6001/v1").simulator.path).toBeNull();
  });

  it("has defaults that pass its own checks, and a sentence for every key", () => {
    for (const key of keys) {
      const text = typeof key.default === "object" ? JSON.stringify(key.default) : String(key.default);
      if (key.default !== undefined && key.default !== null) expect(configOf(`${key.key}=${text}`)).toEqual(configOf());
      expect(key.doc, key.key).toMatch(/^[A-Z].*\.$/);
      expect(key.expected, key.key).not.toContain("undefined");
    }
  });

  it("offers exactly the advantages and rewards there are", () => {
    const offered = (name: string) => keys.find((key) => key.key === name)?.expected;
    expect(offered("algorithm.name")).toBe(`one of ${presetNames.join(", ")}`);
    expect(offered("algorithm.advantage")).toBe(`one of ${advantageNames.join(", ")}`);
    expect(offered("reward.kind")).toBe(`one of ${termNames.join(", ")}, or a module such as ./my-module.js`);
  });

  it("takes later sources over earlier ones, key by key", () => {
    const file = yaml("train:\n  steps: 7\n  groupSize: 3\n");
    const config = resolveConfig([...readYaml(file), ...[...needed, "train.steps=9"].map(readOverride)]);
    expect(config.train).toMatchObject({ steps: 9, groupSize: 3, questionsPerStep: 64 });
  });

  it("takes one file or a list of them, in YAML and as JSON on the command line", () => {
    const file = yaml("data:\n  train: ['{package}/a.jsonl', b.parquet]\n  test: c.jsonl\n  corpus: d\n");
    const others = needed.slice(0, 2).map(readOverride);
    const { data } = resolveConfig([...readYaml(file), ...others]);
    expect(data).toMatchObject({ train: ["a.jsonl", "b.parquet"], test: "c.jsonl" });
    expect(configOf('data.train=["x y.jsonl", "z"]').data.train).toEqual(["x y.jsonl", "z"]);
    expect(configOf("data.train=[x].jsonl").data.train).toBe("[x].jsonl");
    expect(messageOf(() => configOf("data.train=[]"))).toContain(
      "argument data.train=[]: wrong value for data.train; expected a path, or a list of paths, or null, got []",
    );
    expect(messageOf(() => resolveConfig([...readYaml(yaml("data:\n  train: [a, 3]\n")), ...others]))).toMatch(
      /a\.yaml:2:3: wrong value for data\.train; expected a path, or a list of paths, or null, got \["a",3\]/,
    );
    expect(printConfig(configOf('data.train=["a", "b"]'))).toContain("  train:\n    - a\n    - b\n");
  });

  it("starts from the file named by `extends`", () => {
    yaml("train: { steps: 7, groupSize: 3 }\n", "base.yaml");
    const config = resolveConfig([...readYaml(yaml("extends: base.yaml\ntrain: { steps: 8 }\n")), ...needed.map(readOverride)]);
    expect(config.train).toMatchObject({ steps: 8, groupSize: 3 });
  });

  it("starts from a file of the package named by `extends`, wherever it lies itself", () => {
    const config = resolveConfig([...readYaml(yaml('extends: "{package}/configs/paper/qwen2.5-3b.yaml"\ntrain: { steps: 8 }\n'))]);
    expect(config.train).toMatchObject({ steps: 8, questionsPerStep: 64 });
    expect(config.model.policy).toBe("Qwen/Qwen2.5-3B");
    expect(messageOf(() => readYaml(yaml('extends: "{package}/configs/no.yaml"\n')))).toContain(join(root, "configs", "no.yaml"));
  });

  it("is read back from what is printed", () => {
    const config = configOf("curriculum.base=1.5", "data.corpus=a b.jsonl", "optimizer.learningRate=2e-4", "name=007");
    expect(resolveConfig(readYaml(yaml(printConfig(config))))).toEqual(config);
  });

  it("reads every setting as its key's type: a text of digits stays a text", () => {
    expect(configOf("name=12").name).toBe("12");
    expect(configOf("optimizer.learningRate=1e-4").optimizer.learningRate).toBe(1e-4);
    expect(configOf("train.recompute=true").train.recompute).toBe(true);
    expect(configOf("data.corpus=c", "data.corpus=null").data.corpus).toBeNull();
    expect(configOf("search.engine=null").search.engine).toBeNull();
  });

  it("puts the package's folder for {package}", () => {
    expect(configOf("model.policy={package}/checkpoints/x").model.policy).toMatch(/checkpoints[/\\]x$/);
    expect(configOf("model.policy={package}/checkpoints/x").model.policy).not.toContain("{");
  });
});

describe("a mistake in a configuration", () => {
  it("names file, line and column of broken YAML", () => {
    const file = yaml("train:\n  steps: [1, 2\nseed: 1\n");
    expect(messageOf(() => readYaml(file))).toMatch(new RegExp(`^${file}:3:1: not valid YAML: `));
  });

  it("names the place of a key given twice", () => {
    expect(messageOf(() => readYaml(yaml("seed: 1\nseed: 2\n")))).toMatch(/a\.yaml:2:1: not valid YAML: .*unique/);
  });

  it("names the place of an unknown key and the nearest known one", () => {
    const file = yaml("train:\n  stpes: 3\n");
    expect(messageOf(() => resolveConfig([...readYaml(file), ...needed.map(readOverride)]))).toBe(
      `${file}:2:3: unknown key train.stpes\n  did you mean train.steps? All keys: node train.js --help`,
    );
    expect(messageOf(() => readOverride("questionsPerStep=4"))).toContain("did you mean train.questionsPerStep?");
    expect(messageOf(() => readOverride("__proto__.x=1"))).toContain("unknown key");
  });

  it("names place, range and value of a value out of range", () => {
    const file = yaml("train:\n  steps: 0\n");
    expect(messageOf(() => resolveConfig([...readYaml(file), ...needed.map(readOverride)]))).toContain(
      `${file}:2:3: wrong value for train.steps; expected an integer from 1, got 0`,
    );
    expect(messageOf(() => configOf("curriculum.base=0"))).toContain(
      "argument curriculum.base=0: wrong value for curriculum.base; expected a number above 0",
    );
    expect(messageOf(() => configOf("device.kind=tpu"))).toContain('expected one of auto, cpu, webgpu, got "tpu"');
    expect(messageOf(() => configOf("device.precision=bf16"))).toContain('expected one of f32, f16, got "bf16"');
    expect(messageOf(() => configOf("seed=many"))).toContain('expected an integer from 0, got "many"');
    expect(messageOf(() => configOf("name=../x"))).toContain("wrong value for name");
  });

  it("is told together with the others, unknown keys first", () => {
    const message = messageOf(() => resolveConfig(readYaml(yaml("seed: -1\nmodle: {}\n"))));
    expect(message.indexOf("unknown key modle")).toBeLessThan(message.indexOf("wrong value for seed"));
    expect(message).toContain("model.policy is missing");
  });

  it("is a missing file, a file that is no map, or `extends` in a circle", () => {
    expect(messageOf(() => readYaml(join(folder, "no.yaml")))).toContain("no such configuration file");
    expect(messageOf(() => readYaml(yaml("- 1\n")))).toMatch(/a\.yaml:1:1: not a configuration; expected a map/);
    expect(messageOf(() => readYaml(yaml("extends: a.yaml\n")))).toContain("leads back to this file");
  });

  it("is YAML that leads back into itself, or grows without an end", () => {
    const circle = (text: string): string => messageOf(() => readYaml(yaml(text)));
    expect(circle("train: &x\n  steps: 7\n  again: *x\n")).toMatch(/a\.yaml: train\.again leads back into itself/);
    expect(circle("search: { settings: { list: &y [1, [*y]] } }\n")).toMatch(/search\.settings\.list\.1\.0 leads back into itself/);
    const lines = ["a0: &a0 [1, 1]", ...Array.from({ length: 40 }, (_, i) => `a${i + 1}: &a${i + 1} [*a${i}, *a${i}]`)];
    expect(circle(lines.join("\n"))).toMatch(/a\.yaml: is not valid YAML: Excessive alias count/);
    // The same part twice is no circle.
    expect(readYaml(yaml("one: &z { a: 1 }\ntwo: *z\n"))[0]?.tree).toEqual({ one: { a: 1 }, two: { a: 1 } });
  });

  it("is two right values that do not fit together", () => {
    expect(messageOf(() => configOf("train.microBatchTokens=100"))).toContain("at least rollout.maxContextTokens (4096), got 100");
    expect(messageOf(() => configOf("data.test=x"))).toContain("data.corpus is missing");
    expect(messageOf(() => configOf("curriculum.start=.6"))).toContain("curriculum.end is below curriculum.start");
    expect(messageOf(() => configOf("train.updatesPerStep=321"))).toContain("more updates than there are rollouts");
    expect(messageOf(() => configOf("train.groupSize=1"))).toContain("leaves grpo without a baseline");
    expect(configOf("train.groupSize=1", "algorithm.name=reinforce").train.groupSize).toBe(1);
    expect(messageOf(() => configOf("rollout.maxContextTokens=600"))).toContain("no room for one turn");
    expect(messageOf(() => configOf("device.precision=f16", "device.kind=cpu"))).toContain(
      "device.precision cannot be had with device.kind cpu; expected f32, or device.kind webgpu, got f16",
    );
    expect(configOf("device.precision=f16", "device.kind=webgpu").device.precision).toBe("f16");
  });
});

describe("printing", () => {
  it("lists every key with default and range in --help", () => {
    const help = keysHelp({ all: true });
    for (const key of keys) expect(help).toContain(`  ${key.key} = `);
    const short = keysHelp();
    const shown = keys.filter(({ key }) => short.includes(`  ${key} = `));
    expect(shown).toEqual(keys.filter(({ rare }) => !rare));
    expect(shown.length).toBeLessThanOrEqual(60);
    expect(shown.length).toBeGreaterThan(40);
    expect(help).toContain("data.corpus = null   a path, or null");
    expect(help).toContain("device.adapter = null   a text, or null");
    expect(help).toContain("simulator.endpointKey = null   a text, or null");
    expect(Math.max(...help.split("\n").map((line) => line.length))).toBeLessThanOrEqual(120);
  });

  it("says what an old name is called now, and reads it in what an old run has saved", () => {
    expect(messageOf(() => configOf("rollout.maxNewTokensPerTurn=9"))).toMatch(
      /^argument rollout\.maxNewTokensPerTurn=9: rollout\.maxNewTokensPerTurn has another name now; expected rollout\.maxNewTokens/,
    );
    const file = yaml("evaluation: { documents: 3 }\n");
    expect(messageOf(() => resolveConfig([...readYaml(file), ...needed.map(readOverride)]))).toMatch(
      /a\.yaml:1:15: evaluation\.documents has another name now; expected bm25\.documents/,
    );
    expect(messageOf(() => configOf("simulator.prompt=short"))).toContain("short is called quickstart now");
    expect(messageOf(() => configOf("simulator.endpointRetries=9"))).toMatch(
      /simulator\.endpointRetries is no more; expected simulator\.endpointPatience\n {2}Seconds that a request is tried again/,
    );
    expect(messageOf(() => configOf("device.blas=openblas"))).toMatch(
      /^argument device\.blas=openblas: device\.blas is no more\n {2}OpenBLAS is no longer used: the CPU's own matrix products are as fast .*Leave the key out\./,
    );
    const openblas = yaml("device: { blas: openblas }\n");
    expect(messageOf(() => resolveConfig([...readYaml(openblas), ...needed.map(readOverride)]))).toMatch(
      /a\.yaml:1:11: device\.blas is no more\n {2}OpenBLAS/,
    );
    for (const name of ["quickstart", "quickstart-lora"]) {
      const saved = parse(readFileSync(join(root, "test", "fixtures", `saved-${name}.yaml`), "utf8")) as Record<string, unknown>;
      const read = resolveConfig([savedSource(saved, name)]);
      expect(read).toMatchObject({ simulator: { prompt: "quickstart" }, rollout: { maxNewTokens: 56 }, bm25: { documents: 3 } });
      expect({ ...read, name }).toEqual({ ...resolveConfig(readYaml(join(root, "configs", `${name}.yaml`))), name });
    }
  });

  it("takes a name of a table or a module, and guesses what a misspelt name meant", () => {
    for (const file of ["./mine.js", "../mine.ts", "/abs/mine.mjs"]) expect(configOf(`reward.kind=${file}`).reward.kind).toBe(file);
    expect(configOf("reward.kind={package}/a.js").reward.kind).toBe("./a.js");
    for (const file of ["mine.js", "./mine", "./mine.json", ""])
      expect(() => configOf(`reward.kind=${file}`)).toThrow(/wrong value for reward\.kind/);
    expect(messageOf(() => configOf("search.engine=simulate"))).toMatch(
      /expected one of simulated, bm25, dense, http, .*or a module.*\n.*did you mean simulated\?/,
    );
    expect(configOf('search.settings={"url":"x","n":2}').search.settings).toEqual({ url: "x", n: 2 });
    expect(() => configOf("search.settings=x")).toThrow(/expected a map of settings/);
  });

  it("asks for what a program needs: judging needs neither training questions nor a simulator", () => {
    const judging = ["model.policy=p", "data.test=t", "data.corpus=c"].map(readOverride);
    expect(resolveConfig(judging, "evaluate").data.train).toBeNull();
    expect(() => resolveConfig(judging)).toThrow(/simulator\.path is missing|data\.train is missing/);
    expect(() => resolveConfig(["model.policy=p", "data.test=t"].map(readOverride), "evaluate")).toThrow(/data\.corpus is missing/);
    expect(() => resolveConfig([...judging, readOverride("evaluation.engine=simulated")], "evaluate")).toThrow(
      /simulator\.path is missing/,
    );
    const real = ["model.policy=p", "data.train=t", "data.corpus=c", "search.engine=bm25"].map(readOverride);
    expect(resolveConfig(real).simulator.path).toBeNull();
  });

  it("finds the keys that differ", () => {
    expect(changedKeys(configOf(), configOf("train.steps=3"))).toEqual([{ key: "train.steps", before: 200, after: 3 }]);
  });
});

describe("the nearest name", () => {
  it("counts insertions, deletions, replacements and swaps", () => {
    expect(editDistance("stesp", "steps")).toBe(1);
    expect(editDistance("kitten", "sitting")).toBe(3);
    expect(editDistance("", "abc")).toBe(3);
  });

  it("is none where nothing is near", () => {
    expect(nearest("stps", ["steps", "seed"])).toBe("steps");
    expect(nearest("xyzzy", ["steps", "seed"])).toBeUndefined();
  });
});

describe("the command line", () => {
  const spec: ArgumentSpec = {
    program: "zerosearch x",
    summary: "Does x.",
    options: { file: { value: "FILE", doc: "A file." }, resume: { value: "[RUN]", doc: "Goes on." }, dry: { doc: "Does nothing." } },
    words: ["[WORD]"],
    settings: true,
  };
  const parse = (...argv: string[]) => parseArguments(argv, spec);

  it("tells options, settings and words apart", () => {
    const { options, words, settings } = parse("w", "--file", "f", "a.b=1", "--resume", "c=2", "--dry");
    expect([...options]).toEqual([
      ["file", "f"],
      ["resume", ""],
      ["dry", ""],
    ]);
    expect(words).toEqual(["w"]);
    expect(settings).toEqual(["a.b=1", "c=2"]);
    expect(parse("--resume", "r", "--file=a=b").options).toEqual(
      new Map([
        ["resume", "r"],
        ["file", "a=b"],
      ]),
    );
  });

  it("says what is wrong with an option or a word", () => {
    expect(messageOf(() => parse("--flie", "x"))).toContain("did you mean --file?");
    expect(messageOf(() => parse("--train.steps=3"))).toContain("settings are written without dashes: train.steps=3");
    expect(messageOf(() => parse("--file"))).toContain("has no value; expected --file FILE");
    expect(messageOf(() => parse("--dry=1"))).toContain("takes no value");
    expect(messageOf(() => parse("a", "b"))).toContain("argument b: is not understood");
    expect(messageOf(() => parse("--constructor"))).toContain("unknown option");
  });

  it("has a help page of its options", () => {
    expect(argumentsHelp(spec)).toContain("Usage: zerosearch x [WORD] [options] [key=value ...]");
    expect(argumentsHelp(spec)).toContain("--resume [RUN]");
  });
});

describe("node train.js", () => {
  const read = (...argv: string[]) => readTrainCommand(argv) as TrainCommand;

  it("takes the quickstart without arguments, and every shipped configuration is right", () => {
    expect(read().config.name).toBe("quickstart-run");
    expect(read("--config", packagedConfig("smoke")).config.name).toBe("smoke");
  });

  it("prints keys with --help and the resolved configuration with --print-config, and plans with --dry-run", () => {
    expect(read("--help").print).toContain("train.questionsPerStep");
    expect(read("--print-config", "seed=5").print).toContain("seed: 5");
    expect(read("--dry-run", "seed=5")).toMatchObject({ dryRun: true, config: { seed: 5 } });
    expect(read("seed=5").dryRun).toBeUndefined();
  });

  it("takes --device for device.kind", () => {
    expect(read("--device", "cpu").config.device.kind).toBe("cpu");
  });

  it("resumes with the saved configuration and tells which keys changed", () => {
    const runs = `output.runs=${folder}`;
    const saved = read("seed=9", "train.steps=5", runs).config;
    mkdirSync(join(folder, "quickstart-run"));
    writeFileSync(join(folder, "quickstart-run", "config.yaml"), printConfig(saved));
    const command = read("--resume", runs, "train.saveEvery=1");
    expect(command.resume).toBe(true);
    expect(command.config).toMatchObject({ seed: 9, name: "quickstart-run" });
    expect(command.changed).toEqual([{ key: "train.saveEvery", before: saved.train.saveEvery, after: 1 }]);
    expect(() => read("--resume", "nothing", runs)).toThrow(ConfigError);
  });
});

describe("names of runs", () => {
  it("never name an old run's folders again, and --resume means the newest", () => {
    const runs = join(folder, "runs");
    const output = { runs, checkpoints: join(folder, "checkpoints") };
    expect(claimRunName(output, "run")).toBe("run");
    writeFileSync(join(runs, "run", "config.yaml"), "");
    mkdirSync(join(output.checkpoints, "run-2"), { recursive: true });
    expect(claimRunName(output, "run")).toBe("run-3");
    expect(newestRunName(runs, "run")).toBe("run");
    writeFileSync(join(runs, "run-3", "config.yaml"), "");
    expect(newestRunName(runs, "run")).toBe("run-3");
    expect(() => newestRunName(runs, "other")).toThrow("there is no run other");
  });
});
