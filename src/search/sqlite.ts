/** SQLite, which is native code: it is loaded when it is first needed, so that everything else works where addons are forbidden. */
import { pathToFileURL } from "node:url";
import type { Client } from "@libsql/client";
import { ConfigError } from "../util/errors.ts";

/**
 * A database in a file, which is made where there is none, or in memory (null).
 * @throws ConfigError, at `where`, where SQLite cannot be loaded; what SQLite throws where the file cannot be opened.
 */
export async function openDatabase(where: string, file: string | null): Promise<Client> {
  const { createClient } = await import("@libsql/client").catch((cause: unknown) => {
    throw new ConfigError(
      {
        where,
        what: `SQLite cannot be loaded: ${cause instanceof Error ? (cause.message.split("\n")[0] ?? "") : String(cause)}`,
        hint: "Run Node without --no-addons (with the permission model: with --allow-addons), and npm ci on this very platform.",
      },
      { cause },
    );
  });
  // One connection: pragmas are each connection's own.
  return createClient({ url: file === null ? ":memory:" : pathToFileURL(file).href, concurrency: 1 });
}

/** SQLite's name of an error, such as SQLITE_FULL; "" for errors that are not its own. */
export function sqliteCode(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" && code.startsWith("SQLITE_") ? code : "";
}
