/**
 * One program at a time fetches a model. A lock is a file that its holder changes every second; one that stands still belongs to a
 * program that was killed, and is taken over. (Python's huggingface_hub locks with flock, which Node does not have; the two never write
 * to the same unfinished file, and put finished ones in place whole.)
 */
import { randomUUID } from "node:crypto";
import { link, mkdir, open, rename, rm, type FileHandle } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { readText } from "./cache.ts";

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
}

/** Runs `act` while holding the lock, whose folder is made where it is missing. @throws what `act` throws, and errors of files. */
export async function withLock<T>(file: string, act: () => Promise<T>, options: LockOptions = {}): Promise<T> {
  const times = options.times ?? lockTimes;
  await mkdir(dirname(file), { recursive: true });
  const name = `${hostname()} ${process.pid} ${randomUUID()}`;
  const handle = await acquire(file, name, times, options);
  let beats = 0;
  const beating = setInterval(() => {
    // Through the handle: a lock that was taken over is not written to.
    handle.write(`${name} ${String(++beats).padStart(12, "0")}`, 0).catch(() => undefined);
  }, times.beat);
  beating.unref();
  try {
    return await act();
  } finally {
    clearInterval(beating);
    await handle.close();
    if ((await readText(file))?.startsWith(name) === true) await rm(file, { force: true });
  }
}

async function acquire(file: string, name: string, times: LockTimes, { signal, onWait }: LockOptions): Promise<FileHandle> {
  let seen: string | null = null;
  let still = 0;
  for (let looks = 0; ; looks++) {
    signal?.throwIfAborted();
    const handle = await create(file, name, looks < 20);
    if (handle !== null) return handle;
    if (looks === 0) onWait?.();
    const text = await readText(file);
    still = text !== null && text === seen ? still + times.look : 0;
    seen = text;
    if (text !== null && still >= (hasEnded(text) ? times.ended : times.silent)) await takeAway(file, text);
    else await sleep(times.look, undefined, signal === undefined ? {} : { signal });
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

/** Whether the program that a lock names ran on this machine and does no more. */
function hasEnded(text: string): boolean {
  const [host, pid] = text.split(" ");
  if (host !== hostname() || !/^\d+$/.test(pid ?? "")) return false;
  try {
    process.kill(Number(pid), 0);
    return false;
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === "ESRCH";
  }
}

/** Removes a lock if it is still the one that stood still: of several that try, one moves it, and whoever moved another puts it back. */
async function takeAway(file: string, text: string): Promise<void> {
  const aside = `${file}.${randomUUID().slice(0, 8)}`;
  try {
    await rename(file, aside);
  } catch {
    return;
  }
  if ((await readText(aside)) !== text) await link(aside, file).catch(() => undefined);
  await rm(aside, { force: true });
}
