/** The second stage of `zerosearch collect`: every document is judged, and what is judged is kept. */
import { join } from "node:path";
import type { Config } from "../../config/index.ts";
import { JsonLines } from "../../log/json-lines.ts";
import { Progress, steadyClock } from "../../log/progress.ts";
import { Closing } from "../../setup/closing.ts";
import { scoreRules } from "../../setup/open-agents.ts";
import type { CollectedRollout, JudgedRollout } from "../../simulator/collected.ts";
import { judgeAllByModel, judgeAllByRule, type AskJudge } from "../../simulator/judge.ts";
import { checkJudgePrompt, judgePrompt, labelIn, usualJudgePrompt } from "../../simulator/model-judge.ts";
import { promptSet } from "../../data/prompt-set.ts";
import { openJudge } from "../judge-model.ts";
import { sameCommand } from "../program.ts";
import { noteWork } from "./spent.ts";
import { workFiles } from "./work.ts";

/** The labels of all rollouts, in their order; `done` are those that were judged before. */
export async function judgeAll(
  config: Config,
  {
    work,
    rollouts,
    done,
    signal,
  }: {
    readonly work: string;
    readonly rollouts: readonly CollectedRollout[];
    readonly done: readonly JudgedRollout[];
    readonly signal: AbortSignal;
  },
): Promise<JudgedRollout[]> {
  const { collect, judge } = config;
  if (judge.kind === "rule") return judgeAllByRule(rollouts, collect.maxWords, scoreRules(config));
  const nameOf = ({ index, rollout }: Pick<JudgedRollout, "index" | "rollout">): string => `${index}/${rollout}`;
  const byName = new Map(done.map((one) => [nameOf(one), one]));
  const left = rollouts.filter((one) => !byName.has(nameOf(one)));
  if (left.length > 0) for (const one of await judgeByModel(config, { work, left, signal })) byName.set(nameOf(one), one);
  return rollouts.map((one) => byName.get(nameOf(one)) as JudgedRollout);
}

async function judgeByModel(
  config: Config,
  { work, left, signal }: { readonly work: string; readonly left: readonly CollectedRollout[]; readonly signal: AbortSignal },
): Promise<JudgedRollout[]> {
  const judged: JudgedRollout[] = [];
  const closing = new Closing();
  const from = steadyClock();
  await closing.after(async () => {
    const template = promptOfJudge(config.judge);
    const judge = await openJudge(config, closing, signal);
    const ask: AskJudge = async (query, document, n) => {
      const reply = await judge.ask(judgePrompt(template, query, document), n);
      return reply === null ? null : labelIn(reply);
    };
    const log = closing.add(new JsonLines<JudgedRollout>(join(work, workFiles.judged), sameCommand), (one) => one.close());
    const total = left.reduce((sum, { searches }) => sum + searches.reduce((all, { documents }) => all + documents.length, 0), 0);
    const progress = new Progress({ label: "judging", total, unit: "documents", plainInterval: 15_000 });
    let count = 0;
    const onJudged = (one: JudgedRollout): void => {
      judged.push(one);
      log.append([one]);
      count += one.labels.reduce((sum, labels) => sum + labels.length, 0);
      progress.update(count);
    };
    try {
      await judgeAllByModel(left, config.collect.maxWords, ask, onJudged);
    } finally {
      progress.finish();
      log.sync();
      noteWork(work, { seconds: (steadyClock() - from) / 1000, counts: judge.takeCounts() });
    }
  });
  return judged;
}

/** @throws FileError, ConfigError as `promptSet` and `checkJudgePrompt` */
export function promptOfJudge(judge: Config["judge"]): string {
  const text = judge.prompt === "usual" ? usualJudgePrompt : (promptSet(judge.prompt).text ?? "");
  checkJudgePrompt(text, `judge.prompt=${judge.prompt}`);
  return text;
}
