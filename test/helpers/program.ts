/** Programs of this package as child processes, as a user starts them. */
import { spawn, spawnSync } from "node:child_process";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./tiny-quickstart.ts";

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface StartOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Called with all of stdout so far, whenever there is more: to send a signal at the right moment. */
  readonly onOutput?: (stdout: string, kill: (signal: NodeJS.Signals) => void) => void;
}

/** Runs a command to its end. */
export function start(command: string, args: readonly string[], { cwd = root, env = {}, onOutput }: StartOptions = {}): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "",
      stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
      onOutput?.(stdout, (signal) => child.kill(signal));
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.on("error", reject);
    child.on("close", (code, signal) => {
      resolve({ code, signal, stdout, stderr });
    });
  });
}

/** `node train.js ...` */
export function train(args: readonly string[], options?: StartOptions): Promise<Ended> {
  return start(process.execPath, [join(root, "train.js"), ...args], options);
}

/** Builds `dist/` where a file of it is missing or older than its source: child processes run what is there. */
export function buildIfStale(): void {
  const modified = (file: string): number => statSync(join(root, file), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const sources = (folder: string): string[] =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" }).filter((name) => /(?<!\.d)\.ts$/.test(name));
  const fresh = (source: string, target: string): boolean => modified(target.replace(/\.ts$/, ".js")) >= modified(source);
  if (
    sources("src").every((name) => fresh(`src/${name}`, `dist/${name}`)) &&
    sources("examples").every((name) => fresh(`examples/${name}`, `dist/examples/${name}`))
  )
    return;
  const { status, stdout } = spawnSync("npm", ["run", "--silent", "build"], {
    cwd: root,
    encoding: "utf8",
    shell: process.platform === "win32",
  });
  if (status !== 0) throw new Error(`dist/ is older than src/ and cannot be built:\n${stdout}`);
}

/** Settings that point a run at models and a world, and let it write into `folder`. */
export function settingsFor(from: string, folder: string): string[] {
  return [
    `model.policy=${join(from, "policy")}`,
    `simulator.path=${join(from, "simulator")}`,
    ...["train", "validation", "test", "corpus"].map((name) => `data.${name}=${join(from, "world", `${name}.jsonl`)}`),
    `output.runs=${join(folder, "runs")}`,
    `output.checkpoints=${join(folder, "checkpoints")}`,
  ];
}

/** A few short steps that use every part: two updates a step, validations, states after every step. */
export const shortRun: readonly string[] = [
  "train.steps=5",
  "train.questionsPerStep=4",
  "train.groupSize=4",
  "train.updatesPerStep=2",
  "train.saveEvery=1",
  "train.keepCheckpoints=99",
  "train.validateEvery=2",
  "train.microBatchTokens=1024",
  "rollout.maxNewTokens=40",
  "optimizer.learningRate=1e-3",
  "optimizer.warmupSteps=2",
  "evaluation.questions=8",
  "evaluation.validationQuestions=6",
  "evaluation.bootstrapSamples=100",
];

export function readRows(file: string): Record<string, unknown>[] {
  return readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}

/** Writes rows as JSON Lines and returns the file. */
export function writeRows(file: string, rows: readonly object[]): string {
  writeFileSync(file, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  return file;
}
