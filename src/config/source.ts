/** Where configuration values come from: YAML files and `key=value` arguments, each value with the place it was written at. */
import { existsSync, readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { LineCounter, isMap, isNode, isScalar, parseDocument } from "yaml";
import { ConfigError, FileError } from "../util/errors.ts";
import { findKey } from "./keys.ts";
import { inPackage } from "./package-folder.ts";
import { withNewNames } from "./renames.ts";
import { treeOf, valueIn, type Tree } from "./tree.ts";
import { unknownKey } from "./unknown-key.ts";

/** Some of the values, as written. */
export interface Source {
  readonly tree: Tree;
  /** One of the settings that were given beside files, as on a command line. */
  readonly override?: true;
  /** Names the place of a value: `configs/a.yaml:3:5`, or the argument; undefined where this source does not hold it. */
  locate(path: readonly string[]): string | undefined;
}

/**
 * Reads a YAML file. Its key `extends` names another file (relative to it, or below `{package}`) whose values it starts from; these
 * come first in the result.
 * @throws FileError when it cannot be read; ConfigError, with file, line and column, when it is not YAML, not a map, or
 * leads back into itself.
 */
export function readYaml(given: string, above: readonly string[] = []): readonly Source[] {
  const file = inPackage(given) ?? given;
  const place = resolve(file);
  if (above.includes(place)) throw new ConfigError({ where: file, what: "`extends` leads back to this file" });
  const lines = new LineCounter();
  const document = parseDocument(readText(file), { lineCounter: lines, prettyErrors: false });
  const at = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  const problem = document.errors[0];
  if (problem !== undefined)
    throw new ConfigError({
      where: at(problem.pos[0]),
      what:
        problem.code === "MULTIPLE_DOCS" ? "holds several documents; expected one: no --- inside" : `not valid YAML: ${problem.message}`,
    });
  if (document.contents === null) return [{ tree: {}, locate: () => undefined }];
  if (!isMap(document.contents)) {
    throw new ConfigError({ where: at(document.contents.range[0]), what: "not a configuration", expected: "a map of keys and values" });
  }
  let whole: Tree;
  try {
    whole = document.toJS() as Tree;
  } catch (cause) {
    // An alias without an anchor is found only here.
    throw new ConfigError({ where: file, what: `is not valid YAML: ${(cause as Error).message}` }, { cause });
  }
  const circle = circleIn(whole, []);
  if (circle !== undefined)
    throw new ConfigError({ where: file, what: `${circle} leads back into itself: *anchors may not go in a circle` });
  const { extends: parent, ...tree } = whole;
  const source: Source = {
    tree,
    locate(path) {
      let node: unknown = document.contents;
      let offset: number | undefined;
      for (const name of path) {
        if (!isMap(node)) return undefined;
        const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === name);
        if (pair === undefined) return undefined;
        offset = isNode(pair.key) ? pair.key.range?.[0] : undefined;
        node = pair.value;
      }
      return offset === undefined ? undefined : at(offset);
    },
  };
  if (parent === undefined) return [source];
  if (typeof parent !== "string")
    throw new ConfigError({ where: file, what: "`extends` is not a file", expected: "a path", got: JSON.stringify(parent) });
  const base = inPackage(parent) ?? resolve(dirname(file), parent);
  if (!existsSync(base)) throw new ConfigError({ where: file, what: `\`extends\` names a missing file`, got: base });
  return [...readYaml(base, [...above, place]), source];
}

/** The key, dots between, whose value holds itself. `above`: what `value` stands in. */
function circleIn(value: unknown, above: readonly unknown[]): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const within = [...above, value];
  for (const [key, inner] of Object.entries(value)) {
    if (within.includes(inner)) return key;
    const below = circleIn(inner, within);
    if (below !== undefined) return `${key}.${below}`;
  }
  return undefined;
}

/** A configuration that a program has saved, with names that may be old ones, as a source; `where` names its place. */
export function savedSource(saved: Tree, where: string): Source {
  const tree = withNewNames(saved);
  return { tree, locate: (path) => (valueIn(tree, path) === undefined ? undefined : where) };
}

/**
 * Reads one `key=value`. The value is read as its key's type: a text needs no quotes.
 * @throws ConfigError when the key is unknown or the `=` is missing.
 */
export function readOverride(argument: string): Source {
  const where = `argument ${argument}`;
  const equals = argument.indexOf("=");
  if (equals < 1) throw new ConfigError({ where, what: "not a setting", expected: "key=value, such as train.steps=10" });
  const name = argument.slice(0, equals);
  const key = findKey(name);
  if (key === undefined) throw unknownKey(where, name);
  const text = argument.slice(equals + 1);
  let value: unknown = text;
  if (key.nullable && text === "null") value = null;
  else if ((key.type === "integer" || key.type === "number") && text.trim() !== "" && !Number.isNaN(Number(text))) value = Number(text);
  else if (key.type === "object" || (key.list && text.startsWith("["))) value = readJson(text) ?? text;
  else if (key.type === "boolean" && (text === "true" || text === "false")) value = text === "true";
  const path = name.split(".");
  return {
    tree: treeOf(path, value),
    override: true,
    locate: (asked) => (asked.length <= path.length && asked.every((part, i) => part === path[i]) ? where : undefined),
  };
}

/** A map or a list as JSON; undefined where the text is none. */
function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    throw new FileError(
      {
        where: file,
        what: missing ? "there is no such configuration file" : `cannot be read: ${(cause as Error).message}`,
        hint: missing ? "the ready-made ones are in configs/" : undefined,
      },
      { cause },
    );
  }
}
