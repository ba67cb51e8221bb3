/**
 * The relations of the quickstart world: what can be asked about a country, in which words, and which sentences tell it.
 *
 * Every sentence form holds the relation's noun phrase, so that BM25 can find it, and in every form but the inverse one the country stands before the value, so
 * that reading is copying forwards: find the name, copy what follows.
 */
import { ConfigError } from "../../util/errors.ts";

/** The name of a relation; stable, used in ids and metadata. */
export type RelationKey =
  | "capital"
  | "region"
  | "subregion"
  | "language"
  | "currency"
  | "demonym"
  | "domain"
  | "iso"
  | "french"
  | "german"
  | "spanish"
  | "polish"
  | "turkish"
  | "border";

/** One relation. In all forms `{c}` stands for the country and `{a}` for the value. */
export interface Relation {
  readonly key: RelationKey;
  /** The noun phrase: "internet domain", "French name". */
  readonly noun: string;
  /** Two ways to ask; the first is the one into which two-hop questions are built. */
  readonly questions: readonly [string, string];
  /** A sentence with a verb of its own that begins with the country. */
  readonly verbSentence: string;
  /** For relations whose value names one country: how it stands for that country in a question. */
  readonly bridgePhrase?: string;
}

function fact(key: RelationKey, noun: string, otherQuestion: string, verbSentence: string): Relation {
  return { key, noun, questions: [`What is the ${noun} of {c}?`, otherQuestion], verbSentence };
}

/** One whose value names a single country, so that it can stand for it. */
function bridge(key: RelationKey, noun: string, otherQuestion: string, verbSentence: string): Relation {
  return { ...fact(key, noun, otherQuestion, verbSentence), bridgePhrase: `the country whose ${noun} is {a}` };
}

function nameIn(language: string): Relation {
  const noun = `${language} name`;
  return fact(language.toLowerCase() as RelationKey, noun, `Which ${noun} does {c} have?`, `{c} goes by the ${noun} {a}.`);
}

/** All relations, in the order in which tables print them. */
export const relations: readonly Relation[] = [
  bridge("capital", "capital", "Which city is the capital of {c}?", "{c} is ruled from the capital {a}."),
  fact("region", "region", "Which region does {c} belong to?", "{c} belongs to the region {a}."),
  fact("subregion", "subregion", "Which subregion does {c} lie in?", "{c} lies in the subregion {a}."),
  fact("language", "language", "Which language is spoken in {c}?", "{c} speaks the language {a}."),
  fact("currency", "currency", "Which currency is used in {c}?", "{c} uses the currency {a}."),
  bridge("demonym", "demonym", "Which demonym has a person from {c}?", "{c} gives its people the demonym {a}."),
  fact("domain", "internet domain", "Which internet domain does {c} use?", "{c} uses the internet domain {a}."),
  bridge("iso", "country code", "Which country code stands for {c}?", "{c} is known by the country code {a}."),
  ...["French", "German", "Spanish", "Polish", "Turkish"].map(nameIn),
  {
    key: "border",
    noun: "neighbour",
    questions: ["What is a neighbour of {c}?", "Which country is a neighbour of {c}?"],
    verbSentence: "{c} borders the neighbour {a}.",
  },
];

const byKey = new Map(relations.map((relation) => [relation.key, relation]));

/** The relation with this key. @throws ConfigError when there is none. */
export function relationOf(key: RelationKey): Relation {
  const relation = byKey.get(key);
  if (relation === undefined)
    throw new ConfigError({ where: "quickstart relations", what: "unknown relation", expected: [...byKey.keys()].join(", "), got: key });
  return relation;
}

/** Relations whose value can stand for the country in a two-hop question. */
export const bridgeRelations: readonly Relation[] = relations.filter((relation) => relation.bridgePhrase !== undefined);

/** Puts a country and a value into a form; `$` in them has no meaning. */
export function fill(form: string, country: string, value: string): string {
  return form.replaceAll("{c}", () => country).replaceAll("{a}", () => value);
}

/** The kinds of sentence that state one fact. `inverse` begins with the value and exists for bridge relations only. */
export type SentenceKind = "has" | "verb" | "of" | "inverse";

/** One plain sentence that states "the relation of this country is this value". */
export function sentence(kind: SentenceKind, relation: Relation, country: string, value: string): string {
  switch (kind) {
    case "has":
      return `${country} has the ${relation.noun} ${value}.`;
    case "verb":
      return fill(relation.verbSentence, country, value);
    case "of":
      return `The ${relation.noun} of ${country} is ${value}.`;
    case "inverse":
      return `${value} is the ${relation.noun} of ${country}.`;
  }
}

/** How often each kind of sentence tells a fact (shares of 1); inverse sentences come in addition. */
export interface SentenceShares {
  readonly has: number;
  readonly verb: number;
}

/** Half "c has the capital a", a quarter with a verb of its own, a quarter "The capital of c is a". */
export const defaultSentenceShares: SentenceShares = { has: 0.5, verb: 0.25 };

/** Draws the kind of a sentence from a uniform number in [0, 1). */
export function sentenceKind(u: number, shares: SentenceShares = defaultSentenceShares): SentenceKind {
  if (u < shares.has) return "has";
  return u < shares.has + shares.verb ? "verb" : "of";
}

/** The ways in which the scripted policy words a query: the usual one, and the two it falls back on after noise, in turn. */
export function query(relation: Relation, country: string, attempt = 0): string {
  if (attempt % 3 === 0) return `${relation.noun} of ${country}`;
  return attempt % 3 === 1 ? `${country} ${relation.noun}` : fill(relation.questions[0], country, "");
}

/** The same for the first of two hops: which country has this value? */
export function bridgeQuery(relation: Relation, value: string, attempt = 0): string {
  if (attempt % 3 === 0) return `country with ${relation.noun} ${value}`;
  return attempt % 3 === 1 ? `${value} ${relation.noun}` : `Which country has the ${relation.noun} ${value}?`;
}
