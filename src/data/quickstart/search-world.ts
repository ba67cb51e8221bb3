/**
 * Questions about training countries and countries that do not exist, each with a query and what that asks for, and the passages that answer them: what
 * `zerosearch collect` makes the quickstart's simulator's examples from, with BM25 as engine and the rule as judge.
 */
import type { Country } from "./countries.ts";
import { hopAnswers, makeHops, type Hop } from "./documents.ts";
import { Inventor, type InventedSource } from "./invented.ts";
import { makeRandom, type Random } from "../random.ts";
import { bridgeQuery, bridgeRelations, defaultSentenceShares, query, relations, sentence, sentenceKind } from "./relations.ts";
import { simulatorOptions, sloppyQuery, type QueryKind } from "./scripted-simulator.ts";
import { normalizeWords } from "./words.ts";
import { singleHopText, twoHopText, type Passage } from "./world.ts";

/** A row of a question file. */
export interface SearchQuestion {
  readonly id: string;
  readonly question: string;
  readonly golden_answers: readonly string[];
  readonly data_source: "quickstart-invented";
  readonly metadata: {
    readonly kind: QueryKind;
    readonly queries: readonly [{ readonly query: string; readonly answers: readonly string[] }];
  };
}

export interface SearchWorld {
  readonly questions: readonly SearchQuestion[];
  readonly passages: readonly Passage[];
}

/** Countries that are invented for each so many questions, so that none is met often enough to be remembered. */
const questionsPerCountry = 12;
/** Share of the countries that have a twin of nearly the same name: a miscopied name must not be given the right answer. */
const twinShare = 0.35;

/** How many of what, and which. */
export interface SearchWorldOptions {
  readonly seed: number;
  /** Questions. */
  readonly count: number;
  /** Shares of what their queries ask for. */
  readonly kinds?: Readonly<Record<QueryKind, number>>;
}

/** The same options give the same world. */
export function makeSearchWorld(source: InventedSource, { seed, count, kinds = simulatorOptions.kinds }: SearchWorldOptions): SearchWorld {
  const random = makeRandom(`${seed}/quickstart/searches`);
  const inventor = new Inventor(source, `${seed}/quickstart/searches/invented`);
  const unambiguous = new Unambiguous(source.training);
  const invented = Array.from({ length: Math.max(8, Math.ceil(count / questionsPerCountry)) }, () => unambiguous.keep(inventor.country()));
  const countries = [...source.training, ...invented];
  const twins = new Map(
    countries.filter(() => random.chance(twinShare)).map((country) => [country, unambiguous.keep(inventor.twin(country))]),
  );
  const passages = passagesOf([...countries, ...twins.values()], random);
  const questions: SearchQuestion[] = [];
  while (questions.length < count) {
    const made = questionOf(String(questions.length), { source, invented, twins, random, kinds });
    if (made !== undefined) questions.push(made);
  }
  return { questions, passages };
}

/** Leaves facts out of countries that would let what stands for one country stand for another as well: a search would find both. */
class Unambiguous {
  readonly #taken: Set<string>;

  constructor(countries: readonly Country[]) {
    this.#taken = new Set(countries.flatMap((country) => Unambiguous.#values(country)));
  }

  keep(country: Country): Country {
    const facts = Object.fromEntries(
      Object.entries(country.facts).filter(([key, values]) => {
        const isBridge = bridgeRelations.some((relation) => relation.key === key);
        return !isBridge || !values.some((value) => this.#taken.has(`${key}/${normalizeWords(value)}`));
      }),
    );
    const kept = { ...country, facts };
    for (const value of Unambiguous.#values(kept)) this.#taken.add(value);
    return kept;
  }

  static #values({ facts }: Country): string[] {
    return bridgeRelations.flatMap(({ key }) => (facts[key] ?? []).map((value) => `${key}/${normalizeWords(value)}`));
  }
}

/** Up to three values of each fact, each in one sentence or two. */
function passagesOf(countries: readonly Country[], random: Random): Passage[] {
  const passages: Passage[] = [];
  const seen = new Set<string>();
  for (const country of countries)
    for (const relation of relations)
      for (const value of (country.facts[relation.key] ?? []).slice(0, 3)) {
        const kinds = new Set([
          sentenceKind(random.next(), defaultSentenceShares),
          ...(random.chance(0.4) ? [sentenceKind(random.next(), defaultSentenceShares)] : []),
          ...(relation.bridgePhrase === undefined ? [] : ["inverse" as const]),
        ]);
        for (const kind of kinds) {
          const text = sentence(kind, relation, country.name, value);
          if (!seen.has(text)) passages.push({ id: String(passages.length), text });
          seen.add(text);
        }
      }
  return passages;
}

interface Parts {
  readonly source: InventedSource;
  readonly invented: readonly Country[];
  readonly twins: ReadonlyMap<Country, Country>;
  readonly random: Random;
  readonly kinds: Readonly<Record<QueryKind, number>>;
}

function questionOf(id: string, parts: Parts): SearchQuestion | undefined {
  const { source, invented, random } = parts;
  const kind = random.weighted({ ...parts.kinds });
  const isInvented = random.chance(kind === "bridge" ? simulatorOptions.bridgeInvented : simulatorOptions.invented);
  const hops = kind === "bridge" || random.chance(0.5) ? 2 : 1;
  const plan = makeHops(random.pick(isInvented ? invented : source.training), hops, random);
  if (plan === undefined) return undefined;
  const [first, last] = [plan[0] as Hop, plan[plan.length - 1] as Hop];
  const question =
    plan.length === 1
      ? singleHopText(last.relation, last.country.name, random.chance(0.5) ? 1 : 0)
      : twoHopText(last.relation, first.relation, first.value);
  const attempt = random.chance(0.75) ? 0 : random.chance(0.6) ? 1 : 2;
  const row = (text: string, answers: readonly string[]): SearchQuestion => ({
    id,
    question,
    // The simulator is told the first.
    golden_answers: random.shuffle(hopAnswers(last)),
    data_source: "quickstart-invented",
    metadata: { kind, queries: [{ query: text, answers }] },
  });
  if (kind === "last") {
    const asked = attempt === 2 && plan.length === 1 ? question : query(last.relation, last.country.name, attempt);
    return row(asked, hopAnswers(last));
  }
  if (kind === "bridge") {
    const u = random.next();
    const asked = u < 0.15 ? question : u < 0.25 ? query(last.relation, first.value) : bridgeQuery(first.relation, first.value, attempt);
    return row(asked, [last.country.name]);
  }
  const sloppy = sloppyQuery(last, others(plan, isInvented, parts), random);
  const { country, relation } = sloppy;
  // What asks for nothing definite is answered by whatever is about it.
  if (country === undefined || relation === undefined) return row(sloppy.query, [country?.name ?? last.relation.noun]);
  return row(sloppy.query, country.facts[relation] ?? []);
}

/**
 * Countries that a sloppy query may ask about instead, the country's twin as often as not. In a two-hop question about an invented country nothing tells which
 * country is meant, so that another one cannot be known for another.
 */
function others(plan: readonly Hop[], isInvented: boolean, { source, invented, twins, random }: Parts): readonly Country[] {
  if (plan.length === 2 && isInvented) return [];
  const twin = twins.get((plan[0] as Hop).country);
  if (twin !== undefined && random.chance(0.7)) return [twin];
  return random.chance(0.5) ? invented : source.training;
}
