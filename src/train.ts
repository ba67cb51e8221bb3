/**
 * ZeroSearch training (arXiv 2505.04588). One step, top to bottom, is `trainStep`; `main` is what comes before, between and after.
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
import { groupTasks, rolloutAll } from "./agent/rollout-all.ts";
import type { Method } from "./agent/methods/method.ts";
import { zerosearch } from "./agent/methods/zerosearch.ts";
import { readTrainCommand, type TrainCommand } from "./config/index.ts";
import { learningRate } from "./optim/schedule.ts";
import { scoreTrajectories } from "./rl/advantage.ts";
import { rolloutMetrics, updateMetrics } from "./rl/metrics.ts";
import { splitUpdates } from "./rl/mini-batches.ts";
import { reward as answerReward } from "./rl/reward.ts";
import type { TokenLogProbs } from "./rl/packing.ts";
import type { ScoredTrajectory, Trajectory } from "./rl/trajectory.ts";
import { tokenLogProbs, update, type ForwardSettings, type UpdateStats } from "./rl/update.ts";
import { evaluateAfter, evaluateBefore, validate } from "./run/judge.ts";
import { openRun } from "./run/open-run.ts";
import { dryRun, refuseWhatCannotFit } from "./plan/dry-run.ts";
import { diverged, type StepResult, type StepRun, type TrainingRun } from "./run/training-run.ts";

/** What a step is made with, in place of what the configuration names. */
export interface StepParts {
  readonly method?: Method;
  readonly reward?: (trajectory: Trajectory) => number;
}

/** One step of training. Nothing in it depends on a clock, on the number of threads, or on what an earlier process did. */
export async function trainStep(run: StepRun, step: number, parts: StepParts = {}): Promise<StepResult> {
  const { config, policy, optimizer, clock } = run;
  const { method = zerosearch, reward = (trajectory) => answerReward(trajectory, config.reward.kind) } = parts;
  const { train, rollout, algorithm } = config;

  // The questions of this step: Q of an epoch's shuffle, named by seed and epoch.
  const asked = run.questions.step(step);

  // Roll out G trajectories of each. All run at once in one batch; every query draws useful or noisy with probability p(step).
  clock.start("rollout");
  const tasks = groupTasks(asked, train.groupSize, step);
  const trajectories = await rolloutAll(tasks, method, run.context, {
    signal: run.interrupted,
    onFinished: run.showing("rollouts", tasks.length),
  });

  // Reward, and the advantage of each trajectory over its group.
  const rewards = trajectories.map((trajectory) => reward(trajectory));
  const scored = scoreTrajectories(trajectories, rewards, { estimator: algorithm.name, normalizeByStd: algorithm.normalizeByStd });

  // Update the policy, mini-batch by mini-batch, on the tokens it sampled itself. The loss is a mean over the tokens of a mini-batch.
  const { clipLow, clipHigh, klCoef, entropyCoef } = algorithm;
  const forward = {
    temperature: rollout.temperature,
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
    "curriculum/noise_probability": run.simulator.noiseProbability(step),
    ...updateMetrics(updates),
  };
  return { scored, metrics, costs: run.costs() };
}

/** Log-probabilities under the reference policy, where the loss has a KL term: with its own adapter, or with none. */
async function referenceLogProbs(
  { reference, clock }: StepRun,
  batch: readonly ScoredTrajectory[],
  settings: ForwardSettings,
): Promise<TokenLogProbs | null> {
  if (reference === null) return null;
  clock.start("reference");
  const trajectories = batch.map(({ trajectory }) => trajectory);
  return tokenLogProbs(reference.decoder, trajectories, { ...settings, adapter: reference.adapter });
}

/** Opens a run, unless the device that it takes cannot hold it. @throws as `openRun`, `refuseWhatCannotFit` */
export function openTrainingRun(command: TrainCommand): Promise<TrainingRun> {
  return openRun(command, (config, questions, device) => refuseWhatCannotFit(config, questions, device, trainStep));
}

/** The program: `node train.js`. */
export async function main(argv: readonly string[]): Promise<void> {
  const command = readTrainCommand(argv);
  if (!("config" in command) || command.print !== undefined) {
    process.stdout.write(command.print ?? "");
    return;
  }
  if (command.dryRun === true) {
    const { plan, text } = await dryRun(command.config, trainStep);
    process.stdout.write(text);
    if (plan.fits === false) process.exitCode = 1;
    return;
  }
  const run = await openTrainingRun(command);
  run.watch();
  try {
    await run.prepare();
    const before = await evaluateBefore(run);
    await run.goOn();
    for (let step = run.done + 1; step <= run.config.train.steps; step++) {
      const result = await trainStep(run, step);
      run.log(step, result, await validate(run, step, result));
      await run.saveIfDue(step);
      run.interrupted.throwIfAborted();
    }
    await evaluateAfter(run, before);
  } catch (error) {
    if (!run.wasGivenUp(error)) throw error;
    await run.leave();
  } finally {
    await run.close();
  }
}
