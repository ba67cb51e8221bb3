/** What a run says of itself: metrics, rollouts and receipt in files, progress for people, and what it remembers between validations. */
import { existsSync, rmSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../checkpoint/atomic.ts";
import type { Checkpoint } from "../checkpoint/run-state.ts";
import { portable } from "../config/index.ts";
import { Progress, type Fields } from "../log/progress.ts";
import { metricRow, rolloutRow, unpaidRow } from "../log/rows.ts";
import type { ValidationPoint } from "./parting-note.ts";
import { rewardWarnings, searchWarnings } from "../rl/metrics.ts";
import type { SearchTrajectory } from "../rl/trajectory.ts";
import { collapseNote, collapseSteps, isDead } from "./collapse.ts";
import { afresh, guardStep, newGuard, type GuardMemory } from "./guard.ts";
import { noteCosts } from "./costs.ts";
import { divergenceFile, leaveDump, readDump, type DivergedError } from "./diverged.ts";
import { digestStep, makeReceipt, receiptFile, receiptText, type ReceiptRows, type StepDigest } from "./receipt.ts";
import { openRunLogs, type RunLogs } from "./run-logs.ts";
import { attempt, ZeroSearchError } from "../util/errors.ts";
import { logFolder, madeOf, type Run, type StepResult } from "./run.ts";
import type { Saved } from "./states.ts";

/** A validation on questions that choose the best state. */
export interface Validation {
  readonly f1: number;
  /** Searches per question. */
  readonly searches: number;
}

/** What a run remembers of its validations. */
export interface RunHistory {
  readonly best: { readonly step: number; readonly score: number } | null;
  readonly validations: readonly ValidationPoint[];
  /** Of the steps since the last validation. */
  readonly since: { readonly steps: number; readonly reward: number; readonly noise: number };
  /** Steps in a row, up to the last one, in which the policy was dead; absent in states of older programs. */
  readonly dead?: number;
  /** What the guard remembers; absent where it is off, and in states of older programs. */
  readonly guard?: GuardMemory;
  /** States that were gone back to, each with half the learning rate of before. */
  readonly rollbacks?: readonly Rollback[];
}

/** A return to an earlier state. */
export interface Rollback {
  /** The step whose state was gone back to, and the one at which that was done. */
  readonly to: number;
  readonly from: number;
  readonly signs: readonly string[];
}

/** A step that stands in the logs: what a state is saved of. Only a journal makes one. */
export interface Recorded {
  readonly step: number;
  /** Optimiser updates done. */
  readonly updates: number;
  readonly history: RunHistory;
  /** @internal */
  readonly receipt: ReceiptRows;
  readonly logBytes: Readonly<Record<string, number>>;
  readonly made: StepResult["made"];
  /** Signs of collapse that the guard saw in it for the first time, in words, and those of them that going back with half the learning rate cannot mend. */
  readonly signs: readonly string[];
  readonly lasting: readonly string[];
  /** Puts the logs on the disk. @throws FileError */
  sync(): void;
  /** By log file, what it lacks because it could not be written. */
  unwritten(): Readonly<Record<string, string>>;
}

const nothingSince: RunHistory["since"] = { steps: 0, reward: 0, noise: 0 };

export interface JournalOptions {
  /** Shows a progress bar: false unless given. */
  readonly progress?: boolean;
}

export class Journal {
  readonly folder: string;
  readonly #run: Run;
  #logs: RunLogs;
  readonly #steps: StepDigest[] = [];
  readonly #saves: Record<string, Saved["weights"]> = {};
  #history: RunHistory = { best: null, validations: [], since: nothingSince };
  #scores: readonly object[] | undefined;
  #done: number;
  #last: Recorded | null = null;
  /** The step in which the run once diverged, where its dump is there. */
  #diverged: number | null = null;
  #progress: Progress | null;
  #shown: Fields = {};

  private constructor(run: Run, logs: RunLogs, done: number, progress: boolean) {
    this.#run = run;
    this.#logs = logs;
    this.#done = done;
    this.folder = logFolder(run.config);
    this.#progress = progress ? new Progress({ label: "step", total: run.config.train.steps, from: done }) : null;
  }

  /** @internal Opens the logs where a restored state ends, or new ones. `say` is told what a person should know. @throws FileError */
  static async open(
    run: Run,
    restored: { readonly checkpoint: Checkpoint; readonly saved: Saved } | null,
    say: (text: string) => void,
    { progress = false }: JournalOptions = {},
  ): Promise<Journal> {
    const state = restored?.checkpoint.state;
    const done = state?.step ?? 0;
    const journal = new Journal(run, await openRunLogs(run.config, done, state, say), done, progress);
    run.engines.say = (text) => journal.say(text);
    // One that cannot be read goes with the first step.
    if (existsSync(join(journal.folder, divergenceFile))) journal.#diverged = attempt(() => readDump(journal.folder)?.step ?? 0, 0);
    if (restored === null || state === undefined) return journal;
    journal.#history = state.extra["memory"] as unknown as RunHistory;
    const rows = state.extra["receipt"] as unknown as ReceiptRows | undefined;
    journal.#steps.push(...(rows?.steps ?? []));
    if (journal.#steps.length !== done) say("note: this run leaves no receipt, as its first steps were made by a program that kept none.");
    Object.assign(journal.#saves, rows?.saves, restored.saved.due ? { [done]: restored.saved.weights } : {});
    return journal;
  }

  /** Steps done. */
  get done(): number {
    return this.#done;
  }

  get history(): RunHistory {
    return this.#history;
  }

  /** The last step that was recorded since the journal was opened; null before the first. */
  get last(): Recorded | null {
    return this.#last;
  }

  /**
   * Writes what a step made, and its validation if there was one, and shows it.
   * @throws FileError when the disk is full; ZeroSearchError for a step that is not the next one.
   */
  record(result: StepResult, validation: Validation | null = null): Recorded {
    const { step, scored, unpaid, updates, metrics, made } = result;
    if (step !== this.#done + 1)
      throw new ZeroSearchError({
        where: "journal.record",
        what: "not the next step",
        expected: String(this.#done + 1),
        got: String(step),
      });
    const judged = validation === null ? {} : { "validation/f1": validation.f1, "validation/searches": validation.searches };
    const { values, measured } = rowOf(result);
    const logs = this.#logs;
    const rows = [...scored.map(rolloutRow), ...unpaid.map(unpaidRow)];
    const fault = logs.append(metricRow(step, { ...metrics, ...values, ...judged }, measured), rows);
    const { times, engines } = result.costs;
    const seconds = Object.values(times).reduce((all, one) => all + one, 0);
    noteCosts(this.#run.config, { part: "training", step, seconds, simulated: metrics["simulator/searches"] ?? 0, counts: engines });
    this.#steps.push(
      digestStep(
        [...scored, ...unpaid.map(({ trajectory }) => ({ trajectory, reward: NaN }))],
        updates.map(({ gradNorm }) => gradNorm),
      ),
    );
    const guarded =
      this.#run.config.guard.action === "off"
        ? null
        : guardStep(this.#history.guard ?? newGuard, { step, metrics, validation: validation?.f1 ?? null });
    const { rollbacks } = this.#history;
    this.#history = {
      ...remember(this.#history, result, validation),
      ...(guarded === null ? {} : { guard: guarded.memory }),
      ...(rollbacks === undefined ? {} : { rollbacks }),
    };
    this.#done = step;
    this.#passDivergence(step);
    const trajectories = [...scored, ...unpaid].map(({ trajectory }) => trajectory);
    for (const line of [...rewardWarnings(scored, unpaid), ...searchWarnings(trajectories)]) this.say(`warning: step ${step}: ${line}`);
    const of = (name: string): number => metrics[name] ?? 0;
    this.#shown = {
      reward: of("reward/mean"),
      "p(noise)": of("curriculum/noise_probability"),
      searches: of("rollout/searches"),
      valid: of("rollout/valid"),
      "tokens/s": Math.round(measured["tokens_per_second"] ?? 0),
      ...(validation === null ? {} : { "validation F1": validation.f1 }),
      mismatch: of("rollout/logprob_mismatch_max"),
    };
    this.#progress?.mark(step, this.#shown);
    this.#last = {
      step,
      updates: this.#run.optimizer.step,
      history: this.#history,
      receipt: { steps: [...this.#steps], saves: { ...this.#saves } },
      logBytes: logs.bytes(),
      made,
      signs: guarded?.signs ?? [],
      lasting: guarded?.lasting ?? [],
      sync: () => logs.sync(),
      unwritten: () => logs.unwritten(),
    };
    const { dead = 0, best } = this.#history;
    if (dead === collapseSteps) this.say(`warning: ${collapseNote(dead, step, best) ?? ""}`);
    else if (dead > 0 && best?.step === step) this.say(`warning: step ${step} is the best so far, and in it the policy was dead.`);
    for (const sign of guarded?.signs ?? []) this.say(`warning: step ${step}: ${sign}`);
    // The step stands all the same: a state that is saved elsewhere takes its rows along.
    if (fault !== null) throw fault;
    return this.#last;
  }

  /** @internal Writes why the step after the last one diverged. @returns the error with where that is */
  noteDivergence(error: DivergedError): Promise<DivergedError> {
    this.#diverged = error.dump.step;
    return leaveDump(this.#run.config, error);
  }

  /** A dump of a step that has gone well since would be taken for the run's end. */
  #passDivergence(step: number): void {
    if (this.#diverged === null || step < this.#diverged) return;
    this.#diverged = null;
    const file = join(this.folder, divergenceFile);
    try {
      rmSync(file, { force: true });
    } catch (error) {
      this.say(`warning: ${file} is of a step that has gone well since, and cannot be removed: ${(error as Error).message}`);
    }
  }

  /** @internal Notes that the last step stays, and what comes after it learns more slowly. */
  noteRollback(rollback: Rollback): void {
    this.#history = { ...this.#history, guard: afresh(this.#history.guard), rollbacks: [...(this.#history.rollbacks ?? []), rollback] };
    if (this.#last !== null) this.#last = { ...this.#last, history: this.#history };
  }

  /**
   * @internal Goes back to a state that was restored: what the logs say of later steps is cut off. There is no receipt from here on, as the
   * steps that led here are not in it.
   * @throws FileError
   */
  async rewind(restored: { readonly checkpoint: Checkpoint; readonly saved: Saved }, rollback: Rollback): Promise<void> {
    const { state } = restored.checkpoint;
    const rollbacks = [...(this.#history.rollbacks ?? []), rollback];
    this.#logs.close();
    this.#logs = await openRunLogs(this.#run.config, state.step, state, (text) => this.say(text));
    const before = state.extra["memory"] as unknown as RunHistory;
    this.#history = { ...before, guard: afresh(before.guard), rollbacks };
    this.#done = state.step;
    this.#last = null;
    this.#steps.length = 0;
    for (const key of Object.keys(this.#saves)) Reflect.deleteProperty(this.#saves, key);
    await rm(join(this.folder, receiptFile), { force: true });
  }

  /** @internal What the receipt says of the steps so far. */
  get receiptRows(): ReceiptRows {
    return { steps: this.#steps, saves: this.#saves };
  }

  /** Of the evaluation at the end. */
  get scores(): readonly object[] | undefined {
    return this.#scores;
  }

  /** Notes a saved state in the receipt, which is written anew. @throws FileError when the disk is full; the old one stays. */
  async noteSaved({ step, due, weights }: Saved): Promise<void> {
    if (due) this.#saves[step] = weights;
    await this.#writeReceipt();
  }

  /** Notes the rows of the evaluation in the receipt. */
  async noteScores(rows: readonly object[]): Promise<void> {
    this.#scores = rows;
    await this.#writeReceipt();
  }

  async #writeReceipt(): Promise<void> {
    if (this.#steps.length !== this.#done) return;
    const { config, device, inputs } = this.#run;
    const { kind, description } = device;
    const made = this.#last?.made ?? madeOf(this.#run);
    const head = { run: config.name, device: { kind, description }, config: portable(config), made, inputs, scores: this.#scores };
    await writeFileAtomic(join(this.folder, receiptFile), receiptText(makeReceipt(head, this.receiptRows)));
  }

  /** For `onFinished`: on a terminal, shows how far a part of a step is, beside the numbers of the step before. */
  showing(what: string, total: number): (trajectory: SearchTrajectory, finished: number) => void {
    return (_, finished) => {
      if (process.stdout.isTTY) this.#progress?.update(this.#done, { [what]: `${finished}/${total}`, ...this.#shown });
    };
  }

  /** Prints a line above the progress bar. */
  say(text: string): void {
    if (this.#progress === null) process.stdout.write(`${text}\n`);
    else this.#progress.print(text);
  }

  /** Ends the progress bar: tables follow. */
  endProgress(): void {
    this.#progress?.finish();
    this.#progress = null;
  }

  close(): void {
    this.endProgress();
    this.#logs.close();
  }
}

/** What a row of metrics says besides the step's own metrics; `measured` is what a clock or the system says. */
function rowOf({ metrics, costs: { times, counts, memory, engines } }: StepResult): {
  readonly values: Readonly<Record<string, number>>;
  readonly measured: Readonly<Record<string, number>>;
} {
  const seconds = Object.values(times).reduce((sum, value) => sum + value, 0);
  const tokens = [...counts.values()].reduce(
    (sum, { prefillTokens, sampledTokens }) => sum + prefillTokens + sampledTokens,
    metrics["policy/trained_tokens"] ?? 0,
  );
  const sampled = [...counts].map(([model, { sampledTokens }]) => [`generate/${model}_tokens`, sampledTokens] as const);
  // What prefixes spare depends on what earlier steps of the same process left in the cache.
  const prefilled = [...counts].flatMap(([model, { prefillTokens, sharedTokens }]) => [
    [`${model}_prefill_tokens`, prefillTokens] as const,
    [`${model}_shared_tokens`, sharedTokens] as const,
  ]);
  return {
    values: Object.fromEntries(sampled),
    measured: {
      ...times,
      step: seconds,
      tokens_per_second: tokens / seconds,
      ...Object.fromEntries(prefilled),
      ...engines,
      memory_bytes: memory.inUse,
      memory_peak_bytes: memory.peak,
    },
  };
}

function remember({ best, validations, since, dead = 0 }: RunHistory, result: StepResult, validation: Validation | null): RunHistory {
  const { step, metrics } = result;
  const now = {
    steps: since.steps + 1,
    reward: since.reward + (metrics["reward/mean"] ?? 0),
    noise: since.noise + (metrics["curriculum/noise_probability"] ?? 0),
  };
  const deadNow = isDead(metrics) ? dead + 1 : 0;
  if (validation === null) return { best, validations, since: now, dead: deadNow };
  const point = { step, simulatedReward: now.reward / now.steps, noise: now.noise / now.steps, realF1: validation.f1 };
  return {
    best: best === null || validation.f1 > best.score ? { step, score: validation.f1 } : best,
    validations: [...validations, point],
    since: nothingSince,
    dead: deadNow,
  };
}
