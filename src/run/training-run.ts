/** Everything a training run holds besides the step itself: models, data, engines, logs, saved states, and how it ends. */
import { basename, join } from "node:path";
import type { AgentContext } from "../agent/methods/method.ts";
import type { Checkpoint, RunState } from "../checkpoint/run-state.ts";
import { hashConfig, type Config } from "../config/index.ts";
import type { QuestionSampler } from "../data/question-sampler.ts";
import type { Device, MemoryReport } from "../device/device.ts";
import type { BatchGenerator } from "../generate/scheduler.ts";
import type { GeneratorCounts } from "../generate/types.ts";
import { PhaseClock } from "../log/phase-clock.ts";
import { Progress, type Fields } from "../log/progress.ts";
import type { AdamW } from "../optim/adamw.ts";
import type { LossScaler } from "../optim/loss-scaler.ts";
import type { LearningRateSchedule } from "../optim/schedule.ts";
import type { Metrics } from "../rl/metrics.ts";
import type { Question, ScoredTrajectory, Trajectory } from "../rl/trajectory.ts";
import type { UpdateStats } from "../rl/update-stats.ts";
import type { SimulatorEngine } from "../search/simulation.ts";
import { ZeroSearchError } from "../util/errors.ts";
import type { Closing } from "../setup/closing.ts";
import { describeModels, describePrompts } from "./describe-models.ts";
import type { Validation } from "./judge.ts";
import type { Simulate } from "../setup/open-agents.ts";
import type { Endpoint } from "../setup/open-endpoint.ts";
import type { Model } from "../setup/open-model.ts";
import { prepareDevice } from "../setup/prepare-device.ts";
import type { RunData } from "./run-data.ts";
import type { RunParts } from "./open-run.ts";
import { openRunLogs, type RunLogs } from "./run-logs.ts";
import { lossScaleState, restoreState, saveState } from "./run-states.ts";

/** What one step made. */
export interface StepResult {
  readonly scored: readonly ScoredTrajectory[];
  readonly metrics: Metrics;
  readonly costs: StepCosts;
}

/** What a step took. */
export interface StepCosts {
  /** Seconds by phase. */
  readonly times: Readonly<Record<string, number>>;
  /** What the generator did, by model. */
  readonly counts: ReadonlyMap<string, GeneratorCounts>;
  readonly memory: MemoryReport;
  /** What was asked of the simulator's endpoint, where there is one. */
  readonly endpoint: Readonly<Record<string, number>>;
}

/** What a run remembers between validations; saved with its states. */
export interface RunMemory {
  best: { step: number; score: number } | null;
  validations: { step: number; simulatedReward: number; noise: number; realF1: number }[];
  /** Of the steps since the last validation. */
  since: { steps: number; reward: number; noise: number };
}

/** What a step needs of a run. */
export type StepRun = Pick<
  TrainingRun,
  "config" | "policy" | "reference" | "optimizer" | "schedule" | "questions" | "context" | "clock" | "interrupted" | "showing" | "costs"
> & { readonly simulator: Pick<SimulatorEngine, "noiseProbability"> };

export class TrainingRun {
  readonly config: Config;
  readonly device: Device;
  readonly policy: Model;
  /** Null where the simulator runs behind an endpoint. */
  readonly simulatorModel: Model | null;
  readonly reference: Model | null;
  readonly generator: BatchGenerator;
  readonly simulate: Simulate;
  readonly simulator: SimulatorEngine;
  /** Where the simulator runs behind one. */
  readonly endpoint: Endpoint | null;
  readonly context: AgentContext;
  readonly optimizer: AdamW;
  /** Of the loss, in f16. */
  readonly lossScaler: LossScaler | null;
  readonly schedule: LearningRateSchedule;
  readonly data: RunData;
  readonly questions: QuestionSampler<Question>;
  readonly clock = new PhaseClock();
  /** Of the saved states. */
  readonly folder: string;
  readonly logFolder: string;
  readonly memory: RunMemory = { best: null, validations: [], since: { steps: 0, reward: 0, noise: 0 } };
  /** Steps done. */
  done = 0;
  #logs: RunLogs | null = null;
  #progress: Progress | null = null;
  #shown: Fields = {};
  #watched = false;
  #savedAt = 0;
  readonly #build: string;
  readonly #checkpoint: Checkpoint | null;
  readonly #notes: readonly string[];
  readonly #closing: Closing;
  readonly #interrupt = new AbortController();
  readonly #onSignal = (): void => {
    if (this.#interrupt.signal.aborted) process.exit(130);
    this.say("Stopping as soon as nothing is lost; Ctrl-C again stops at once and loses the steps since the last save.");
    this.#interrupt.abort(new Error("interrupted"));
  };

  constructor(parts: RunParts) {
    const { config } = parts;
    const { schedule, learningRate, warmupSteps, finalFraction } = config.optimizer;
    this.config = config;
    this.device = parts.device;
    this.policy = parts.policy;
    this.simulatorModel = parts.simulatorModel;
    this.reference = parts.reference;
    this.generator = parts.generator;
    this.simulate = parts.simulate;
    this.simulator = parts.simulator;
    this.context = parts.context;
    this.optimizer = parts.optimizer;
    this.lossScaler = parts.lossScaler;
    this.data = parts.data;
    this.questions = parts.questions;
    this.#build = parts.build;
    this.#closing = parts.closing;
    this.endpoint = parts.endpoint;
    if (parts.endpoint !== null) parts.endpoint.say = (text) => this.say(text);
    this.#checkpoint = parts.checkpoint;
    this.#notes = parts.notes;
    this.done = this.#savedAt = parts.checkpoint?.state.step ?? 0;
    this.folder = join(config.output.checkpoints, config.name);
    this.logFolder = join(config.output.runs, config.name);
    this.schedule = {
      kind: schedule,
      peak: learningRate,
      warmupSteps,
      finalFraction,
      totalSteps: config.train.steps * config.train.updatesPerStep,
    };
  }

  /** A person is watching: Ctrl-C ends the run in good order, the facts come first, and progress is shown. */
  watch(): void {
    this.#watched = true;
    process.on("SIGINT", this.#onSignal).on("SIGTERM", this.#onSignal);
    this.#closing.add(this.#onSignal, (listener) => process.off("SIGINT", listener).off("SIGTERM", listener));
    const { seed, name, simulator, rollout } = this.config;
    this.say(`${describeModels(this.policy, this.simulatorModel, simulator.endpoint)} | seed ${seed} | run ${name}`);
    if (rollout.prompt === "paper") this.say(describePrompts(this.policy));
    if (rollout.maxContextTokens > this.policy.maxPositions)
      this.say(
        `note: rollouts end at ${this.policy.maxPositions} tokens, as the policy has no more positions; rollout.maxContextTokens is ${rollout.maxContextTokens}`,
      );
    for (const note of this.#notes) this.say(note);
  }

  /** Compiles what the models need of the device's kernels, where that is done ahead. */
  async prepare(): Promise<void> {
    const { device, config, policy, simulatorModel: simulator, reference } = this;
    await prepareDevice(device, config, { policy, simulator, reference }, { trains: true });
  }

  /** Fires at Ctrl-C: rollouts under way are given up; an update, its validation and a save are finished. */
  get interrupted(): AbortSignal {
    return this.#interrupt.signal;
  }

  /** Whether an error is no fault but the run being given up at Ctrl-C. */
  wasGivenUp(error: unknown): boolean {
    return this.interrupted.aborted && error === this.interrupted.reason;
  }

  /** Takes up the saved state, if there is one, and opens the logs where it ends. */
  async goOn(): Promise<void> {
    const saved = this.#checkpoint;
    if (saved !== null) {
      await restoreState(saved, this.policy, this.optimizer, this.lossScaler);
      Object.assign(this.memory, saved.state.extra["memory"] as unknown as RunMemory);
    }
    const logs = await openRunLogs(this.config, this.done, saved?.state.logBytes ?? {}, (text) => {
      this.say(text);
    });
    this.#logs = this.#closing.add(logs, (opened) => {
      opened.close();
    });
    if (this.#watched) this.#progress = new Progress({ label: "step", total: this.config.train.steps, from: this.done });
  }

  /** What the step that ends here took: to be asked before anything else is computed. */
  costs(): StepCosts {
    const endpoint = this.endpoint?.takeCounts() ?? {};
    return { times: this.clock.take(), counts: this.generator.takeCounts(), memory: this.device.memory(), endpoint };
  }

  /** Writes what a step made, and shows it. */
  log(step: number, { scored, metrics, costs: { times, counts, memory, endpoint } }: StepResult, validation: Validation | null): void {
    const logs = this.#logs as RunLogs;
    const of = (name: string): number => metrics[name] ?? 0;
    const seconds = Object.values(times).reduce((sum, value) => sum + value, 0);
    const tokens = [...counts.values()].reduce(
      (sum, { prefillTokens, sampledTokens }) => sum + prefillTokens + sampledTokens,
      of("policy/trained_tokens"),
    );
    const sampled = [...counts].map(([model, { sampledTokens }]) => [`generate/${model}_tokens`, sampledTokens] as const);
    // What prefixes spare depends on what earlier steps of the same process left in the cache.
    const prefilled = [...counts].flatMap(
      ([model, { prefillTokens, sharedTokens }]) =>
        [
          [`${model}_prefill_tokens`, prefillTokens],
          [`${model}_shared_tokens`, sharedTokens],
        ] as const,
    );
    const judged = validation === null ? {} : { "validation/f1": validation.f1, "validation/searches": validation.searches };
    const measured = {
      ...times,
      step: seconds,
      tokens_per_second: tokens / seconds,
      ...Object.fromEntries(prefilled),
      ...endpoint,
      memory_bytes: memory.inUse,
      memory_peak_bytes: memory.peak,
    };
    logs.metrics.append(step, { ...metrics, ...Object.fromEntries(sampled), ...judged }, measured);
    logs.rollouts.append(scored);
    this.done = step;
    this.#shown = {
      reward: of("reward/mean"),
      "p(noise)": of("curriculum/noise_probability"),
      searches: of("rollout/searches"),
      valid: of("rollout/valid"),
      "tokens/s": Math.round(tokens / seconds),
      ...(validation === null ? {} : { "validation F1": validation.f1 }),
      mismatch: of("rollout/logprob_mismatch_max"),
    };
    this.#progress?.update(step, this.#shown);
  }

  /** For `onFinished`: on a terminal, shows how far a part of a step is, beside the numbers of the step before. */
  showing(what: string, total: number): (trajectory: Trajectory, finished: number) => void {
    return (_, finished) => {
      if (process.stdout.isTTY) this.#progress?.update(this.done, { [what]: `${finished}/${total}`, ...this.#shown });
    };
  }

  /** Prints a line above the progress bar. */
  say(text: string): void {
    if (this.#progress === null) process.stdout.write(`${text}\n`);
    else this.#progress.print(text);
  }

  /** Saves every `saveEvery` steps, at a new best and at the end. */
  async saveIfDue(step: number): Promise<void> {
    const { saveEvery, steps } = this.config.train;
    const due = step === steps || step === this.memory.best?.step || (saveEvery > 0 && step % saveEvery === 0);
    if (due) await this.save();
  }

  /** Saves the state after the steps done so far, unless it is saved already. */
  async save(): Promise<void> {
    if (this.#savedAt === this.done) return;
    const logBytes = this.#logs?.sync() ?? {};
    const { config, device, optimizer, memory } = this;
    await saveState(
      this.folder,
      this.policy,
      optimizer,
      {
        step: this.done,
        updates: optimizer.step,
        seed: config.seed,
        configHash: hashConfig(config),
        device: device.description,
        build: this.#build,
        best: memory.best,
        logBytes,
        extra: { memory: JSON.parse(JSON.stringify(memory)) as RunState["extra"][string], ...lossScaleState(this.lossScaler) },
      },
      config.train.keepCheckpoints,
    );
    this.#savedAt = this.done;
  }

  /** After Ctrl-C: saves and says how to go on. */
  async leave(): Promise<void> {
    this.endProgress();
    await this.save();
    const program = basename(process.argv[1] ?? "") === "train.js" ? "node train.js" : "npx zerosearch train";
    const {
      name,
      output: { runs },
    } = this.config;
    // The other folders come from the run's saved configuration, which --resume must find first.
    const where = runs === "runs" ? "" : ` output.runs=${runs}`;
    this.say(
      `Stopped after step ${this.done} of ${this.config.train.steps}${this.done > 0 ? `; saved in ${this.folder}` : ""}.\nGo on with: ${program} --resume ${name}${where}`,
    );
    process.exitCode = 130;
  }

  /** Ends the progress bar: tables follow. */
  endProgress(): void {
    this.#progress?.finish();
    this.#progress = null;
  }

  async close(): Promise<void> {
    this.endProgress();
    await this.#closing.close();
  }
}

/** The error that ends a run whose update was refused. Weights and moments are as they were before it. */
export function diverged(step: number, { gradNorm }: UpdateStats): ZeroSearchError {
  return new ZeroSearchError({
    where: `step ${step}`,
    what: "the gradient norm is not finite: training has diverged",
    expected: "a number",
    got: String(gradNorm),
    hint: "Nothing of this step was kept. Go on from the last saved state with a lower learning rate: --resume RUN optimizer.learningRate=...",
  });
}
