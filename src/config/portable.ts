/** A configuration that means the same where this package is installed elsewhere. */
import { existsSync } from "node:fs";
import { isAbsolute, relative, resolve } from "node:path";
import { keys, valueAt } from "./keys.ts";
import { packageFolder } from "./package-folder.ts";
import type { Config } from "./schema.ts";

/** A configuration with `{package}` in place of the folder of this package, which others have elsewhere, in paths of files that are there. */
export function portable(config: Config): Config {
  const copy = structuredClone(config) as unknown as Record<string, Record<string, unknown>>;
  for (const { key, section, path, names } of keys) {
    const value = valueAt(config, key);
    if (!path || section === "output" || value === null || names.includes(String(value))) continue;
    const shown = Array.isArray(value) ? value.map(portablePath) : portablePath(value);
    (copy[section] as Record<string, unknown>)[key.slice(section.length + 1)] = shown;
  }
  return copy as unknown as Config;
}

/** Where a path of a portable configuration lies here. */
export function pathHere(path: string): string {
  return path.startsWith("{package}/") ? resolve(packageFolder, path.slice("{package}/".length)) : path;
}

function portablePath(value: unknown): unknown {
  if (typeof value !== "string" || !existsSync(value)) return value;
  const below = relative(packageFolder, resolve(value)).replaceAll("\\", "/");
  return below.startsWith("..") || isAbsolute(below) ? value : `{package}/${below}`;
}
