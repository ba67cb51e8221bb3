/** `node train.js --dry-run`: plans a run and says whether it fits. */
import { existsSync } from "node:fs";
import type { Config } from "../config/index.ts";
import { filesOf } from "../data/data-files.ts";
import { loadQuestions } from "../data/questions.ts";
import { findTarget, targetOf } from "../device/choose.ts";
import type { Device } from "../device/device.ts";
import type { Target } from "../device/kind.ts";
import type { Question } from "../rl/trajectory.ts";
import { locateData } from "../setup/locate-data.ts";
import { ConfigError } from "../util/errors.ts";
import { isModuleFile } from "../util/fields.ts";
import { planRun, type Plan } from "./plan.ts";
import { gib, planText, remedyText } from "./print.ts";
import { findRates } from "./rates.ts";
import type { TrainStep } from "./rehearse.ts";
import { findRemedies } from "./settings.ts";

export interface DryRun {
  readonly plan: Plan;
  /** For people. */
  readonly text: string;
}

/**
 * Plans a run by rehearsing `step`: nothing is computed, fetched or written, and no weights are read.
 * @throws FileError, ConfigError where a configuration is missing or wrong.
 */
export async function dryRun(config: Config, step: TrainStep, onto?: Target): Promise<DryRun> {
  const target = onto ?? (await findTarget(config.device));
  const { questions, notes } = await questionsOf(config);
  const planning = { questions, target, step };
  const plan = await planRun(config, planning);
  const { recompute } = config.train;
  const other = await planRun({ ...config, train: { ...config.train, recompute: !recompute } }, planning);
  const remedies = plan.fits === false ? await findRemedies(plan, (one) => planRun(one, planning)) : null;
  return { plan, text: planText({ plan, target, rates: findRates(target.rateKey), other, remedies, notes }) };
}

/** The questions that decide how long the simulator's prompts can be. People plan before they have them. */
async function questionsOf(config: Config): Promise<{ questions: readonly Question[]; notes: readonly string[] }> {
  const { data } = (await locateData(config, { cacheOnly: true })).opened;
  let questions: Question[] = [];
  const notes: string[] = [];
  for (const files of [filesOf(data.train), filesOf(data.test)]) {
    questions = [...questions, ...(await loadQuestions(files.filter((file) => existsSync(file))))];
    const missing = files.filter((file) => !existsSync(file));
    notes.push(...missing.map((file) => `${file} is not here: the simulator's prompts are planned without its questions`));
  }
  const { reward, rollout, search, evaluation } = config;
  const named = {
    "reward.kind": reward.kind,
    "rollout.method": rollout.method,
    "search.engine": search.engine,
    "evaluation.engine": evaluation.engine,
  };
  for (const [key, value] of Object.entries(named))
    if (value !== null && isModuleFile(value) && !existsSync(value)) notes.push(`${key}=${value} is not here: the run itself will need it`);
  return { questions, notes };
}

/**
 * Refuses a run that the device opened for it cannot hold, before gigabytes are loaded. Where nobody knows how much memory there is, or
 * only the driver's part is lacking, it may try.
 * @throws ConfigError with the settings that would make it fit.
 */
export async function refuseWhatCannotFit(config: Config, questions: readonly Question[], device: Device, step: TrainStep): Promise<void> {
  const target = await targetOf(device, config.device);
  const planning = { questions, target, step };
  const plan = await planRun(config, planning);
  const lacking = target.exact || plan.peak.total > (target.memory?.bytes ?? Infinity);
  if (plan.fits !== false || !lacking) return;
  const remedies = await findRemedies(plan, (one) => planRun(one, planning));
  const there = target.memory === null ? Infinity : target.memory.bytes - target.kept;
  throw new ConfigError({
    where: "memory",
    what: `this run does not fit ${target.exact ? target.title : target.name}${plan.peak.total > there ? "" : `: ${plan.why ?? ""}`}`,
    expected: `at most ${gib(there)} GiB`,
    got: `${gib(plan.peak.total)} GiB`,
    hint: `${remedyText(plan, remedies, target)}\n--dry-run shows what is held where.`.replaceAll("\n", "\n  "),
  });
}
