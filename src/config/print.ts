/** Configurations as text: the file saved with a run, the help page, what changed between two. */
import { createHash } from "node:crypto";
import { stringify } from "yaml";
import { keys, sections, type Key } from "./keys.ts";
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
    .map(({ key }) => ({ key, before: valueOf(before, key), after: valueOf(after, key) }))
    .filter((change) => change.before !== change.after);
}

/** SHA-256 of what the results depend on: all keys but the run's name, its folders, the device and how often it is saved. */
export function hashConfig(config: Config): string {
  const asides = [
    "name",
    "output.runs",
    "output.checkpoints",
    "device.kind",
    "device.readInterval",
    "device.adapter",
    "device.threads",
    "train.saveEvery",
    "train.keepCheckpoints",
  ];
  const lines = keys.filter(({ key }) => !asides.includes(key)).map(({ key }) => `${key}=${JSON.stringify(valueOf(config, key))}\n`);
  return createHash("sha256").update(lines.join("")).digest("hex");
}

/** All keys in their sections, with default, range and meaning, wrapped to `width` columns. */
export function keysHelp(width = 100): string {
  const groups = [{ name: "", doc: "" }, ...sections].map(({ name, doc }) => {
    const title = name === "" ? [] : wrap(`${name}: ${doc}`, width, "");
    const rows = keys.filter((key) => key.section === name).flatMap((key) => keyHelp(key, width));
    return [...title, ...rows].join("\n");
  });
  return groups.join("\n\n") + "\n";
}

function keyHelp(key: Key, width: number): string[] {
  const value = key.default === undefined ? "(must be given)" : JSON.stringify(key.default);
  return [`  ${key.key} = ${value}   ${key.expected}`, ...wrap(key.doc, width, "      ")];
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

function valueOf(config: Config, key: string): unknown {
  return key.split(".").reduce<unknown>((inner, part) => (inner as Record<string, unknown>)[part], config);
}
