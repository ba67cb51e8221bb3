/**
 * The package as others have it: packed, unpacked into a project that has nothing but what package.json declares, compiled against and run.
 * The files of `docs/extending.md` are the programs.
 */
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openTokenizer } from "../../src/setup/open-model.ts";
import { buildIfStale, readRows, settingsFor, shortRun, start, type Ended } from "../helpers/program.ts";
import { root, tinyQuickstart } from "../helpers/tiny-quickstart.ts";

let project: string;
let settings: string[];

beforeAll(async () => {
  buildIfStale();
  project = mkdtempSync(join(tmpdir(), "zerosearch-package-"));
  await install();
  settings = [...shortRun, "train.steps=2", ...settingsFor(await tinyQuickstart(), project), "data.test=null", "data.validation=null"];
  for (const [file, text] of pageFiles()) writeFileSync(join(project, file), text);
});
afterAll(() => rmSync(project, { recursive: true, force: true }));

/** Packs this package and unpacks it into the project, beside links to what it declares and to nothing else. */
async function install(): Promise<void> {
  const npm = process.platform === "win32" ? "npm.cmd" : "npm";
  const packed = await start(npm, ["pack", "--ignore-scripts", "--silent", "--pack-destination", project]);
  if (packed.code !== 0) throw new Error(`npm pack: ${packed.stderr}`);
  const modules = join(project, "node_modules");
  const own = join(modules, "zerosearch");
  mkdirSync(own, { recursive: true });
  const unpacked = await start("tar", ["xzf", join(project, packed.stdout.trim()), "-C", own, "--strip-components", "1"]);
  if (unpacked.code !== 0) throw new Error(`tar: ${unpacked.stderr}`);
  const { dependencies } = JSON.parse(readFileSync(join(own, "package.json"), "utf8")) as { dependencies: Record<string, string> };
  for (const name of Object.keys(dependencies)) {
    mkdirSync(dirname(join(modules, name)), { recursive: true });
    symlinkSync(join(root, "node_modules", name), join(modules, name), "junction");
  }
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "project", private: true, type: "module" }));
}

/** The files on the page: blocks that name one. */
function pageFiles(): Map<string, string> {
  const page = readFileSync(join(root, "docs", "extending.md"), "utf8");
  return new Map([...page.matchAll(/^```\w+ (\S+)\n(.*?)^```$/gms)].map(([, file = "", text = ""]) => [file, text]));
}

const node = (args: readonly string[]): Promise<Ended> => start(process.execPath, args, { cwd: project });
const train = (args: readonly string[]): Promise<Ended> =>
  node([join("node_modules", "zerosearch", "train.js"), ...args, "device.kind=cpu"]);
const made = (run: string): unknown =>
  JSON.parse(readFileSync(join(project, "checkpoints", run, "step-000002", "state.json"), "utf8")).extra.made;

/** What is read here of a row of `rollouts.jsonl`. */
interface Row {
  readonly ids: readonly number[];
  readonly promptLength: number;
  readonly reward: number;
  readonly advantage: number;
  readonly answer: string | null;
  readonly searches: readonly {
    readonly query: string;
    readonly documents: readonly { readonly text: string; readonly score: number }[];
  }[];
}
const rollouts = (run: string) => readRows(join(project, "runs", run, "rollouts.jsonl")) as unknown as Row[];

describe("the quickstart's other formats", () => {
  const own = (...path: string[]): string => join(project, "node_modules", "zerosearch", ...path);

  it("are in the package: what each configuration names is there, and one runs from it", async () => {
    const named = readdirSync(own("configs", "methods")).flatMap((file) =>
      [...readFileSync(own("configs", "methods", file), "utf8").matchAll(/"\{package\}\/([^"]+)"/g)].map(([, path = ""]) => path),
    );
    expect(new Set(named).size).toBeGreaterThan(3);
    for (const path of named) expect(existsSync(own(path)), path).toBe(true);
    const config = own("configs", "methods", "quickstart-chat-search-r1.yaml");
    const few = ["evaluation.questions=2", "evaluation.baselines=false", "evaluation.robustness=false", "device.kind=cpu"];
    const ended = await node([own("bin", "zerosearch.js"), "evaluate", "--config", config, ...few]);
    expect([ended.code, ended.stderr]).toEqual([0, ""]);
    expect(ended.stdout).toMatch(/^search-r1 +after +quickstart +2 +bm25 /m);
  });
});

describe("a program in TypeScript", () => {
  const typed = `
    import * as zerosearch from "zerosearch";
    import { openTraining, openPolicy, resolveConfig, readYaml, trainStep, update, type Method, type Reward } from "zerosearch";
    import * as engine from "zerosearch/webgpu";
    export const everything = { ...zerosearch };
    export const browser = { ...engine };
    export const training = await openTraining({});
    export const { run, journal, states } = training;
    export const [result, steps] = [await trainStep(run, 1), training.steps()];
    export const recorded = journal.record(result);
    export const saved = await states.save(recorded);
    export const parts = { ...run };
    export const policy = await openPolicy(resolveConfig(readYaml("my.yaml"), "evaluate"));
    export const updated = await update(policy.policy.decoder, run.optimizer, result.scored, { microBatchTokens: 1, clipLow: 1, clipHigh: 1, klCoef: 0, entropyCoef: 0 }, 1);
    export const reward = (({ answer }) => (answer === null ? 0 : 1)) satisfies Reward;
    export const method = { name: "mine", run: (question, context) => zerosearch.rollout(question, zerosearch.methods.direct.dialect, context) } satisfies Method;
    // @ts-expect-error a reward is a number
    export const wrong: Reward = () => "much";
    // @ts-expect-error an internal is not exported
    export const client = zerosearch.ChatClient;
  `;
  const page = `
    import { createWebGpuDevice, type Device } from "zerosearch/webgpu";
    export const device: Promise<Device> = createWebGpuDevice({ gpu: navigator.gpu, sources: new Map() });
  `;

  it.each([
    { module: "nodenext", moduleResolution: "nodenext", lib: ["es2022"], files: ["typed.ts"] },
    { module: "esnext", moduleResolution: "bundler", lib: ["es2022", "dom"], files: ["typed.ts", "page.ts"] },
  ])("compiles with $moduleResolution, strictly, every declaration checked, and writes its own", async ({ files, ...own }) => {
    writeFileSync(join(project, "typed.ts"), typed);
    writeFileSync(join(project, "page.ts"), page);
    const strict = { strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, skipLibCheck: false };
    const compilerOptions = {
      target: "es2022",
      types: [],
      declaration: true,
      outDir: "out",
      allowJs: true,
      checkJs: true,
      ...strict,
      ...own,
    };
    const scripts = [...pageFiles().keys()].filter((file) => file.endsWith(".js"));
    writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, files: [...files, ...scripts] }));
    const { stdout } = await node([join(root, "node_modules", "typescript", "bin", "tsc"), "-p", "."]);
    expect(stdout).toBe("");
    expect(readdirSync(join(project, "out"))).toEqual(expect.arrayContaining(["typed.d.ts", "my-method.d.ts"]));
  });
});

describe("the files of docs/extending.md", () => {
  const names = { method: "look-up", engine: "shared-words", reward: "thrifty" };

  it("train as modules that a configuration names, and the state names them", async () => {
    expect([...pageFiles().keys()].sort()).toEqual([
      "my-engine.js",
      "my-method.js",
      "my-program.js",
      "my-prompt.md",
      "my-reward.js",
      "my.yaml",
    ]);
    const { code, stderr } = await train(["--config", "my.yaml", ...settings]);
    expect(stderr).toBe("");
    expect(code).toBe(0);
    expect(made("mine")).toEqual(names);
    const rows = rollouts("mine");
    expect(rows).toHaveLength(2 * 4 * 4);
    for (const { ids, promptLength, searches, reward, answer } of rows) {
      expect(searches).toHaveLength(1);
      const [first, second] = searches[0]!.documents;
      expect(first!.score).toBeGreaterThanOrEqual(second!.score);
      expect(answer).not.toBeNull();
      if (reward < 0) expect(reward).toBeCloseTo(-0.01 - 0.001 * (ids.length - promptLength), 12);
    }
    expect(rows.some(({ advantage }) => advantage !== 0)).toBe(true);
  });

  it("train as objects that a program gives, and the state names them", async () => {
    const { code, stdout, stderr } = await node(["my-program.js", ...settings, "device.kind=cpu"]);
    expect(stderr).toBe("");
    expect(code).toBe(0);
    expect(made("my-program")).toEqual({ method: "one-search", engine: "empty-library", reward: "short" });
    const rows = rollouts("my-program");
    for (const { ids, promptLength, reward } of rows) expect(reward).toBe(1 / (1 + ids.length - promptLength));
    const searches = rows.flatMap((row) => row.searches);
    expect(searches.length).toBeGreaterThan(0);
    for (const { query, documents } of searches) expect(documents).toEqual([{ text: `Nothing is known of ${query}.` }]);
    expect(stdout).toMatch(/^2 0\.\d+$/m);
  });

  it("a prompt is what the policy is told, and a resume without its file, or with a changed one, is an error that names it", async () => {
    const asked = ["name=worded", "rollout.method=zerosearch", "rollout.prompt=./my-prompt.md"];
    const { code, stderr } = await train(["--config", "my.yaml", ...settings, ...asked]);
    expect([code, stderr]).toEqual([0, ""]);
    const path = join(project, "my-prompt.md");
    const words = readFileSync(path, "utf8");
    const tokenizer = await openTokenizer(join(await tinyQuickstart(), "policy"));
    for (const { ids, promptLength } of rollouts("worded"))
      expect(tokenizer.decode(ids.slice(0, promptLength))).toContain(words.slice(0, words.indexOf("{question}")));
    const resume = ["--resume", "worded", ...settings.filter((one) => one.startsWith("output.")), "train.steps=3"];
    rmSync(path);
    expect(await train(resume)).toMatchObject({ code: 1, stderr: expect.stringContaining("./my-prompt.md: there is no such prompt") });
    writeFileSync(path, `${words}Be brief.\n`);
    expect(await train(resume)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("rollout.prompt: the file of this run's prompt has changed since the state was saved"),
    });
    writeFileSync(path, words);
  });

  const keys = { "reward.kind": "my-reward.js", "rollout.method": "my-method.js", "search.engine": "my-engine.js" };

  it.each(Object.entries(keys))("%s: a resume without the file, or with a changed one, is an error that names it", async (key, file) => {
    const resume = ["--resume", "mine", ...settings.filter((one) => one.startsWith("output.")), "train.steps=3"];
    const [path, kept] = [join(project, file), join(project, `${file}.kept`)];
    cpSync(path, kept);
    rmSync(path);
    const without = await train(resume);
    appendFileSync(path, `${readFileSync(kept, "utf8")}// changed\n`);
    const changed = await train(resume);
    cpSync(kept, path);
    expect(without).toMatchObject({ code: 1, stderr: expect.stringContaining(`${key}=./${file}: there is no such file`) });
    expect(changed).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(new RegExp(`${key}.*the file of this run's \\w+ has changed`)),
    });
    expect(readdirSync(join(project, "checkpoints", "mine"))).not.toContain("step-000003");
  });
});
