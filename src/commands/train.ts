/** `node train.js`: trains, and judges the policy before and after. */
import { basename } from "node:path";
import { parseArguments, readTrainCommand } from "../config/index.ts";
import { trainSpec } from "../config/train-command.ts";
import { dryRun } from "../plan/dry-run.ts";
import { contextNotes } from "../run/context-room.ts";
import { describeModels, describePrompts } from "../run/describe-models.ts";
import { evaluateAfter, evaluateBefore } from "../run/judge.ts";
import { prepareRun, type OpenedRun } from "../run/open-run.ts";
import { openTrainingRun, Training, trainStep } from "../train.ts";
import { say, sayBase, untilInterrupted } from "./program.ts";

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
  const interrupt = new AbortController();
  const opened = await openTrainingRun(command, { signal: interrupt.signal });
  let training: Training | null = null;
  const onStop = (): void => {
    const text = "Stopping safely and saving; Ctrl-C again quits now and loses unsaved steps.";
    if (training === null) say(text);
    else training.journal.say(text);
  };
  const work = async (): Promise<void> => {
    for (const line of introduction(opened)) say(line);
    await prepareRun(opened.run);
    const before = await evaluateBefore(opened.run);
    training = await Training.begin(opened, { progress: true });
    const steps = training.steps();
    while ((await steps.next()).done !== true);
    await evaluateAfter(training, before);
  };
  await opened.closing.after(() => untilInterrupted(work, { interrupt, onStop, leave: () => leave(opened, training) }));
}

/** The facts that come first. */
function introduction({ run, notes }: OpenedRun): string[] {
  const { config, policy, simulatorModel } = run;
  const { seed, name, simulator, rollout } = config;
  return [
    `${describeModels(policy, simulatorModel, simulator.endpoint)} | seed ${seed} | run ${name}`,
    ...(rollout.prompt !== "quickstart" ? [describePrompts(policy)] : []),
    ...contextNotes(run),
    ...notes,
  ];
}

/** After Ctrl-C: saves and says how to go on. */
async function leave({ run: { config }, states, checkpoint }: OpenedRun, training: Training | null): Promise<void> {
  training?.journal.endProgress();
  await training?.save();
  const done = training?.journal.done ?? checkpoint?.state.step ?? 0;
  const program = basename(process.argv[1] ?? "") === "train.js" ? "node train.js" : "npx zerosearch train";
  // The other folders come from the run's saved configuration, which --resume must find first.
  const where = config.output.runs === "runs" ? "" : ` output.runs=${config.output.runs}`;
  process.stdout.write(
    `Stopped after step ${done} of ${config.train.steps}${done > 0 ? `; saved in ${states.folder}` : ""}.\nGo on with: ${program} --resume ${config.name}${where}\n`,
  );
}
