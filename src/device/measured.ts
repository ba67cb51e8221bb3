/** What users have measured on their own devices: files of rows in their cache folder, which can be made again. */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import type { z } from "zod";

/** `XDG_CACHE_HOME`, where it is an absolute folder, else `.cache` at home. Source: the XDG Base Directory Specification. */
export function cacheHome(env: NodeJS.ProcessEnv = process.env, home = homedir()): string {
  const named = env["XDG_CACHE_HOME"] ?? "";
  return isAbsolute(named) ? named : join(home, ".cache");
}

export function measuredFile(name: string): string {
  return join(cacheHome(), "zerosearch", name);
}

/** The rows of a file `{[key]: [...]}` that fit the schema. A file that is missing, or was damaged, holds none. */
export function readMeasured<T>(file: string, key: string, schema: z.ZodType<T>): T[] {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return [];
  }
  const rows = ((json ?? {}) as Readonly<Record<string, unknown>>)[key];
  return Array.isArray(rows) ? rows.flatMap((row: unknown) => schema.safeParse(row).data ?? []) : [];
}
