/**
 * ZeroSearch training (arXiv 2505.04588). One step, top to bottom, is `trainStep`; `openTraining` is what comes before, and its `steps` what
 * comes between.
 *
 *   for step = 1 .. m
 *     ask Q questions
 *     roll out G trajectories of each: the policy thinks, searches, reads, answers; a simulator model writes the documents,
 *       useful with probability 1 - p, noisy with probability p, p rising with the step
 *     reward: F1 of the answer the policy wrote
 *     advantage: reward against its group of G
 *     loss: clipped ratio x advantage (+ KL, - entropy) over the tokens the policy sampled, no others
 *     update: gradient clipping, AdamW
 *     log, validate, save
 */
import { groupTasks, rolloutAll, type RolloutAllOptions } from "./agent/rollout-all.ts";
import { trainCommand, type TrainCommand } from "./config/index.ts";
import { steadyClock } from "./log/progress.ts";
import { learningRate } from "./optim/schedule.ts";
import { refuseWhatCannotFit } from "./plan/dry-run.ts";
import { scoreTrajectories } from "./rl/advantage.ts";
import { rolloutMetrics, searchMetrics, updateMetrics, type Metrics } from "./rl/metrics.ts";
import { splitUpdates } from "./rl/mini-batches.ts";
import type { TokenLogProbs } from "./rl/packing.ts";
import type { Scored } from "./rl/trajectory.ts";
import { tokenLogProbs, update, type ForwardSettings } from "./rl/update.ts";
import type { UpdateStats } from "./rl/update-stats.ts";
import type { InputHashes } from "./run/inputs.ts";
import { Journal, type JournalOptions, type Validation } from "./run/journal.ts";
import { validate } from "./run/judge.ts";
import { leave } from "./run/leave.ts";
import { openRun, prepareRun, type OpenedRun, type OpenRunOptions } from "./run/open-run.ts";
import { payAll } from "./run/reward.ts";
import { diverged, madeOf, partShapes, stepCosts, type Run, type StepParts, type StepResult, type StepRun } from "./run/run.ts";
import { checkHeld } from "./run/run-lock.ts";
import type { States } from "./run/states.ts";
import type { Engine } from "./search/search-engine.ts";
import { checkFields, checkShape, type Shape } from "./setup/user-module.ts";
import { ConfigError, ZeroSearchError } from "./util/errors.ts";
import { callOwn } from "./util/own-code.ts";

/** One's own in place of what the run was opened with. */
export interface StepOptions extends Partial<StepParts> {
  /** Called as each rollout ends. */
  readonly onRollout?: RolloutAllOptions["onFinished"];
}

/**
 * One step of training. Nothing in it depends on a clock, on the number of threads, or on what an earlier process did.
 * @throws ConfigError, ServerError, DataError naming the method, engine or reward that fails or gives something else; DeviceError;
 *   ZeroSearchError where the update diverged, of which nothing is kept; the signal's reason when it fires.
 */
export async function trainStep(run: StepRun, step: number, options: StepOptions = {}): Promise<StepResult> {
  checkShape("trainStep", run, runShape, "its first argument is no run");
  checkFields("trainStep", options, stepShapes);
  const { config, policy, optimizer, clock } = run;
  const { method = run.method, engine = run.engine, reward = run.reward } = options;
  const { train, algorithm } = config;
  if (!Number.isInteger(step) || step < 1)
    throw new ConfigError({ where: "trainStep", what: "wrong step", expected: "an integer from 1", got: String(step) });

  // The questions of this step: Q of an epoch's shuffle, named by seed and epoch.
  const asked = run.questions.step(step);

  // Roll out G trajectories of each. All run at once in one batch; every query draws useful or noisy with probability p(step).
  clock.start("rollout");
  const noise = await curriculumMetrics(engine, step);
  const tasks = groupTasks(asked, train.groupSize, step);
  const { vocabulary } = policy.decoder.config;
  const watching = { signal: run.signal, onFinished: options.onRollout, vocabulary };
  const trajectories = await rolloutAll(tasks, method, { ...run.context, engine }, watching);
  await run.generator.rest(); // the update needs the memory

  // Reward, and the advantage of each trajectory over its group.
  const rewards = await payAll(reward, trajectories, run.context.rules);
  const scored = scoreTrajectories(trajectories, rewards, { estimator: algorithm.name, normalizeByStd: algorithm.normalizeByStd });

  // Update the policy, mini-batch by mini-batch, on the tokens it sampled itself. The loss is a mean over the tokens of a mini-batch.
  const { clipLow, clipHigh, klCoef, entropyCoef } = algorithm;
  const forward = {
    microBatchTokens: train.microBatchTokens,
    cacheDtype: config.model.cacheDtype,
    recompute: train.recompute,
    adapter: policy.adapter,
  };
  const updates: UpdateStats[] = [];
  for (const batch of splitUpdates(scored, train.updatesPerStep)) {
    const reference = await referenceLogProbs(run, batch, forward);
    clock.start("update");
    const rate = learningRate(run.schedule, optimizer.step);
    const stats = await update(policy.decoder, optimizer, batch, { ...forward, clipLow, clipHigh, klCoef, entropyCoef }, rate, reference);
    if (!Number.isFinite(stats.gradNorm) && !stats.overflowed) throw diverged(step, stats);
    updates.push(stats);
  }

  const metrics = {
    ...rolloutMetrics(scored),
    ...searchMetrics(trajectories),
    ...noise,
    ...updateMetrics(updates),
  };
  return { step, scored, updates, metrics, costs: stepCosts(run), made: madeOf({ method, engine, reward }) };
}

/** The probability of noise at this step, where the engine is a simulator. */
async function curriculumMetrics(engine: Engine, step: number): Promise<Metrics> {
  if (!("simulate" in engine)) return {};
  const where = `search engine ${engine.name}`;
  const noise = await callOwn(where, () => engine.noiseProbability(step));
  const shape = { what: "a probability", fits: (value: unknown) => typeof value === "number" && value >= 0 && value <= 1 };
  checkShape(where, noise, shape, "its noiseProbability is none");
  return { "curriculum/noise_probability": noise };
}

/** Log-probabilities under the reference policy, where the loss has a KL term: with its own adapter, or with none. */
async function referenceLogProbs(
  { reference, clock }: StepRun,
  batch: readonly Scored[],
  settings: ForwardSettings,
): Promise<TokenLogProbs | null> {
  if (reference === null) return null;
  clock.start("reference");
  const trajectories = batch.map(({ trajectory }) => trajectory);
  return tokenLogProbs(reference.decoder, trajectories, { ...settings, adapter: reference.adapter });
}

/**
 * Opens a run, unless the device that it takes cannot hold its step.
 * @param inputs - hashes of what goes in, where they are known
 * @throws as `openRun`, `refuseWhatCannotFit`
 */
export function openTrainingRun(command: TrainCommand, options: OpenRunOptions, inputs?: InputHashes): Promise<OpenedRun> {
  return openRun(command, options, {
    refuse: (config, questions, device) => refuseWhatCannotFit(config, questions, device, trainStep),
    inputs,
  });
}

export interface OpenTrainingOptions extends OpenRunOptions, JournalOptions {
  /** A YAML file; `packagedConfig("quickstart")` is the embedded default. */
  readonly config?: string;
  /** Settings over it, as `key=value`. */
  readonly settings?: readonly string[];
  /** The run to go on with, by name; true is the newest of the configured name. A new run unless given. */
  readonly resume?: string | boolean;
  /** Goes on although data, corpus or models have changed since the state was saved. */
  readonly allowChanged?: boolean;
}

const isText = (value: unknown): boolean => typeof value === "string";
const aFunction: Shape = { what: "a function", fits: (value) => typeof value === "function" };
const runShape: Shape = {
  what: "the `run` of what openTraining opens",
  fits: (value) =>
    ["config", "policy", "optimizer", "questions"].every(
      (name) => (value as Partial<Record<string, unknown>> | undefined)?.[name] instanceof Object,
    ),
};
const stepShapes = { ...partShapes, onRollout: aFunction };
const trainingShapes: Readonly<Record<keyof OpenTrainingOptions, Shape>> = {
  ...partShapes,
  config: { what: "a YAML file", fits: isText },
  settings: { what: "a list of key=value", fits: (value) => Array.isArray(value) && value.every(isText) },
  resume: { what: "the name of a run, true or false", fits: (value) => isText(value) || typeof value === "boolean" },
  signal: { what: "an AbortSignal", fits: (value) => value instanceof AbortSignal },
  allowChanged: { what: "true or false", fits: (value) => typeof value === "boolean" },
  progress: { what: "true or false", fits: (value) => typeof value === "boolean" },
};

/**
 * Opens a training run, new or resumed:
 *
 *     const training = await openTraining({ config: packagedConfig("quickstart") });
 *     for await (const { step, metrics } of training.steps()) ...
 *     await training.close();
 *
 * @throws ConfigError, FileError, DataError, DeviceError, ServerError (a simulator's endpoint) before anything is written, when something
 *   given is wrong.
 */
export async function openTraining(given: OpenTrainingOptions): Promise<Training> {
  checkFields("openTraining", given, trainingShapes);
  const { config, settings = [], resume = false, allowChanged = false, ...options } = given;
  const opened = await openTrainingRun(trainCommand({ config, settings, resume, allowChanged }), options);
  try {
    for (const note of opened.notes) process.stdout.write(`${note}\n`);
    await prepareRun(opened.run);
    return await Training.begin(opened, options);
  } catch (error) {
    return opened.closing.failed(error);
  }
}

/** What a step of `Training.steps` leaves: it is logged, validated where that is due, and saved where that is due. */
export interface StepReport extends StepResult {
  readonly validation: Validation | null;
}

/** A run under way: at its start, or where its saved state left it. */
export class Training {
  readonly run: Run;
  readonly journal: Journal;
  readonly states: States;
  readonly #opened: OpenedRun;
  /** Optimiser updates done when the journal was opened. */
  readonly #updates: number;
  #savedAt = steadyClock();
  /** Whether a loop over `steps` has begun and not ended. */
  #looping = false;

  private constructor(opened: OpenedRun, journal: Journal) {
    this.run = opened.run;
    this.states = opened.states;
    this.journal = journal;
    this.#opened = opened;
    this.#updates = opened.run.optimizer.step;
  }

  /** @internal Takes up the saved state, if there is one, and opens the logs where it ends. @throws FileError, ConfigError as `States.restore` */
  static async begin(opened: OpenedRun, options: JournalOptions = {}): Promise<Training> {
    const { run, states, checkpoint, closing } = opened;
    const restored = checkpoint === null ? null : { checkpoint, saved: await states.restore(checkpoint) };
    const journal = await Journal.open(run, restored, (text) => void process.stdout.write(`${text}\n`), options);
    closing.add(journal, (one) => one.close());
    return new Training(opened, journal);
  }

  /**
   * Trains the steps that are left, each logged, validated and saved as `node train.js` does. Leaving the loop leaves the run whole:
   * `save` keeps the last step.
   * @throws what `trainStep` throws; the signal's reason when it fires; ZeroSearchError where another loop is under way.
   */
  async *steps(options: Pick<StepOptions, "onRollout"> = {}): AsyncGenerator<StepReport> {
    const { run, journal } = this;
    const { steps, questionsPerStep, groupSize } = run.config.train;
    const onRollout = options.onRollout ?? journal.showing("rollouts", questionsPerStep * groupSize);
    if (this.#looping)
      throw new ZeroSearchError({
        where: "training.steps",
        what: "another loop over the steps of this training is under way",
        hint: "Leave it first (break, or return() of its iterator): steps follow each other.",
      });
    this.#looping = true;
    try {
      while (journal.done < steps) {
        const result = await trainStep(run, journal.done + 1, { ...options, onRollout });
        const validation = await validate(this, result).catch((error: unknown) => {
          // The step is whole, and is kept.
          journal.record(result);
          throw error;
        });
        if (this.states.due(journal.record(result, validation)) || this.#savedLongAgo()) await this.save();
        yield { ...result, validation };
        run.signal.throwIfAborted();
      }
    } finally {
      this.#looping = false;
    }
  }

  #savedLongAgo(): boolean {
    const { saveMinutes } = this.run.config.train;
    return saveMinutes > 0 && steadyClock() - this.#savedAt >= 60_000 * saveMinutes;
  }

  /**
   * Saves the state after the last step that was recorded, unless it is saved already.
   * @param place - another folder for it than the run's own, to be given as `output.checkpoints` (without the run's name) to go on from there
   * @throws ZeroSearchError where a step was trained since then and not recorded, or another program has taken the run over; FileError as `States.save`
   */
  async save(place?: string): Promise<void> {
    const { last } = this.journal;
    const [done, recorded] = [this.run.optimizer.step, last?.updates ?? this.#updates];
    await checkHeld(this.#opened.lock, this.run.config);
    if (done !== recorded)
      throw new ZeroSearchError({
        where: "training.save",
        what: "a step was trained that is not recorded",
        expected: `${recorded} updates`,
        got: String(done),
        hint: "Give what trainStep returns to training.journal.record, or let training.steps() do both.",
      });
    const saved = last === null ? null : await this.states.save(last, place);
    this.#savedAt = steadyClock();
    if (saved !== null && place === undefined) await this.journal.noteSaved(saved);
  }

  /**
   * For a run that ends before its last step: saves what is whole, in `output.spare` where the run's own folder cannot be written.
   * @returns in words, what is kept and how to go on. Nothing is thrown.
   */
  leave(): Promise<string> {
    const { journal, states } = this;
    journal.endProgress();
    const whole = journal.last !== null && journal.last.updates === this.run.optimizer.step;
    return leave({ config: this.run.config, done: journal.done, newest: states.newest, save: whole ? (place) => this.save(place) : null });
  }

  /** Ends the run: what is not saved is lost. @throws ConfigError where an engine of the user's does not close; all else is closed. */
  async close(): Promise<void> {
    await this.#opened.closing.close();
  }
}
