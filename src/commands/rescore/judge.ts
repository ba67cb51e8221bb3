/** The metric `judge`: a language model says whether an answer means the same as a golden one. The prompt is fixed and ours: scores by another are other scores. */
import { createHash } from "node:crypto";
import type { Config } from "../../config/index.ts";
import { JsonLines } from "../../log/json-lines.ts";
import { wholeRows } from "../../log/whole-rows.ts";
import type { Question } from "../../rl/trajectory.ts";
import { scoredAnswer } from "../../rl/reward.ts";
import type { Reward } from "../../run/reward.ts";
import type { Closing } from "../../setup/closing.ts";
import { fillPrompt, foreign, type PromptPart } from "../../text/prompt.ts";
import { withoutThoughts } from "../../text/thinking.ts";
import { ConfigError, DataError, FileError } from "../../util/errors.ts";
import { holdFile } from "../hold.ts";
import { openJudge } from "../judge-model.ts";
import { noModel } from "../stored.ts";

const template = `You grade answers to questions.

Question: {question}
Golden answers: {golden}
Answer to grade: {answer}

Does the answer to grade mean the same as one of the golden answers? Spelling, wording and further detail do not matter. An answer that names several things, of which only one is right, is wrong.
Reply with one word: right or wrong.
`;

/** Characters of the answer, and of all golden answers, that a judge reads. */
const mostCharacters = 2000;

export function answerPrompt({ question, goldenAnswers }: Pick<Question, "question" | "goldenAnswers">, answer: string): PromptPart[] {
  const cut = (text: string): string => text.slice(0, mostCharacters);
  return fillPrompt(template, {
    question: foreign(question),
    golden: foreign(cut(goldenAnswers.map((golden) => JSON.stringify(golden)).join(", "))),
    answer: foreign(cut(answer)),
  });
}

/** What a judge says: the last right or wrong outside of its thoughts; null where there is none. */
export function verdictIn(reply: string): boolean | null {
  const said = (withoutThoughts(reply) ?? "")
    .toLowerCase()
    .match(/\b(right|wrong)\b/g)
    ?.at(-1);
  return said === undefined ? null : said === "right";
}

export interface AnswerJudge {
  /** 1 or 0; fails where the judge says neither. No answer is 0, and not asked about; the same answer to the same question is asked about once. */
  readonly reward: Reward;
  readonly takeCounts: () => Readonly<Record<string, number>>;
  /** @throws what asking has thrown: a judge that is away is no failed answer */
  readonly check: () => void;
}

/** A reply, as `--replies` keeps it. */
interface ReplyRow {
  /** Hash of the judge's settings and of the prompt. */
  readonly key: string;
  readonly question: string;
  readonly answer: string;
  readonly reply: string;
}

/**
 * @param replies - a file in which replies are kept; those that it holds of the same judge to the same prompts are not asked for again
 * @throws ConfigError where no model is named; FileError for a file that is none of replies; as `openJudge`
 */
export async function openAnswerJudge(
  config: Config,
  closing: Closing,
  signal: AbortSignal,
  replies: string | undefined,
): Promise<AnswerJudge> {
  const { kind, endpoint, path } = config.judge;
  const named = kind === "endpoint" ? endpoint !== null : kind === "model" && (path !== null || config.model.policy !== noModel);
  if (!named)
    throw new ConfigError({
      where: "--metric judge",
      what: "needs a model that judges",
      expected: "judge.kind=endpoint judge.endpoint=URL, or judge.kind=model judge.path=MODEL",
      got: `judge.kind=${kind}, and ${kind === "endpoint" ? "no judge.endpoint" : "no judge.path"}`,
    });
  const kept = replies === undefined ? null : await openReplies(replies, closing, signal);
  const { ask, takeCounts } = await openJudge(config, closing, signal);
  const asked = new Map<string, Promise<string | null>>();
  const judge = judgeName(config);
  const replyTo = async (question: Question, answer: string, n: number): Promise<string | null> => {
    const prompt = answerPrompt(question, answer);
    const key = createHash("sha256")
      .update(JSON.stringify([judge, prompt]))
      .digest("hex");
    const before = kept?.known.get(key);
    if (before !== undefined) return before;
    const reply = await ask(prompt, n);
    if (reply !== null) kept?.log.append([{ key, question: question.question, answer, reply }]);
    return reply;
  };
  let failed: { readonly error: unknown } | null = null;
  const check = (): void => {
    if (failed !== null) throw failed.error;
  };
  const reward: Reward = async (trajectory) => {
    const answer = scoredAnswer(trajectory);
    if (answer === null || answer.trim() === "") return 0;
    const { question } = trajectory;
    const key = JSON.stringify([question.question, question.goldenAnswers, answer]);
    const known = asked.get(key);
    const reply =
      known ??
      replyTo(question, answer, asked.size).catch((error: unknown) => {
        failed ??= { error };
        throw error;
      });
    asked.set(key, reply);
    const said = await reply;
    const verdict = said === null ? null : verdictIn(said);
    if (verdict !== null) return verdict ? 1 : 0;
    throw new DataError({
      where: "judge",
      what: said === null ? "a question does not fit its context" : "says neither right nor wrong",
      expected: "right or wrong",
      got: JSON.stringify((said ?? "").slice(0, 60)),
      hint: "Another judge, or a larger judge.maxNewTokens for one that thinks first.",
    });
  };
  return { reward, takeCounts, check };
}

/** What its replies depend on besides the prompt. Who answers at an endpoint is known by name alone. */
function judgeName({ judge }: Config): unknown {
  const { kind, endpoint, endpointModel, path, maxNewTokens } = judge;
  return kind === "endpoint" ? [kind, endpoint, endpointModel, maxNewTokens] : [kind, path, maxNewTokens];
}

interface KeptReplies {
  readonly known: ReadonlyMap<string, string>;
  readonly log: JsonLines<ReplyRow>;
}

async function openReplies(file: string, closing: Closing, signal: AbortSignal): Promise<KeptReplies> {
  await holdFile(`--replies ${file}`, file, "nothing was asked", closing, signal);
  const known = new Map<string, string>();
  let line = 0;
  for await (const { key, reply } of wholeRows<Partial<ReplyRow>>(file)) {
    line++;
    if (typeof key !== "string" || typeof reply !== "string")
      throw new FileError({ where: `--replies ${file}:${line}`, what: "is no reply of a judge", expected: "key and reply" });
    known.set(key, reply);
  }
  const log = closing.add(new JsonLines<ReplyRow>(file, "give the same command again"), (one) => one.close());
  return { known, log };
}
