/** The data files that a configuration names, found on this machine or fetched from the Hub, before any is read. */
import type { Config } from "../config/index.ts";
import { valueAt, withValue } from "../config/keys.ts";
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

const files = ["data.train", "data.validation", "data.test", "data.corpus", "sft.data", "sft.validation", "collect.exclude"];

/**
 * Finds every file of questions, passages and examples that is on the Hub, with a bar for what is downloaded; a line says which commit each is of.
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
  let opened = config;
  let pinned = config;
  for (const key of files) {
    const given = valueAt(config, key) as string | string[] | null;
    if (given === null) continue;
    const found: Pick<FoundFile, "file" | "pinned">[] = [];
    for (const source of typeof given === "string" ? [given] : given) found.push(await find(source, key));
    const asGiven = (paths: string[]): string | string[] => (typeof given === "string" ? (paths[0] ?? given) : paths);
    opened = withValue(opened, key, asGiven(found.map(({ file }) => file)));
    pinned = withValue(pinned, key, asGiven(found.map((one) => one.pinned)));
  }
  return { opened, pinned };
}
