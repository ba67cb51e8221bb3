/** Scripted document sets: what a search may return for a hop, useful or noisy. */
import type { Country } from "./countries.ts";
import type { Cast } from "./invented.ts";
import type { Random } from "../random.ts";
import {
  bridgeRelations,
  relationOf,
  relations,
  sentence,
  sentenceKind,
  type Relation,
  type RelationKey,
  type SentenceShares,
} from "./relations.ts";
import { containsAny } from "./words.ts";

/** One hop of a question: either "which value has this country?" or, for a bridge, "which country has this value?". */
export interface Hop {
  readonly kind: "fact" | "bridge";
  readonly country: Country;
  readonly relation: Relation;
  /** The value that the scripted policy reads (fact) or that stands for the country (bridge). */
  readonly value: string;
}

/** What a noisy set is about. None holds an answer of the hop. */
export type NoiseKind = "foreign" | "sameRelation" | "sameCountry" | "mixed";

/** Shares of the kinds of noise; `foreign` and `sameRelation` never name the asked country. */
export type NoiseShares = Readonly<Record<NoiseKind, number>>;

/** Seven tenths of the noisy sets do not name the asked country at all. */
export const defaultNoiseShares: NoiseShares = { foreign: 0.4, sameRelation: 0.3, sameCountry: 0.15, mixed: 0.15 };

/** The strings that answer a hop. */
export function hopAnswers(hop: Hop): readonly string[] {
  return hop.kind === "fact" ? (hop.country.facts[hop.relation.key] ?? []) : [hop.country.name];
}

/** Strings that must not stand in noisy documents of a hop: its answers, and for a bridge what is asked by. */
function avoid(hop: Hop): readonly string[] {
  return hop.kind === "fact" ? hopAnswers(hop) : [hop.country.name, hop.value];
}

function relationsOf(country: Country): RelationKey[] {
  return relations.filter(({ key }) => country.facts[key] !== undefined).map(({ key }) => key);
}

/** Makes document sets of three. */
export class DocumentMaker {
  readonly #random: Random;
  readonly #cast: Cast;
  readonly #shares: SentenceShares;

  constructor(random: Random, cast: Cast, shares: SentenceShares) {
    this.#random = random;
    this.#cast = cast;
    this.#shares = shares;
  }

  /** A sentence about any or the given relation of a country; a bridge relation is told the inverse way round now and then. */
  #tell(country: Country, key?: RelationKey, inverseShare = 0.3): string {
    const chosen = key !== undefined && country.facts[key] !== undefined ? key : this.#random.pick(relationsOf(country));
    const relation = relationOf(chosen);
    const value = this.#random.pick(country.facts[chosen] as readonly string[]);
    const inverse = relation.bridgePhrase !== undefined && this.#random.chance(inverseShare);
    return sentence(inverse ? "inverse" : sentenceKind(this.#random.next(), this.#shares), relation, country.name, value);
  }

  #noiseSentence(hop: Hop, kind: NoiseKind): string {
    const other = this.#cast.other(hop.country);
    const inverseShare = hop.kind === "bridge" ? 0.6 : 0.3;
    switch (kind) {
      case "foreign":
        return this.#tell(other, undefined, inverseShare);
      case "sameRelation":
        return this.#tell(other, hop.relation.key, inverseShare);
      case "sameCountry": {
        const keys = relationsOf(hop.country).filter((key) => key !== hop.relation.key);
        return keys.length === 0 ? this.#tell(other) : this.#tell(hop.country, this.#random.pick(keys));
      }
      case "mixed":
        return this.#noiseSentence(hop, this.#random.pick(["foreign", "sameRelation", "sameCountry"] as const));
    }
  }

  #clean(hop: Hop, taken: readonly string[], make: () => string): string {
    const banned = avoid(hop);
    for (let tries = 0; ; tries++) {
      const text = tries < 12 ? make() : this.#tell(this.#cast.other(hop.country));
      if (tries > 60 || (!taken.includes(text) && !containsAny(text, banned))) return text;
    }
  }

  /** Three documents without an answer. */
  noisy(hop: Hop, shares: NoiseShares): string[] {
    let kind = this.#random.weighted({ ...shares });
    if (hop.kind === "bridge" && kind !== "foreign") kind = "sameRelation";
    const set: string[] = [];
    while (set.length < 3) set.push(this.#clean(hop, set, () => this.#noiseSentence(hop, kind)));
    return set;
  }

  /** One or two documents that tell the value, then others that tell further values (several neighbours), then distractors of the kinds that BM25 brings up. */
  useful(hop: Hop): string[] {
    const { country, relation, value } = hop;
    const gold: string[] = [];
    const plain = sentence(sentenceKind(this.#random.next(), this.#shares), relation, country.name, value);
    if (relation.bridgePhrase === undefined) gold.push(plain);
    else {
      const inverse = sentence("inverse", relation, country.name, value);
      if (this.#random.chance(0.6)) gold.push(plain, inverse);
      else gold.push(this.#random.chance(hop.kind === "bridge" ? 0.75 : 0.25) ? inverse : plain);
    }
    const set = gold.slice();
    const further = hop.kind === "bridge" ? [] : (country.facts[relation.key] ?? []).filter((other) => other !== value);
    for (const other of this.#random.shuffle(further)) {
      if (set.length < 3 && this.#random.chance(0.8))
        set.push(sentence(sentenceKind(this.#random.next(), this.#shares), relation, country.name, other));
    }
    const values = set.length;
    while (set.length < 3) {
      const kind: NoiseKind =
        hop.kind === "bridge"
          ? this.#random.pick(["sameRelation", "foreign"] as const)
          : this.#random.chance(0.6)
            ? "sameCountry"
            : "sameRelation";
      set.push(this.#clean(hop, set, () => this.#noiseSentence(hop, kind)));
    }
    const shuffled = this.#random.shuffle(set);
    // The value that the policy reads must be the first that is told; and a real engine has it in the first document more often than not.
    const at = shuffled.indexOf(gold[0] as string);
    const first = this.#random.chance(0.2) ? 0 : shuffled.findIndex((text) => set.indexOf(text) < values);
    [shuffled[first], shuffled[at]] = [shuffled[at] as string, shuffled[first] as string];
    return shuffled;
  }
}

/** The hops of a question about one fact: one, or two by way of a bridge relation. Undefined when the country lacks the facts. */
export function makeHops(country: Country, hops: 1 | 2, random: Random): Hop[] | undefined {
  const keys = relationsOf(country);
  if (keys.length < 2) return undefined;
  const bridges = bridgeRelations.filter((relation) => country.facts[relation.key] !== undefined);
  if (hops === 1) {
    const relation = relationOf(random.pick(keys));
    return [{ kind: "fact", country, relation, value: random.pick(country.facts[relation.key] as readonly string[]) }];
  }
  if (bridges.length === 0) return undefined;
  const bridge = random.pick(bridges);
  const relation = relationOf(random.pick(keys.filter((key) => key !== bridge.key)));
  return [
    { kind: "bridge", country, relation: bridge, value: (country.facts[bridge.key] as readonly string[])[0] as string },
    { kind: "fact", country, relation, value: random.pick(country.facts[relation.key] as readonly string[]) },
  ];
}
