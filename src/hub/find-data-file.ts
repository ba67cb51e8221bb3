/** Files of data sets on the Hub, `hf://datasets/OWNER/NAME/FILE`: from the local cache, else downloaded into it. */
import { join } from "node:path";
import { ConfigError } from "../util/errors.ts";
import { lookUp } from "./cache.ts";
import { download } from "./download.ts";
import { explained, notHere, type Asked, type LocateOptions } from "./find-model.ts";
import { readHubSettings } from "./settings.ts";
import { defaultRevision, isRevision, parseHubId, type HubId } from "./source.ts";

const SCHEME = "hf://";

/** A file of a data set that is on this machine. */
export interface FoundFile {
  readonly file: string;
  readonly from: "cache" | "download";
  readonly id: string;
  readonly commit: string;
  /** The address, with the commit. */
  readonly pinned: string;
}

export interface LocateFileOptions extends Omit<LocateOptions, "kind" | "update"> {
  /** Asks nobody. */
  readonly cacheOnly?: boolean | undefined;
}

/** Whether a text is an address on the Hub, and no path. */
export function isHubAddress(source: string): boolean {
  return source.startsWith(SCHEME);
}

/**
 * Reads `hf://datasets/OWNER/NAME/FILE`, with `@REVISION` behind it, or behind the name as huggingface_hub has it (there a slash is `%2F`).
 * @throws ConfigError where it is no such address.
 */
export function parseDataAddress(source: string, where = source): { readonly hubId: HubId; readonly file: string } {
  const refuse = (what: string): ConfigError =>
    new ConfigError({
      where,
      what: `${source} ${what}`,
      expected: "hf://datasets/OWNER/NAME/FILE, or that and @REVISION",
      hint: "The Hub's page of a data set shows its files under Files and versions.",
    });
  const [type, owner = "", repository = "", ...rest] = source.slice(SCHEME.length).split("/");
  if (!isHubAddress(source) || type !== "datasets" || rest.length === 0) throw refuse("is no address of a data set's file");
  const [name, early] = cut(repository);
  const [file, late] = cut(rest.join("/"));
  if (early !== undefined && late !== undefined) throw refuse("has two revisions");
  const revision = late ?? (early === undefined ? defaultRevision : early.replaceAll(/%2F/gi, "/"));
  const hubId = parseHubId(`${owner}/${name}`);
  const plain = (part: string): boolean => part !== "" && part !== "." && part !== ".." && !/[\\:\x00-\x1f\x7f]/.test(part);
  if (hubId === null || !isRevision(revision) || !file.split("/").every(plain)) throw refuse("is no address of a data set's file");
  return { hubId: { id: hubId.id, type: "dataset", revision }, file };
}

/**
 * Finds a file, or fetches it: whole, checked by its hash, and where an earlier download stopped, from there on.
 * @throws ConfigError where the address is none; FileError where there is no such file, it may not be had, or the Hub cannot be asked.
 */
export async function findDataFile(source: string, options: LocateFileOptions = {}): Promise<FoundFile> {
  const { where = source, env, onProgress = () => undefined, onNote = () => undefined, signal, patience, lockTimes } = options;
  const { hubId, file } = parseDataAddress(source, where);
  const { id } = hubId;
  const settings = await readHubSettings(env);
  const cached = await lookUp(settings.cache, hubId, { file });
  const found = (from: FoundFile["from"], folder: string, commit: string): FoundFile => ({
    file: join(folder, ...file.split("/")),
    from,
    id,
    commit,
    pinned: `${SCHEME}datasets/${id}/${file}@${commit}`,
  });
  if (cached.folder !== null && cached.commit !== null && cached.missing?.length === 0) return found("cache", cached.folder, cached.commit);
  const asked: Asked = { where, source, hubId, file, settings, cached };
  if (options.cacheOnly === true) throw await notHere(asked, "nothing is fetched here");
  if (settings.offline !== null) throw await notHere(asked, `the Hub may not be asked: ${settings.offline} is set`);
  try {
    const { folder, hub } = await download(hubId, settings, { kind: { file }, onProgress, onNote, signal, patience, lockTimes });
    return found("download", folder, hub?.commit ?? hubId.revision);
  } catch (error) {
    throw await explained(error, asked);
  }
}

/** As `findDataFile`: the path of the file. */
export async function locateDataFile(source: string, options: LocateFileOptions = {}): Promise<string> {
  return (await findDataFile(source, options)).file;
}

/** What stands before the first `@`, and behind it. */
function cut(text: string): [string, string | undefined] {
  const at = text.indexOf("@");
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}
