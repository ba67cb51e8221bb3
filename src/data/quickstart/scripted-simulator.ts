/**
 * Fine-tuning examples for the simulator, made the paper's way: scripted queries go to a search engine over a training corpus, each document is labelled useful or
 * noisy for its query (by the facts, which know; the paper asks a model), and sets are put together from the labelled documents.
 */
import type { Country } from "./countries.ts";
import { hopAnswers, makeHops, type Hop } from "./documents.ts";
import { Inventor, type InventedSource } from "./invented.ts";
import { MiniBm25 } from "./mini-bm25.ts";
import { simulatorPrompt } from "./prompts.ts";
import { makeRandom, type Random } from "../random.ts";
import {
  bridgeQuery,
  bridgeRelations,
  defaultSentenceShares,
  query,
  relations,
  sentence,
  sentenceKind,
  type RelationKey,
  type SentenceShares,
} from "./relations.ts";
import type { Segment } from "./policy-options.ts";
import { containsAny, containsWords } from "./words.ts";
import { singleHopText, twoHopText } from "./world.ts";

/** What a query asks for: the gold answer, the country between two hops, or something else than it should. */
export type QueryKind = "last" | "bridge" | "sloppy";

/** All that may be varied in the simulator's data. */
export interface SimulatorOptions {
  readonly kinds: Readonly<Record<QueryKind, number>>;
  readonly usefulShare: number;
  /** Share of last-hop and sloppy questions about invented countries; bridges are asked of real ones, which the simulator must know. */
  readonly invented: number;
  readonly bridgeInvented: number;
  /** Share of noisy sets that do not name what was asked for. */
  readonly foreignNoise: number;
  /** Share of noisy sets drawn at random, about other relations too, instead of from what the search brings up: plainly beside the point. */
  readonly randomNoise: number;
  readonly goldWeight: number;
  readonly distractorWeight: number;
  readonly noiseWeight: number;
  readonly sloppyWeight: number;
  readonly promptWeight: number;
  /** Share of examples that only drill the bridge facts of training countries, which the simulator must know by heart. */
  readonly drill: number;
  /** Share of useful sets with two documents that tell the answer, where there are two. */
  readonly twice: number;
  readonly sentences: SentenceShares;
}

/** The quickstart's choice. */
export const simulatorOptions: SimulatorOptions = {
  kinds: { last: 0.5, bridge: 0.22, sloppy: 0.28 },
  usefulShare: 0.6,
  invented: 0.65,
  bridgeInvented: 0.1,
  foreignNoise: 0.85,
  randomNoise: 0.6,
  goldWeight: 1,
  distractorWeight: 0.3,
  noiseWeight: 1,
  sloppyWeight: 1,
  promptWeight: 0.05,
  drill: 0.12,
  twice: 0.75,
  sentences: defaultSentenceShares,
};

/** A document of the training corpus and what it tells. */
interface LabelledPassage {
  readonly text: string;
  readonly country: Country;
  readonly relation: RelationKey;
  readonly value: string;
}

/** Relations that many countries share a value of: told about another country they would give the answer away in a noisy set. */
const fewValues: ReadonlySet<RelationKey> = new Set(["region", "subregion", "language", "currency", "border"]);
/** Passages drawn at random for a noisy set. */
const randomPassages = 16;
const blockSize = 2000;
const inventedPerBlock = 160;
/** Share of a block's countries that have a twin of nearly the same name: a miscopied name must not be given the gold answer. */
const twinShare = 0.35;

/**
 * A sloppy query for a hop: another relation, another country, or too little. What a real engine would answer is `relation` of `country`.
 * @param others - countries to ask about instead; none where it cannot be told from the question that they are others
 */
export function sloppyQuery(
  last: Hop,
  others: readonly Country[],
  random: Random,
): { query: string; country?: Country; relation?: RelationKey } {
  const own = last.country;
  const u = random.next();
  const country = u < 0.5 || others.length === 0 ? own : random.pick(others);
  const keys = relations.filter(({ key }) => country.facts[key] !== undefined && (country !== own || key !== last.relation.key));
  if (u < 0.1) return { query: own.name, country: own };
  if (u > 0.9) return { query: random.pick([`${last.relation.noun} of the country`, last.relation.noun]), relation: last.relation.key };
  const same = keys.find(({ key }) => key === last.relation.key);
  const relation = same !== undefined && random.chance(0.7) ? same : random.pick(keys);
  return { query: query(relation, country.name, random.chance(0.8) ? 0 : 1), country, relation: relation.key };
}

/** Writes simulator examples; one instance is one deterministic stream. */
export class SimulatorScript {
  readonly #random: Random;
  readonly #options: SimulatorOptions;
  readonly #source: InventedSource;
  readonly #purpose: string;
  #made = 0;
  #invented: readonly Country[] = [];
  #twins: ReadonlyMap<Country, Country> = new Map();
  #corpus: LabelledPassage[] = [];
  #index = new MiniBm25([]);

  /** @param purpose - names seed and purpose, for instance "7/simulator" */
  constructor(source: InventedSource, purpose: string, options: SimulatorOptions = simulatorOptions) {
    this.#source = source;
    this.#purpose = purpose;
    this.#options = options;
    this.#random = makeRandom(purpose);
  }

  /** Every `blockSize` examples other countries are invented and the corpus is indexed anew, so that none is met often enough to be remembered. */
  #newBlock(): void {
    const inventor = new Inventor(this.#source, `${this.#purpose}/block/${this.#made / blockSize}`);
    this.#invented = Array.from({ length: inventedPerBlock }, () => inventor.country());
    const countries = [...this.#source.training, ...this.#invented];
    this.#twins = new Map(countries.filter(() => this.#random.chance(twinShare)).map((country) => [country, inventor.twin(country)]));
    this.#corpus = [];
    for (const country of [...countries, ...this.#twins.values()]) {
      for (const relation of relations) {
        for (const value of (country.facts[relation.key] ?? []).slice(0, 3)) {
          const first = sentenceKind(this.#random.next(), this.#options.sentences);
          const kinds = new Set([
            first,
            ...(this.#random.chance(0.4) ? [sentenceKind(this.#random.next(), this.#options.sentences)] : []),
            ...(relation.bridgePhrase === undefined ? [] : ["inverse" as const]),
          ]);
          for (const kind of kinds)
            this.#corpus.push({ text: sentence(kind, relation, country.name, value), country, relation: relation.key, value });
        }
      }
    }
    this.#index = new MiniBm25(this.#corpus.map((passage) => passage.text));
  }

  /** The next example: prompt, then the documents with their weights. */
  next(): Segment[] {
    for (;;) {
      if (this.#made % blockSize === 0) this.#newBlock();
      this.#made++;
      const example = this.#attempt();
      if (example !== undefined) return example;
    }
  }

  #attempt(): Segment[] | undefined {
    const random = this.#random;
    const options = this.#options;
    if (random.chance(options.drill)) return this.#drill();
    const kind = random.weighted({ ...options.kinds });
    const useful = random.chance(options.usefulShare);
    const invented = random.chance(kind === "bridge" ? options.bridgeInvented : options.invented);
    const plan = makeHops(
      random.pick(invented ? this.#invented : this.#source.training),
      kind === "bridge" || random.chance(0.5) ? 2 : 1,
      random,
    );
    if (plan === undefined) return undefined;
    const [first, last] = [plan[0] as Hop, plan[plan.length - 1] as Hop];
    const question =
      plan.length === 1
        ? singleHopText(last.relation, last.country.name, random.chance(0.5) ? 1 : 0)
        : twoHopText(last.relation, first.relation, first.value);
    const golds = hopAnswers(last);
    const attempt = random.chance(0.75) ? 0 : random.chance(0.6) ? 1 : 2;
    let text: string;
    let answers: (passage: LabelledPassage) => boolean;
    let names = last.country.name;
    if (kind === "last") {
      text = attempt === 2 && plan.length === 1 ? question : query(last.relation, last.country.name, attempt);
      answers = (passage) => passage.country === last.country && passage.relation === last.relation.key;
    } else if (kind === "bridge") {
      const u = random.next();
      text = u < 0.15 ? question : u < 0.25 ? query(last.relation, first.value) : bridgeQuery(first.relation, first.value, attempt);
      names = first.value;
      answers = (passage) => passage.country === first.country && passage.relation === first.relation.key;
    } else {
      const sloppy = sloppyQuery(last, this.#others(plan, invented), random);
      text = sloppy.query;
      names = sloppy.country?.name ?? "";
      answers = (passage) =>
        (sloppy.country === undefined || passage.country === sloppy.country) &&
        (sloppy.relation === undefined || passage.relation === sloppy.relation);
    }
    const keep = (passage: LabelledPassage): boolean => (kind === "last" && useful) || !containsAny(passage.text, golds);
    const found = this.#index
      .search(text, useful ? 16 : 60)
      .map((id) => this.#corpus[id] as LabelledPassage)
      .filter(keep);
    const answer = random.pick(golds);
    const right = found.filter(answers).sort((a, b) => Number(b.value === answer) - Number(a.value === answer));
    const wrong = found.filter(
      (passage) => !answers(passage) && !(kind === "bridge" && containsAny(passage.text, [first.country.name, first.value])),
    );
    const documents = useful ? this.#usefulSet(right, wrong) : this.#noisySet(this.#noise(wrong, last, keep, answers), names);
    if (documents === undefined) return undefined;
    const weight = (passage: LabelledPassage): number => {
      if (!useful) return options.noiseWeight;
      if (!right.includes(passage)) return options.distractorWeight;
      return kind === "sloppy" ? options.sloppyWeight : options.goldWeight;
    };
    return [
      { kind: "prompt", text: simulatorPrompt({ question, answer, query: text, useful }), weight: options.promptWeight },
      ...documents.map((passage, i): Segment => ({
        kind: "policy",
        text: `Doc ${i + 1}: ${passage.text}${i < 2 ? "\n" : ""}`,
        weight: weight(passage),
      })),
    ];
  }

  /**
   * Countries that a sloppy query may ask about instead, the country's twin as often as not. In a two-hop question about an invented country nothing tells which
   * country is meant, so that another one cannot be known for another.
   */
  #others(plan: readonly Hop[], invented: boolean): readonly Country[] {
    if (plan.length === 2 && invented) return [];
    const twin = this.#twins.get((plan[0] as Hop).country);
    if (twin !== undefined && this.#random.chance(0.7)) return [twin];
    return this.#random.chance(0.5) ? this.#invented : this.#source.training;
  }

  /** Three documents about bridge facts of training countries, without a prompt: only the country's name is learnt. */
  #drill(): Segment[] {
    const segments: Segment[] = [];
    for (let i = 0; i < 3;) {
      const country = this.#random.pick(this.#source.training);
      const relation = this.#random.pick(bridgeRelations);
      const value = country.facts[relation.key]?.[0];
      if (value === undefined) continue;
      const [told, name] = splitBefore(sentence("inverse", relation, country.name, value), ` ${country.name}`);
      segments.push({ kind: "prompt", text: `${i === 0 ? "" : "\n"}Doc ${i + 1}: ${told}`, weight: this.#options.promptWeight });
      segments.push({ kind: "policy", text: name, weight: 1 });
      i++;
    }
    return segments;
  }

  /**
   * What a noisy set is drawn from: passages at random about other relations, or what the search found with some of those; none of a
   * relation whose values many countries share with the answer's.
   */
  #noise(
    wrong: readonly LabelledPassage[],
    last: Hop,
    keep: (passage: LabelledPassage) => boolean,
    answers: (passage: LabelledPassage) => boolean,
  ): LabelledPassage[] {
    const others = Array.from({ length: randomPassages }, () => this.#random.pick(this.#corpus)).filter(
      (passage) => keep(passage) && !answers(passage),
    );
    if (this.#random.chance(this.#options.randomNoise)) return others.filter(({ relation }) => relation !== last.relation.key);
    const leaks = (passage: LabelledPassage): boolean => passage.relation === last.relation.key && fewValues.has(passage.relation);
    return [...wrong, ...others].filter((passage) => !leaks(passage));
  }

  /** At least one useful document, and a second one in the share `twice` of the sets that have one. */
  #usefulSet(right: readonly LabelledPassage[], wrong: readonly LabelledPassage[]): LabelledPassage[] | undefined {
    if (right.length === 0) return undefined;
    const set = right.slice(0, this.#random.chance(this.#options.twice) ? 2 : 1);
    set.push(...this.#random.shuffle(wrong.slice(0, 6)).slice(0, 3 - set.length));
    if (set.length < 3) return undefined;
    return this.#random.chance(0.4) ? set : this.#random.shuffle(set);
  }

  /** No gold, and mostly nothing that names what was asked for. */
  #noisySet(wrong: readonly LabelledPassage[], names: string): LabelledPassage[] | undefined {
    const foreign = this.#random.chance(this.#options.foreignNoise);
    const pool = foreign && names !== "" ? wrong.filter((passage) => !containsWords(passage.text, names)) : wrong;
    const set = this.#random.shuffle([...pool.slice(0, 10), ...pool.slice(10).slice(-10)]).slice(0, 3);
    return set.length < 3 ? undefined : set;
  }
}

function splitBefore(text: string, part: string): [string, string] {
  const at = text.lastIndexOf(part);
  return [text.slice(0, at), text.slice(at)];
}
