/**
 * ZeroSearch training (arXiv 2505.04588). One step, top to bottom, is `trainStep`; `openTraining` is what comes before, and its `steps` what
 * comes between.
 *
 *   for step = 1 .. m
 *     ask Q questions
 *     roll out G trajectories of each: the policy thinks, searches, reads, answers; a simulator model writes the documents,
 *       useful with probability 1 - p, noisy with probability p, p rising with the step
 *     reward: F1 of the answer the policy wrote
 *     advantage: reward against its group of G, or return against a critic's value
 *     loss: clipped ratio x advantage (+ KL, - entropy) over the tokens the policy sampled, no others
 *     update: gradient clipping, AdamW; the critic's too
 *     log, validate, save
 */
import { groupTasks, rolloutAll, type RolloutAllOptions } from "./agent/rollout-all.ts";
import { trainCommand, type TrainCommand } from "./config/index.ts";
import { steadyClock } from "./log/progress.ts";
import { learningRate } from "./optim/schedule.ts";
import { refuseWhatCannotFit } from "./plan/dry-run.ts";
import { scoreTrajectories } from "./rl/advantage.ts";
import { tokenValues, updateCritic, type CriticStats } from "./rl/critic.ts";
import { explainCriticUpdate, explainUpdate } from "./rl/explain-update.ts";
import type { ForwardSettings } from "./rl/forward.ts";
import { criticMetrics, rolloutMetrics, searchMetrics, updateMetrics, type Metrics } from "./rl/metrics.ts";
import { splitUpdates } from "./rl/mini-batches.ts";
import type { TokenLogProbs } from "./rl/packing.ts";
import type { SearchTrajectory } from "./rl/trajectory.ts";
import { tokenLogProbs, update } from "./rl/update.ts";
import { rewardedLogProbs } from "./rl/watch.ts";
import type { UpdateStats } from "./rl/update-stats.ts";
import type { TokenValues } from "./rl/value-targets.ts";
import {
  advantageSettings,
  forwardSettings,
  klMetrics,
  klPenalties,
  learntFrom,
  lossSettings,
  lossWeights,
  shapingOf,
  stepKl,
  valuesDocuments,
} from "./run/algorithm.ts";
import { diverged, DivergedError, isRefused, type UpdateEnd } from "./run/diverged.ts";
import type { InputHashes } from "./run/inputs.ts";
import { mostRollbacks, refuseCollapse } from "./run/collapse.ts";
import { Journal, type JournalOptions, type Recorded, type Validation } from "./run/journal.ts";
import { validate } from "./run/judge.ts";
import { leave } from "./run/leave.ts";
import { openRun, prepareRun, type OpenedRun, type OpenRunOptions } from "./run/open-run.ts";
import { payAll } from "./run/reward.ts";
import { madeOf, partShapes, stepCosts, type Run, type StepParts, type StepResult, type StepRun } from "./run/run.ts";
import { checkHeld } from "./run/run-lock.ts";
import { sampleGroups } from "./run/sample-groups.ts";
import type { States } from "./run/states.ts";
import type { Engine } from "./search/search-engine.ts";
import { checkFields, checkShape, type Shape } from "./setup/user-module.ts";
import { ConfigError, ZeroSearchError } from "./util/errors.ts";
import { callOwn } from "./util/own-code.ts";
import { mean } from "./util/stats.ts";

/** One's own in place of what the run was opened with. */
export interface StepOptions extends Partial<StepParts> {
  /** Called as each rollout ends. */
  readonly onRollout?: RolloutAllOptions["onFinished"];
}

/**
 * One step of training. Nothing in it depends on a clock, on the number of threads, or on what an earlier process did; but a reward of one's
 * own may come too late. A rollout whose reward fails is left out of its group and of the updates.
 * @throws ConfigError, ServerError, DataError naming the method or engine that fails or gives something else, or the reward where every one fails; DeviceError;
 *   DivergedError where an update was refused, of which nothing is kept; the signal's reason when it fires.
 */
export async function trainStep(run: StepRun, step: number, options: StepOptions = {}): Promise<StepResult> {
  checkShape("trainStep", run, runShape, "its first argument is no run");
  checkFields("trainStep", options, stepShapes);
  const { config, policy, optimizer, critic, clock } = run;
  const { method = run.method, engine = run.engine, reward = run.reward } = options;
  const { train } = config;
  if (!Number.isInteger(step) || step < 1)
    throw new ConfigError({ where: "trainStep", what: "wrong step", expected: "an integer from 1", got: String(step) });

  // The questions of this step: Q of an epoch's shuffle, named by seed and epoch.
  const asked = run.questions.step(step);

  // Roll out G trajectories of each. All run at once in one batch; every query draws useful or noisy with probability p(step).
  clock.start("rollout");
  const noise = await curriculumMetrics(engine, step);
  const { vocabulary } = policy.decoder.config;
  const watching = { signal: run.signal, onFinished: options.onRollout, vocabulary };
  const sampled = await sampleGroups(run, step, asked, async (questions, round) => {
    const tasks = groupTasks(questions, train.groupSize, step);
    const misaligned = config.compat.misalignedContext;
    const trajectories = await rolloutAll(tasks, method, { ...run.context, engine }, { ...watching, misaligned });
    // Reward. One that fails for every rollout is broken, unless others of this step were paid.
    const { timeoutSeconds } = config.reward;
    const paying = { rules: run.context.rules, timeoutSeconds, allMayFail: round > 0, signal: run.signal };
    return { trajectories, ...(await payAll(reward, trajectories, paying)) };
  });
  const { trajectories, rewards, unpaid } = sampled;
  await run.generator.rest(); // the update needs the memory

  // Under the weights that sampled: KL to the reference policy, and what a critic expects from each token on.
  const forward = forwardSettings(config);
  const reference = await referenceLogProbs(run, trajectories, forward);
  const kl = stepKl(config, trajectories, reference);
  const values = await criticValues(run, trajectories, forward);

  // The advantage of each trajectory over its group, or of each token over the critic's value.
  const penalties = klPenalties(config, kl, run.klWeight.coef);
  const shaping = shapingOf(config, trajectories);
  const scored = scoreTrajectories(trajectories, rewards, advantageSettings(config), {
    ...(shaping === undefined ? {} : { shaping }),
    ...(penalties === undefined ? {} : { penalties }),
    ...(values === null ? {} : { values }),
  });

  // Update the policy, mini-batch by mini-batch, on the tokens it sampled itself; and its critic, which may have a head start.
  const learnt = learntFrom(config, scored, sampled.dropped);
  const loss = { ...forward, ...lossSettings(config), adapter: policy.adapter };
  const updates: UpdateStats[] = [];
  const criticUpdates: CriticStats[] = [];
  const explaining = ({ lossScale }: UpdateEnd) => ({ lossScale, decode: (ids: readonly number[]) => policy.tokenizer.decode(ids) });
  for (const [i, batch] of splitUpdates(learnt, Math.min(train.updatesPerStep, learnt.length)).entries()) {
    clock.start("update");
    if (critic?.own && values !== null) {
      const { clip } = config.critic;
      const rate = learningRate(run.criticSchedule, critic.own.optimizer.step) * run.rate.factor;
      const { documentsAsActions } = config.compat;
      const settings = { ...forward, values, clip, lossWeights: lossWeights(config), documentsAsActions };
      const stats = await updateCritic(critic, critic.own.optimizer, batch, settings, rate);
      if (isRefused(stats))
        throw await diverged(run, step, { whose: "critic", update: i + 1, stats }, () =>
          explainCriticUpdate(critic, batch, settings, explaining(stats)),
        );
      criticUpdates.push(stats);
    }
    if (critic !== null && step <= config.critic.headStartSteps) continue;
    const rate = learningRate(run.schedule, optimizer.step) * run.rate.factor;
    const { coef, clip } = config.critic;
    const shared = critic !== null && critic.own === null && values !== null ? { critic: { head: critic.head, coef, clip, values } } : {};
    const settings = { ...loss, ...shared };
    const known = loss.klCoef === 0 ? null : reference;
    const stats = await update(policy.decoder, optimizer, batch, settings, rate, known);
    if (isRefused(stats))
      throw await diverged(run, step, { whose: "policy", update: i + 1, stats }, () =>
        explainUpdate(policy.decoder, batch, settings, known, explaining(stats)),
      );
    updates.push(stats);
  }

  // What the updates did to the step's own right answers: that falls before the reward does.
  clock.start("watch");
  const watched = await rewardedLogProbs(policy.decoder, learnt, { ...forward, adapter: policy.adapter });

  const metrics: Metrics = {
    ...rolloutMetrics(scored, unpaid),
    ...searchMetrics(trajectories),
    ...noise,
    ...sampled.metrics,
    ...updateMetrics(updates, { hasReference: reference !== null && loss.klCoef !== 0 }),
    ...watched,
    ...(shaping === undefined ? {} : { "reward/overlong": mean(shaping) }),
    ...(kl === null ? {} : klMetrics(config, kl, run.klWeight.coef)),
    ...(values === null ? {} : criticMetrics(scored, values, updates, criticUpdates)),
  };
  if (kl !== null) run.klWeight.update(kl.mean, trajectories.length);
  run.engines.adaptiveNoise?.update(metrics["reward/mean"]);
  return { step, scored, unpaid, updates, metrics, costs: stepCosts(run), made: madeOf({ method, engine, reward }) };
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

/** Log-probabilities under the reference policy, where there is a KL term: with its own adapter, or with none. */
async function referenceLogProbs(
  { reference, clock }: StepRun,
  trajectories: readonly SearchTrajectory[],
  settings: ForwardSettings,
): Promise<TokenLogProbs | null> {
  if (reference === null) return null;
  clock.start("reference");
  return tokenLogProbs(reference.decoder, trajectories, { ...settings, adapter: reference.adapter });
}

/** The critic's values, where there is one. */
async function criticValues(
  { critic, clock, config }: StepRun,
  trajectories: readonly SearchTrajectory[],
  settings: ForwardSettings,
): Promise<TokenValues | null> {
  if (critic === null) return null;
  clock.start("values");
  return tokenValues(critic, trajectories, settings, valuesDocuments(config));
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
  /** Optimiser updates done when the journal was opened, or when a state was gone back to. */
  #updates: number;
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
    run.rate.factor = 0.5 ** (journal.history.rollbacks?.length ?? 0);
    return new Training(opened, journal);
  }

  /**
   * Trains the steps that are left, each logged, validated and saved as `node train.js` does. Leaving the loop leaves the run whole:
   * `save` keeps the last step.
   * @throws what `trainStep` throws, a DivergedError once `divergence.json` is written; the signal's reason when it fires; ZeroSearchError where another loop is under way.
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
        const result = await trainStep(run, journal.done + 1, { ...options, onRollout }).catch(async (error: unknown) => {
          throw error instanceof DivergedError ? await journal.noteDivergence(error) : error;
        });
        const validation = await validate(this, result).catch((error: unknown) => {
          // The step is whole, and is kept.
          journal.record(result);
          throw error;
        });
        const recorded = journal.record(result, validation);
        const answer = await this.#answerSigns(recorded);
        if (answer === "back") {
          run.signal.throwIfAborted();
          continue;
        }
        if (this.states.due(recorded) || this.#savedLongAgo()) await this.save();
        if (answer === "none") refuseCollapse(run.config, recorded, journal.history);
        yield { ...result, validation };
        run.signal.throwIfAborted();
      }
    } finally {
      this.#looping = false;
    }
  }

  /**
   * Goes back to the last good state, with half the learning rate, where that is what signs of collapse are answered with. The best state by
   * validation may be that of the very step: then it stays.
   */
  async #answerSigns({ step, ...seen }: Recorded): Promise<"none" | "slower" | "back"> {
    const { run, journal, states } = this;
    const before = journal.history.rollbacks?.length ?? 0;
    const signs = seen.signs.filter((one) => !seen.lasting.includes(one));
    if (signs.length === 0) return "none";
    if (run.config.guard.action !== "rollback" || before >= mostRollbacks) return "none";
    const best = journal.history.best?.step;
    const to = best === step ? step : await states.goodBefore(step, best);
    if (to === null) return "none";
    const rollback = { to, from: step, signs };
    if (to === step) journal.noteRollback(rollback);
    else {
      await checkHeld(this.#opened.lock, run.config);
      const checkpoint = await states.goBack(to);
      await journal.rewind({ checkpoint, saved: await states.restore(checkpoint) }, rollback);
      this.#updates = run.optimizer.step;
    }
    run.rate.factor /= 2;
    const rest = `with ${run.rate.factor} of the learning rate`;
    journal.say(
      to === step
        ? `Step ${step} is the best so far: ${step < run.config.train.steps ? `on from it ${rest}` : "it stays"}.`
        : `Back to the state of step ${to}, ${rest}. This run leaves no receipt.`,
    );
    return to === step ? "slower" : "back";
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
