import { spawn } from "node:child_process";
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import ts from "typescript";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  buildId,
  latestCheckpoint,
  listSteps,
  openCheckpoint,
  resumeWarnings,
  saveCheckpoint,
  stepName,
  type CheckpointPart,
  type RunState,
} from "../../src/checkpoint/run-state.ts";
import { removeTemporary } from "../../src/checkpoint/atomic.ts";
import { FileError } from "../../src/util/errors.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-state-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const state = (step: number, best: RunState["best"] = null): Omit<RunState, "version"> => ({
  step,
  updates: step,
  seed: 1,
  device: "cpu",
  build: "b",
  best,
  logBytes: { "metrics.jsonl": 10 * step },
  extra: { order: [1, 2] },
});
const model = (text: string): CheckpointPart => ({
  name: "policy",
  async write(path) {
    await mkdir(path);
    await writeFile(join(path, "model.safetensors"), text);
  },
});
const moments: CheckpointPart = { name: "optimizer.safetensors", write: (path) => writeFile(path, "moments") };
const save = (step: number, { keep = 2, best = null as RunState["best"], parts = [model(`weights ${step}`), moments] } = {}) =>
  saveCheckpoint({ folder, state: state(step, best), parts, keep });

describe("a saved state", () => {
  it("comes back with all its parts", async () => {
    expect(await save(3)).toBe(join(folder, "step-000003"));
    const found = await latestCheckpoint(folder);
    expect(found?.state).toEqual({ version: 1, ...state(3) });
    expect(readFileSync(join(found?.part("policy") ?? "", "model.safetensors"), "utf8")).toBe("weights 3");
    expect(readdirSync(folder)).toEqual(["step-000003"]);
  });

  it("is none in a missing or empty folder", async () => {
    expect(await latestCheckpoint(join(folder, "none"))).toBeNull();
    expect(await latestCheckpoint(folder)).toBeNull();
  });

  it("replaces one of the same step", async () => {
    await save(3);
    await save(3, { parts: [model("other")] });
    const found = await latestCheckpoint(folder);
    expect(readFileSync(join(found?.part("policy") ?? "", "model.safetensors"), "utf8")).toBe("other");
    expect(existsSync(found?.part("optimizer.safetensors") ?? "")).toBe(false);
  });

  it("stays while it is among the newest or the best", async () => {
    for (const step of [1, 2, 3, 4, 5, 1_000_000]) await save(step, { best: { step: 2, score: 0.5 } });
    expect(await listSteps(folder)).toEqual([2, 5, 1_000_000]);
    expect((await latestCheckpoint(folder))?.state.step).toBe(1_000_000);
  });
});

describe("a damaged state", () => {
  const damaged = (file: string) => join(folder, "step-000002", file);
  beforeEach(async () => {
    await save(1);
    await save(2);
  });

  it.each([
    ["truncated", () => truncateSync(damaged("policy/model.safetensors"), 4), /model\.safetensors: is truncated; expected 9 bytes, got 4/],
    ["longer", () => appendFileSync(damaged("policy/model.safetensors"), "x"), /is too long; expected 9 bytes, got 10/],
    ["changed", () => writeFileSync(damaged("policy/model.safetensors"), "weights 3"), /is damaged: its content changed/],
    ["missing", () => unlinkSync(damaged("optimizer.safetensors")), /optimizer\.safetensors: is missing/],
    [
      "without manifest",
      () => unlinkSync(damaged("manifest.json")),
      /manifest\.json: cannot be read; expected a saved state's manifest, got ENOENT/,
    ],
    ["with a broken manifest", () => truncateSync(damaged("manifest.json"), 20), /manifest\.json: is not JSON/],
  ])("that is %s is refused, with the file and the older state that is whole", async (_, damage, message) => {
    damage();
    const opened = latestCheckpoint(folder);
    await expect(opened).rejects.toThrow(FileError);
    await expect(opened).rejects.toThrow(message);
    await expect(opened).rejects.toThrow(
      `${join(folder, "step-000001")} is whole: delete ${join(folder, "step-000002")} to go on from there`,
    );
  });

  it("is said to be the end where no older one is whole", async () => {
    for (const step of [1, 2]) truncateSync(join(folder, stepName(step), "policy", "model.safetensors"), 1);
    await expect(latestCheckpoint(folder)).rejects.toThrow("no older state is whole");
  });

  it("is refused when another version of this program wrote it", async () => {
    rmSync(join(folder, "step-000002"), { recursive: true });
    const foreign = { name: "x", write: (path: string) => writeFile(path, "") };
    await saveCheckpoint({ folder, state: { ...state(2), seed: -1 }, parts: [foreign], keep: 9 });
    await expect(openCheckpoint(join(folder, "step-000002"))).rejects.toThrow(/state\.json: is not a saved state, at seed/);
  });
});

describe("a save that fails", () => {
  it.skipIf(process.platform !== "linux")("for a full disk says so and leaves the states before untouched", async () => {
    await save(1);
    const full: CheckpointPart = { name: "big", write: () => writeFile("/dev/full", "x".repeat(100)) };
    const saving = save(2, { parts: [model("weights 2"), full] });
    await expect(saving).rejects.toThrow(FileError);
    await expect(saving).rejects.toThrow(
      /step-000002: the disk is full\n {2}make room on the disk or write elsewhere .*nothing was changed/,
    );
    expect(readdirSync(folder)).toEqual(["step-000001"]);
    expect((await latestCheckpoint(folder))?.state.step).toBe(1);
  });
});

describe("a program killed while saving", () => {
  it("leaves the state before whole at any moment, and the next start deletes the rest", { timeout: 60_000 }, async () => {
    const program = await compileSaver();
    const states = join(folder, "states");
    for (const delay of [0, 3, 11, 23, 41, 70]) {
      await runAndKill(program, states, delay);
      await removeTemporary(states);
      const found = await latestCheckpoint(states);
      expect((existsSync(states) ? readdirSync(states) : []).filter((name) => !/^step-\d+$/.test(name))).toEqual([]);
      if (found !== null) expect(readFileSync(found.part("weights"), "utf8")).toBe(String(found.state.step).repeat(200_000));
    }
    expect((await listSteps(states)).length).toBeGreaterThan(0);
  });

  /** The program as plain JavaScript: Node 20 runs no TypeScript. */
  async function compileSaver(): Promise<string> {
    const out = join(folder, "program");
    await mkdir(join(out, "util"), { recursive: true });
    await mkdir(join(out, "checkpoint"));
    await mkdir(join(out, "tensor"));
    const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022, rewriteRelativeImportExtensions: true };
    const checkpoint = ["atomic", "folder-files", "json-scanner", "run-state", "safetensors-write"].map((name) => `checkpoint/${name}`);
    for (const file of ["util/errors", "tensor/shape", ...checkpoint]) {
      const source = readFileSync(new URL(`../../src/${file}.ts`, import.meta.url), "utf8");
      const { outputText } = ts.transpileModule(source, { compilerOptions });
      await writeFile(join(out, `${file}.js`), outputText.replace(`from "zod"`, `from "${import.meta.resolve("zod")}"`));
    }
    await writeFile(join(out, "package.json"), `{"type":"module"}`);
    const saver = `import { saveCheckpoint, latestCheckpoint } from "./checkpoint/run-state.js";
import { writeFile } from "node:fs/promises";
const folder = process.argv[2];
let step = (await latestCheckpoint(folder))?.state.step ?? 0;
process.stdout.write("ready\\n");
for (;;) {
  step++;
  const state = { step, updates: step, seed: 1, device: "", build: "", best: null, logBytes: {}, extra: {} };
  await saveCheckpoint({ folder, state, keep: 2, parts: [{ name: "weights", write: (path) => writeFile(path, String(step).repeat(200000)) }] });
}`;
    await writeFile(join(out, "saver.js"), saver);
    return join(out, "saver.js");
  }

  async function runAndKill(program: string, states: string, delay: number): Promise<void> {
    const child = spawn(process.execPath, [program, states], { stdio: ["ignore", "pipe", "inherit"] });
    const ended = new Promise((resolve) => child.once("exit", (code, signal) => resolve(signal ?? code)));
    await new Promise((resolve) => child.stdout.once("data", resolve));
    await new Promise((resolve) => setTimeout(resolve, delay));
    child.kill("SIGKILL");
    expect(await ended).toBe("SIGKILL");
  }
});

describe("resuming elsewhere", () => {
  const here = { build: buildId("0.1.0", new Uint8Array([1])), device: "cpu, 2 threads" };

  it("warns of another build and of another device, and of nothing else", () => {
    expect(resumeWarnings(here, here)).toEqual([]);
    expect(resumeWarnings(here, { ...here, device: "cpu, 1 thread" })).toEqual([]);
    expect(resumeWarnings(here, { build: buildId("0.1.0", new Uint8Array([2])), device: "cpu, 2 threads" })[0]).toContain("another build");
    expect(resumeWarnings(here, { ...here, device: "gpu" })).toEqual([
      expect.stringContaining("another device (cpu, 2 threads, this is gpu)"),
    ]);
  });
});
