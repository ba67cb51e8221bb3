/**
 * Whether a corpus holds the answers at all: questions none of whose golden answers occurs, as whole words in normal form, in any passage. What nobody
 * can find there is no fault of a policy. One pass over the passages; a tree of words holds all answers.
 */
import type { Question } from "../rl/trajectory.ts";
import type { Passage } from "../search/passages.ts";
import { normaliseAnswer, usualRules, type ScoreRules } from "../util/normalise-answer.ts";

export interface SetCoverage {
  readonly set: string;
  readonly n: number;
  /** Questions whose answers stand in no passage. */
  readonly missing: number;
}

interface Node {
  readonly next: Map<string, Node>;
  /** The answer that ends here. */
  answer: number | null;
}

/** Answers, to be found in texts. */
export class AnswerFinder {
  readonly #root: Node = { next: new Map(), answer: null };
  readonly #rules: ScoreRules;
  readonly #found: boolean[] = [];

  constructor(rules: ScoreRules = usualRules) {
    this.#rules = rules;
  }

  /** The number of an answer; null for one whose normal form is empty, which is in every text. */
  add(answer: string): number | null {
    const words = this.#words(answer);
    if (words.length === 0) return null;
    let node = this.#root;
    for (const word of words) {
      let next = node.next.get(word);
      if (next === undefined) node.next.set(word, (next = { next: new Map(), answer: null }));
      node = next;
    }
    if (node.answer === null) {
      node.answer = this.#found.length;
      this.#found.push(false);
    }
    return node.answer;
  }

  look(text: string): void {
    const words = this.#words(text);
    for (let from = 0; from < words.length; from++) {
      let node = this.#root.next.get(words[from] ?? "");
      for (let to = from + 1; node !== undefined; to++) {
        if (node.answer !== null) this.#found[node.answer] = true;
        if (to >= words.length || node.next.size === 0) break;
        node = node.next.get(words[to] ?? "");
      }
    }
  }

  isFound(answer: number): boolean {
    return this.#found[answer] === true;
  }

  #words(text: string): string[] {
    const normal = normaliseAnswer(text, this.#rules.normalizer);
    return normal === "" ? [] : normal.split(" ");
  }
}

/**
 * A question one of whose answers has no normal form counts as one whose answer is there.
 * @throws as reading the passages does; the signal's reason
 */
export async function measureCoverage(
  passages: AsyncIterable<Passage>,
  questions: readonly Question[],
  { rules = usualRules, signal }: { readonly rules?: ScoreRules | undefined; readonly signal?: AbortSignal } = {},
): Promise<SetCoverage[]> {
  const finder = new AnswerFinder(rules);
  const answers = questions.map(({ goldenAnswers }) => goldenAnswers.map((answer) => finder.add(answer)));
  for await (const { title = "", text } of passages) {
    signal?.throwIfAborted();
    // An answer may not go over from the title into the text.
    finder.look(title);
    finder.look(text);
  }
  const sets = new Map<string, { n: number; missing: number }>();
  questions.forEach(({ dataSource }, i) => {
    const counts = sets.get(dataSource) ?? { n: 0, missing: 0 };
    sets.set(dataSource, counts);
    counts.n++;
    if (answers[i]?.every((answer) => answer !== null && !finder.isFound(answer)) === true) counts.missing++;
  });
  return [...sets].map(([set, counts]) => ({ set, ...counts }));
}
