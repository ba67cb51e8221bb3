/** The quickstart world: passages that state real facts, and one-hop and two-hop questions about them with all their right answers. */
import type { Country } from "./countries.ts";
import { makeRandom, type Random } from "../random.ts";
import { bridgeRelations, fill, relations, sentence, sentenceKind, type Relation, type RelationKey } from "./relations.ts";
import { cleanTraining, splitCountries, type Split, type SplitName } from "./split.ts";
import { normalizeWords } from "./words.ts";

/** One sentence of the corpus. */
export interface Passage {
  readonly id: string;
  readonly text: string;
}

/** One question with every right answer. */
export interface QuickstartQuestion {
  readonly id: string;
  readonly question: string;
  readonly golden_answers: readonly string[];
  readonly data_source: "quickstart";
  readonly metadata: {
    readonly split: SplitName;
    readonly hops: 1 | 2;
    readonly relation: RelationKey;
    /** Id of the country whose fact is asked for. */
    readonly country: string;
    /** Two hops only: what stands for the country. */
    readonly bridge?: { readonly relation: RelationKey; readonly value: string };
  };
}

/** All of it. */
export interface World {
  readonly seed: number;
  readonly split: Split;
  /** Training countries without any value that names a held-out one: the only ones that data making may use. */
  readonly training: readonly Country[];
  readonly countries: ReadonlyMap<string, Country>;
  /** The whole corpus, for evaluation with a real engine. */
  readonly passages: readonly Passage[];
  readonly questions: Readonly<Record<SplitName, readonly QuickstartQuestion[]>>;
}

/** At most this many values of one fact become passages (China has 14 neighbours); all of them stay right answers. */
const maxPassagesPerFact = 4;

/** The passages of some countries: one sentence per value, and one that begins with the value where it may be a bridge. */
export function makePassages(countries: readonly Country[], seed: number): Passage[] {
  const random = makeRandom(`${seed}/quickstart/passages`);
  const passages: Passage[] = [];
  for (const country of countries) {
    for (const relation of relations) {
      for (const [i, value] of (country.facts[relation.key] ?? []).slice(0, maxPassagesPerFact).entries()) {
        const id = `${country.id}-${relation.key}-${i}`;
        passages.push({ id, text: sentence(sentenceKind(random.next()), relation, country.name, value) });
        if (relation.bridgePhrase !== undefined)
          passages.push({ id: `${id}-inverse`, text: sentence("inverse", relation, country.name, value) });
      }
    }
  }
  return passages;
}

/** Relations with a common answer ("English") are asked by way of two bridges instead of three, so that no such relation makes a tenth of the questions. */
const fewAnswers: ReadonlySet<RelationKey> = new Set<RelationKey>(["region", "language", "currency"]);

/** Bridge values that name exactly one country of the world: normalised value, by relation. */
function uniqueValues(countries: readonly Country[], relation: Relation): Set<string> {
  const counts = new Map<string, number>();
  for (const country of countries) {
    const own = new Set((country.facts[relation.key] ?? []).map(normalizeWords));
    for (const value of own) counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  return new Set([...counts].filter((entry) => entry[1] === 1).map((entry) => entry[0]));
}

/** One-hop question text about a name; `form` 0 or 1. */
export function singleHopText(relation: Relation, country: string, form: 0 | 1): string {
  return fill(relation.questions[form], country, "");
}

/** Two-hop question text: the country is named only by its bridge value. */
export function twoHopText(relation: Relation, bridge: Relation, value: string): string {
  return fill(relation.questions[0], fill(bridge.bridgePhrase ?? "", "", value), "");
}

function makeQuestions(
  countries: readonly Country[],
  split: SplitName,
  unique: ReadonlyMap<RelationKey, Set<string>>,
  random: Random,
): QuickstartQuestion[] {
  const questions: QuickstartQuestion[] = [];
  const data_source = "quickstart" as const;
  for (const country of countries) {
    for (const relation of relations) {
      const golden_answers = country.facts[relation.key];
      if (golden_answers === undefined) continue;
      const common = { split, relation: relation.key, country: country.id };
      const text = singleHopText(relation, country.name, random.chance(0.5) ? 1 : 0);
      questions.push({
        id: `${country.id}-${relation.key}`,
        question: text,
        golden_answers,
        data_source,
        metadata: { ...common, hops: 1 },
      });
      for (const bridge of bridgeRelations) {
        const value = country.facts[bridge.key]?.[0];
        if (bridge.key === relation.key || value === undefined || !unique.get(bridge.key)?.has(normalizeWords(value))) continue;
        if (bridge.key === "iso" && fewAnswers.has(relation.key)) continue;
        questions.push({
          id: `${country.id}-${bridge.key}-${relation.key}`,
          question: twoHopText(relation, bridge, value),
          golden_answers,
          data_source,
          metadata: { ...common, hops: 2, bridge: { relation: bridge.key, value } },
        });
      }
    }
  }
  return questions;
}

/** Builds the world; the same seed gives the same world. */
export function makeWorld(countries: readonly Country[], { seed = 7 }: { readonly seed?: number } = {}): World {
  const split = splitCountries(countries, seed);
  const training = cleanTraining(split);
  const unique = new Map(bridgeRelations.map((relation) => [relation.key, uniqueValues(countries, relation)]));
  const ask = (list: readonly Country[], name: SplitName): QuickstartQuestion[] =>
    makeQuestions(list, name, unique, makeRandom(`${seed}/quickstart/questions/${name}`));
  return {
    seed,
    split,
    training,
    countries: new Map(countries.map((country) => [country.id, country])),
    passages: makePassages(countries, seed),
    questions: { train: ask(training, "train"), validation: ask(split.validation, "validation"), test: ask(split.test, "test") },
  };
}
