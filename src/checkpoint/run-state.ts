/**
 * The saved states of a run: `checkpoints/<run>/step-000100/`, each whole or absent.
 *
 * A state holds the parts its writer names (model, optimiser moments ...), `state.json` (where the run stands) and `manifest.json`
 * (size and SHA-256 of every file). A program killed at any moment leaves the states that were whole before; what it left half written
 * is deleted at the next start.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { FileError } from "../util/errors.ts";
import { exists, listFiles, removeFolderAtomic, writeFolderAtomic } from "./atomic.ts";
import { readJson } from "./folder-files.ts";

const VERSION = 1;
const readsVersion = `this program reads version ${VERSION}`;
const MANIFEST = "manifest.json";
const STATE = "state.json";

/** A file or a folder of a state. `write` is given the path at which to make it. */
export interface CheckpointPart {
  /** Name inside the state's folder. */
  readonly name: string;
  write(path: string): Promise<void>;
}

const stateSchema = z.strictObject({
  version: z.literal(VERSION),
  /** Training steps done. */
  step: z.int().min(0),
  /** Optimiser updates done. */
  updates: z.int().min(0),
  seed: z.int().min(0),
  /** In states of older programs only. */
  configHash: z.string().optional(),
  /** The device's one-line description. */
  device: z.string(),
  /** `buildId` of the program that wrote it. */
  build: z.string(),
  /** The best validation so far. */
  best: z.strictObject({ step: z.int().min(0), score: z.number() }).nullable(),
  /** Bytes of each log file up to this step. */
  logBytes: z.record(z.string(), z.int().min(0)),
  /** Whatever else the trainer must remember: plain JSON. */
  extra: z.record(z.string(), z.json()),
});

/** Where a run stands. */
export type RunState = z.infer<typeof stateSchema>;

const manifestSchema = z.strictObject({
  version: z.literal(VERSION),
  files: z.record(z.string(), z.strictObject({ bytes: z.int().min(0), sha256: z.string().length(64) })),
});

export interface SaveOptions {
  /** `checkpoints/<run>` */
  readonly folder: string;
  readonly state: Omit<RunState, "version">;
  readonly parts: readonly CheckpointPart[];
  /** Newest states to keep, this one included; the best one stays besides. */
  readonly keep: number;
}

/** A whole state. */
export interface Checkpoint {
  readonly folder: string;
  readonly state: RunState;
  /** The path of a part. */
  part(name: string): string;
}

/**
 * Saves a state, then deletes older ones beyond `keep`.
 * @returns the state's folder.
 * @throws FileError when the disk is full or not writable: the states saved before are untouched.
 */
export async function saveCheckpoint({ folder, state, parts, keep }: SaveOptions): Promise<string> {
  const place = join(folder, stepName(state.step));
  await writeFolderAtomic(place, async (temporary) => {
    for (const part of parts) await part.write(join(temporary, part.name));
    await writeFile(join(temporary, STATE), `${JSON.stringify({ version: VERSION, ...state }, null, 2)}\n`);
    await writeFile(join(temporary, MANIFEST), `${JSON.stringify({ version: VERSION, files: await describeFiles(temporary) }, null, 2)}\n`);
  });
  const steps = await listSteps(folder);
  const spare = new Set([...steps.slice(-keep), state.best?.step, state.step]);
  for (const step of steps) if (!spare.has(step)) await removeFolderAtomic(join(folder, stepName(step)));
  return place;
}

/** The steps of all saved states, rising. A missing folder has none. */
export async function listSteps(folder: string): Promise<number[]> {
  if (!(await exists(folder))) return [];
  return (await readdir(folder))
    .map((name) => /^step-(\d{6,})$/.exec(name)?.[1])
    .filter((digits) => digits !== undefined)
    .map(Number)
    .sort((a, b) => a - b);
}

/**
 * The newest state of a run, its files checked against their manifest; null where there is none.
 * @throws FileError naming the file that is damaged and the newest older state that is whole.
 */
export async function latestCheckpoint(folder: string): Promise<Checkpoint | null> {
  const steps = await listSteps(folder);
  const newest = steps.at(-1);
  if (newest === undefined) return null;
  try {
    return await openCheckpoint(join(folder, stepName(newest)));
  } catch (error) {
    if (!(error instanceof FileError)) throw error;
    const whole = await newestWhole(folder, steps.slice(0, -1));
    const damaged = join(folder, stepName(newest));
    const hint =
      whole === undefined
        ? "no older state is whole; the run must start again"
        : `${whole} is whole: delete ${damaged} to go on from there`;
    throw new FileError({ ...error.complaint, hint }, { cause: error });
  }
}

/**
 * Opens one state and checks size and SHA-256 of every file, or of those that are named so.
 * @throws FileError for a missing, truncated, changed or foreign file.
 */
export async function openCheckpoint(folder: string, names = /^/): Promise<Checkpoint> {
  const files = Object.entries(await readManifest(folder)).filter(([name]) => names.test(name));
  for (const [name, { bytes, sha256 }] of files) {
    const file = join(folder, name);
    const wrong = (what: string, expected?: string, got?: string): FileError => new FileError({ where: file, what, expected, got });
    if (!(await exists(file))) throw wrong("is missing from the saved state");
    const size = (await stat(file)).size;
    if (size !== bytes) throw wrong(size < bytes ? "is truncated" : "is too long", `${bytes} bytes`, `${size}`);
    const hash = await hashFile(file);
    if (hash !== sha256) throw wrong("is damaged: its content changed since it was saved", `SHA-256 ${sha256}`, hash);
  }
  return { folder, state: await readRunState(folder), part: (name) => join(folder, name) };
}

/** Where the run stands that a state was saved of; none of its files is looked at. @throws FileError */
export function readRunState(folder: string): Promise<RunState> {
  return readJson(join(folder, STATE), stateSchema, "a saved state", readsVersion);
}

async function readManifest(folder: string): Promise<z.infer<typeof manifestSchema>["files"]> {
  return (await readJson(join(folder, MANIFEST), manifestSchema, "a saved state's manifest", readsVersion)).files;
}

/** SHA-256 of the files of a state that are named so, as its manifest says. @throws FileError where that is damaged. */
export async function savedHashes(folder: string, names: RegExp): Promise<Record<string, string>> {
  const named = Object.entries(await readManifest(folder)).filter(([name]) => names.test(name));
  return Object.fromEntries(named.sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, { sha256 }]) => [name, sha256]));
}

/** What makes two builds of this program give the same bits: its version and its kernels. */
export function buildId(version: string, kernels: Uint8Array): string {
  return `${version}+${createHash("sha256").update(kernels).digest("hex").slice(0, 16)}`;
}

/** What differs between the program that saved and the one that resumes: one sentence each, to be printed. */
export function resumeWarnings(saved: Pick<RunState, "build" | "device">, now: Pick<RunState, "build" | "device">): string[] {
  const warning = (what: string, before: string, after: string): string =>
    `The saved state comes from another ${what} (${before}, this is ${after}): the run may not end in the same bits.`;
  return [
    ...(saved.build === now.build ? [] : [warning("build", saved.build, now.build)]),
    ...(withoutThreads(saved.device) === withoutThreads(now.device) ? [] : [warning("device", saved.device, now.device)]),
  ];
}

/** The number of threads changes no bits. */
export function withoutThreads(device: string): string {
  return device.replace(/\d+ threads?/, "threads");
}

/** The folder name of a step: step-000100. */
export function stepName(step: number): string {
  return `step-${String(step).padStart(6, "0")}`;
}

async function newestWhole(folder: string, steps: readonly number[]): Promise<string | undefined> {
  for (const step of [...steps].reverse()) {
    const place = join(folder, stepName(step));
    try {
      await openCheckpoint(place);
      return place;
    } catch (error) {
      if (!(error instanceof FileError)) throw error;
    }
  }
  return undefined;
}

async function describeFiles(folder: string): Promise<Record<string, { bytes: number; sha256: string }>> {
  const files: Record<string, { bytes: number; sha256: string }> = {};
  for (const name of await listFiles(folder))
    files[name] = { bytes: (await stat(join(folder, name))).size, sha256: await hashFile(join(folder, name)) };
  return files;
}

/** SHA-256 of a file, in hexadecimal. */
export async function hashFile(file: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
