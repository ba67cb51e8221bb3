/** The end of a run whose update was refused: an error that carries why, and the file that it leaves. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { writeFileAtomic } from "../checkpoint/atomic.ts";
import { isTree, type Config } from "../config/index.ts";
import type { MetricRow } from "../log/rows.ts";
import type { RefusedUpdate } from "../rl/refused-update.ts";
import { attempt, FileError, ZeroSearchError, type Complaint } from "../util/errors.ts";
import { explainCommand, resumeCommand } from "./leave.ts";
import { readMetrics } from "./list-runs.ts";
import { logFolder, type Run } from "./run.ts";

/** In the folder of a run's logs. */
export const divergenceFile = "divergence.json";

/** What is known of an update that was refused. */
export interface Divergence {
  readonly run: string;
  readonly step: number;
  readonly whose: "policy" | "critic";
  /** Which of the step's updates, from 1. Those before it have moved the weights. */
  readonly update: number;
  readonly updatesPerStep: number;
  readonly learningRate: number;
  /** What the loss was multiplied by for its gradients, 1 in f32. */
  readonly lossScale: number;
  /** The loss scale is taken out. */
  readonly loss: number;
  /** Those that have a say in it. */
  readonly settings: Pick<Config, "algorithm" | "optimizer" | "critic"> & {
    readonly device: string;
    readonly precision: string;
    readonly dtype: string;
    readonly cacheDtype: string;
    readonly microBatchTokens: number;
  };
  /** Null where looking for the cause failed itself. */
  readonly explained: RefusedUpdate | null;
  /** Why it did. */
  readonly unexplained?: string;
}

/** What `divergence.json` holds. Numbers that are none are strings there: "NaN", "Infinity", "-Infinity". */
export interface SavedDivergence extends Divergence {
  readonly version: 1;
  /** The rows of the last steps before it. */
  readonly metrics: readonly MetricRow[];
}

/** Training has diverged. Weights and moments are as they were before the update that was refused. */
export class DivergedError extends ZeroSearchError {
  readonly dump: Divergence;
  constructor(complaint: Complaint, dump: Divergence) {
    super(complaint);
    this.dump = dump;
  }
}

/** What the statistics of an update say of its end. */
export interface UpdateEnd {
  readonly gradNorm: number;
  readonly overflowed: boolean;
  readonly learningRate: number;
  readonly lossScale: number;
  readonly loss: number;
}

export interface Refusal {
  readonly whose: Divergence["whose"];
  readonly update: number;
  readonly stats: UpdateEnd;
}

/** Whether an update was refused for good: a loss scale that was too large is no divergence. */
export function isRefused({ gradNorm, overflowed }: UpdateEnd): boolean {
  return !Number.isFinite(gradNorm) && !overflowed;
}

/** The error that ends a run whose update was refused. Where `explain`, which looks for the cause, fails itself, the error says so. */
export async function diverged(
  { config, device }: Pick<Run, "config" | "device">,
  step: number,
  { whose, update, stats }: Refusal,
  explain: () => Promise<RefusedUpdate>,
): Promise<DivergedError> {
  const { algorithm, optimizer, critic, model, train } = config;
  const { learningRate, lossScale, loss, gradNorm } = stats;
  const found = await explain().catch((error: unknown) => (error instanceof Error ? error.message : String(error)));
  const first = typeof found === "string" ? `The cause could not be looked for: ${found}` : `What came first: ${found.summary}`;
  return new DivergedError(
    {
      where: `step ${step}`,
      what: `the ${whose === "critic" ? "critic's " : ""}gradient norm is not finite: training has diverged`,
      expected: "a number",
      got: String(gradNorm),
      hint: `Nothing of this step was kept. ${first}.\n  Go on from the last saved state with a lower learning rate: ${resumeCommand(config)} ${whose === "critic" ? "critic" : "optimizer"}.learningRate=...`,
    },
    {
      run: config.name,
      ...{ step, whose, update, updatesPerStep: train.updatesPerStep, learningRate, lossScale, loss },
      settings: {
        ...{ algorithm, optimizer, critic },
        device: device.description,
        precision: device.precision,
        dtype: model.dtype,
        cacheDtype: model.cacheDtype,
        microBatchTokens: train.microBatchTokens,
      },
      ...(typeof found === "string" ? { explained: null, unexplained: found } : { explained: found }),
    },
  );
}

/** Steps whose metrics are kept with it. */
const lastSteps = 10;

/**
 * Writes `divergence.json` among the run's logs.
 * @returns the same error, with where it is, or why it could not be written
 */
export async function leaveDump(config: Config, { dump, complaint }: DivergedError): Promise<DivergedError> {
  const folder = logFolder(config);
  const file = join(folder, divergenceFile);
  const told = (more: string): DivergedError => new DivergedError({ ...complaint, hint: `${complaint.hint ?? ""}\n  ${more}` }, dump);
  try {
    const saved: SavedDivergence = { version: 1, ...dump, metrics: readMetrics(join(folder, "metrics.jsonl")).slice(-lastSteps) };
    await writeFileAtomic(file, `${JSON.stringify(saved, asStrings, 1)}\n`);
  } catch (cause) {
    return told(`Rollouts, tokens and tensors could not be written down: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
  return told(`Rollouts, tokens and tensors are in ${file}; in words: ${explainCommand(config)}`);
}

/** JSON has no NaN and no infinity. */
function asStrings(_key: string, value: unknown): unknown {
  return typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
}

/** What a run left that diverged; null where it left nothing. @throws FileError for a file that is none of a run's */
export function readDump(folder: string): SavedDivergence | null {
  const file = join(folder, divergenceFile);
  if (!existsSync(file)) return null;
  const value = attempt<unknown>(() => JSON.parse(readFileSync(file, "utf8")), undefined);
  const fits =
    isTree(value) && value["version"] === 1 && typeof value["step"] === "number" && "explained" in value && Array.isArray(value["metrics"]);
  if (!fits) throw new FileError({ where: file, what: "cannot be read", expected: "a file as a run of this version leaves it" });
  return value as unknown as SavedDivergence;
}
