/** Names of runs: a new run never writes into an old one's folders. */
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { ConfigError, FileError } from "../util/errors.ts";
import type { Config } from "./schema.ts";

/** The file that makes a folder a run's: its resolved configuration. */
export const runConfigFile = "config.yaml";

/**
 * Makes `<runs>/<name>`, or `<name>-2`, `<name>-3` ... where a run of that name has logs or states, and returns the name. Two programs
 * that ask at once get two names.
 * @throws FileError when the folder cannot be made.
 */
export function claimRunName({ runs, checkpoints }: Pick<Config["output"], "runs" | "checkpoints">, name: string): string {
  try {
    mkdirSync(runs, { recursive: true });
  } catch (cause) {
    throw unwritable(runs, cause);
  }
  for (let count = 1; ; count++) {
    const claimed = count === 1 ? name : `${name}-${count}`;
    if (existsSync(join(checkpoints, claimed))) continue;
    try {
      mkdirSync(join(runs, claimed));
      return claimed;
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw unwritable(join(runs, claimed), cause);
    }
  }
}

/**
 * The newest run called `name` or `<name>-<count>`: the one `--resume` means when it is given no name.
 * @throws ConfigError when there is none.
 */
export function newestRunName(folder: string, name: string): string {
  const names = existsSync(folder) ? readdirSync(folder) : [];
  const counts = names
    .filter((one) => isCalled(one, name))
    .filter((one) => existsSync(join(folder, one, runConfigFile)))
    .map((one) => (one === name ? 1 : Number(one.slice(name.length + 1))));
  if (counts.length === 0) throw noSuchRun(folder, name);
  const newest = Math.max(...counts);
  return newest === 1 ? name : `${name}-${newest}`;
}

/** Whether a run is `name` or `<name>-<count>`. */
export function isCalled(run: string, name: string): boolean {
  return run === name || (run.startsWith(`${name}-`) && /^\d+$/.test(run.slice(name.length + 1)));
}

/** `where` is what was given its name. */
export function noSuchRun(folder: string, name: string, where = "--resume"): ConfigError {
  return new ConfigError({
    where,
    what: `there is no run ${name}`,
    expected: join(folder, name, runConfigFile),
    hint: `the runs are the folders of ${folder}`,
  });
}

function unwritable(folder: string, cause: unknown): FileError {
  return new FileError(
    {
      where: folder,
      what: `cannot be made: ${(cause as Error).message}`,
      hint: "choose another folder: output.runs=... output.checkpoints=...",
    },
    { cause },
  );
}
