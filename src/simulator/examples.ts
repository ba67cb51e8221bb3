/** From judged searches to examples that a simulator is fine-tuned on. Source: ZeroSearch (arXiv 2505.04588) 3.1. */
import { makeRandom } from "../data/random.ts";
import type { SearchDocument } from "../rl/trajectory.ts";
import { simulatorPrompt, type SimulatorTemplate } from "../search/simulator-prompt.ts";
import { promptText } from "../text/prompt.ts";
import { containsAnswer, normaliseAnswer, type ScoreRules } from "../util/normalise-answer.ts";
import type { CollectedRollout, JudgedRollout, Label } from "./collected.ts";
import { excerpt } from "./excerpt.ts";
import { judgedText } from "./rule-judge.ts";
import type { SetRule } from "./settings.ts";

export interface ExampleOptions {
  readonly seed: number;
  readonly template: SimulatorTemplate;
  readonly rules: ScoreRules;
  /** Documents of a set; searches that cannot fill one give none. */
  readonly documents: number;
  readonly maxWords: number;
  readonly sets: SetRule;
  readonly randomNoise: number;
  readonly keepNoisy: number;
  readonly distractorWeight: number;
  readonly validationShare: number;
  /** Who made it, for its rows. */
  readonly provenance: Readonly<Record<string, string>>;
}

/** One row of the file: what `zerosearch sft` reads, and where it is from. */
export interface SimulatorExample {
  /** The empty system message of the simulator's requests. */
  readonly system: "";
  readonly prompt: string;
  readonly output: string | readonly { readonly text: string; readonly weight: number }[];
  readonly kind: "useful" | "noisy";
  readonly query: string;
  readonly question_id: string;
  readonly data_source: string;
  readonly rollout: number;
  readonly turn: number;
  /** Of each document: useful, noisy, or other where it was drawn from another search. */
  readonly labels: readonly ("useful" | "noisy" | "other")[];
  /** Where its documents are from, where the engine says so. */
  readonly sources: readonly (string | null)[];
  readonly provenance: Readonly<Record<string, string>>;
}

/** What became of the searches. */
export interface ExampleCounts {
  searches: number;
  failed: number;
  /** A query that was asked for the same question before. */
  repeated: number;
  documents: number;
  usefulDocuments: number;
  unjudged: number;
  useful: number;
  noisy: number;
  /** Documents left out of a set: they hold a right answer, and the set's query asks for something else, or the set is noisy. */
  leaks: number;
  /** Sets that could not be filled. */
  short: number;
}

export interface Examples {
  readonly train: SimulatorExample[];
  readonly validation: SimulatorExample[];
  readonly counts: ExampleCounts;
}

interface Judged {
  readonly document: SearchDocument;
  readonly label: Label;
  readonly holdsAnswer: boolean;
}

/** The normal form in which queries and questions are compared. */
const plain = (text: string): string =>
  text
    .normalize("NFKC")
    .toLowerCase()
    .match(/[\p{L}\p{N}]+/gu)
    ?.join(" ") ?? "";

/** In the order of the rollouts. `labels` are in the same order. The same for the same rollouts, whoever stopped in between. */
export function makeExamples(rollouts: readonly CollectedRollout[], judged: readonly JudgedRollout[], options: ExampleOptions): Examples {
  const counts: ExampleCounts = {
    ...{ searches: 0, failed: 0, repeated: 0, documents: 0, usefulDocuments: 0, unjudged: 0, useful: 0, noisy: 0, leaks: 0, short: 0 },
  };
  const { seed, documents: size, maxWords, rules, randomNoise, validationShare } = options;
  const examples: Examples = { train: [], validation: [], counts };
  const isHeld = ({ question }: CollectedRollout): boolean =>
    makeRandom(`${seed}/collect/validation/${plain(question.question)}`).chance(validationShare);
  const pools = randomNoise > 0 ? poolsOf(rollouts, isHeld, maxWords) : { train: [], validation: [] };
  const seen = new Set<string>();
  rollouts.forEach((one, r) => {
    const part = isHeld(one) ? "validation" : "train";
    const pool = pools[part];
    one.searches.forEach((search, s) => {
      counts.searches++;
      const key = `${plain(one.question.question)}\n${plain(search.query)}`;
      if (search.failure !== undefined) counts.failed++;
      else if (seen.has(key)) counts.repeated++;
      if (search.failure !== undefined || seen.has(key)) return;
      seen.add(key);
      const labels = judged[r]?.labels[s] ?? [];
      const all = search.documents.map((whole, d): Judged => {
        const document = excerpt(whole, search.query, maxWords);
        return { document, label: labels[d] ?? null, holdsAnswer: tellsAnswer(judgedText(document), one.question.goldenAnswers, rules) };
      });
      counts.documents += all.length;
      counts.usefulDocuments += all.filter(({ label }) => label === true).length;
      counts.unjudged += all.filter(({ label }) => label === null).length;
      for (const kind of ["useful", "noisy"] as const) {
        const random = makeRandom(`${seed}/collect/noise/${one.index}/${one.rollout}/${search.turn}`);
        if (kind === "noisy" && !makeRandom(`${seed}/collect/keep/${one.index}/${one.rollout}/${search.turn}`).chance(options.keepNoisy))
          continue;
        const found = setOf(kind, all, { ...options, asksForAnswer: asksForAnswer(one, search.answers, rules), counts });
        // In place of a noisy set that the search has, or of one that it has too little for.
        const drawn = kind === "noisy" && found !== null && pool.length > 0 && random.chance(randomNoise);
        const others = drawn ? strangers(pool, all, one, size, random, rules) : [];
        const set = others.length === size ? others : found;
        if (set === null) continue;
        if (set.length < size) {
          counts.short++;
          continue;
        }
        counts[kind]++;
        examples[part].push(example(one, search, kind, set, options));
      }
    });
  });
  return examples;
}

/** Scripts without spaces between words. */
const unspaced = /[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Thai}\p{scx=Lao}\p{scx=Khmer}\p{scx=Myanmar}]/u;

/**
 * Whether a text tells an answer, more strictly than scores compare: as words whatever stands around them ("Bach's", "pre-Bach", "Bach/Petipa"), and in scripts
 * without spaces anywhere.
 */
function tellsAnswer(text: string, goldenAnswers: readonly string[], rules: ScoreRules): boolean {
  if (containsAnswer(text, goldenAnswers, rules)) return true;
  const bare = text.replace(/\p{Cf}/gu, "");
  const words = ` ${plain(bare)} `;
  return goldenAnswers.some((golden) => {
    const answer = plain(golden);
    // "A" is in most texts.
    if (answer === "" || normaliseAnswer(golden, rules.normalizer) === "") return false;
    return words.includes(` ${answer} `) || (unspaced.test(answer) && words.replaceAll(" ", "").includes(answer.replaceAll(" ", "")));
  });
}

/** Whether a query asks for the answer of its question, as far as is known: a useful set may hold it then. */
function asksForAnswer({ question }: CollectedRollout, answers: readonly string[] | undefined, rules: ScoreRules): boolean {
  return answers === undefined || answers.some((answer) => containsAnswer(answer, question.goldenAnswers, rules));
}

/** The documents of a set of one kind; null where the search has none of it. Of `returned`, a search has one kind only. */
function setOf(
  kind: "useful" | "noisy",
  all: readonly Judged[],
  {
    documents: size,
    sets,
    asksForAnswer: asks,
    counts,
  }: ExampleOptions & { readonly asksForAnswer: boolean; readonly counts: ExampleCounts },
): readonly Judged[] | null {
  const told = all.filter(({ label }) => label !== null);
  const leaking = kind === "noisy" || !asks;
  const clean = told.filter(({ holdsAnswer }) => !(leaking && holdsAnswer));
  const first = (sets === "returned" ? told : clean).slice(0, size);
  const isUseful = first.some(({ label }) => label === true);
  if (sets === "returned") {
    if (isUseful !== (kind === "useful")) return null;
    const leaks = first.filter((one) => !clean.includes(one)).length;
    counts.leaks += leaks;
    return leaks > 0 ? null : first;
  }
  counts.leaks += told.length - clean.length;
  if (kind === "noisy") return clean.filter(({ label }) => label === false).slice(0, size);
  const best = clean.find(({ label }) => label === true);
  if (best === undefined) return null;
  return isUseful ? first : [best, ...first.slice(0, size - 1)];
}

/** Documents that other searches found, none of which tells the answer or is one that this search found. */
function strangers(
  pool: readonly SearchDocument[],
  own: readonly Judged[],
  { question }: CollectedRollout,
  size: number,
  random: ReturnType<typeof makeRandom>,
  rules: ScoreRules,
): readonly Judged[] {
  const taken = new Set(own.map(({ document }) => document.text));
  const set: Judged[] = [];
  for (let tries = 0; set.length < size && tries < 40 * size; tries++) {
    const document = random.pick(pool);
    if (taken.has(document.text) || tellsAnswer(judgedText(document), question.goldenAnswers, rules)) continue;
    taken.add(document.text);
    set.push({ document, label: null, holdsAnswer: false });
  }
  return set;
}

/** What strangers are drawn from: examples to learn from hold nothing that was found for a question that is held out. */
function poolsOf(
  rollouts: readonly CollectedRollout[],
  isHeld: (one: CollectedRollout) => boolean,
  maxWords: number,
): { readonly train: SearchDocument[]; readonly validation: SearchDocument[] } {
  const held = rollouts.filter(isHeld);
  const theirs = new Set(held.flatMap(({ searches }) => searches.flatMap(({ documents }) => documents.map(({ text }) => text))));
  const ours = rollouts.filter((one) => !isHeld(one));
  return {
    train: documentsOf(ours, maxWords, ({ text }) => !theirs.has(text)),
    validation: documentsOf(held, maxWords),
  };
}

/** All documents that were found, each once. */
function documentsOf(
  rollouts: readonly CollectedRollout[],
  maxWords: number,
  isWanted: (whole: SearchDocument) => boolean = () => true,
): SearchDocument[] {
  const byText = new Map<string, SearchDocument>();
  for (const { searches } of rollouts)
    for (const { query, documents } of searches)
      for (const whole of documents.filter(isWanted)) {
        const document = excerpt(whole, query, maxWords);
        if (!byText.has(document.text)) byText.set(document.text, document);
      }
  return [...byText.values()];
}

function example(
  { question, rollout }: CollectedRollout,
  { query, turn }: CollectedRollout["searches"][number],
  kind: "useful" | "noisy",
  set: readonly Judged[],
  { template, distractorWeight, provenance }: ExampleOptions,
): SimulatorExample {
  const [answer = ""] = question.goldenAnswers;
  const lines = set.map(({ document }, i) => `Doc ${i + 1}: ${judgedText(document)}${i < set.length - 1 ? "\n" : ""}`);
  const weights = set.map(({ label }) => (kind === "useful" && label !== true ? distractorWeight : 1));
  return {
    system: "",
    prompt: promptText(simulatorPrompt(template, kind, { question: question.question, answer, query })),
    output: weights.every((weight) => weight === 1) ? lines.join("") : lines.map((text, i) => ({ text, weight: weights[i] as number })),
    kind,
    query,
    question_id: question.id,
    data_source: question.dataSource,
    rollout,
    turn,
    labels: set.map(({ label }) => (label === null ? "other" : label ? "useful" : "noisy")),
    sources: set.map(({ document: { url, id } }) => url ?? id ?? null),
    provenance,
  };
}
