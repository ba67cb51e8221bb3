/** `zerosearch reproduce`: runs a receipt again, and says "the same", or what differs first. */
import { argumentsHelp, parseArguments, readOverride, resolveConfig, savedSource, type ArgumentSpec } from "../config/index.ts";
import { evaluateAfter, evaluateBefore } from "../run/judge.ts";
import { openRun, prepareRun, type OpenedRun } from "../run/open-run.ts";
import { codeInputs } from "../run/inputs.ts";
import { ReceiptCheck, differingInputs, readReceipt, type Receipt } from "../run/receipt.ts";
import { Training } from "../train.ts";
import { ConfigError } from "../util/errors.ts";

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
  const { options, words, settings } = parseArguments(argv, spec);
  if (options.has("help")) {
    process.stdout.write(argumentsHelp(spec));
    return;
  }
  const [file] = words;
  if (file === undefined)
    throw new ConfigError({
      where: "zerosearch reproduce",
      what: "no receipt is given",
      hint: "Runs leave one as runs/<name>/receipt.json.",
    });
  const receipt = await readReceipt(file);
  const most = stepsOf(options.get("steps"), receipt);
  const config = resolveConfig([savedSource(receipt.config, file), ...settings.map(readOverride)]);
  const interrupt = new AbortController();
  const onSignal = (): void => interrupt.abort(new Error("interrupted"));
  process.once("SIGINT", onSignal);
  const opened = await openRun(
    { config: { ...config, name: `${config.name}-reproduced` }, resume: false, changed: [] },
    { signal: interrupt.signal },
  );
  try {
    const differs = await compare(receipt, opened, most, options.has("anyway"));
    say(differs ?? `the same: ${coverage(receipt, most)}`);
    if (differs !== null) process.exitCode = 1;
  } catch (error) {
    if (error !== interrupt.signal.reason) throw error;
    process.exitCode = 130;
  } finally {
    process.off("SIGINT", onSignal);
    await opened.closing.close();
  }
}

/** Null where all is the same. */
async function compare(receipt: Receipt, opened: OpenedRun, most: number | null, anyway: boolean): Promise<string | null> {
  const { run } = opened;
  if (receipt.device.kind !== run.device.kind)
    say(`note: the receipt is of ${receipt.device.description}; bits are promised for one kind of device only`);
  const inputs = differingInputs(receipt.inputs, run.inputs);
  for (const name of inputs)
    say(
      `${codeInputs.includes(name) ? "note" : "differs"}: ${name} (${short(receipt.inputs[name])} in the receipt, ${short(run.inputs[name])} here)`,
    );
  const wrong = inputs.filter((name) => !codeInputs.includes(name));
  if (wrong.length > 0 && !anyway)
    return `not the same: ${wrong.join(", ")} differ${wrong.length === 1 ? "s" : ""}; --anyway runs it all the same`;
  await prepareRun(run);
  const before = most === null ? await evaluateBefore(run) : null;
  const training = await Training.begin(opened, { progress: true });
  const check = new ReceiptCheck(receipt);
  const last = most ?? receipt.steps.length * receipt.blockSteps;
  if (last > 0)
    for await (const { step } of training.steps()) {
      const difference = check.upTo(training.journal.receiptRows, step);
      if (difference !== null) return `not the same: ${difference}`;
      if (step >= last) break;
    }
  if (most === null && receipt.scores !== undefined) {
    await evaluateAfter(training, before);
    const difference = check.scores(training.journal.scores);
    if (difference !== null) return `not the same: ${difference}`;
  }
  return wrong.length > 0 ? `not the same: ${wrong.join(", ")} differ, though ${coverage(receipt, most)} are the same` : null;
}

function coverage({ steps, blockSteps, saves, scores }: Receipt, most: number | null): string {
  const all = steps.length * blockSteps;
  const last = Math.min(most ?? all, all);
  const states = Object.keys(saves).filter((step) => Number(step) <= last).length;
  return `${last} of ${all} steps, the weights of ${states} saved states${most === null && scores !== undefined ? " and the evaluation" : ""}`;
}

function stepsOf(given: string | undefined, { steps, blockSteps }: Receipt): number | null {
  if (given === undefined) return null;
  const most = Number(given);
  if (Number.isInteger(most) && most >= 1 && most <= steps.length * blockSteps) return most;
  throw new ConfigError({ where: "--steps", what: "wrong value", expected: `1 to ${steps.length * blockSteps}`, got: given });
}

function short(sha256: string | undefined): string {
  return sha256 === undefined ? "absent" : sha256.slice(0, 12);
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
