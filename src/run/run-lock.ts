/** A run is written by one program at a time. */
import { hostname } from "node:os";
import { join } from "node:path";
import { lockTimes, takeLock, type Lock } from "../checkpoint/lock.ts";
import type { Config } from "../config/index.ts";
import { ConfigError, ZeroSearchError } from "../util/errors.ts";
import { logFolder } from "./run.ts";

export const runLockFile = "run.lock";

/**
 * Takes the lock of a run; that of a program which was killed is taken over: at once on the machine where it ran, elsewhere after 20 s without a
 * sign of life.
 * @throws ConfigError naming the program that holds it.
 */
export async function lockRun(config: Config, signal: AbortSignal | undefined, say: (text: string) => void): Promise<Lock> {
  const file = join(logFolder(config), runLockFile);
  const { silent } = lockTimes;
  return takeLock(file, {
    times: { ...lockTimes, ended: 0 },
    signal,
    onWait: () => say(`Another program has left ${file}; waiting up to ${silent / 1000} s for a sign of its life.`),
    refuse: ({ host, pid }) =>
      new ConfigError({
        where: file,
        what: `the run ${config.name} is under way: process ${pid}${host === hostname() ? "" : ` on ${host}`} writes it`,
        hint: "Stop that one first (Ctrl-C there saves it), or start a run of another name.",
      }),
  });
}

/** @throws ZeroSearchError where another program has taken the run over while this one stood still. */
export async function checkHeld(lock: Lock, config: Config): Promise<void> {
  if (await lock.held()) return;
  throw new ZeroSearchError({
    where: join(logFolder(config), runLockFile),
    what: "another program has taken this run over, as this one gave no sign of life for long",
    hint: "Nothing more is written here; the other one goes on.",
  });
}
