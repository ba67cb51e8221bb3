/**
 * Countries and their facts, as read from npm `world-countries` (https://github.com/mledoze/countries, ODbL 1.0: files derived from it say so and attribute it).
 * The only file of this room that touches the package.
 */
import { createRequire } from "node:module";
import { relations, type RelationKey } from "./relations.ts";
import { containsWords, normalizeWords } from "./words.ts";

/** A country, real or invented. The first value of a fact is the one that the scripted policy prefers; each value is a right answer. */
export interface Country {
  /** ISO 3166 code of a real country, "~name" of an invented one. */
  readonly id: string;
  readonly name: string;
  readonly facts: Readonly<Partial<Record<RelationKey, readonly string[]>>>;
  /** Words that name it: the name and the demonyms, those too that are left out of the facts because they give the country away. */
  readonly aliases: readonly string[];
}

/** The fields of one record of countries.json that are used here. */
export interface CountryRecord {
  readonly name: { readonly common: string };
  readonly cca3: string;
  readonly tld?: readonly string[];
  readonly capital?: readonly string[];
  readonly region?: string;
  readonly subregion?: string;
  readonly languages?: Readonly<Record<string, string>>;
  readonly currencies?: Readonly<Record<string, { readonly name: string }>>;
  readonly demonyms?: Readonly<Record<string, { readonly f: string; readonly m: string }>>;
  readonly translations?: Readonly<Record<string, { readonly common: string }>>;
  readonly borders?: readonly string[];
}

/** Attribution that every derived file repeats. */
export const worldAttribution =
  "Facts derived from world-countries 5.1.0 by Mohammed Le Doze and contributors (https://github.com/mledoze/countries), Open Database License (ODbL) 1.0.";

/** Reads the package's countries.json. */
export function loadCountryRecords(): readonly CountryRecord[] {
  return createRequire(import.meta.url)("world-countries/countries.json") as readonly CountryRecord[];
}

/**
 * True when a value would give itself away, or be given away by the country's name: equal to it, one within the other ("German" in "Germany", "Bosnia and
 * Herzegovina convertible mark"), or a name in another language that shares a word with it.
 */
export function givesAway(relation: RelationKey, country: string, value: string): boolean {
  if (containsWords(value, country)) return true;
  if (relation === "border" || relation === "region" || relation === "subregion" || relation === "domain") return false;
  if (normalizeWords(country).includes(normalizeWords(value))) return true;
  const own = new Set(
    normalizeWords(country)
      .split(" ")
      .filter((word) => word.length > 2),
  );
  return normalizeWords(value)
    .split(" ")
    .some((word) => own.has(word));
}

function unique(values: readonly (string | undefined)[]): string[] {
  return [...new Set(values.filter((value): value is string => value !== undefined && value !== ""))];
}

function rawFacts(record: CountryRecord, names: ReadonlyMap<string, string>): Record<RelationKey, string[]> {
  const translated = (language: string): string[] => unique([record.translations?.[language]?.common]);
  return {
    capital: unique(record.capital ?? []),
    region: unique([record.region]),
    subregion: unique([record.subregion]),
    language: unique(Object.values(record.languages ?? {})),
    currency: unique(Object.values(record.currencies ?? {}).map((currency) => currency.name)),
    demonym: unique([record.demonyms?.["eng"]?.m, record.demonyms?.["eng"]?.f]),
    domain: unique(record.tld ?? [])
      .filter((domain) => /^\.[a-z]+$/.test(domain))
      .slice(0, 1),
    iso: [record.cca3],
    french: translated("fra"),
    german: translated("deu"),
    spanish: translated("spa"),
    polish: translated("pol"),
    turkish: translated("tur"),
    border: unique((record.borders ?? []).map((code) => names.get(code))),
  };
}

/**
 * All countries with a capital, sorted by id. A fact is left out as a whole when one of its values gives itself away (see `givesAway`).
 * @param records - the package's records, for instance from `loadCountryRecords()`
 */
export function makeCountries(records: readonly CountryRecord[]): Country[] {
  const kept = records.filter((record) => (record.capital?.[0] ?? "") !== "");
  const names = new Map(kept.map((record) => [record.cca3, record.name.common]));
  return kept
    .map((record) => {
      const raw = rawFacts(record, names);
      const facts: Partial<Record<RelationKey, readonly string[]>> = {};
      for (const { key } of relations) {
        const values = raw[key];
        if (values.length > 0 && !values.some((value) => givesAway(key, record.name.common, value))) facts[key] = values;
      }
      return { id: record.cca3, name: record.name.common, facts, aliases: [record.name.common, ...raw.demonym] };
    })
    .sort((a, b) => (a.id < b.id ? -1 : 1));
}
