/** `zerosearch reproduce`: runs a receipt again, and says "the same", or what differs first. */
import { readOverride, resolveConfig, savedSource, type ArgumentSpec } from "../config/index.ts";
import { evaluateAfter, evaluateBefore } from "../run/judge.ts";
import { prepareRun, type OpenedRun } from "../run/open-run.ts";
import { codeInputs, hashInputs, type InputHashes } from "../run/inputs.ts";
import { ReceiptCheck, differingInputs, lastStep, readReceipt, stepsOf, type Receipt } from "../run/receipt.ts";
import { locateData } from "../setup/locate-data.ts";
import { locateConfigModels } from "../setup/locate-models.ts";
import { openTrainingRun, Training } from "../train.ts";
import { withoutThreads } from "../checkpoint/run-state.ts";
import { madeOf } from "../run/run.ts";
import { ConfigError } from "../util/errors.ts";
import { readArguments, say, untilInterrupted } from "./program.ts";
import { listenForStops } from "./stops.ts";

const spec: ArgumentSpec = {
  program: "zerosearch reproduce",
  summary: "Runs a receipt again, beside whatever is there, and says that all is the same, or names the first step and file that differ.",
  words: ["RECEIPT"],
  options: {
    steps: { value: "N", doc: "Only the first N steps, without the evaluation." },
    anyway: { doc: "Runs although inputs differ, to see from which step on it matters." },
  },
  settings: true,
};

export async function main(argv: readonly string[]): Promise<void> {
  const read = readArguments(argv, spec);
  if (read === null) return;
  const { options, words, settings } = read;
  const [file] = words;
  if (file === undefined)
    throw new ConfigError({
      where: "zerosearch reproduce",
      what: "no receipt is given",
      hint: "Runs leave one as runs/<name>/receipt.json.",
    });
  const receipt = await readReceipt(file);
  const most = mostSteps(options.get("steps"), receipt);
  const config = resolveConfig([savedSource(receipt.config, file), ...settings.map(readOverride)]);
  // Before anything is opened: a file that differs may not even load.
  const inputs = await hashInputs((await locateConfigModels((await locateData(config)).opened)).opened);
  const wrong = differencesOf(receipt, inputs);
  if (wrong !== "" && !options.has("anyway")) {
    say(`not the same: other inputs than the receipt's: ${wrong}; --anyway runs it all the same`);
    process.exitCode = 1;
    return;
  }
  const command = { config: { ...config, name: `${config.name}-reproduced` }, resume: false, changed: [] };
  const stops = listenForStops();
  const opened = await openTrainingRun(command, { signal: stops.signal }, inputs);
  const check = new ReceiptCheck(receipt);
  const work = async (): Promise<void> => {
    const difference = await compare(receipt, opened, most, check);
    if (difference !== null) say(`not the same: ${difference}`);
    else if (wrong !== "") say(`not the same: other inputs than the receipt's: ${wrong}; the same: ${check.compared}`);
    else say(`the same: ${check.compared}`);
    if (difference !== null || wrong !== "") process.exitCode = 1;
  };
  await opened.closing.after(() => untilInterrupted(work, { stops }));
}

/** Says which inputs differ; those of the program itself are a note only, the others are returned. */
function differencesOf(receipt: Receipt, here: InputHashes): string {
  const short = (sha256: string | undefined): string => (sha256 === undefined ? "absent" : sha256.slice(0, 12));
  const differing = differingInputs(receipt.inputs, here);
  for (const name of differing)
    say(
      `${codeInputs.includes(name) ? "note: another" : "differs:"} ${name}: ${short(receipt.inputs[name])} in the receipt, ${short(here[name])} here`,
    );
  return differing.filter((name) => !codeInputs.includes(name)).join(", ");
}

/** What differs first; null where nothing does. */
async function compare(receipt: Receipt, opened: OpenedRun, most: number | null, check: ReceiptCheck): Promise<string | null> {
  const { run } = opened;
  if (withoutThreads(receipt.device.description) !== withoutThreads(run.device.description))
    say(`note: the receipt is of another device, ${receipt.device.description}; bits are promised for the same one only`);
  const made = madeOf(run);
  for (const [part, name] of Object.entries(receipt.made ?? {}))
    if (made[part as keyof typeof made] !== name)
      return `the ${part} is ${made[part as keyof typeof made]}, that of the receipt was ${name}, which a program gave it`;
  await prepareRun(run);
  const judged = most === null && receipt.scores !== undefined;
  const before = judged ? await evaluateBefore(run) : null;
  const training = await Training.begin(opened, { progress: true });
  const last = most ?? stepsOf(receipt);
  if (last > 0)
    for await (const { step } of training.steps()) {
      const difference = check.upTo(training.journal.receiptRows, step);
      if (difference !== null) return difference;
      if (step >= last) break;
    }
  if (training.journal.done < last) return `the run ends after step ${training.journal.done}, that of the receipt after step ${last}`;
  if (!judged) return null;
  await evaluateAfter(training, before);
  return check.scores(training.journal.scores);
}

/** The steps to compare: all of the last row that they touch. */
function mostSteps(given: string | undefined, receipt: Receipt): number | null {
  if (given === undefined) return null;
  const [most, all] = [Number(given), stepsOf(receipt)];
  const last = receipt.steps.map(lastStep).find((step) => step >= most);
  if (Number.isInteger(most) && most >= 1 && last !== undefined) return last;
  throw new ConfigError({ where: "--steps", what: "wrong value", expected: `1 to ${all}`, got: given });
}
