/** What an index file of bm25 looks like: an SQLite database with these tables. */
import { z } from "zod";
import type { Client } from "@libsql/client";
import { FileError } from "../../util/errors.ts";
import { aboutTable, damaged, readAboutRow, type IndexKind } from "../index-file.ts";
import { tokenizerName } from "./tokenizer.ts";

export const bm25Index: IndexKind = { name: "bm25", version: 2, command: "zerosearch index CORPUS --to FILE" };

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
  aboutTable,
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

/** @throws FileError where it was made by another tokenizer, or is damaged. */
export async function readAbout(client: Client, file: string): Promise<IndexAbout> {
  const read = aboutSchema.safeParse(await readAboutRow(client, file));
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
