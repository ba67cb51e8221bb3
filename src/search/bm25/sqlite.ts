/** SQLite is native code, which is loaded when it is first needed: everything else works where addons are forbidden. */
import { pathToFileURL } from "node:url";
import type { Client, createClient as CreateClient } from "@libsql/client";
import { ConfigError } from "../../util/errors.ts";

/** One connection to a database: a file's, or one in memory. @throws ConfigError where SQLite cannot be loaded, SQLite's own errors. */
export async function openSqlite(file: string | null): Promise<Client> {
  let createClient: typeof CreateClient;
  try {
    ({ createClient } = await import("@libsql/client"));
  } catch (cause) {
    throw new ConfigError(
      {
        where: "bm25",
        what: `SQLite cannot be loaded: ${cause instanceof Error ? (cause.message.split("\n")[0] ?? "") : String(cause)}`,
        hint: "Run Node without --no-addons (with the permission model: with --allow-addons), and npm ci on this very platform.",
      },
      { cause },
    );
  }
  return createClient(file === null ? { url: ":memory:" } : { url: pathToFileURL(file).href, concurrency: 1 });
}

/** SQLite's name of an error, such as SQLITE_FULL; "" for errors that are not its own. */
export function sqliteCode(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" && code.startsWith("SQLITE_") ? code : "";
}
