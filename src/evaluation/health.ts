/**
 * Whether an agent searches as it should: what its rollouts show besides their scores. Counts are of what `judged.jsonl` holds, so that stored rows give
 * the same.
 */
import type { SearchTrajectory } from "../rl/trajectory.ts";
import { containsAnswer, normaliseAnswer, usualRules, type ScoreRules } from "../util/normalise-answer.ts";

/** Of one method with one engine. A share of nothing is null. */
export interface Health {
  /** Rollouts. */
  readonly n: number;
  readonly searches: number;
  /** Share of searches whose query, in normal form, the rollout had made before. */
  readonly repeated: number | null;
  /** Share of searches whose query is the question. */
  readonly copied: number | null;
  /** Share of turns that were neither search nor answer. */
  readonly invalid: number | null;
  /** Share of rollouts that ran out of tokens or context. */
  readonly truncated: number | null;
  /** Share of turns that wrote as many tokens as a turn may. */
  readonly truncatedTurns: number | null;
  /** Share of searches after one whose documents had held a golden answer. */
  readonly afterEnough: number | null;
  /** Share of answers, of rollouts that searched, that stand in no document shown. */
  readonly unsupported: number | null;
  /** By the search's place in its rollout, from the first. */
  readonly bySearch: readonly SearchHealth[];
}

/** Of all first searches, all second ones ... */
export interface SearchHealth {
  readonly search: number;
  readonly n: number;
  /** Share whose documents hold a golden answer. */
  readonly gold: number;
  readonly repeated: number;
  readonly copied: number;
  readonly afterEnough: number;
}

interface SearchCounts {
  n: number;
  gold: number;
  repeated: number;
  copied: number;
  afterEnough: number;
}

export interface HealthOptions {
  /** Tokens that a turn may have; null where nobody knows. */
  readonly maxNewTokens: number | null;
  readonly rules?: ScoreRules | undefined;
}

/** Counts rollouts one by one. */
export class HealthCounter {
  readonly #options: HealthOptions;
  #n = 0;
  #turns = 0;
  #invalid = 0;
  #truncated = 0;
  #truncatedTurns = 0;
  #answers = 0;
  #unsupported = 0;
  readonly #bySearch: SearchCounts[] = [];

  constructor(options: HealthOptions) {
    this.#options = options;
  }

  add(trajectory: SearchTrajectory): void {
    const { rules = usualRules, maxNewTokens } = this.#options;
    const { question, searches, answer, status, turns, invalidActions } = trajectory;
    this.#n++;
    this.#turns += turns;
    this.#invalid += invalidActions;
    if (status === "length") this.#truncated++;
    if (maxNewTokens !== null) this.#truncatedTurns += spans(trajectory.lossMask).filter((length) => length >= maxNewTokens).length;
    const normal = (text: string): string => normaliseAnswer(text, rules.normalizer);
    const asked = new Set<string>();
    const own = normal(question.question);
    let enough = false;
    for (const [place, { query, containsGold }] of searches.entries()) {
      const counts = (this.#bySearch[place] ??= { n: 0, gold: 0, repeated: 0, copied: 0, afterEnough: 0 });
      const text = normal(query);
      counts.n++;
      if (containsGold) counts.gold++;
      if (asked.has(text)) counts.repeated++;
      if (text === own) counts.copied++;
      if (enough) counts.afterEnough++;
      asked.add(text);
      enough ||= containsGold;
    }
    if (answer === null || searches.length === 0 || normal(answer) === "") return;
    this.#answers++;
    if (!searches.some(({ text }) => containsAnswer(text, [answer], rules))) this.#unsupported++;
  }

  take(): Health {
    const share = (count: number, of: number): number | null => (of === 0 ? null : count / of);
    const sum = (of: (counts: SearchCounts) => number): number => this.#bySearch.reduce((total, counts) => total + of(counts), 0);
    const searches = sum(({ n }) => n);
    return {
      n: this.#n,
      searches,
      repeated: share(
        sum(({ repeated }) => repeated),
        searches,
      ),
      copied: share(
        sum(({ copied }) => copied),
        searches,
      ),
      invalid: share(this.#invalid, this.#turns),
      truncated: share(this.#truncated, this.#n),
      truncatedTurns: this.#options.maxNewTokens === null ? null : share(this.#truncatedTurns, this.#turns),
      afterEnough: share(
        sum(({ afterEnough }) => afterEnough),
        searches,
      ),
      unsupported: share(this.#unsupported, this.#answers),
      bySearch: this.#bySearch.map(({ n, gold, repeated, copied, afterEnough }, place) => ({
        search: place + 1,
        n,
        gold: gold / n,
        repeated: repeated / n,
        copied: copied / n,
        afterEnough: afterEnough / n,
      })),
    };
  }
}

/** Lengths of the runs of sampled tokens. */
function spans(lossMask: readonly number[]): number[] {
  const lengths: number[] = [];
  lossMask.forEach((sampled, i) => {
    if (sampled !== 1) return;
    if (lossMask[i - 1] === 1) lengths.push((lengths.pop() ?? 0) + 1);
    else lengths.push(1);
  });
  return lengths;
}
