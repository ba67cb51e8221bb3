/**
 * Files and folders that are whole or absent, whenever the program or the machine stops: written under a temporary name beside their
 * place, put on the disk, then renamed.
 */
import { mkdir, open, readdir, rename, rm, stat, type FileHandle } from "node:fs/promises";
import { basename, dirname, join, relative, sep } from "node:path";
import { FileError } from "../util/errors.ts";

/** Names that begin so are unfinished or thrown away; `removeTemporary` deletes them. */
const TEMPORARY = ".tmp-";
const fileUnchanged = "the file is as it was before";

/**
 * Writes a file: the old content or the new one, never a part. Makes its folder where that is missing.
 * @throws FileError when it cannot be written; the old file is then untouched.
 */
export async function writeFileAtomic(file: string, data: string | Uint8Array): Promise<void> {
  try {
    await makeFolder(dirname(file));
  } catch (cause) {
    throw writeError(file, cause, fileUnchanged);
  }
  await replaceFile(file, (handle) => handle.writeFile(data));
}

/**
 * Makes a folder, and those above it, where they are missing. Node's own way to do so never ends where the system makes no folders (/proc).
 * @throws the system's error
 */
export async function makeFolder(folder: string): Promise<void> {
  const above = dirname(folder);
  for (let attempt = 0; ; attempt++) {
    try {
      await mkdir(folder);
      return;
    } catch (cause) {
      if ((await stat(folder).catch(() => null))?.isDirectory() === true) return;
      if ((cause as NodeJS.ErrnoException).code !== "ENOENT") throw cause;
      // Where the one above is there now, somebody may have made it in between: once more.
      if (!(await exists(above))) await makeFolder(above);
      else if (attempt > 0) throw cause;
    }
  }
}

/** As `writeFileAtomic`, of what `fill` writes, into a folder that is there. */
export async function replaceFile(file: string, fill: (handle: FileHandle) => Promise<void>): Promise<void> {
  const temporary = temporaryName(file);
  try {
    const handle = await open(temporary, "w");
    try {
      await fill(handle);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
    await syncFolder(dirname(file));
  } catch (cause) {
    await discard(temporary);
    throw writeError(file, cause, fileUnchanged);
  }
}

/**
 * Makes a folder whose contents appear all at once. `fill` writes into the temporary folder it is given; a folder already at `folder`
 * is replaced.
 * @throws whatever `fill` throws, a failed write as FileError; nothing is left behind, and a folder that was there is untouched.
 */
export async function writeFolderAtomic(folder: string, fill: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = temporaryName(folder);
  try {
    await makeFolder(temporary);
    await fill(temporary);
    const { files, folders } = await walk(temporary);
    for (const file of files) await sync(file, "r+");
    for (const inner of folders) await syncFolder(inner);
    await replaceFolder(temporary, folder);
  } catch (cause) {
    await discard(temporary);
    throw writeError(folder, cause, "nothing was changed");
  }
}

/** Takes a folder away all at once: a reader never sees half of it. */
export async function removeFolderAtomic(folder: string): Promise<void> {
  const doomed = temporaryName(folder);
  try {
    await rename(folder, doomed);
    await syncFolder(dirname(folder));
    await rm(doomed, { recursive: true, force: true });
  } catch (cause) {
    throw writeError(folder, cause, "the folder could not be deleted");
  }
}

/** Deletes what interrupted writers left in a folder; a missing folder is fine. Only when no writer is at work there. @returns their names */
export async function removeTemporary(folder: string): Promise<string[]> {
  const names = (await exists(folder)) ? (await readdir(folder)).filter((name) => name.startsWith(TEMPORARY)) : [];
  for (const name of names) {
    // A folder that was moved aside by `replaceFolder` comes back if the new one never took its place.
    const original = /^\.tmp-old-(.+)$/.exec(name)?.[1];
    if (original !== undefined && !(await exists(join(folder, original)))) await rename(join(folder, name), join(folder, original));
    else await rm(join(folder, name), { recursive: true, force: true });
  }
  return names;
}

/** All files below a folder, sorted, as relative paths with forward slashes. */
export async function listFiles(folder: string): Promise<string[]> {
  const { files } = await walk(folder);
  return files.map((file) => relative(folder, file).split(sep).join("/")).sort();
}

/** The error of a failed write, in words: what was being written, why it failed, what to do. Errors of this project pass unchanged. */
export function writeError(where: string, cause: unknown, state: string): Error {
  if (!(cause instanceof Error) || !("code" in cause) || typeof cause.code !== "string")
    return cause instanceof Error ? cause : new Error(String(cause));
  const [what, hint] = writeFault(cause.code, cause.message);
  return new FileError({ where, what, hint: `${hint} (a run: output.checkpoints=..., output.runs=...); ${state}` }, { cause });
}

/** Why the system refused to write, by its code, and what to do. */
export function writeFault(code: string, message: string): readonly [string, string] {
  const reasons: Readonly<Record<string, readonly [string, string]>> = {
    ENOSPC: ["the disk is full", "make room on the disk or write elsewhere"],
    EDQUOT: ["the disk quota is used up", "make room or write elsewhere"],
    EACCES: ["no permission to write", "change the permissions or write elsewhere"],
    EFBIG: ["the file is larger than may be written", "raise the limit (ulimit -f) or write elsewhere"],
    EPERM: ["no permission to write", "change the permissions or write elsewhere"],
    EROFS: ["the file system is read-only", "write elsewhere"],
  };
  return reasons[code] ?? [`cannot be written: ${message}`, "write elsewhere"];
}

/** Puts a folder's entries on the disk; where the system cannot do that to folders (Windows), nothing. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform !== "win32") await sync(folder, "r");
}

async function sync(path: string, flags: string): Promise<void> {
  const handle = await open(path, flags);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw cause;
  }
}

async function replaceFolder(from: string, to: string): Promise<void> {
  const aside = join(dirname(to), `${TEMPORARY}old-${basename(to)}`);
  const replaced = await exists(to);
  if (replaced) {
    await rm(aside, { recursive: true, force: true });
    await rename(to, aside);
  }
  try {
    await rename(from, to);
  } catch (cause) {
    if (replaced) await rename(aside, to);
    throw cause;
  }
  await syncFolder(dirname(to));
  if (replaced) await rm(aside, { recursive: true, force: true });
}

/** Deletes what a failed write left; if even that fails, the first error is the one to tell, and the next start deletes it. */
async function discard(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true }).catch(() => undefined);
}

function temporaryName(path: string): string {
  return join(dirname(path), `${TEMPORARY}${process.pid}-${basename(path)}`);
}

async function walk(folder: string): Promise<{ files: string[]; folders: string[] }> {
  const files: string[] = [];
  const folders = [folder];
  for (const inner of folders) {
    for (const entry of await readdir(inner, { withFileTypes: true })) {
      if (entry.isDirectory()) folders.push(join(inner, entry.name));
      else if (entry.isFile()) files.push(join(inner, entry.name));
    }
  }
  return { files, folders };
}
