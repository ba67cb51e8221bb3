/** Modules of the user's own that a setting names: a reward, a method, a search engine. */
import { existsSync } from "node:fs";
import { basename, extname, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { ConfigError, FileError, ZeroSearchError } from "../util/errors.ts";

/** What a setting's module must export by default. */
export interface Expected<T> {
  /** The setting, such as `reward.kind`. */
  readonly key: string;
  /** In words: "a function of a trajectory". */
  readonly what: string;
  /** Null where the export is something else. */
  readonly take: (exported: unknown, name: string) => T | null;
}

/**
 * Loads a module and takes its default export. TypeScript is loaded where Node strips types (22.18 and newer).
 * @throws FileError where there is no such file, ConfigError where it does not load or exports something else.
 */
export async function loadModule<T>(file: string, { key, what, take }: Expected<T>): Promise<T> {
  const where = `${key}=${file}`;
  if (!existsSync(file))
    throw new FileError({ where, what: "there is no such file", got: resolve(file), hint: "Paths are relative to the working directory." });
  if (/^\.m?ts$/.test(extname(file)) && !stripsTypes())
    throw new ConfigError({
      where,
      what: `Node ${process.version} does not load TypeScript`,
      expected: "a .js or .mjs file, or Node 22.18 and newer",
      hint: "Compile it first: npx tsc.",
    });
  let loaded: { readonly default?: unknown };
  try {
    loaded = (await import(pathToFileURL(resolve(file)).href)) as typeof loaded;
  } catch (cause) {
    if (cause instanceof ZeroSearchError) throw cause;
    throw new ConfigError({ where, what: `does not load: ${(cause as Error).message}` }, { cause });
  }
  const taken = take(loaded.default, basename(file, extname(file)));
  if (taken === null)
    throw new ConfigError({
      where,
      what: "its default export is something else",
      expected: what,
      got: loaded.default === undefined ? "no default export" : typeof loaded.default,
      hint: "docs/extending.md shows one.",
    });
  return taken;
}

/** Whether a value is an object with functions of these names. */
export function hasFunctions(value: unknown, ...names: readonly string[]): boolean {
  if (typeof value !== "object" || value === null) return false;
  return names.every((name) => typeof (value as Readonly<Record<string, unknown>>)[name] === "function");
}

/** A module's object, named after its file where it has no name; null where it cannot be. */
export function named<T extends object>(exported: T, file: string): T | null {
  const { name } = exported as { readonly name?: unknown };
  if (typeof name === "string" && name !== "") return exported;
  // Not a copy: an object may have private fields.
  return Reflect.defineProperty(exported, "name", { value: file, configurable: true }) ? exported : null;
}

/** Node 22.18 and newer does unless it is told not to; older ones do not say. */
function stripsTypes(): boolean {
  const { typescript = false } = process.features as { readonly typescript?: string | false };
  return typescript !== false;
}
