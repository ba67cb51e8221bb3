/** From sources to a checked configuration. */
import { isAbsolute, relative } from "node:path";
import type { z } from "zod";
import { ConfigError, type Complaint } from "../util/errors.ts";
import { checkTogether, type Purpose } from "./check-together.ts";
import { findKey, keys, type Key } from "./keys.ts";
import { nearest } from "../util/nearest.ts";
import { inPackage } from "./package-folder.ts";
import { withPresets } from "./presets.ts";
import { newValue } from "./renames.ts";
import { configSchema, type Config } from "./schema.ts";
import type { Source } from "./source.ts";
import { mergeTrees, treeOf, valueIn, type Tree } from "./tree.ts";
import { unknownKey } from "./unknown-key.ts";

/**
 * Merges the sources, later ones over earlier ones, fills in defaults and checks every value and what must fit together.
 * Relative paths are relative to the working directory.
 * @param purpose - what must be there: judging needs neither training questions nor a simulator
 * @throws ConfigError with all mistakes: the first one in full, the others below it.
 */
export function resolveConfig(given: readonly Source[], purpose: Purpose = "train"): Config {
  const sources = withPresets(given);
  const tree = mergeTrees(sources.map((source) => source.tree));
  const locate = (path: readonly string[]) =>
    sources
      .map((source) => source.locate(path))
      .filter((place) => place !== undefined)
      .at(-1) ?? "configuration";
  const parsed = configSchema.safeParse(expandPaths(withoutPolicy(tree, purpose)));
  if (!parsed.success) throw united(unknownFirst(parsed.error.issues).flatMap((issue) => explain(issue, tree, locate)));
  const mistakes = checkTogether(parsed.data, purpose, locate);
  if (mistakes.length > 0) throw united(mistakes);
  return parsed.data;
}

/** A policy behind an endpoint is judged without a model of this process: none needs to be named. */
function withoutPolicy(tree: Tree, purpose: Purpose): Tree {
  const given = (path: readonly string[]): boolean => (valueIn(tree, path) ?? null) !== null;
  const judges = purpose === "evaluate" || purpose === "compare";
  if (!judges || !given(["evaluation", "endpoint"]) || given(["model", "policy"])) return tree;
  return mergeTrees([tree, { model: { policy: "none" } }]);
}

function explain(issue: z.core.$ZodIssue, tree: Tree, locate: (path: readonly string[]) => string): ConfigError[] {
  const path = issue.path.map(String);
  if (issue.code === "unrecognized_keys") return issue.keys.map((name) => unknownKey(locate([...path, name]), [...path, name].join(".")));
  const name = path.join(".");
  const value = valueIn(tree, path);
  const key = findKey(name);
  if (key === undefined) {
    const example = keys.find((one) => one.section === name)?.key ?? "seed";
    const [what, expected] = [`${name} is a section`, `keys inside it, such as ${example}`];
    return [new ConfigError({ where: locate(path), what, expected, got: JSON.stringify(value) })];
  }
  if (value === undefined) {
    const hint = `${key.doc}\n  Give it in a file (--config FILE) or as ${name}=...`;
    return [new ConfigError({ where: "configuration", what: `${name} is missing`, expected: key.expected, hint })];
  }
  const [what, got, hint] = [`wrong value for ${name}`, JSON.stringify(value), hintFor(key, value)];
  const own = issue.code === "custom" ? (issue.params?.["complaint"] as Complaint | undefined) : undefined;
  if (own !== undefined) return [new ConfigError({ ...own, where: locate(path), what: `${what}: ${own.what}`, hint: own.hint ?? key.doc })];
  return [new ConfigError({ where: locate(path), what, expected: key.expected, got, hint })];
}

function hintFor({ key, names, doc }: Key, value: unknown): string {
  const renamed = newValue(key, value);
  if (renamed !== undefined) return `${String(value)} is called ${renamed} now`;
  const guess = typeof value === "string" ? nearest(value, names) : undefined;
  return guess === undefined ? doc : `did you mean ${guess}? ${doc}`;
}

/** A misspelt key often makes another one missing: the cause comes before the consequence. */
function unknownFirst(issues: readonly z.core.$ZodIssue[]): z.core.$ZodIssue[] {
  const isUnknown = (issue: z.core.$ZodIssue) => issue.code === "unrecognized_keys";
  return [...issues.filter(isUnknown), ...issues.filter((issue) => !isUnknown(issue))];
}

function united(errors: readonly ConfigError[]): ConfigError {
  const [first, ...others] = errors;
  if (first === undefined) return new ConfigError({ where: "configuration", what: "is wrong" });
  if (others.length === 0) return first;
  const further = new Set(others.map((error) => error.message).filter((message) => message !== first.message));
  const hint = [first.complaint.hint, ...further].filter((text) => text !== undefined).join("\n  ");
  return new ConfigError({ ...first.complaint, hint });
}

/** Replaces `{package}` in every path, by a relative path where the package is the working directory or below it. */
function expandPaths(tree: Tree): Tree {
  return mergeTrees([
    tree,
    ...keys
      .filter((key) => key.path)
      .map((key): Tree => {
        const path = key.key.split(".");
        const value = valueIn(tree, path);
        if (typeof value !== "string" && !Array.isArray(value)) return {};
        return treeOf(path, Array.isArray(value) ? value.map((one: unknown) => expandPath(one, key)) : expandPath(value, key));
      }),
  ]);
}

function expandPath(value: unknown, key: Key): unknown {
  const full = typeof value === "string" ? inPackage(value) : undefined;
  if (full === undefined) return value;
  const short = relative(process.cwd(), full);
  if (short.startsWith("..") || isAbsolute(short)) return full;
  // What may be a name as well must look like a path.
  return key.names.length > 0 ? `./${short}` : short;
}
