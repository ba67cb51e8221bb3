/** The data files that a configuration names, found on this machine or fetched from the Hub, before any is read. */
import type { Config } from "../config/index.ts";
import { findDataFile, isHubAddress, type FoundFile, type LocateFileOptions } from "../hub/find-data-file.ts";
import type { TextStream } from "../log/progress.ts";
import { FileError } from "../util/errors.ts";
import { findFileShown } from "./download-progress.ts";

export interface LocateDataOptions extends Pick<LocateFileOptions, "env" | "signal" | "cacheOnly"> {
  readonly stream?: TextStream | undefined;
}

export interface LocatedData {
  /** The configuration with paths in place of the Hub's addresses: to read. With `cacheOnly`, what the cache has not is left as it is. */
  readonly opened: Config;
  /** The configuration with every address at the commit that was found: to save with a run. */
  readonly pinned: Config;
}

/**
 * Finds every file of `data` that is on the Hub, with a bar for what is downloaded; a line says which commit each is of.
 * @throws as `findDataFile`, naming the configuration key
 */
export async function locateData(config: Config, { stream, ...options }: LocateDataOptions = {}): Promise<LocatedData> {
  const find = async (source: string, where: string): Promise<Pick<FoundFile, "file" | "pinned">> => {
    if (!isHubAddress(source)) return { file: source, pinned: source };
    if (options.cacheOnly !== true) return findFileShown(source, { ...options, where }, stream, `${where} `);
    return findDataFile(source, { ...options, where }).catch((error: unknown) => {
      if (error instanceof FileError) return { file: source, pinned: source };
      throw error;
    });
  };
  const opened = { ...config.data };
  const pinned = { ...config.data };
  for (const name of ["train", "validation", "test"] as const) {
    const given = config.data[name];
    if (given === null) continue;
    const found: Pick<FoundFile, "file" | "pinned">[] = [];
    for (const source of typeof given === "string" ? [given] : given) found.push(await find(source, `data.${name}`));
    const asGiven = (paths: string[]): string | string[] => (typeof given === "string" ? (paths[0] ?? given) : paths);
    opened[name] = asGiven(found.map(({ file }) => file));
    pinned[name] = asGiven(found.map((one) => one.pinned));
  }
  if (config.data.corpus !== null) ({ file: opened.corpus, pinned: pinned.corpus } = await find(config.data.corpus, "data.corpus"));
  return { opened: { ...config, data: opened }, pinned: { ...config, data: pinned } };
}
