/** What an index file of dense looks like: an SQLite database with these tables. */
import { createHash } from "node:crypto";
import { z } from "zod";
import type { Client } from "@libsql/client";
import type { HostArray } from "../../device/device.ts";
import { FileError } from "../../util/errors.ts";
import { aboutTable, damaged, readAboutRow, type IndexKind } from "../index-file.ts";
import type { Passage } from "../passages.ts";
import { textForms } from "../settings.ts";
import type { EmbedderAbout } from "./embedder.ts";

export const denseIndex: IndexKind = { name: "dense", version: 1, command: "zerosearch index CORPUS --dense dense.path=MODEL --to FILE" };

/**
 * - `about`: one row, JSON (`aboutSchema`)
 * - `passages`: `row` is JSON, [id, title or null, text]; n from 0, in corpus order
 * - `vectors`: embeddings of the passages from `first` on, little-endian, of the type that `about` names
 *
 * `sum`: the beginning of SHA-256 of what stands before it.
 */
export const tables = [
  aboutTable,
  "create table passages (n integer primary key, row text not null, sum text not null)",
  "create table vectors (part integer primary key, first integer not null, list blob not null, sum text not null)",
];

const embedderSchema = z.object({
  model: z.string(),
  sha256: z.string().length(64),
  pooling: z.enum(["last", "mean", "cls", "server"]),
  form: z.enum(textForms).exclude(["auto"]),
  maxTokens: z.int().min(1),
  dimensions: z.int().min(0),
  weights: z.string().optional(),
});

const aboutSchema = z.object({
  /** `reading` while it is built. */
  state: z.enum(["reading", "whole"]),
  /** Passages in it. */
  passages: z.int().min(0),
  /** SHA-256 and bytes of the corpus file. */
  sha256: z.string().length(64),
  bytes: z.int().min(0),
  /** What the corpus was called. */
  source: z.string(),
  embedder: embedderSchema,
  /** Of the queries that it was made for; no passage depends on it. */
  instruction: z.string(),
  dtype: z.enum(["f32", "f16", "bf16"]),
  /** Numbers of an embedding; 0 before the first. */
  width: z.int().min(0),
  parts: z.int().min(0),
  /** Passages that were cut, and tokens that were read. */
  truncated: z.int().min(0),
  tokens: z.int().min(0),
});

/** What an index of embeddings says of itself. */
export type DenseAbout = Readonly<z.output<typeof aboutSchema>>;

/** As it is written; in the order in which it is read back. */
export function aboutText(about: DenseAbout): string {
  return JSON.stringify(aboutSchema.parse(about));
}

/** @throws FileError where it is damaged. */
export async function readAbout(client: Client, file: string): Promise<DenseAbout> {
  const read = aboutSchema.safeParse(await readAboutRow(client, file));
  if (!read.success) throw damaged(file, read.error);
  return read.data;
}

/** Whether embeddings are made in one way. */
export function sameEmbedder(one: EmbedderAbout, other: EmbedderAbout): boolean {
  return !(Object.keys(one) as (keyof EmbedderAbout)[]).some((name) => isOther(name, one, other));
}

/** A model may have several names, and nobody may know of what type its weights were. */
function isOther(name: keyof EmbedderAbout, one: EmbedderAbout, other: EmbedderAbout): boolean {
  if (name === "model" || (name === "weights" && (one.weights === undefined || other.weights === undefined))) return false;
  return one[name] !== other[name];
}

/** @throws FileError where an index holds embeddings of another model, or made in another way */
export function checkEmbedder(file: string, its: EmbedderAbout, wanted: EmbedderAbout): void {
  const shown: Readonly<Record<keyof Required<EmbedderAbout>, string>> = {
    model: "the model's name",
    sha256: "the model (SHA-256 of its files or its name)",
    pooling: "what of the tokens is taken",
    form: "dense.form",
    maxTokens: "dense.maxTokens",
    dimensions: "dense.dimensions",
    weights: `the type of its weights (${its.pooling === "last" ? "model.dtype" : "dense.encoderDtype"})`,
  };
  const differs = (Object.keys(shown) as (keyof EmbedderAbout)[]).find((name) => isOther(name, its, wanted));
  if (differs === undefined) return;
  const other = differs === "sha256" && its.model !== wanted.model;
  throw new FileError({
    where: file,
    what: `its embeddings were made in another way: ${other ? "by another model" : `${shown[differs]} is another`}`,
    expected: String(other ? wanted.model : wanted[differs]),
    got: String(other ? its.model : its[differs]),
    hint: "Give the settings that it was made with, or make one with these: zerosearch index CORPUS --dense ... --to ANOTHER-FILE.",
  });
}

export function rowOf({ id, title, text }: Passage): string {
  return JSON.stringify([id, title ?? null, text]);
}

/** @throws what is no such row */
export function passageOf(row: string): Passage {
  const [id, title, text] = JSON.parse(row) as [string, string | null, string];
  return { id, ...(title === null ? {} : { title }), text };
}

export function sumOf(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex").slice(0, 16);
}

/** Its bytes, without a copy. */
export function bytesOf(values: HostArray): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
