/**
 * One program at a time fetches a model, or writes a run. A lock is a file that its holder changes every second; one that stands still belongs
 * to a program that was killed, and is taken over. (Python's huggingface_hub locks with flock, which Node does not have; the two never write
 * to the same unfinished file, and put finished ones in place whole.)
 */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { mkdir, open, readFile, rm, rmdir, stat, type FileHandle } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { FileError } from "../util/errors.ts";
import { makeFolder } from "./atomic.ts";

/** Milliseconds. */
export interface LockTimes {
  /** Between two signs of life. */
  readonly beat: number;
  /** Between two looks at somebody else's lock. */
  readonly look: number;
  /** A lock that stands still so long is taken over, if its program has ended. */
  readonly ended: number;
  /** The same, if its program cannot be asked after: it runs on another machine, or is stopped. */
  readonly silent: number;
}

export const lockTimes: LockTimes = { beat: 1000, look: 250, ended: 2000, silent: 20_000 };

export interface LockOptions {
  readonly times?: LockTimes | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called once if somebody else holds the lock. */
  readonly onWait?: (() => void) | undefined;
  /** Makes the error to throw, instead of waiting, where the holder is seen to live. */
  readonly refuse?: ((holder: Holder) => Error) | undefined;
}

/** Runs `act` while holding the lock, whose folder is made where it is missing. @throws what `act` throws, and errors of files. */
export async function withLock<T>(file: string, act: () => Promise<T>, options: LockOptions = {}): Promise<T> {
  const lock = await takeLock(file, options);
  try {
    return await act();
  } finally {
    await lock.close();
  }
}

/** A lock that this program holds. */
export interface Lock {
  /** Whether it still does: a program that stood still for long may have lost it. */
  held(): Promise<boolean>;
  /** Lets go of it. */
  close(): Promise<void>;
}

/** Takes a lock, whose folder is made where it is missing. @throws what `refuse` returns, the signal's reason, and errors of files. */
export async function takeLock(file: string, options: LockOptions = {}): Promise<Lock> {
  const times = options.times ?? lockTimes;
  await makeFolder(dirname(file));
  const name = `${hostname()} ${process.pid} ${birthOf(process.pid)} ${randomUUID()}`;
  const handle = await acquire(file, name, times, options);
  let beats = 0;
  const beating = setInterval(() => {
    // Through the handle: a lock that was taken over is not written to.
    handle.write(`${name} ${String(++beats).padStart(12, "0")}`, 0).catch(() => undefined);
  }, times.beat);
  beating.unref();
  // Where the file was deleted, nobody else has taken it.
  const held = async (): Promise<boolean> => (await readText(file))?.startsWith(name) !== false;
  return {
    held,
    async close() {
      clearInterval(beating);
      await handle.close();
      if ((await readText(file))?.startsWith(name) === true) await rm(file, { force: true });
    },
  };
}

async function acquire(file: string, name: string, times: LockTimes, { signal, onWait, refuse }: LockOptions): Promise<FileHandle> {
  let seen: string | null = null;
  let still = 0;
  let tries = 0;
  for (let looks = 0; ; looks++) {
    signal?.throwIfAborted();
    const handle = await create(file, name, looks < 20);
    if (handle !== null) return handle;
    const text = await readText(file);
    const beats = text !== null && seen !== null && text !== seen;
    if (refuse !== undefined && text !== null && (beats || stateOf(text) === "lives")) throw refuse(holderOf(text));
    if (looks === 0 && (text === null || stateOf(text) !== "ended")) onWait?.();
    if (text === null && (await stat(file).catch(() => null))?.isFile() === false)
      throw new FileError({ where: file, what: "is no file, so that nobody can hold it", hint: "Move it away." });
    still = text !== null && text === seen ? still + times.look : 0;
    seen = text;
    if (text !== null && still >= (stateOf(text) === "ended" ? times.ended : times.silent)) {
      if (await takeAway(file, text)) continue;
      if (++tries % mostTries === 0) await rmdir(guardOf(file)).catch(() => undefined);
    }
    await sleep(times.look, undefined, signal === undefined ? {} : { signal });
  }
}

/** Null where somebody has it. */
async function create(file: string, name: string, patient: boolean): Promise<FileHandle | null> {
  let handle: FileHandle;
  try {
    handle = await open(file, "wx");
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    // Windows says EPERM of a file that is just being deleted.
    if (code === "EEXIST" || (code === "EPERM" && patient)) return null;
    throw cause;
  }
  await handle.write(name, 0);
  return handle;
}

/** Whether a program may hold a lock, as far as a look tells: it is not known to have ended. */
export async function isHeld(file: string): Promise<boolean> {
  const text = await readText(file);
  return text !== null && stateOf(text) !== "ended";
}

/** The program that a lock names. */
export interface Holder {
  readonly host: string;
  readonly pid: number;
}

function holderOf(text: string): Holder {
  const [host = "", pid = ""] = text.split(" ");
  return { host, pid: Number(pid) };
}

/** What has become of the program that a lock names, if it is one of this machine. Its number alone does not say: numbers are given again. */
function stateOf(text: string): "lives" | "ended" | "unknown" {
  const { host, pid } = holderOf(text);
  if (host !== hostname() || !Number.isInteger(pid) || pid <= 0) return "unknown";
  try {
    process.kill(pid, 0);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ESRCH") return "ended";
  }
  const [then = noBirth, now] = [text.split(" ")[2], birthOf(pid)];
  if (then === noBirth || now === noBirth) return "unknown";
  return then === now ? "lives" : "ended";
}

const noBirth = "-";

/** What tells a program from another that had its number: the boot of the machine and the tick at which it was started. Linux only. */
function birthOf(pid: number): string {
  try {
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").slice(0, 8);
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The 22nd field; the second, a name in brackets, may hold spaces.
    return `${boot}:${stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? ""}`;
  } catch {
    return noBirth;
  }
}

/** Null where it cannot be read. */
function readText(file: string): Promise<string | null> {
  return readFile(file, "utf8").catch(() => null);
}

/**
 * Removes a lock if it is still the one that stood still. Of several that try, one at a time looks and removes, so that nobody removes the lock
 * that another has taken since. @returns false where another is at it
 */
async function takeAway(file: string, text: string): Promise<boolean> {
  const guard = guardOf(file);
  try {
    await mkdir(guard);
  } catch {
    return false;
  }
  try {
    if ((await readText(file)) === text) await rm(file, { force: true });
  } finally {
    await rmdir(guard).catch(() => undefined);
  }
  return true;
}

/** A folder that is there for the moment in which a lock is taken away. */
function guardOf(file: string): string {
  return `${file}.taking`;
}

/** Tries after which a guard belongs to a program that was killed in that moment. */
const mostTries = 40;
