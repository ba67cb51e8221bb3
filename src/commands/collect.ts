/** `zerosearch collect`: what a simulator learns from: a policy searches with a real engine, each document is judged, sets become examples. */
import { existsSync, statSync } from "node:fs";
import { createHash } from "node:crypto";
import { readFile, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { makeFolder, writeError, writeFileAtomic } from "../checkpoint/atomic.ts";
import { lockTimes, takeLock } from "../checkpoint/lock.ts";
import { keysHelp, readOverride, resolveConfig, type ArgumentSpec, type Config } from "../config/index.ts";
import { filesOf, type DataFiles } from "../data/data-files.ts";
import { promptSet } from "../data/prompt-set.ts";
import { loadQuestions } from "../data/questions.ts";
import { plainQuestion } from "../data/shared-questions.ts";
import { formatCount, steadyClock } from "../log/progress.ts";
import { checkIndexes } from "../plan/passages.ts";
import type { Question } from "../rl/trajectory.ts";
import { hashInputs } from "../run/inputs.ts";
import { openChat } from "../search/open-chat.ts";
import { simulatorTemplateOf } from "../search/simulator-prompt.ts";
import { Closing } from "../setup/closing.ts";
import { locateData } from "../setup/locate-data.ts";
import { scoreRules } from "../setup/open-agents.ts";
import type { CollectedRollout, JudgedRollout } from "../simulator/collected.ts";
import { makeExamples, type Examples } from "../simulator/examples.ts";
import { readWholeRows } from "../simulator/rows.ts";
import { attempt, ConfigError, DataError } from "../util/errors.ts";
import { counted, plural } from "../util/plural.ts";
import { collectForecast } from "./collect/forecast.ts";
import { judgeAll, promptOfJudge } from "./collect/judge.ts";
import { collectionReport, reportText } from "./collect/report.ts";
import { searchAll } from "./collect/search.ts";
import { checkWork, workFiles } from "./collect/work.ts";
import { givenSources, readArguments, say, untilInterrupted } from "./program.ts";

const sections = ["collect", "judge", "data", "evaluation", "bm25", "dense", "http", "mcp", "search", "cost", "rollout", "model", "lora"];

const spec: ArgumentSpec = {
  program: "zerosearch collect",
  summary:
    "Collects what a simulator learns from: searches for the questions of data.train with a real engine (evaluation.engine), judges each document, and writes examples for sft. Stopped, it goes on by the same command.",
  options: {
    to: {
      value: "FILE",
      doc: "The examples: a new .jsonl file; FILE.validation.jsonl beside it, and FILE.collect, which keeps every search.",
    },
    config: { value: "FILE", doc: "YAML file with settings, as for training." },
    device: { value: "KIND", doc: "Short for device.kind=KIND." },
    "dry-run": { doc: "Says how many searches it would ask for and what they would cost, and ends." },
    fresh: { doc: "Throws away what was searched for before, and starts again." },
  },
  settings: true,
};

export async function main(argv: readonly string[]): Promise<void> {
  const example = `
Example: zerosearch collect model.policy=Qwen/Qwen2.5-7B-Instruct data.train=questions.jsonl evaluation.engine=http http.api=serper \\
           judge.kind=model collect.sets=sorted --to google.jsonl

docs/simulator.md goes from questions to a simulator.
`;
  const read = readArguments(argv, spec, `\nSettings:\n\n${keysHelp({ all: true, only: sections })}${example}`);
  if (read === null) return;
  const { options } = read;
  const file = options.get("config");
  const given = givenSources(read);
  const config = resolveConfig(withPolicy(given), "collect");
  if (options.has("dry-run")) {
    await checkIndexes(config, "collect");
    const { opened } = await locateData(config);
    const questions = await chosen(opened);
    say(
      await collectForecast(
        opened,
        questions.map(({ question }) => question),
      ),
    );
    return;
  }
  const to = options.get("to");
  if (to === undefined || !to.endsWith(".jsonl"))
    throw new ConfigError({
      where: "--to",
      what: to === undefined ? "is missing" : "is no such file",
      expected: "a new .jsonl file",
      got: to ?? "nothing",
    });
  await untilInterrupted((signal) => collect(config, { to, file, fresh: options.has("fresh"), signal }), {
    leave: () => say("Stopped; what was searched for is kept: the same command goes on."),
  });
}

/** Where another searches, and nobody judges with it, no policy need be named. */
function withPolicy(given: readonly ReturnType<typeof readOverride>[]): readonly ReturnType<typeof readOverride>[] {
  return [readOverride(`model.policy=${noPolicy}`), ...given];
}

const noPolicy = "none";

interface Wanted {
  readonly to: string;
  /** Of settings, where one was named. */
  readonly file: string | undefined;
  readonly fresh: boolean;
  readonly signal: AbortSignal;
}

async function collect(asked: Config, { to, file, fresh, signal }: Wanted): Promise<void> {
  checkPolicy(asked);
  const work = `${to}.collect`;
  const validation = to.replace(/\.jsonl$/, ".validation.jsonl");
  await refuseOthers(work, [to, validation]);
  const closing = new Closing();
  // Where nothing was found, nothing is left behind.
  if (!existsSync(work)) closing.add(work, (folder) => (holdsSearches(folder) ? undefined : rm(folder, { recursive: true, force: true })));
  await closing.after(async () => {
    await makeFolder(work).catch((cause: unknown) => {
      throw writeError(work, cause, "nothing was searched for");
    });
    const refuse = ({ pid }: { readonly pid: number }): Error =>
      new ConfigError({
        where: `--to ${to}`,
        what: `process ${pid} is making it`,
        hint: "Stop that one first (Ctrl-C there keeps what it has).",
      });
    closing.add(await takeLock(join(work, workFiles.lock), { times: { ...lockTimes, ended: 0 }, signal, refuse }), (one) => one.close());
    if (fresh)
      for (const name of [
        workFiles.rollouts,
        workFiles.judged,
        workFiles.searches,
        `${workFiles.searches}-wal`,
        `${workFiles.searches}-shm`,
      ])
        await rm(join(work, name), { force: true });
    const { opened: config } = await locateData(asked, { signal });
    const questions = await chosen(config);
    await checkWork(work, config, await hashInputs(config), say);

    await checkBeforehand(config);
    const before = await goOn(work, questions);
    if (before.length > 0) say(`Going on: ${counted(before.length, "rollout is", "rollouts are")} in ${work}.`);
    const searched = [...before, ...(await searchAll(config, { work, questions, done: before, signal }))];
    const wanted = new Set(questions.map(({ index }) => index));
    const leavesOut = config.search.onFailure === "leave-out";
    const rollouts = searched
      .filter(({ index, rollout }) => wanted.has(index) && rollout < config.collect.rollouts)
      .filter(({ searches }) => !leavesOut || searches.every(({ failure }) => failure === undefined))
      .sort((a, b) => a.index - b.index || a.rollout - b.rollout);
    const done = readWholeRows<JudgedRollout>(join(work, workFiles.judged));
    const judged = await judgeAll(config, { work, rollouts, done, signal });
    const examples = examplesOf(config, rollouts, judged);
    if (examples.train.length === 0) throw noExamples(examples, config);
    const report = collectionReport(config, { rollouts, examples, work });
    const files = { [basename(to)]: jsonLines(examples.train), [basename(validation)]: jsonLines(examples.validation) };
    const made = Object.fromEntries(Object.entries(files).map(([name, text]) => [name, sha256(text)]));
    await writeFileAtomic(join(work, workFiles.report), `${JSON.stringify({ ...report, files: made }, null, 1)}\n`);
    if (examples.validation.length > 0) await writeFileAtomic(validation, files[basename(validation)] ?? "");
    else await rm(validation, { force: true });
    await writeFileAtomic(to, files[basename(to)] ?? "");
    say(`\n${reportText(report)}`);
    say(
      `\n${counted(examples.train.length, "example is", "examples are")} in ${to}${examples.validation.length > 0 ? `, ${formatCount(examples.validation.length)} in ${validation}` : ""}.`,
    );
    const held = examples.validation.length > 0 ? ` sft.validation=${validation}` : "";
    say(
      `A simulator learns from them by: npx zerosearch sft --config ${file?.includes("simulator") === true ? file : "configs/simulator-qwen2.5-3b.yaml"} sft.data=${to}${held} --to my-simulator`,
    );
  });
}

function holdsSearches(work: string): boolean {
  const bytes = (name: string): number => statSync(join(work, name), { throwIfNoEntry: false })?.size ?? 0;
  return bytes(workFiles.rollouts) > 0 || bytes(workFiles.searches) > 0;
}

/** What a collection has made it makes anew; files that were changed since, or are another's, stay. @throws ConfigError */
async function refuseOthers(work: string, files: readonly string[]): Promise<void> {
  const report = await readFile(join(work, workFiles.report), "utf8").catch(() => "{}");
  const { files: made = {} } = attempt(() => JSON.parse(report) as { files?: Record<string, string> }, {});
  for (const file of files) {
    if (!existsSync(file) || made[basename(file)] === sha256(await readFile(file, "utf8"))) continue;
    const kept = existsSync(work) ? `; what was searched for is in ${work}, and is not asked again` : "";
    const what = `${file} is there already, and is not what this collection made`;
    throw new ConfigError({ where: `--to ${files[0] ?? ""}`, what, hint: `Name another file, or delete this one${kept}.` });
  }
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** What would be found out only when all searches are paid for. @throws FileError, ConfigError, ServerError */
async function checkBeforehand({ judge, simulator, collect }: Config): Promise<void> {
  simulatorTemplateOf(simulator.prompt, promptSet);
  if (judge.kind !== "rule") promptOfJudge(judge);
  if (judge.kind === "endpoint") await openChat("judge", { ...judge, endpoint: judge.endpoint ?? [] }, { now: steadyClock, say });
  if (["paper", "prompted", "untold"].includes(simulator.prompt) && collect.documents !== 5)
    say(`note: simulator.prompt=${simulator.prompt} asks for five documents, and the sets hold ${collect.documents} (collect.documents).`);
}

/**
 * The rollouts that are there. Those in which a search failed are made again: what was answered in them is kept besides.
 * @throws ConfigError where `data.train` has other questions in their places
 */
async function goOn(work: string, questions: readonly NumberedQuestion[]): Promise<CollectedRollout[]> {
  const file = join(work, workFiles.rollouts);
  const all = readWholeRows<CollectedRollout>(file);
  const texts = new Map(questions.map(({ index, question }) => [index, question.question]));
  const other = all.find(({ index, question }) => texts.has(index) && texts.get(index) !== question.question);
  if (other !== undefined)
    throw new ConfigError({
      where: "data.train",
      what: `question ${other.index + 1} is another than the one that was searched for`,
      expected: JSON.stringify(other.question.question.slice(0, 80)),
      got: JSON.stringify(texts.get(other.index)?.slice(0, 80)),
      hint: "Questions may be added at the end; for others name another --to, or throw the searches away with --fresh.",
    });
  const whole = all.filter(({ searches }) => searches.every(({ failure }) => failure === undefined));
  if (whole.length === all.length) return all;
  say(
    `${counted(all.length - whole.length, "rollout with searches that failed is", "rollouts with searches that failed are")} made again.`,
  );
  const kept = new Set(whole.map(({ index, rollout }) => `${index}/${rollout}`));
  const judged = readWholeRows<JudgedRollout>(join(work, workFiles.judged));
  await writeFileAtomic(file, jsonLines(whole));
  await writeFileAtomic(join(work, workFiles.judged), jsonLines(judged.filter(({ index, rollout }) => kept.has(`${index}/${rollout}`))));
  return whole;
}

/** @throws ConfigError where a model is needed and none is named */
function checkPolicy({ collect: { policy }, judge, model }: Config): void {
  const isNeeded = policy === "model" || (judge.kind === "model" && judge.path === null);
  if (!isNeeded || model.policy !== noPolicy) return;
  throw new ConfigError({
    where: "model.policy",
    what: "is missing",
    expected: "a folder, or a Hub id such as Qwen/Qwen2.5-7B-Instruct",
    got: "nothing",
    hint: policy === "model" ? "collect.policy=endpoint and collect.policy=queries search without it." : "Or name the judge in judge.path.",
  });
}

interface NumberedQuestion {
  readonly question: Question;
  readonly index: number;
}

/** The questions of `data.train` that no other file has. @throws FileError, DataError; DataError where none is left */
async function chosen({ data, collect }: Config): Promise<NumberedQuestion[]> {
  const onNote = (note: string): void => say(note);
  const all = await loadQuestions(filesOf(data.train), { onNote });
  const held = new Set<string>();
  for (const files of [data.validation, data.test, collect.exclude] as const satisfies readonly DataFiles[])
    if (filesOf(files).length > 0) for (const one of await loadQuestions(filesOf(files), { onNote })) held.add(plainQuestion(one));
  const numbered = all.map((question, index) => ({ question, index }));
  const free = numbered.filter(({ question }) => !held.has(plainQuestion(question)));
  if (free.length === 0)
    throw new DataError({
      where: "data.train",
      what: "all of its questions are in data.validation, data.test or collect.exclude",
      got: String(all.length),
    });
  const taken = collect.questions === 0 ? free : free.slice(0, collect.questions);
  const left = all.length - free.length;
  say(
    `${formatCount(taken.length)} of ${counted(all.length, "question")} ${plural(taken.length, "is", "are")} searched for${left === 0 ? "" : `; ${counted(left, "is", "are")} kept for evaluation, and left out`}.`,
  );
  return taken;
}

function examplesOf(config: Config, rollouts: readonly CollectedRollout[], judged: readonly JudgedRollout[]): Examples {
  const { collect, judge, evaluation, http, model, simulator, seed } = config;
  const { documents, maxWords, sets, randomNoise, keepNoisy, distractorWeight, validationShare, policy, endpointModel } = collect;
  const asked = { model: model.policy, endpoint: endpointModel || "endpoint" }[policy] ?? policy;
  const judges = { rule: "rule", model: judge.path ?? model.policy, endpoint: judge.endpointModel || "endpoint" }[judge.kind];
  const engine = evaluation.engine === "http" ? `http (${String(http.api)})` : evaluation.engine;
  return makeExamples(rollouts, judged, {
    ...{ seed, documents, maxWords, sets, randomNoise, keepNoisy, distractorWeight, validationShare },
    template: simulatorTemplateOf(simulator.prompt, promptSet),
    rules: scoreRules(config),
    provenance: { engine, policy: asked, judge: judges, sets },
  });
}

function noExamples({ counts }: Examples, { collect }: Config): DataError {
  const { searches, failed, documents, usefulDocuments, unjudged, short } = counts;
  const hint =
    searches === 0
      ? "Nobody searched: the policy may not know how, or search.budget was spent at once."
      : unjudged > documents / 2
        ? "The judge says neither useful nor noisy: another one, another judge.prompt, or a larger judge.maxNewTokens."
        : "A smaller collect.documents, or more documents of each search (bm25.documents, http.documents), fills more sets.";
  return new DataError({
    where: "zerosearch collect",
    what: "no search gave an example",
    expected: `searches with ${counted(collect.documents, "document")} (collect.documents)`,
    got: `${counted(searches, "search", "searches")}, ${failed} failed; ${counted(documents, "document")}, ${usefulDocuments} useful, ${unjudged} not judged; ${counted(short, "set")} too short`,
    hint: `${hint} The searches are kept.`,
  });
}

function jsonLines(rows: readonly object[]): string {
  return rows.map((row) => `${JSON.stringify(row)}\n`).join("");
}
