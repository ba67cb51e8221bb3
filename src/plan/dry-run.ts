/** `node train.js --dry-run`: plans a run, and says whether it fits and what it would cost. */
import { existsSync } from "node:fs";
import type { Config } from "../config/index.ts";
import { filesOf, type DataFiles } from "../data/data-files.ts";
import { loadQuestions } from "../data/questions.ts";
import { findTarget, targetOf } from "../device/choose.ts";
import type { Device } from "../device/device.ts";
import type { Target } from "../device/kind.ts";
import type { Question } from "../rl/trajectory.ts";
import { locateData } from "../setup/locate-data.ts";
import { ConfigError } from "../util/errors.ts";
import { isModuleFile } from "../util/fields.ts";
import { counted } from "../util/plural.ts";
import { forecastText, type ForecastQuestions } from "./forecast.ts";
import { checkIndexes, plannedPassages } from "./passages.ts";
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
 * @throws FileError, ConfigError where a configuration, or an index that it searches, is missing or wrong.
 */
export async function dryRun(config: Config, step: TrainStep, onto?: Target): Promise<DryRun> {
  await checkIndexes(config, "train");
  const target = onto ?? (await findTarget(config.device));
  const { sets, notes, opened } = await questionsOf(config);
  const passages = await plannedPassages(opened, (text) => notes.push(text));
  const planning = { questions: [...sets.train, ...sets.wholeTest], target, step, passages };
  const plan = await planRun(config, planning);
  const { recompute } = config.train;
  const other = await planRun({ ...plan.config, train: { ...config.train, recompute: !recompute } }, planning);
  const remedies = plan.fits === false ? await findRemedies(plan, (one) => planRun(one, planning)) : null;
  const forecast = await forecastText(config, sets, "train");
  const text = planText({ plan, target, rates: findRates(target.rateKey), other, remedies, notes });
  return { plan, text: forecast === "" ? text : `${text}\n${forecast}\n` };
}

/** What `zerosearch evaluate --dry-run` says: what is asked of engines, and what it would cost. */
export async function dryEvaluation(config: Config): Promise<string> {
  await checkIndexes(config, "evaluate");
  const { sets, notes } = await questionsOf({ ...config, data: { ...config.data, train: null, validation: null } });
  const forecast = await forecastText(config, sets, "evaluate");
  const nothing = "Nothing that this asks has a price, or is a server that counts tokens.";
  return `${[counted(sets.test.length, "question"), ...notes, forecast === "" ? nothing : forecast].join("\n")}\n`;
}

interface PlannedQuestions extends ForecastQuestions {
  /** Those that nobody is judged by, too. */
  readonly wholeTest: readonly Question[];
}

/** The questions, which decide how long the simulator's prompts can be. People plan before they have them. */
async function questionsOf(config: Config): Promise<{ sets: PlannedQuestions; notes: string[]; opened: Config }> {
  const { opened } = await locateData(config, { cacheOnly: true });
  const { data } = opened;
  const notes: string[] = [];
  const read = async (given: DataFiles, what: string | null): Promise<Question[]> => {
    const files = filesOf(given);
    if (what !== null) notes.push(...files.filter((file) => !existsSync(file)).map((file) => `${file} is not here: ${what}`));
    return loadQuestions(files.filter((file) => existsSync(file)));
  };
  const prompts = "the simulator's prompts are planned without its questions";
  const [train, wholeTest, validation] = [
    await read(data.train, prompts),
    await read(data.test, prompts),
    await read(data.validation, null),
  ];
  const first = (questions: readonly Question[], count: number): readonly Question[] =>
    count === 0 ? questions : questions.slice(0, count);
  const sets = {
    ...{ train, wholeTest },
    validation: first(validation, config.evaluation.validationQuestions),
    test: first(wholeTest, config.evaluation.questions),
  };
  const { reward, rollout, search, evaluation } = config;
  const named = {
    "reward.kind": reward.kind,
    "rollout.method": rollout.method,
    "search.engine": search.engine,
    "evaluation.engine": evaluation.engine,
  };
  for (const [key, value] of Object.entries(named))
    if (value !== null && isModuleFile(value) && !existsSync(value)) notes.push(`${key}=${value} is not here: the run itself will need it`);
  return { sets, notes, opened };
}

/**
 * Refuses a run that the device opened for it cannot hold, before gigabytes are loaded. Where nobody knows how much memory there is, or
 * only the driver's part is lacking, it may try. Returns the configuration with the size of its caches, where that was left to the memory.
 * @throws ConfigError with the settings that would make it fit.
 */
export async function refuseWhatCannotFit(
  config: Config,
  questions: readonly Question[],
  device: Device,
  step: TrainStep,
): Promise<Config> {
  const target = await targetOf(device, config.device);
  const passages = await plannedPassages(config, () => undefined);
  const planning = { questions, target, step, passages };
  const plan = await planRun(config, planning);
  const lacking = target.exact || plan.peak.total > (target.memory?.bytes ?? Infinity);
  if (plan.fits !== false || !lacking) return plan.config;
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
