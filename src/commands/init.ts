/** `zerosearch init`: a configuration and data files for questions and a corpus of one's own. */
import { existsSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { parse } from "yaml";
import { writeFileAtomic } from "../checkpoint/atomic.ts";
import type { ArgumentSpec } from "../config/index.ts";
import { findTarget } from "../device/choose.ts";
import { lookUp } from "../hub/cache.ts";
import { readHubSettings } from "../hub/settings.ts";
import { parseHubId } from "../hub/source.ts";
import { planRun } from "../plan/plan.ts";
import { gib, remedyText } from "../plan/print.ts";
import { findRemedies } from "../plan/settings.ts";
import { trainStep } from "../train.ts";
import { ConfigError, FileError } from "../util/errors.ts";
import { counted } from "../util/plural.ts";
import { answerOptions, findAnswers, isUrl, Left, type Answers, type Terminal } from "./init/answers.ts";
import { ConfigFile } from "./init/config-file.ts";
import { countPassages, exampleCorpus, exampleQuestions, ownQuestions, parts, questionRows, type Parts } from "./init/data-files.ts";
import { readArguments, say } from "./program.ts";

const spec: ArgumentSpec = {
  program: "zerosearch init",
  summary: "Writes a configuration and data files for questions and a corpus of your own, and says what to type next.",
  words: ["[FOLDER]"],
  options: {
    ...answerOptions,
    yes: { doc: "Asks nothing: what is not given takes its default." },
    force: { doc: "Writes over files that are there." },
  },
};

const more = "\nWithout options it asks, on a terminal. FOLDER is my-agent where it is left out. Nothing is fetched.\n";

export async function main(argv: readonly string[]): Promise<void> {
  const read = readArguments(argv, spec, more);
  if (read === null) return;
  try {
    await init(read.words[0] ?? "my-agent", read.options, { input: process.stdin, output: process.stdout });
  } catch (error) {
    if (!(error instanceof Left)) throw error;
    process.stderr.write(`\n${error.message}\n`);
    process.exitCode = 130;
  }
}

/** All that can be wrong is wrong before the first file is written. */
async function init(folder: string, options: ReadonlyMap<string, string>, terminal: Terminal): Promise<void> {
  const at = (...path: string[]): string => join(folder, ...path).replaceAll("\\", "/");
  const config = at("zerosearch.yaml");
  const dataFile = (part: string): string => at("data", `${part}.jsonl`);
  const always = [config, ...parts.map(dataFile)];
  if (!options.has("force")) refuseToOverwrite(always);
  const answers = await findAnswers({ options }, terminal);

  refuseToReplaceSource(answers.questions, always);
  const own = answers.questions !== "";
  const questions = own ? await ownQuestions(answers.questions) : exampleQuestions();
  // Without questions the examples' own passages; with questions nobody else's would do.
  const writesCorpus = answers.corpus === "" && !own;
  const corpus = answers.corpus !== "" ? answers.corpus : writesCorpus ? dataFile("corpus") : null;
  if (writesCorpus && !options.has("force")) refuseToOverwrite([dataFile("corpus")]);
  const passages = answers.corpus === "" ? null : await countPassages(answers.corpus);

  const name = runName(folder);
  const data = { train: dataFile("train"), validation: dataFile("validation"), test: dataFile("test"), corpus };
  const file = new ConfigFile({ name, file: config, answers, data, trainingQuestions: questions.train.length });
  const missing = await notHere(answers);
  const planned =
    missing === null
      ? await fit(file, questions, answers.model)
      : `${missing} is not on this machine yet, so nothing was planned; --dry-run does it once it is.`;

  for (const part of parts) await writeFileAtomic(dataFile(part), questionRows(questions[part]));
  if (writesCorpus) await writeFileAtomic(dataFile("corpus"), exampleCorpus());
  await writeFileAtomic(config, file.text);

  const counts = parts.map((part) => `${dataFile(part)} (${questions[part].length})`).join(", ");
  say(`Wrote ${config}, ${counts}${writesCorpus ? `, ${dataFile("corpus")}` : ""}.`);
  if (passages !== null) say(`${answers.corpus} has ${counted(passages, "passage")} and stays where it is.`);
  if (!own) say("The questions are examples: put your own in their place, in the same form.");
  if (writesCorpus) say(`So are the passages in ${dataFile("corpus")}, which answer them.`);
  if (corpus === null)
    say("Without a corpus the policy is judged on simulated searches, too: data.corpus and evaluation.engine bm25 do better.");
  say(planned);
  const shown = /^[\w./:@-]+$/.test(config) ? config : JSON.stringify(config);
  const train = `npx zerosearch train --config ${shown}`;
  const judge = `npx zerosearch evaluate --config ${shown} lora.from=checkpoints/${name}/policy`;
  const next =
    missing === null ? [`${train} --dry-run`, train, judge] : [`npx zerosearch download ${missing}`, `${train} --dry-run`, train];
  say(`\nNext:\n${next.map((command) => `  ${command}`).join("\n")}`);
}

function refuseToOverwrite(files: readonly string[]): void {
  const there = files.filter((file) => existsSync(file));
  if (there.length > 0)
    throw new FileError({
      where: there.join(", "),
      what: there.length === 1 ? "is there already" : "are there already",
      expected: "a folder without them, or --force to write over them",
    });
}

/** Sharing a file out over itself would lose rows of it, forced or not. */
function refuseToReplaceSource(source: string, files: readonly string[]): void {
  if (source === "" || !files.some((file) => resolve(file) === resolve(source))) return;
  throw new FileError({ where: source, what: "would be written over by a part of itself", expected: "questions from another place" });
}

/** A run's name from the folder's. */
function runName(folder: string): string {
  const name = basename(resolve(folder))
    .replace(/[^A-Za-z0-9._-]+/g, "-")
    .replace(/^[^A-Za-z0-9]+/, "");
  return name === "" ? "my-agent" : name;
}

/** The first of the models of which not even config.json is on this machine; null where all are. */
async function notHere({ model, simulator }: Answers): Promise<string | null> {
  for (const source of [model, ...(simulator === "same" || isUrl(simulator) ? [] : [simulator])]) {
    const id = existsSync(source) ? null : parseHubId(source);
    const folder = id === null ? source : (await lookUp((await readHubSettings()).cache, id, "model")).folder;
    if (folder === null || (id !== null && !existsSync(join(folder, "config.json")))) return source;
  }
  return null;
}

/**
 * Plans the run, and turns down what does not fit, in the plan's own order.
 * @returns what to say of it
 * @throws ConfigError where nothing makes it fit; what is wrong with a model's folder.
 */
async function fit(file: ConfigFile, { train, test }: Parts, model: string): Promise<string> {
  const config = file.config();
  const planning = { questions: [...train, ...test], target: await findTarget(config.device), step: trainStep };
  const { memory, kept } = planning.target;
  const there = gib((memory?.bytes ?? Infinity) - kept);
  const plan = await planRun(config, planning);
  if (plan.fits !== false) return `Planned: ${gib(plan.peak.total)} of ${there} GiB at most.`;
  const remedies = await findRemedies(plan, (one) => planRun(one, planning));
  const settings = remedies.enough?.changes.flatMap((change) => change.settings) ?? [];
  // A server for the simulator is nothing that can be written for somebody.
  if (remedies.enough === null || settings.some((one) => one.startsWith("simulator.")))
    throw new ConfigError({
      where: "zerosearch init",
      what: `a run with ${model} does not fit`,
      expected: `at most ${there} GiB`,
      got: `${gib(plan.peak.total)} GiB`,
      hint: remedyText(plan, remedies, planning.target).replaceAll("\n", "\n  "),
    });
  for (const setting of settings) {
    const [key = "", value = ""] = setting.split("=");
    file.set(key, parse(value) as string | number | boolean, `so that it fits ${there} GiB`);
  }
  return `Planned: ${gib(remedies.enough.plan.peak.total)} of ${there} GiB at most, with ${settings.join(" ")}.`;
}
