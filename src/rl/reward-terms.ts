/**
 * What a reward may be made of: the scores of the answer, and what else a rollout is paid for. All are numbers in [0, 1].
 *
 * Source of the three that are no score of the answer: Search-R1 v0.3, `verl/utils/reward_score/qa_em_format.py` (Jin et al. 2025, arXiv
 * 2505.15117), but that documents have no say in the format, and that an answer is retrieved as whole words: "art" is not in "party".
 */
import { ConfigError } from "../util/errors.ts";
import { isValid } from "./metrics.ts";
import { reward, rewardNames, scoreAnswer, usualRules, type RewardName, type ScoreRules } from "./reward.ts";
import type { SearchTrajectory } from "./trajectory.ts";

export const termNames = [...rewardNames, "format", "retrieval", "search_r1_format"] as const;
export type TermName = (typeof termNames)[number];

/** A part of a weighted sum. */
export interface WeightedTerm {
  readonly weight: number;
  readonly term: TermName;
}

/** One term of one rollout. @throws ConfigError for an unknown name, DataError without golden answers. */
export function rewardTerm(trajectory: SearchTrajectory, name: TermName, rules: ScoreRules = usualRules): number {
  if (isScore(name)) return reward(trajectory, name, rules);
  if (name === "format") return keptFormat(trajectory) ? 1 : 0;
  if (name === "retrieval") return retrieved(trajectory) ? 1 : 0;
  // A caller without types may give anything.
  if ((name as string) === "search_r1_format") return searchR1Format(trajectory, rules);
  throw new ConfigError({ where: "reward", what: "unknown term", expected: termNames.join(", "), got: JSON.stringify(name) });
}

function isScore(name: TermName): name is RewardName {
  return (rewardNames as readonly string[]).includes(name);
}

/** Whether a gold answer occurs in what any search found. */
export function retrieved({ searches }: SearchTrajectory): boolean {
  return searches.some(({ containsGold }) => containsGold);
}

/** Where a text stands between the tags of ZeroSearch, and by which tag it goes on. */
const states = {
  start: { "<think>": "thinking" },
  thinking: { "</think>": "thought" },
  thought: { "<search>": "searching", "<answer>": "answering" },
  searching: { "</search>": "searched" },
  searched: { "<information>": "reading" },
  reading: { "</information>": "start" },
  answering: { "</answer>": "end" },
  end: {},
} as const satisfies Readonly<Record<string, Readonly<Record<string, string>>>>;
type State = keyof typeof states;
const inside: readonly State[] = ["thinking", "searching", "reading", "answering"];

/**
 * Whether a rollout kept to the format, from its first token to its last: a thought, then a search and its documents, as often as wanted, then
 * a thought and the answer, with nothing but white space between the tags. A thought comes before each action, no tag stands inside another,
 * and there was no correction.
 *
 * Read from the rollout's text, whose observations come only after a search that was made: each is taken for one search, and the documents in
 * it are passed over as the search tells them. It knows the tags of ZeroSearch; in another dialect nothing keeps to them. A thought that the
 * chat template opened is no part of the text: there the first one lacks its tag.
 */
export function keptFormat(trajectory: SearchTrajectory): boolean {
  const { text, searches } = trajectory;
  if (!isValid(trajectory)) return false;
  const tag = /<\/?(?:think|search|information|answer)>/g;
  let [state, at, observed]: [State, number, number] = ["start", 0, 0];
  const mayStand = (said: string): boolean => inside.includes(state) || said.trim() === "";
  for (let found = tag.exec(text); found !== null; found = tag.exec(text)) {
    const next: State | undefined = (states[state] as Readonly<Record<string, State>>)[found[0]];
    if (next === undefined || !mayStand(text.slice(at, found.index))) return false;
    state = next;
    at = tag.lastIndex;
    if (state !== "reading") continue;
    const search = searches[observed++];
    if (search === undefined) return false;
    if (text.startsWith(search.text, at)) tag.lastIndex = at += search.text.length;
  }
  return state === "end" && mayStand(text.slice(at));
}

export interface SearchR1Scores {
  /** Of the format alone, and what a right answer in another one loses. */
  readonly structure: number;
  /** Of a wrong answer in a wrong format. */
  readonly answered: number;
  /** Added to `structure` where the answer is wrong, but was retrieved. */
  readonly retrieval: number;
}

/** Those of Search-R1 v0.3. */
export const searchR1Scores: SearchR1Scores = { structure: 0.2, answered: 0.1, retrieval: 0 };

/**
 * Search-R1's score of answer and format together:
 *
 *   answer   format kept                       format not kept
 *   right    1                                 1 - structure
 *   wrong    structure (+ retrieval if found)  answered
 *   none     -                                 0
 *
 * Right is an exact match. @throws DataError without golden answers
 */
export function searchR1Format(
  trajectory: SearchTrajectory,
  rules: ScoreRules = usualRules,
  { structure, answered, retrieval }: SearchR1Scores = searchR1Scores,
): number {
  const { answer, question } = trajectory;
  const right = scoreAnswer(answer, question.goldenAnswers, rules).em === 1;
  const kept = keptFormat(trajectory);
  if (right) return kept ? 1 : 1 - structure;
  if (kept) return structure + (retrieved(trajectory) ? retrieval : 0);
  return answer === null ? 0 : answered;
}
