/** Configurations as text: the file saved with a run, the help page, what changed between two. */
import { stringify } from "yaml";
import { keys, sections, valueAt, type Key } from "./keys.ts";
import type { Config } from "./schema.ts";

/** YAML that `readYaml` reads back to the same configuration. */
export function printConfig(config: Config): string {
  return stringify(config, { lineWidth: 0 });
}

export interface ChangedKey {
  readonly key: string;
  readonly before: unknown;
  readonly after: unknown;
}

/** The keys whose values differ. */
export function changedKeys(before: Config, after: Config): ChangedKey[] {
  return keys
    .map(({ key }) => ({ key, before: valueAt(before, key), after: valueAt(after, key) }))
    .filter((change) => JSON.stringify(change.before) !== JSON.stringify(change.after));
}

export interface KeysHelpOptions {
  readonly all?: boolean;
  /** Sections that are shown; all unless told. */
  readonly only?: readonly string[];
  readonly width?: number;
}

/** The keys that people set, or all, in their sections, with default, range and meaning, wrapped to `width` columns. */
export function keysHelp({ all = false, only, width = 100 }: KeysHelpOptions = {}): string {
  const groups = [{ name: "", doc: "" }, ...sections].flatMap(({ name, doc }) => {
    if (only?.includes(name) === false) return [];
    const title = name === "" ? [] : wrap(`${name}: ${doc}`, width, "");
    const rows = keys.filter((key) => key.section === name && (all || !key.rare)).flatMap((key) => keyHelp(key, width));
    return rows.length === 0 ? [] : [[...title, ...rows].join("\n")];
  });
  return groups.join("\n\n") + "\n";
}

function keyHelp(key: Key, width: number): string[] {
  const value = key.default === undefined ? "(must be given)" : JSON.stringify(key.default);
  const line = `  ${key.key} = ${value}   ${key.expected}`;
  // What may be one of many names has its own lines.
  const head = line.length <= 120 ? [line] : [`  ${key.key} = ${value}`, ...wrap(key.expected, width, "      ")];
  return [...head, ...wrap(key.doc, width, "      ")];
}

function wrap(text: string, width: number, indent: string): string[] {
  const lines: string[] = [];
  let line = indent;
  for (const word of text.split(" ")) {
    if (line.length + word.length > width && line.trim() !== "") {
      lines.push(line.trimEnd());
      line = indent;
    }
    line += `${word} `;
  }
  return [...lines, line.trimEnd()];
}
