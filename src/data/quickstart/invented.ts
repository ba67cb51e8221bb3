/**
 * Countries that do not exist. Names met in training are remembered, names never met must be copied: without invented countries a small model never learns to copy
 *. Names are syllables, or the head of one training name glued to the tail of another; facts are invented or borrowed.
 */
import { givesAway, type Country } from "./countries.ts";
import { makeRandom, type Random } from "../random.ts";
import { relations, type RelationKey } from "./relations.ts";
import { normalizeWords } from "./words.ts";
import type { World } from "./world.ts";

const onsets = "b br c ch d dr f fr g gr gu h j k kh l m n p ph pr qu r s sh st t tr v w y z".split(" ");
const vowels = "a a a e e i i o o u ai au ei ia io ou ue á é ö".split(" ");
const codas = ["", "", "", "", "l", "m", "n", "n", "r", "r", "s", "t", "nd", "ng", "rt", "ck", "sk"];
const endings = "ia ia a land stan istan an ana ania esia o u on os ras in ar e ique bourg ville".split(" ");
const titles = ["Islands", "Republic", "Island", "Coast", "City", "Territory", "States", "Kingdom"];
const fronts = ["Saint", "North", "South", "New", "East", "Western", "San", "Port", "El", "Upper", "Great"];
const moneyWords = "dollar franc pound peso krone dinar rupee shilling mark lira rand riyal dram kwacha".split(" ");
const demonymEndings = ["n", "an", "ian", "ese", "ish", "i", "er", "ean", "ic"];

function capitalised(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

/** What a maker of invented countries needs to know of the real ones. */
export interface InventedSource {
  /** Training countries, cleaned: the only real ones that lend names and values. */
  readonly training: readonly Country[];
  /** Names that must never be invented: all held-out ones. */
  readonly forbidden: readonly string[];
}

/** What data making may know of a world: its training countries, and which names it must not hit upon. */
export function inventedSource(world: World): InventedSource {
  return { training: world.training, forbidden: [...world.split.validation, ...world.split.test].flatMap((country) => country.aliases) };
}

/** Invents names, values and whole countries from one seed. */
export class Inventor {
  readonly #random: Random;
  readonly #pieces: readonly string[];
  readonly #forbidden: Set<string>;
  readonly #training: readonly Country[];
  readonly #values: ReadonlyMap<RelationKey, readonly string[]>;

  constructor(source: InventedSource, purpose: string) {
    this.#random = makeRandom(purpose);
    this.#training = source.training;
    this.#forbidden = new Set(source.forbidden.flatMap((name) => [normalizeWords(name), ...normalizeWords(name).split(" ")]));
    this.#pieces = source.training
      .flatMap((country) => [country.name, ...(country.facts.capital ?? [])])
      .flatMap((name) => name.split(/[ -]/))
      .filter((word) => /^\p{L}{5,}$/u.test(word));
    this.#values = new Map(relations.map(({ key }) => [key, [...new Set(source.training.flatMap((country) => country.facts[key] ?? []))]]));
  }

  #syllables(count: number): string {
    let word = "";
    for (let i = 0; i < count; i++)
      word +=
        this.#random.pick(onsets) +
        this.#random.pick(vowels) +
        (i === count - 1 || this.#random.chance(0.35) ? this.#random.pick(codas) : "");
    return word;
  }

  /** One capitalised word that names nothing held out. */
  word(): string {
    for (;;) {
      const u = this.#random.next();
      let word: string;
      if (u < 0.35) {
        const a = this.#random.pick(this.#pieces);
        const b = this.#random.pick(this.#pieces);
        word = a.slice(0, 2 + this.#random.below(3)) + b.slice(-(2 + this.#random.below(3)));
      } else if (u < 0.75) word = this.#syllables(1 + this.#random.below(2)) + this.#random.pick(endings);
      else word = this.#syllables(2 + this.#random.below(2));
      word = capitalised(word.toLowerCase());
      if (!this.#forbidden.has(normalizeWords(word))) return word;
    }
  }

  /** A name of one to three words. */
  name(): string {
    const u = this.#random.next();
    if (u < 0.66) return this.word();
    if (u < 0.76) return `${this.#random.pick(fronts)} ${this.word()}`;
    if (u < 0.86) return `${this.word()} ${this.#random.pick(titles)}`;
    if (u < 0.92) return `${this.word()} and ${this.word()}`;
    if (u < 0.96) return `${this.word()}-${this.word()}`;
    return `${this.word()} ${this.word()}`;
  }

  #demonym(name: string): string {
    const stem = (name.split(/[ -]/)[0] as string).replace(/[aeiou]+$/, "");
    return (stem.length > 2 ? stem : this.word()) + this.#random.pick(demonymEndings);
  }

  /** A value that some training country has. */
  borrowed(relation: RelationKey): string {
    return this.#random.pick(this.#values.get(relation) ?? []);
  }

  /** A right-looking value of a relation for a country of this name: invented, or borrowed from a training country. */
  value(relation: RelationKey, name: string): string {
    const borrowed = (share: number): string | undefined => (this.#random.chance(share) ? this.borrowed(relation) : undefined);
    switch (relation) {
      case "capital":
        return borrowed(0.15) ?? this.name();
      case "region":
        return borrowed(0.9) ?? this.word();
      case "subregion":
        return borrowed(0.75) ?? `${this.#random.pick(["Northern", "Southern", "Western", "Eastern", "Central", "Middle"])} ${this.word()}`;
      case "language":
        return borrowed(0.4) ?? this.#random.pick([`${this.word()}ish`, this.word(), `${this.word()}i`]);
      case "currency":
        return (
          borrowed(0.3) ??
          `${this.#random.chance(0.5) ? this.#demonym(name) : this.#demonym(this.word())} ${this.#random.chance(0.7) ? this.#random.pick(moneyWords) : this.word().toLowerCase()}`
        );
      case "demonym":
        return borrowed(0.1) ?? (this.#random.chance(0.5) ? this.#demonym(name) : this.#demonym(this.word()));
      case "domain":
        return borrowed(0.1) ?? `.${this.#letters(2).toLowerCase()}`;
      case "iso":
        return borrowed(0.1) ?? (this.#random.chance(0.5) ? this.#letters(3) : this.#letters(3, name));
      case "border":
        return borrowed(0.4) ?? this.name();
      default:
        return borrowed(0.2) ?? this.name();
    }
  }

  #letters(count: number, from = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"): string {
    const alphabet =
      normalizeWords(from)
        .toUpperCase()
        .replace(/[^A-Z]/g, "") || "XYZ";
    let code = "";
    while (code.length < count) code += alphabet.charAt(this.#random.below(alphabet.length));
    return code;
  }

  #facts(name: string): Partial<Record<RelationKey, readonly string[]>> {
    const facts: Partial<Record<RelationKey, readonly string[]>> = {};
    for (const { key } of relations) {
      const count = (key === "language" || key === "border") && this.#random.chance(0.3) ? 2 : 1;
      const values = new Set<string>();
      for (let tries = 0; values.size < count && tries < 8; tries++) {
        const value = this.value(key, name);
        if (!givesAway(key, name, value)) values.add(value);
      }
      if (values.size > 0) facts[key] = [...values];
    }
    return facts;
  }

  #called(name: string): Country {
    return { id: `~${name}`, name, facts: this.#facts(name), aliases: [name] };
  }

  /** An invented country with invented facts. */
  country(): Country {
    return this.#called(this.name());
  }

  /** A country whose name is nearly this one's, one word having another head or tail, with facts of its own. */
  twin(of: Country): Country {
    for (;;) {
      const words = of.name.split(" ");
      const at = words.reduce((longest, word, i) => (word.length > (words[longest] as string).length ? i : longest), 0);
      const own = words[at] as string;
      const other = this.word();
      const cut = 1 + Math.floor(own.length / 2);
      words[at] = this.#random.chance(0.75)
        ? own.slice(0, cut) + other.slice(-(2 + this.#random.below(3)))
        : other.slice(0, 2 + this.#random.below(2)) + own.slice(cut - 1);
      const name = words.join(" ");
      if (name === of.name || words.some((word) => this.#forbidden.has(normalizeWords(word)) && !of.name.includes(word))) continue;
      return this.#called(name);
    }
  }

  /** A real training country with false facts. */
  falseCountry(): Country {
    return this.#called(this.#random.pick(this.#training).name);
  }
}

/** Shares of the countries that examples are about; they are drawn per example. */
export interface SubjectShares {
  readonly invented: number;
  readonly false: number;
  readonly real: number;
}

/** Quickstart-recipe.md 3. */
export const defaultSubjectShares: SubjectShares = { invented: 0.6, false: 0.1, real: 0.3 };

/** Supplies the subject of each example and other countries to go with it. */
export class Cast {
  readonly inventor: Inventor;
  readonly #pool: Country[] = [];
  readonly #random: Random;
  readonly #training: readonly Country[];
  readonly #shares: SubjectShares;

  constructor(source: InventedSource, purpose: string, shares: SubjectShares = defaultSubjectShares) {
    this.#random = makeRandom(`${purpose}/cast`);
    this.inventor = new Inventor(source, `${purpose}/invented`);
    this.#training = source.training;
    this.#shares = shares;
    for (let i = 0; i < 64; i++) this.#pool.push(this.inventor.country());
  }

  /** The country an example is about. */
  subject(): Country {
    const kind = this.#random.weighted({ ...this.#shares });
    if (kind === "real") return this.#random.pick(this.#training);
    const made = kind === "false" ? this.inventor.falseCountry() : this.inventor.country();
    if (kind === "invented") this.#pool[this.#random.below(this.#pool.length)] = made;
    return made;
  }

  /** Another country than this one: invented as often as subjects are. */
  other(than: Country): Country {
    for (;;) {
      const other = this.#random.chance(this.#shares.invented) ? this.#random.pick(this.#pool) : this.#random.pick(this.#training);
      if (other.name !== than.name) return other;
    }
  }
}
