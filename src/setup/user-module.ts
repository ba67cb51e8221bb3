/** What users bring of their own: modules that a setting names, and objects that a program gives. */
import { existsSync } from "node:fs";
import { basename, extname, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { ConfigError, FileError } from "../util/errors.ts";
import { callOwn, isClass, kindOf } from "../util/own-code.ts";

/** What a value must be. */
export interface Shape {
  /** In words: "a function of a trajectory". */
  readonly what: string;
  readonly fits: (value: unknown) => boolean;
}

/**
 * Loads a module and takes its default export, named after its file where it has no name. TypeScript is loaded where Node strips types
 * (22.18 and newer).
 * @param key - the setting that names it, such as `reward.kind`
 * @throws FileError where there is no such file, ConfigError where it does not load or exports something else.
 */
export async function loadModule<T extends object>(file: string, key: string, shape: Shape): Promise<T> {
  const where = `${key}=${file}`;
  const kind = extname(file);
  if (!/^\.m?[jt]s$/.test(kind))
    throw new ConfigError({
      where,
      what: "is no kind of module that is loaded here",
      expected: "an ES module: .js or .mjs, or .ts or .mts where Node strips types (22.18 and newer)",
      got: kind,
    });
  if (!existsSync(file))
    throw new FileError({ where, what: "there is no such file", got: resolve(file), hint: "Paths are relative to the working directory." });
  if (kind.endsWith("ts") && !stripsTypes())
    throw new ConfigError({
      where,
      what: `Node ${process.version} does not load TypeScript`,
      expected: "a .js or .mjs file, or Node 22.18 and newer",
      hint: "Compile it first: npx tsc.",
    });
  const load = (): Promise<{ readonly default?: unknown }> => import(pathToFileURL(resolve(file)).href) as never;
  const loaded = await callOwn(where, load, { what: "does not load" });
  if (loaded.default === undefined) throw wrong(where, "its default export is something else", shape, "no default export");
  checkShape(where, loaded.default, shape, "its default export is something else");
  return named(where, loaded.default as T, file);
}

/** @throws ConfigError where a value is something else; a class is never what is asked for. */
export function checkShape(where: string, value: unknown, shape: Shape, what = "is something else"): void {
  if (!shape.fits(value) || isClass(value)) throw wrong(where, what, shape, kindOf(value));
}

/** Checks an object of options, field by field. @throws ConfigError for one that is unknown or something else. */
export function checkFields(where: string, given: unknown, fields: Readonly<Record<string, Shape>>): void {
  const some = `an object with some of ${Object.keys(fields).join(", ")}`;
  const known = (value: unknown): boolean => Object.keys(value as object).every((name) => Object.hasOwn(fields, name));
  checkShape(where, given, { what: some, fits: (value) => typeof value === "object" && value !== null && known(value) }, "wrong options");
  for (const [name, value] of Object.entries(given as object))
    if (value !== undefined) checkShape(`${where}({ ${name} })`, value, fields[name] as Shape);
}

/** Whether a value is an object with functions of these names. */
export function hasFunctions(value: unknown, ...names: readonly string[]): value is object {
  if (typeof value !== "object" || value === null) return false;
  return names.every((name) => typeof (value as Readonly<Record<string, unknown>>)[name] === "function");
}

export function hasName(value: unknown): boolean {
  const { name } = value as { readonly name?: unknown };
  // An export without a name is called default.
  return typeof name === "string" && name !== "" && name !== "default";
}

/** What a module gave, named after its file where it has no name. @throws ConfigError where it cannot be. */
export function named<T extends object>(where: string, given: T, file: string): T {
  // Not a copy: an object may have private fields.
  if (hasName(given) || Reflect.defineProperty(given, "name", { value: basename(file, extname(file)), configurable: true })) return given;
  throw new ConfigError({ where, what: "has no name, and cannot be given one", expected: "a name, or an object that is not frozen" });
}

function wrong(where: string, what: string, shape: Shape, got: string): ConfigError {
  return new ConfigError({ where, what, expected: shape.what, got, hint: "docs/extending.md shows one." });
}

/** Node 22.18 and newer does unless it is told not to; older ones do not say. */
function stripsTypes(): boolean {
  const { typescript = false } = process.features as { readonly typescript?: string | false };
  return typescript !== false;
}
