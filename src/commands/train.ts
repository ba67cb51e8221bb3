/** `node train.js`: trains, and judges the policy before and after. */
import { parseArguments, readTrainCommand, type TrainCommand } from "../config/index.ts";
import { trainSpec } from "../config/train-command.ts";
import { dryRun } from "../plan/dry-run.ts";
import { contextNotes } from "../run/context-room.ts";
import { describeModels, describePrompts } from "../run/describe-models.ts";
import { evaluateAfter, evaluateBefore } from "../run/judge.ts";
import { collapseNote } from "../run/collapse.ts";
import { leave, resumeCommand } from "../run/leave.ts";
import { prepareRun, type OpenedRun } from "../run/open-run.ts";
import { openTrainingRun, Training, trainStep } from "../train.ts";
import { say, sayBase } from "./program.ts";
import { lastWords, listenForStops, stopOf, tellEnd } from "./stops.ts";

export async function main(argv: readonly string[]): Promise<void> {
  const command = readTrainCommand(argv);
  if (!("config" in command) || command.print !== undefined) {
    process.stdout.write(command.print ?? "");
    return;
  }
  const { options, settings } = parseArguments(argv, trainSpec);
  if (settings.length > 0 && !command.resume) sayBase(options);
  if (command.dryRun === true) {
    const { plan, text } = await dryRun(command.config, trainStep);
    process.stdout.write(text);
    if (plan.fits === false) process.exitCode = 1;
    return;
  }
  let opened: OpenedRun | null = null;
  let training: Training | null = null;
  const stops = listenForStops(() => {
    const text = "Stopping safely and saving; Ctrl-C again quits now and loses unsaved steps.";
    if (training === null) say(text);
    else training.journal.say(text);
  });
  try {
    opened = await openTrainingRun(command, { signal: stops.signal });
    for (const line of introduction(opened)) say(line);
    await prepareRun(opened.run);
    const before = await evaluateBefore(opened.run);
    training = await Training.begin(opened, { progress: true });
    const steps = training.steps();
    while ((await steps.next()).done !== true);
    await evaluateAfter(training, before);
    const { dead = 0, best } = training.journal.history;
    const collapse = collapseNote(dead, training.journal.done, best);
    if (collapse !== undefined) say(collapse);
    if (collapse !== undefined && command.config.train.onCollapse === "fail") process.exitCode = 1;
  } catch (error) {
    // A run that failed is left as one that was stopped: whole, and with a word on how it goes on.
    const left = opened === null ? leaveUnopened(command, error) : await (training === null ? leaveUntrained(opened) : training.leave());
    tellEnd(error);
    lastWords(left);
  }
  await opened?.closing.close().catch(tellEnd);
  stops.close();
}

/** What is saved of it is as it was. Who made a mistake is told of that alone. */
function leaveUnopened({ config, resume }: TrainCommand, error: unknown): string {
  if (stopOf(error) === null) return "";
  return `Stopped before the run was open; ${resume ? "what is saved of it is as it was" : "nothing was computed"}.\n${resume ? `Go on with: ${resumeCommand(config)}\n` : ""}`;
}

/** Before the first step there is nothing to save. */
function leaveUntrained({ run: { config }, checkpoint }: OpenedRun): Promise<string> {
  const newest = checkpoint === null ? null : { step: checkpoint.state.step, folder: checkpoint.folder };
  return leave({ config, done: newest?.step ?? 0, newest, save: null });
}

/** The facts that come first. */
function introduction({ run, notes }: OpenedRun): string[] {
  const { config, policy, simulatorModel, critic } = run;
  const { seed, name, model, simulator, rollout } = config;
  return [
    `${describeModels(policy, simulatorModel, simulator.endpoint, critic)} | seed ${seed} | run ${name}`,
    ...(rollout.prompt !== "quickstart" || model.chatTemplate !== null ? [describePrompts(policy, model.chatTemplate)] : []),
    ...contextNotes(run),
    ...notes,
  ];
}
