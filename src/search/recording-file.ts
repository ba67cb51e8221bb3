/** The file of a recording: its tables, how a search is found in it, and what is said where it cannot be read or written. */
import { createHash } from "node:crypto";
import { existsSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import type { Client, InValue } from "@libsql/client";
import { FileError, ZeroSearchError, type Complaint } from "../util/errors.ts";
import type { SearchResult, SimulatorRequest } from "./search-engine.ts";
import { openDatabase } from "./sqlite.ts";

/** "zsrc" in the file's header, and the version of what is below. */
const applicationId = 0x7a737263;
const version = 1;

const tables = [
  "create table engines (id integer primary key, name text not null, settings text not null, unique (name, settings))",
  `create table searches (
    id integer primary key, engine integer not null references engines, query text not null, question text not null,
    step integer not null, asked integer not null, rollout integer not null, turn integer not null,
    result text, failure text, at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')), milliseconds real not null,
    unique (engine, query, question, step, asked, rollout, turn))`,
  `pragma application_id = ${applicationId}`,
  `pragma user_version = ${version}`,
];

/** What a search is known by. */
export interface Row {
  /** JSON, which any text fits in: SQLite's own text ends at a NUL and has no lone surrogates. */
  readonly query: string;
  readonly question: string;
  readonly step: number;
  readonly asked: number;
  readonly rollout: number;
  readonly turn: number;
}

export interface Said {
  readonly result?: string;
  readonly failure?: string;
}

export type Found = { readonly result: SearchResult } | { readonly failure: { readonly name: string; readonly complaint: Complaint } };

export function rowOf({ query, question, goldenAnswers, key, turn }: SimulatorRequest, simulates: boolean): Row {
  const told = simulates
    ? createHash("sha256")
        .update(JSON.stringify([question, goldenAnswers]))
        .digest("hex")
    : "";
  return { query: JSON.stringify(query), question: told, step: key.step, asked: key.question, rollout: key.rollout, turn };
}

export function valuesOf({ query, question, step, asked, rollout, turn }: Row): InValue[] {
  return [query, question, step, asked, rollout, turn];
}

export async function exactly(database: Client, engine: number, row: Row): Promise<Found | null> {
  const sql =
    "select result, failure from searches where engine = ? and query = ? and question = ? and step = ? and asked = ? and rollout = ? and turn = ?";
  return foundIn(await database.execute({ sql, args: [engine, ...valuesOf(row)] }));
}

/** The first answer to a query that was kept. */
export async function byQuery(database: Client, engine: number, { query }: Row): Promise<Found | null> {
  const sql = "select result, failure from searches where engine = ? and query = ? and result is not null order by id limit 1";
  return foundIn(await database.execute({ sql, args: [engine, query] }));
}

function foundIn({ rows }: { readonly rows: readonly Record<string, unknown>[] }): Found | null {
  const [row] = rows;
  if (row === undefined) return null;
  const { result, failure } = row;
  return typeof result === "string"
    ? { result: resultIn(result) }
    : { failure: JSON.parse(String(failure)) as { readonly name: string; readonly complaint: Complaint } };
}

function resultIn(text: string): SearchResult {
  const result = JSON.parse(text) as SearchResult;
  if (Array.isArray((result as { documents?: unknown } | null)?.documents)) return result;
  throw new Error("a result without documents");
}

/** Opens a recording; an empty one where there is none, and one is to be made. */
export async function openRecording(where: string, file: string, make: boolean): Promise<Client> {
  const fault = (what: string, more: Partial<Complaint> = {}, cause?: unknown): FileError =>
    new FileError({ where: `${where}=${file}`, what, ...more }, { cause });
  const fresh = !existsSync(file) || (make && statSync(file).size === 0);
  const parent = dirname(resolve(file));
  if (!existsSync(parent)) throw fault("its folder does not exist", { expected: parent });
  if (!fresh && statSync(file).isDirectory()) throw fault("is a folder", { expected: "a file" });
  if (fresh && !make) throw fault("does not exist", { expected: "a recording, as search.record makes it" });
  const failed = (cause: unknown): Error =>
    cause instanceof ZeroSearchError
      ? cause
      : fault(`cannot be opened as a recording: ${cause instanceof Error ? cause.message : String(cause)}`, {}, cause);
  const database = await openDatabase(where, file).catch((cause: unknown) => {
    throw failed(cause);
  });
  try {
    const number = async (pragma: string): Promise<number> =>
      Number(Object.values((await database.execute(`pragma ${pragma}`)).rows[0] ?? {})[0]);
    await database.execute("pragma busy_timeout = 10000");
    if (fresh) await database.executeMultiple(["begin", ...tables, "commit"].join(";\n"));
    const [id, found] = [await number("application_id"), await number("user_version")];
    if (id !== applicationId)
      throw fault("is no recording", { expected: "a file as search.record makes it", got: "another SQLite database" });
    if (found !== version)
      throw fault("is a recording of another version of this program", { expected: `version ${version}`, got: `version ${found}` });
    // A search is on the disk with the next ones: a crash of the machine, not of the program, may lose the last ones.
    if (make) for (const pragma of ["journal_mode = wal", "synchronous = normal"]) await database.execute(`pragma ${pragma}`);
    return database;
  } catch (cause) {
    database.close();
    throw failed(cause);
  }
}

/** @throws FileError where the database cannot be read: no failure of a search, which a run may bear. */
export async function reading<T>(where: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    if (cause instanceof ZeroSearchError) throw cause;
    const message = cause instanceof Error ? (cause.message.split("\n")[0] ?? "") : String(cause);
    throw new FileError(
      { where, what: `the recording is damaged: ${message}`, hint: "Take another copy of it, or record anew." },
      { cause },
    );
  }
}

/** @throws FileError where the database cannot be written. */
export async function writing<T>(file: string, write: () => Promise<T>): Promise<T> {
  try {
    return await write();
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    const hint = "The run goes on from its last state once there is room; what was searched since is asked again.";
    throw new FileError({ where: `search.record=${file}`, what: `cannot be written: ${message}`, hint }, { cause });
  }
}
