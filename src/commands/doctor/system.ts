/** What the doctor looks at, so that a test can show it another machine. */
import { accessSync, constants, existsSync, readdirSync, readFileSync } from "node:fs";
import { homedir } from "node:os";

export interface System {
  readonly platform: NodeJS.Platform;
  /** As Node says it: x64, arm64. */
  readonly arch: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  exists(path: string): boolean;
  /** May this process read and write it? */
  opens(path: string): boolean;
  /** Names in a folder; none where there is no such folder. */
  list(folder: string): readonly string[];
  /** Bytes as Latin-1; null where it cannot be read. */
  read(path: string): string | null;
}

/** The machine this runs on. */
export const thisSystem: System = {
  platform: process.platform,
  arch: process.arch,
  env: process.env,
  home: homedir(),
  exists: existsSync,
  opens: (path) =>
    attempt(() => {
      accessSync(path, constants.R_OK | constants.W_OK);
      return true;
    }, false),
  list: (folder) => attempt(() => readdirSync(folder).sort(), []),
  read: (path) => attempt(() => readFileSync(path, "latin1"), null),
};

function attempt<T>(action: () => T, otherwise: T): T {
  try {
    return action();
  } catch {
    return otherwise;
  }
}
