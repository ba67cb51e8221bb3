/** The setting `reward.kind`: a term by name, a weighted sum of terms such as `f1 + 0.2*format`, or a module of the user's own. */
import { z } from "zod";
import { termNames, type TermName, type WeightedTerm } from "../rl/reward-terms.ts";
import { ConfigError } from "../util/errors.ts";
import { isModuleFile } from "../util/fields.ts";
import { nearest } from "../util/nearest.ts";

const sums = 'a sum such as "f1 + 0.2*format"';
const names = `one of ${termNames.join(", ")}`;

/** A key of the configuration. */
export const rewardKind = (value: string, doc: string) =>
  z
    .string()
    .superRefine((text, context) => {
      if (isModuleFile(text)) return;
      try {
        parseReward(text);
      } catch (error) {
        context.addIssue({ code: "custom", params: { complaint: (error as ConfigError).complaint } });
      }
    })
    .default(value)
    .meta({ description: doc, path: true, names: termNames });

/**
 * Reads a term or a sum of terms: `[weight*]term` with + or - between; white space counts nowhere but inside a word. A term without a weight
 * weighs 1.
 * @throws ConfigError where it is neither, with the nearest name.
 */
export function parseReward(text: string): readonly WeightedTerm[] {
  const wrong = (what: string, expected: string, hint?: string): ConfigError =>
    new ConfigError({ where: "reward.kind", what, expected, got: JSON.stringify(text), hint });
  const terms: WeightedTerm[] = [];
  let rest = text.trim();
  /** Takes what stands next, if it is that. */
  const take = (pattern: RegExp): string | undefined => {
    const found = pattern.exec(rest)?.[0];
    if (found !== undefined) rest = rest.slice(found.length).trimStart();
    return found;
  };
  do {
    const sign = take(/^[+-]/);
    if (sign === undefined && terms.length > 0) throw wrong(`+ or - is missing before ${rest}`, sums);
    const number = take(/^(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?/i);
    const times = take(/^\*/);
    if (number === undefined && times !== undefined) throw wrong("a number is missing before *", sums);
    const name = take(/^[^\s+*-]+/);
    if (number !== undefined && times === undefined) throw wrong(`${number} is not followed by *`, `${number}*${name ?? "f1"}`);
    if (name === undefined) throw wrong(text.trim() === "" ? "is empty" : "a term is missing", `${names}, or ${sums}`);
    const term = termNames.find((one) => one === name);
    if (term === undefined) throw unknownTerm(name, wrong);
    if (terms.some((one) => one.term === term)) throw wrong(`${term} stands there twice`, "each term once");
    const weight = Number(`${sign === "-" ? "-" : ""}${number ?? "1"}`);
    if (!Number.isFinite(weight)) throw wrong(`${number ?? ""} is too large`, "a finite number");
    if (weight === 0) throw wrong(`${term} weighs nothing`, "a weight other than 0, or the sum without it");
    terms.push({ weight, term });
  } while (rest !== "");
  return terms;
}

function unknownTerm(name: string, wrong: (what: string, expected: string, hint?: string) => ConfigError): ConfigError {
  const guess = nearest(name, termNames);
  const hint = guess === undefined ? undefined : `did you mean ${guess}?`;
  return wrong(`there is no ${name}`, `${names}, ${sums}, or a module such as ./my-module.js`, hint);
}

/** A sum as it is written: the name of the reward. What it is read from again gives the same sum. */
export function rewardText(terms: readonly WeightedTerm[]): string {
  return terms.map(({ weight, term }, i) => `${joint(weight, i === 0)}${weighted(Math.abs(weight), term)}`).join("");
}

function joint(weight: number, first: boolean): string {
  const minus = weight < 0;
  if (first) return minus ? "-" : "";
  return minus ? " - " : " + ";
}

function weighted(weight: number, term: TermName): string {
  return weight === 1 ? term : `${weight}*${term}`;
}
