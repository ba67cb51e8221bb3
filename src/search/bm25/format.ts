/** What an index file looks like: an SQLite database with these tables, and how it is told from other files. */
import { open, stat } from "node:fs/promises";
import { z } from "zod";
import type { Client } from "@libsql/client";
import { HEAD_BYTES, kindOf } from "../../data/file-kind.ts";
import { attempt, FileError } from "../../util/errors.ts";
import { sqliteCode } from "../sqlite.ts";
import { asBytes, asNumber, checkSum, crc32, sumOfText, textIn } from "./checksum.ts";
import { DamagedRow } from "./damage.ts";
import { tokenizerName } from "./tokenizer.ts";

export const formatVersion = 2;
/** In the file's header: "ZSB" and the version. Of the first it was "ZSBX". */
export const applicationId = 0x5a534230 + formatVersion;
const firstId = 0x5a534258;
/** Where SQLite keeps numbers that are a program's own: ours are this id, and the check sum of the first page, taken with zeros in its place. */
const idAt = 68;
const sumAt = 60;

/**
 * Each row has its check sum (`sum`, `checksum.ts`), which is looked at when it is read.
 *
 * - `about`: one row, JSON (`aboutSchema`)
 * - `passages`: `row` is JSON, [id, title or null, text]; n from 0, in corpus order
 * - `lengths`: terms of each passage, u32 little-endian, in corpus order
 * - `words`: of each term how many passages hold it, its list (`encodeList`) and `Postings.best`; `head` is the sum of all but the list
 * - `marks`: of each bucket of terms (`bucketOf`) two words for each, ascending, so that a term that was lost is told from one that never was
 */
export const tables = [
  "create table about (json text not null, sum integer not null)",
  "create table passages (n integer primary key, row text not null, sum integer not null)",
  "create table lengths (part integer primary key, list blob not null, sum integer not null)",
  "create table words (term text not null, count integer not null, best real not null, head integer not null, sum integer not null, list blob not null)",
  "create table marks (bucket integer primary key, list blob not null, sum integer not null)",
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
  const head = await startOf(file, HEAD_BYTES);
  if (head.length < 100 || head.toString("latin1", 0, 16) !== "SQLite format 3\0") {
    const kind = kindOf(head);
    const is = typeof kind === "object" ? kind.is : kind === "empty" ? "empty" : `a file of ${kind}`;
    throw wrong("is no index", {
      expected: "one made by zerosearch index",
      got: is,
      hint: "npx zerosearch index CORPUS --to FILE makes one.",
    });
  }
  const id = head.readUInt32BE(idAt);
  const partial = file.endsWith(".partial");
  if (id !== firstId && (id & 0xfffffff0) >>> 0 !== (applicationId & 0xfffffff0) >>> 0)
    throw wrong("is an SQLite database, but no index", { expected: "one made by zerosearch index" });
  if (id !== applicationId)
    throw wrong("is an index of another format", {
      expected: `version ${formatVersion}`,
      got: `version ${id === firstId ? 1 : id & 15}`,
      hint: partial
        ? `Delete ${file} and ${file.slice(0, -".partial".length)}.parts to begin anew.`
        : "Delete it, and build it again with this program: npx zerosearch index CORPUS --to FILE.",
    });
  // What is being built may have been stopped while it grew: its journal mends that.
  if (partial) return;
  const page = await startOf(file, pageSizeIn(head));
  if (sumOfPage(page) !== head.readUInt32BE(sumAt)) throw damaged(file, new DamagedRow("its first page"));
  const bytes = pageSizeIn(head) * head.readUInt32BE(28);
  if (info.size < bytes)
    throw wrong("is cut off", { expected: `${bytes} bytes`, got: `${info.size}`, hint: "Copy it again, or build it again." });
}

/** Writes the check sum of the first page of a file that SQLite has closed. */
export async function sealHeader(file: string): Promise<void> {
  const page = await startOf(file, pageSizeIn(await startOf(file, 100)));
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(sumOfPage(page));
  const handle = await open(file, "r+");
  try {
    await handle.write(sum, 0, 4, sumAt);
  } finally {
    await handle.close();
  }
}

function sumOfPage(page: Buffer): number {
  const zeroed = Buffer.from(page);
  zeroed.fill(0, sumAt, sumAt + 4);
  return crc32(zeroed);
}

function pageSizeIn(head: Buffer): number {
  return head.readUInt16BE(16) === 1 ? 65536 : head.readUInt16BE(16);
}

/** The first bytes of a file, fewer where it is shorter. */
async function startOf(file: string, bytes: number): Promise<Buffer> {
  const handle = await open(file).catch((cause: unknown) => {
    throw new FileError({ where: file, what: "cannot be read", got: (cause as Error).message }, { cause });
  });
  const start = Buffer.alloc(bytes);
  const { bytesRead } = await handle.read(start, 0, bytes, 0).finally(() => handle.close());
  return start.subarray(0, bytesRead);
}

/** @throws FileError where it was made by another tokenizer, or is damaged. */
export async function readAbout(client: Client, file: string): Promise<IndexAbout> {
  const { rows } = await client.execute(`select ${asBytes("json")}, ${asNumber("sum")} from about`);
  const what = "what it says of itself";
  if (rows.length !== 1) throw damaged(file, new DamagedRow(what));
  const json = textIn(rows[0]?.["json"], what);
  checkSum(what, sumOfText("about", json), rows[0]?.["sum"]);
  const read = aboutSchema.safeParse(attempt<unknown>(() => JSON.parse(json), null));
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
  if (cause instanceof RangeError || ["SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR", "SQLITE_FORMAT"].includes(sqliteCode(cause)))
    return damaged(file, cause);
  if (sqliteCode(cause) !== "") return new FileError({ where: file, what: "cannot be read", got: (cause as Error).message }, { cause });
  return cause;
}
