/** `node train.js --dry-run`: plans a run and says whether it fits. */
import { existsSync } from "node:fs";
import type { Config } from "../config/index.ts";
import { loadQuestions } from "../data/questions.ts";
import type { Device } from "../device/device.ts";
import type { Question } from "../rl/trajectory.ts";
import { ConfigError } from "../util/errors.ts";
import { planRun, type Plan } from "./plan.ts";
import { gib, planText, remedyText } from "./print.ts";
import { findRates } from "./rates.ts";
import { findRemedies } from "./settings.ts";
import { findTarget, targetOf, type Target } from "./target.ts";

export interface DryRun {
  readonly plan: Plan;
  /** For people. */
  readonly text: string;
}

/**
 * Plans a run: nothing is computed, fetched or written, and no weights are read.
 * @throws FileError, ConfigError where a configuration is missing or wrong.
 */
export async function dryRun(config: Config, target?: Target): Promise<DryRun> {
  const onto = target ?? (await findTarget(config.device));
  const { questions, notes } = await questionsOf(config);
  const plan = await planRun(config, questions, onto);
  const { recompute } = config.train;
  const other = await planRun({ ...config, train: { ...config.train, recompute: !recompute } }, questions, onto);
  const remedies = plan.fits === false ? await findRemedies(plan, questions, onto) : null;
  return { plan, text: planText({ plan, target: onto, rates: findRates(onto.rateKey), other, remedies, notes }) };
}

/** The questions that decide how long the simulator's prompts can be. People plan before they have them. */
async function questionsOf({ data }: Config): Promise<{ questions: readonly Question[]; notes: readonly string[] }> {
  const files = [data.train, data.test].filter((file) => file !== null);
  const there = files.filter((file) => existsSync(file));
  const missing = files.filter((file) => !there.includes(file));
  const notes = missing.map((file) => `${file} is not here: the simulator's prompts are planned without its questions`);
  return { questions: (await Promise.all(there.map((file) => loadQuestions(file)))).flat(), notes };
}

/**
 * Refuses a run that the device opened for it cannot hold, before gigabytes are loaded. Where nobody knows how much memory there is, or
 * only the driver's part is lacking, it may try.
 * @throws ConfigError with the settings that would make it fit.
 */
export async function refuseWhatCannotFit(config: Config, questions: readonly Question[], device: Device): Promise<void> {
  const target = await targetOf(device, config.device);
  const plan = await planRun(config, questions, target);
  const lacking = target.kind === "cpu" || plan.peak.total > (target.memory?.bytes ?? Infinity);
  if (plan.fits !== false || !lacking) return;
  const remedies = await findRemedies(plan, questions, target);
  const there = target.memory === null ? Infinity : target.memory.bytes - target.kept;
  throw new ConfigError({
    where: "memory",
    what: `this run does not fit ${target.kind === "cpu" ? "the CPU device" : target.name}${plan.peak.total > there ? "" : `: ${plan.why ?? ""}`}`,
    expected: `at most ${gib(there)} GiB`,
    got: `${gib(plan.peak.total)} GiB`,
    hint: `${remedyText(plan, remedies, target)}\n--dry-run shows what is held where.`.replaceAll("\n", "\n  "),
  });
}
