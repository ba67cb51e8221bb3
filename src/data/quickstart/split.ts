/** Which countries are trained on, which choose the best state, and which judge it. */
import { ConfigError } from "../../util/errors.ts";
import type { Country } from "./countries.ts";
import { makeRandom } from "../random.ts";
import { relations, type RelationKey } from "./relations.ts";
import { containsAny, normalizeWords } from "./words.ts";

/** The three sides. */
export type SplitName = "train" | "validation" | "test";

/** Countries of each side, sorted by id. */
export type Split = Readonly<Record<SplitName, readonly Country[]>>;

/** How many countries are held out. */
export interface SplitSizes {
  readonly validation: number;
  readonly test: number;
}

const commonWords = new Set(
  "islands island saint republic united states new south north british french us and of the territory ocean southern northern city east west western".split(
    " ",
  ),
);

/** Names that share a word, or one of which holds the other, must be on one side: "Sudan" would give away half of "South Sudan". */
function groupByName(countries: readonly Country[]): Country[][] {
  const parent = countries.map((_, i) => i);
  const find = (i: number): number => {
    while (parent[i] !== i) i = parent[i] as number;
    return i;
  };
  const norms = countries.map((country) => normalizeWords(country.name));
  const words = norms.map((norm) => new Set(norm.split(" ").filter((word) => word.length > 2 && !commonWords.has(word))));
  for (let i = 0; i < countries.length; i++) {
    for (let j = i + 1; j < countries.length; j++) {
      const a = norms[i] as string;
      const b = norms[j] as string;
      const shared = [...(words[i] as Set<string>)].some((word) => (words[j] as Set<string>).has(word));
      if (shared || a.includes(b) || b.includes(a)) parent[find(j)] = find(i);
    }
  }
  const groups = new Map<number, Country[]>();
  countries.forEach((country, i) => {
    const root = find(i);
    groups.set(root, [...(groups.get(root) ?? []), country]);
  });
  return [...groups.values()];
}

/** Facts in which a country may be named although it is held out: its neighbours' border lists are cut instead. */
function namedElsewhere(country: Country, all: readonly Country[]): boolean {
  if (relations.some(({ noun }) => containsAny(noun, country.aliases))) return true;
  return all.some(
    (other) =>
      other.id !== country.id &&
      (Object.entries(other.facts) as [RelationKey, readonly string[]][]).some(
        ([key, values]) => key !== "border" && key !== "iso" && values.some((value) => containsAny(value, country.aliases)),
      ),
  );
}

/**
 * Splits countries. A country whose name or demonym stands in the facts of another ("British pound", the language Dutch) or in a relation's own
 * ("German name") is trained on, and so is everything
 * that shares a word with it; the rest is shuffled by name group and held out until the sizes are reached.
 * @throws ConfigError when they cannot be reached
 */
export function splitCountries(countries: readonly Country[], seed: number, sizes: SplitSizes = { validation: 25, test: 45 }): Split {
  const sides: Record<SplitName, Country[]> = { train: [], validation: [], test: [] };
  const groups = groupByName(countries);
  const free: Country[][] = [];
  for (const group of groups) {
    if (group.length > 3 || group.some((country) => namedElsewhere(country, countries))) sides.train.push(...group);
    else free.push(group);
  }
  for (const group of makeRandom(`${seed}/quickstart/split`).shuffle(free)) {
    const side: SplitName =
      sides.test.length + group.length <= sizes.test
        ? "test"
        : sides.validation.length + group.length <= sizes.validation
          ? "validation"
          : "train";
    sides[side].push(...group);
  }
  for (const name of ["test", "validation"] as const) {
    if (sides[name].length < sizes[name]) {
      throw new ConfigError({
        where: "quickstart split",
        what: `too few countries to hold out for ${name}`,
        expected: String(sizes[name]),
        got: String(sides[name].length),
        hint: "Ask for fewer.",
      });
    }
  }
  for (const side of Object.values(sides)) side.sort((a, b) => (a.id < b.id ? -1 : 1));
  return sides;
}

/**
 * The training countries as the policy and the simulator may see them: every value that names a held-out country or its demonym is gone, and a fact whose values
 * are all gone too.
 */
export function cleanTraining(split: Split): Country[] {
  const heldOut = [...split.validation, ...split.test];
  const banned = heldOut.flatMap((country) => country.aliases).filter((name) => normalizeWords(name).length > 2);
  const bannedExactly = new Set(heldOut.flatMap((country) => country.facts.capital ?? []).map(normalizeWords));
  return split.train.map((country) => {
    const facts: Partial<Record<RelationKey, readonly string[]>> = {};
    for (const [key, values] of Object.entries(country.facts) as [RelationKey, readonly string[]][]) {
      const kept = values.filter((value) => !bannedExactly.has(normalizeWords(value)) && !containsAny(value, banned));
      if (kept.length > 0) facts[key] = kept;
    }
    return { ...country, facts };
  });
}
