/** What an index file looks like: an SQLite database with these tables, and how it is told from other files. */
import { open, stat } from "node:fs/promises";
import { z } from "zod";
import type { Client } from "@libsql/client";
import { HEAD_BYTES, kindOf } from "../../data/file-kind.ts";
import { FileError } from "../../util/errors.ts";
import { sqliteCode } from "../sqlite.ts";
import { tokenizerName } from "./tokenizer.ts";

/** In the file's header: "ZSBX", and the version of what follows. */
export const applicationId = 0x5a534258;
export const formatVersion = 1;

/**
 * - `about`: one row, JSON (`aboutSchema`)
 * - `passages`: `row` is JSON, [id, title or null, text]; n from 0, in corpus order
 * - `lengths`: terms of each passage, u32 little-endian, in corpus order
 * - `words`: of each term how many passages hold it, its list (`encodeList`) and `Postings.best`
 */
export const tables = [
  "create table about (json text not null)",
  "create table passages (n integer primary key, row text not null)",
  "create table lengths (part integer primary key, list blob not null)",
  "create table words (term text not null, count integer not null, best real not null, list blob not null)",
];

const aboutSchema = z.object({
  /** `reading` and `merging` while it is built. */
  state: z.enum(["reading", "merging", "whole"]),
  /** Passages in it. */
  passages: z.int().min(0),
  /** SHA-256 and bytes of the corpus file. */
  sha256: z.string().length(64),
  bytes: z.int().min(0),
  /** What the corpus was called. */
  source: z.string(),
  tokenizer: z.string(),
  /** While it is built: parts that are written, and buckets of terms that are merged. */
  parts: z.int().min(0),
  merged: z.int().min(0),
});

/** What an index says of itself. */
export type IndexAbout = Readonly<z.output<typeof aboutSchema>>;

/** Looks at the first bytes of a file. @throws FileError where it is no index of this version. */
export async function checkHeader(file: string): Promise<void> {
  const wrong = (what: string, more: { expected?: string; got?: string; hint?: string } = {}): FileError =>
    new FileError({ where: file, what, ...more });
  const info = await stat(file).catch(() => null);
  if (info === null) {
    const begun = (await stat(`${file}.partial`).catch(() => null)) !== null;
    const hint = begun ? "It was begun (.partial): the command that began it goes on." : "npx zerosearch index CORPUS --to FILE makes one.";
    throw wrong("there is no such index", { hint });
  }
  if (!info.isFile()) throw wrong("is no file", { expected: "an index made by zerosearch index" });
  const head = Buffer.alloc(HEAD_BYTES);
  const handle = await open(file).catch((cause: unknown) => {
    throw new FileError({ where: file, what: "cannot be read", got: (cause as Error).message }, { cause });
  });
  const { bytesRead } = await handle.read(head, 0, HEAD_BYTES, 0).finally(() => handle.close());
  if (bytesRead < 100 || head.toString("latin1", 0, 16) !== "SQLite format 3\0") {
    const kind = kindOf(head.subarray(0, bytesRead));
    const is = typeof kind === "object" ? kind.is : kind === "empty" ? "empty" : `a file of ${kind}`;
    throw wrong("is no index", {
      expected: "one made by zerosearch index",
      got: is,
      hint: "npx zerosearch index CORPUS --to FILE makes one.",
    });
  }
  if (head.readUInt32BE(68) !== applicationId)
    throw wrong("is an SQLite database, but no index", { expected: "one made by zerosearch index" });
  const version = head.readUInt32BE(60);
  if (version !== formatVersion)
    throw wrong("is an index of another format", {
      expected: `version ${formatVersion}`,
      got: `version ${version}`,
      hint: "Build it again with this program: zerosearch index.",
    });
  const pageSize = head.readUInt16BE(16) === 1 ? 65536 : head.readUInt16BE(16);
  const bytes = pageSize * head.readUInt32BE(28);
  // What is being built may have been stopped while it grew: its journal mends that.
  if (info.size < bytes && !file.endsWith(".partial"))
    throw wrong("is cut off", { expected: `${bytes} bytes`, got: `${info.size}`, hint: "Copy it again, or build it again." });
}

/** @throws FileError where it was made by another tokenizer, or is damaged. */
export async function readAbout(client: Client, file: string): Promise<IndexAbout> {
  const { rows } = await client.execute("select json from about");
  let value: unknown;
  try {
    value = JSON.parse(String(rows[0]?.["json"]));
  } catch {
    value = null;
  }
  const read = aboutSchema.safeParse(value);
  if (!read.success) throw damaged(file, read.error);
  if (read.data.tokenizer !== tokenizerName)
    throw new FileError({
      where: file,
      what: "its words were made by another tokenizer",
      expected: tokenizerName,
      got: read.data.tokenizer,
      hint: "Build it again with this program.",
    });
  return read.data;
}

export function damaged(file: string, cause: unknown): FileError {
  const got = cause instanceof Error ? cause.message.split("\n")[0] : String(cause);
  return new FileError({ where: file, what: "is damaged", got, hint: "Copy it again, or build it again: zerosearch index." }, { cause });
}

/** SQLite's complaints about what is in a file, in our words; others as they are. */
export function readError(file: string, cause: unknown): unknown {
  if (cause instanceof RangeError || ["SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR"].includes(sqliteCode(cause)))
    return damaged(file, cause);
  if (sqliteCode(cause) !== "") return new FileError({ where: file, what: "cannot be read", got: (cause as Error).message }, { cause });
  return cause;
}
