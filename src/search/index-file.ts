/**
 * What index files have in common: each is an SQLite database that its header tells from others, is called `FILE.partial` until it is whole, and is
 * written by one program at a time, in transactions that change the row of its table `about`.
 */
import { mkdir, open, rename, rm, rmdir, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import type { Client, InStatement, Transaction } from "@libsql/client";
import { HEAD_BYTES, kindOf } from "../data/file-kind.ts";
import { attempt, FileError } from "../util/errors.ts";
import { asBytes, asNumber, checkSum, crc32, sumOfText, textIn } from "./checksum.ts";
import { DamagedRow } from "./damage.ts";
import { openDatabase, sqliteCode } from "./sqlite.ts";

export interface IndexKind {
  readonly name: "bm25" | "dense";
  /** Of what follows the header. */
  readonly version: number;
  /** What makes one. */
  readonly command: string;
}

/** In the file's header: "ZSB" or "ZSD", and the version. Of bm25's first it was "ZSBX". */
const applicationIds = { bm25: 0x5a534230, dense: 0x5a534430 } as const;
const firstBm25 = 0x5a534258;
/** Where SQLite keeps numbers that are a program's own: ours are this id, and the check sum of the first page, taken with zeros in its place. */
const idAt = 68;
const sumAt = 60;

/** Looks at the first bytes of a file. @throws FileError where it is no index of this kind and version. */
export async function checkIndexHeader(file: string, { name, version, command }: IndexKind): Promise<void> {
  const wrong = (what: string, more: { expected?: string; got?: string; hint?: string } = {}): FileError =>
    new FileError({ where: file, what, ...more });
  const hint = `npx ${command} makes one.`;
  const info = await stat(file).catch(() => null);
  if (info === null) {
    const begun = (await stat(partialOf(file)).catch(() => null)) !== null;
    throw wrong("there is no such index", { hint: begun ? "It was begun (.partial): the command that began it goes on." : hint });
  }
  if (!info.isFile()) throw wrong("is no file", { expected: "an index made by zerosearch index" });
  const head = await startOf(file, HEAD_BYTES);
  if (head.length < 100 || head.toString("latin1", 0, 16) !== "SQLite format 3\0") {
    const kind = kindOf(head);
    const is = typeof kind === "object" ? kind.is : kind === "empty" ? "empty" : `a file of ${kind}`;
    throw wrong("is no index", { expected: "one made by zerosearch index", got: is, hint });
  }
  const its = kindIn(head.readUInt32BE(idAt));
  if (its === null) throw wrong("is an SQLite database, but no index", { expected: "one made by zerosearch index" });
  if (its.name !== name) throw wrong("is an index of another engine", { expected: `one of ${name}`, got: `one of ${its.name}`, hint });
  const partial = file.endsWith(".partial");
  if (its.version !== version)
    throw wrong("is an index of another format", {
      expected: `version ${version}`,
      got: `version ${its.version}`,
      hint: partial
        ? `Delete ${file} to begin anew, and what lies beside it.`
        : `Delete it, and build it again with this program: npx ${command}.`,
    });
  // What is being built may have been stopped while it grew: its journal mends that.
  if (partial) return;
  const page = await startOf(file, pageSizeIn(head));
  if (sumOfPage(page) !== head.readUInt32BE(sumAt)) throw damaged(file, new DamagedRow("its first page"));
  const bytes = pageSizeIn(head) * head.readUInt32BE(28);
  if (info.size < bytes)
    throw wrong("is cut off", { expected: `${bytes} bytes`, got: `${info.size}`, hint: "Copy it again, or build it again." });
}

/** Which index has this id; null for none. */
function kindIn(id: number): Pick<IndexKind, "name" | "version"> | null {
  if (id === firstBm25) return { name: "bm25", version: 1 };
  const name = (["bm25", "dense"] as const).find((one) => (id & 0xfffffff0) >>> 0 === applicationIds[one]);
  return name === undefined ? null : { name, version: id & 15 };
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

/** The table of what an index says of itself. */
export const aboutTable = "create table about (json text not null, sum integer not null)";

/** Inserts its row. */
export function aboutInsert(json: string): InStatement {
  return { sql: "insert into about (json, sum) values (?, ?)", args: [json, sumOfText("about", json)] };
}

/** What its row says; null where that is no JSON. @throws FileError, DamagedRow where it is not as it was written */
export async function readAboutRow(client: Client, file: string): Promise<unknown> {
  const { rows } = await client.execute(`select ${asBytes("json")}, ${asNumber("sum")} from about`);
  const what = "what it says of itself";
  if (rows.length !== 1) throw damaged(file, new DamagedRow(what));
  const json = textIn(rows[0]?.["json"], what);
  checkSum(what, sumOfText("about", json), rows[0]?.["sum"]);
  return attempt<unknown>(() => JSON.parse(json), null);
}

export function damaged(file: string, cause: unknown): FileError {
  const got = cause instanceof Error ? cause.message.split("\n")[0] : String(cause);
  return new FileError(
    { where: file, what: "is damaged", got, hint: "Copy it again; or delete it, and build it again: zerosearch index." },
    { cause },
  );
}

/** SQLite's complaints about what is in a file, in our words; others as they are. */
export function readError(file: string, cause: unknown): unknown {
  if (cause instanceof RangeError || ["SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR", "SQLITE_FORMAT"].includes(sqliteCode(cause)))
    return damaged(file, cause);
  if (sqliteCode(cause) !== "") return new FileError({ where: file, what: "cannot be read", got: (cause as Error).message }, { cause });
  return cause;
}

export const partialOf = (file: string): string => `${file}.partial`;

/** Makes the folder of a file, and those above it. @returns what takes those that it made away again, as far as they are empty */
export async function makeFolderOf(file: string): Promise<() => Promise<void>> {
  const folder = dirname(resolve(file));
  const first = await mkdir(folder, { recursive: true });
  return async () => {
    if (first === undefined) return;
    try {
      for (let at = folder; at.length >= first.length; at = dirname(at)) await rmdir(at);
    } catch {
      // It holds something.
    }
  };
}

/** What a database made by `openDatabase` leaves beside itself, too. */
export async function removeDatabase(file: string): Promise<void> {
  for (const ending of ["", "-journal"]) await rm(`${file}${ending}`, { force: true });
}

/**
 * Opens an index to be written, which may have been begun before; `begin` are the statements that begin one.
 * @throws FileError where there is another file in its place
 */
export async function openPartial(partial: string, kind: IndexKind, begin: readonly InStatement[]): Promise<Client> {
  const size = (await stat(partial).catch(() => null))?.size ?? 0;
  // What was killed before its first commit reached the file has its tables in the log beside it, if anywhere.
  if (size >= 100) await checkIndexHeader(partial, kind);
  const client = await openDatabase(kind.name, partial);
  try {
    await client.execute(`pragma application_id = ${applicationIds[kind.name] + kind.version}`);
    const { rows } = await client.execute("select 1 from sqlite_master where name = 'about'");
    if (rows.length === 0) await client.batch([...begin], "write");
    return client;
  } catch (error) {
    client.close();
    throw error;
  }
}

/** Every write begins or ends with this: of two programs that build one index the second is told. */
export async function advance(file: string, transaction: Transaction, from: unknown, to: unknown): Promise<void> {
  const sql = "update about set json = ?, sum = ? where json = ?";
  const json = JSON.stringify(to);
  const { rowsAffected } = await transaction.execute({ sql, args: [json, sumOfText("about", json), JSON.stringify(from)] });
  if (rowsAffected !== 1) throw busy(file);
}

/** What an index that is there says of itself; null where there is no file. @throws FileError where it is no index */
export async function aboutOfFile<About>(
  file: string,
  kind: IndexKind,
  read: (client: Client, file: string) => Promise<About>,
): Promise<About | null> {
  if ((await stat(file).catch(() => null)) === null) return null;
  await checkIndexHeader(file, kind);
  const client = await openDatabase(kind.name, file);
  try {
    return await read(client, file);
  } catch (cause) {
    throw readError(file, cause);
  } finally {
    client.close();
  }
}

/**
 * Opens a whole index, which is not written to, and makes something of it, whose the database then is.
 * @throws FileError where it is none, unfinished, damaged, or of another version; what `make` throws, when it is closed.
 */
export async function openWhole<About extends { readonly state: string }, Made>(
  file: string,
  kind: IndexKind,
  read: (client: Client, file: string) => Promise<About>,
  make: (client: Client, about: About) => Made | Promise<Made>,
): Promise<Made> {
  await checkIndexHeader(file, kind);
  let client: Client | null = null;
  try {
    client = await openDatabase(kind.name, file);
    await client.execute("pragma query_only = on");
    const about = await read(client, file);
    if (about.state === "whole") return await make(client, about);
    const hint = "zerosearch index goes on with it; give the same command again.";
    throw new FileError({ where: file, what: "is an unfinished index", hint });
  } catch (cause) {
    client?.close();
    throw readError(file, cause);
  }
}

/** Puts an index that is whole in its place. */
export async function putInPlace(file: string): Promise<void> {
  await sealHeader(partialOf(file));
  await sync(partialOf(file));
  await rename(partialOf(file), file);
  if (process.platform !== "win32") await sync(dirname(file));
  await removeDatabase(partialOf(file));
}

async function sync(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function busy(file: string): FileError {
  return new FileError({ where: file, what: "another program builds this index", hint: "Wait for it, or name another file with --to." });
}

/** SQLite's complaints, and the system's, in words; others as they are. `anew` says how to begin again. */
export function writeError(file: string, cause: unknown, anew: string): unknown {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  const wrong = (what: string, hint: string): FileError => new FileError({ where: file, what, hint }, { cause });
  if (["SQLITE_FULL", "ENOSPC", "EDQUOT"].includes(code))
    return wrong("the disk is full", "Make room; the same command goes on where this one stopped.");
  if (code === "SQLITE_BUSY" || code.startsWith("SQLITE_CONSTRAINT")) return busy(file);
  if (["SQLITE_CORRUPT", "SQLITE_NOTADB"].includes(code) || cause instanceof RangeError)
    return wrong("the unfinished index is damaged", anew);
  if (["SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "EACCES", "EPERM", "EROFS"].includes(code))
    return wrong("no permission to write", "Change the permissions, or name another file with --to.");
  if (sqliteCode(cause) !== "" || ["ENOTDIR", "EEXIST", "ENOENT"].includes(code))
    return wrong(`cannot be written: ${(cause as Error).message}`, "The same command goes on where this one stopped.");
  return cause;
}

/**
 * The number of the passage with that id, in a table `passages (n, row)` whose rows begin as ["id", ...; null where there is none. It reads all rows: pages that
 * no search has found are seldom asked for.
 * @throws FileError where the file cannot be read
 */
export async function numberOfPassage(file: string, client: Client, id: string): Promise<number | null> {
  const begins = JSON.stringify([id]).slice(0, -1);
  const sql = "select n from passages where substr(row, 1, length(?1)) = ?1 and substr(row, 1 + length(?1), 1) = ',' limit 1";
  try {
    const { rows } = await client.execute({ sql, args: [begins] });
    return rows[0] === undefined ? null : Number(rows[0]["n"]);
  } catch (cause) {
    throw readError(file, cause);
  }
}
