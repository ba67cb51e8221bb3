/**
 * What a run leaves for others to repeat it: `receipt.json`, its resolved configuration, hashes of everything that went in, and for each
 * step a digest of what came out. `zerosearch reproduce` runs it again and compares.
 *
 * A step's digests are the first 48 bits of SHA-256 over, in the order of the rollouts, little-endian: `ids`, for each rollout its key (3 u32),
 * its number of tokens (u32), its ids (u32) and its loss mask (u8); `rewards`, f64; rollouts whose reward failed come last, with NaN; `gradNorm`, that of each update, f64.
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import { readJson } from "../checkpoint/folder-files.ts";
import type { Scored } from "../rl/trajectory.ts";
import { FileError } from "../util/errors.ts";
import { counted } from "../util/plural.ts";
import type { InputHashes } from "./inputs.ts";

export const receiptFile = "receipt.json";

/** Digests of one step, or of `blockSteps` steps. */
const digests = ["ids", "rewards", "gradNorm"] as const;
export type StepDigest = Readonly<Record<(typeof digests)[number], string>>;

/** What is kept of a run for its receipt; saved with its states. */
export interface ReceiptRows {
  /** Of steps 1, 2, ... */
  readonly steps: readonly StepDigest[];
  /** SHA-256 of the policy's weight files by step and file, of each saved state. */
  readonly saves: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

const hash = z.string().regex(/^[0-9a-f]{12,64}$/);
const receiptSchema = z.strictObject({
  receipt: z.literal(1),
  run: z.string(),
  /** Of the device that computed: bits are promised for one kind only. */
  device: z.strictObject({ kind: z.string(), description: z.string() }),
  config: z.record(z.string(), z.json()),
  /** Names of the method, the engine and the reward; absent in the first receipts. */
  made: z.record(z.string(), z.string()).optional(),
  inputs: z.record(z.string(), hash),
  /** Steps that one row of `steps` covers. */
  blockSteps: z.int().min(1),
  /** `<last step of the row> <ids> <rewards> <gradNorm>`. */
  steps: z.array(z.string().regex(/^\d+( [0-9a-f]{12}){3}$/)),
  saves: z.record(z.string().regex(/^\d+$/), z.record(z.string(), hash)),
  /** Scores of the evaluation, as in evaluation.json; absent until there is one. */
  scores: z.array(z.record(z.string(), z.union([z.string(), z.number()]))).optional(),
});
export type Receipt = z.infer<typeof receiptSchema>;

/** Rows of steps, and entries of saves, that a receipt holds at most, and characters. */
const mostRows = 512;
const mostSaves = 128;
const mostBytes = 65536;

export function digestStep(scored: readonly Pick<Scored, "trajectory" | "reward">[], gradNorms: readonly number[]): StepDigest {
  const ids = createHash("sha256");
  for (const { trajectory } of scored) {
    const { key, lossMask } = trajectory;
    ids
      .update(Uint32Array.of(key.step, key.question, key.rollout, trajectory.ids.length))
      .update(Uint32Array.from(trajectory.ids))
      .update(Uint8Array.from(lossMask));
  }
  const numbers = (values: readonly number[]): string => short(createHash("sha256").update(Float64Array.from(values)).digest("hex"));
  return { ids: short(ids.digest("hex")), rewards: numbers(scored.map(({ reward }) => reward)), gradNorm: numbers(gradNorms) };
}

function short(hex: string): string {
  return hex.slice(0, 12);
}

/** What a receipt says besides its rows. */
export type ReceiptHead = Pick<Receipt, "run" | "device" | "inputs" | "made"> & {
  readonly config: object;
  readonly scores?: readonly object[] | undefined;
};

/**
 * The receipt of the steps so far, at most 64 kB where its inputs alone are not more: the more there is to tell, the more steps share a row,
 * and the files of a save a hash.
 */
export function makeReceipt({ config, scores, ...head }: ReceiptHead, { steps, saves }: ReceiptRows): Receipt {
  for (let [rows, entries, blockSteps] = [mostRows, mostSaves, 1]; ; rows >>= 1, entries >>= 1) {
    while (Math.ceil(steps.length / blockSteps) > rows) blockSteps *= 2;
    const receipt: Receipt = {
      receipt: 1,
      ...head,
      config: config as Receipt["config"],
      inputs: { configuration: hashConfiguration(config), ...head.inputs },
      blockSteps,
      steps: foldSteps(steps, blockSteps),
      saves: foldSaves(saves, entries),
      ...(scores === undefined ? {} : { scores: scores as NonNullable<Receipt["scores"]> }),
    };
    if (rows === 1 || receiptText(receipt).length <= mostBytes) return receipt;
  }
}

/** As it is written. */
export function receiptText(receipt: Receipt): string {
  return `${JSON.stringify(receipt, null, 1)}\n`;
}

/** Steps that a receipt covers. */
export function stepsOf({ steps }: Pick<Receipt, "steps">): number {
  return lastStep(steps.at(-1) ?? "0");
}

/** The last step of a row. */
export function lastStep(row: string): number {
  return Number(row.split(" ")[0]);
}

/** One row a block; the last may be shorter. */
export function foldSteps(steps: readonly StepDigest[], blockSteps: number): string[] {
  return Array.from({ length: Math.ceil(steps.length / blockSteps) }, (_, block) => {
    const inside = steps.slice(block * blockSteps, (block + 1) * blockSteps);
    const fold = (name: keyof StepDigest): string => {
      const all = inside.map((step) => step[name]);
      return all.length === 1 ? (all[0] as string) : short(createHash("sha256").update(all.join()).digest("hex"));
    };
    return [block * blockSteps + inside.length, ...digests.map(fold)].join(" ");
  });
}

/** All files of each save; where these are more than `most`, one hash for each save, and of the saves the newest. */
function foldSaves(saves: ReceiptRows["saves"], most: number): Receipt["saves"] {
  const entries = Object.entries(saves);
  const files = entries.reduce((sum, [, save]) => sum + Object.keys(save).length, 0);
  if (files <= most) return Object.fromEntries(entries);
  return Object.fromEntries(entries.map(([step, save]) => [step, { [allFiles]: hashSave(save) }] as const).slice(-most));
}

const allFiles = "all files";

function hashSave(save: Readonly<Record<string, string>>): string {
  const lines = Object.entries(save).map(([name, sha256]) => `${sha256}  ${name}\n`);
  return createHash("sha256").update(lines.join("")).digest("hex");
}

function hashConfiguration(config: object): string {
  return createHash("sha256").update(JSON.stringify(config)).digest("hex");
}

/** @throws FileError when it is no receipt, or its configuration was changed by hand. */
export async function readReceipt(file: string): Promise<Receipt> {
  const receipt = await readJson(file, receiptSchema, "a receipt", "Runs leave one as runs/<name>/receipt.json.");
  if (receipt.inputs["configuration"] !== hashConfiguration(receipt.config))
    throw new FileError({
      where: file,
      what: "its configuration is not the one that was run: it does not have the hash that the receipt states",
      expected: receipt.inputs["configuration"],
      got: hashConfiguration(receipt.config),
      hint: "Take the receipt as the run wrote it; settings are changed on the command line.",
    });
  return receipt;
}

/** Compares a run, as it goes, with what a receipt says of it, and counts what was compared. */
export class ReceiptCheck {
  readonly #receipt: Receipt;
  #rows = 0;
  #steps = 0;
  #saves = 0;
  #scores = false;

  constructor(receipt: Receipt) {
    this.#receipt = receipt;
  }

  /** What differs first in the steps and saves up to `step` that were not compared yet, in words; null where nothing does. */
  upTo({ steps, saves }: ReceiptRows, step: number): string | null {
    const { blockSteps, steps: said, saves: saidSaves } = this.#receipt;
    for (let row = said[this.#rows]; row !== undefined; row = said[++this.#rows]) {
      const [before, last] = [this.#steps, lastStep(row)];
      if (last > step) return null;
      const [here = ""] = foldSteps(steps.slice(before, last), blockSteps);
      const names = differing(row, here);
      if (names.length > 0) return `${names.join(", ")} of ${last === before + 1 ? `step ${last}` : `steps ${before + 1} to ${last}`}`;
      const between = Object.entries(saidSaves).filter(([at]) => Number(at) > before && Number(at) <= last);
      const differences = between.flatMap(([at, save]) =>
        Object.entries(save)
          .filter(([name, sha256]) => (name === allFiles ? hashSave(saves[at] ?? {}) : saves[at]?.[name]) !== sha256)
          .map(([name]) => `${name} of the state after step ${at}`),
      );
      if (differences.length > 0) return differences.join(", ");
      this.#steps = last;
      this.#saves += between.length;
    }
    return null;
  }

  /** The first row of scores that differs. */
  scores(rows: readonly object[] = []): string | null {
    const said = this.#receipt.scores ?? [];
    this.#scores = said.length > 0;
    // What the model is called is no score: others have it in another folder.
    const plain = (row: object | undefined): string => JSON.stringify({ ...row, model: "" });
    const at = said.findIndex((row, i) => rows[i] === undefined || plain(row) !== plain(rows[i]));
    return at < 0 ? null : `the evaluation: ${JSON.stringify(said[at])} in the receipt, ${JSON.stringify(rows[at] ?? null)} here`;
  }

  /** What was compared so far. */
  get compared(): string {
    const evaluation = this.#scores ? " and the evaluation" : "";
    return `${this.#steps} of ${counted(stepsOf(this.#receipt), "step")}, the weights of ${counted(this.#saves, "saved state")}${evaluation}`;
  }
}

/** What of two rows differs, in words. */
function differing(row: string, other: string): string[] {
  const [, ...a] = row.split(" ");
  const [, ...b] = other.split(" ");
  return digests.filter((_, i) => a[i] !== b[i]).map((name) => (name === "gradNorm" ? "gradient norm" : name));
}

/** Inputs that differ, or are there on one side only. */
export function differingInputs(said: InputHashes, here: InputHashes): string[] {
  return [...new Set([...Object.keys(said), ...Object.keys(here)])].filter((name) => name !== "configuration" && said[name] !== here[name]);
}
