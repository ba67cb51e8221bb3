/**
 * The Hub's local cache, as Python's huggingface_hub and transformers lay it out:
 *
 *     models--Qwen--Qwen2.5-3B/    or datasets--...
 *       blobs/<etag>               contents, named by their SHA-256 (large files) or git blob SHA-1 (small ones)
 *       refs/main                  a commit, 40 hexadecimal digits, no line break
 *       snapshots/<commit>/<file>  relative links into blobs/, or the files themselves where links cannot be made
 */
import { randomUUID } from "node:crypto";
import { copyFile, readFile, readdir, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { makeFolder } from "../checkpoint/atomic.ts";
import { ADAPTER_WEIGHTS, WEIGHTS, WEIGHTS_INDEX } from "../checkpoint/folder-files.ts";
import { isCommit, markOf, type HubId, type Wanted } from "./source.ts";

/** A model that is on this machine. */
export interface FoundModel {
  readonly folder: string;
  readonly from: "folder" | "cache" | "download";
  /** What it is on the Hub; null for a folder. */
  readonly hub: { readonly id: string; readonly commit: string } | null;
}

/** What the cache has of a model. */
export interface Cached {
  /** What the revision stands for; null where the cache does not know. */
  readonly commit: string | null;
  readonly folder: string | null;
  /** What the folder lacks, in words; empty where it is complete. Undefined without a folder. */
  readonly missing: readonly string[] | undefined;
  /** All commits of which the cache has something. */
  readonly commits: readonly string[];
}

export function repoFolder(cache: string, { id, type = "model" }: Omit<HubId, "revision">): string {
  return join(cache, `${type}s--${id.replace("/", "--")}`);
}

export function snapshotFolder(cache: string, repo: Omit<HubId, "revision">, commit: string): string {
  return join(repoFolder(cache, repo), "snapshots", commit);
}

/** Looks a model or a file up; asks nobody. Never throws: what cannot be read is not there. */
export async function lookUp(cache: string, hubId: HubId, wanted: Wanted): Promise<Cached> {
  const commits = (await readdir(join(repoFolder(cache, hubId), "snapshots")).catch(() => [])).filter(isCommit).sort();
  const commit = await commitOf(cache, hubId, commits);
  const folder = commit === null ? null : snapshotFolder(cache, hubId, commit);
  if (folder === null || !commits.includes(commit ?? "")) return { commit, folder: null, missing: undefined, commits };
  return { commit, folder, missing: await missingIn(folder, wanted), commits };
}

async function commitOf(cache: string, hubId: HubId, commits: readonly string[]): Promise<string | null> {
  const { revision } = hubId;
  if (isCommit(revision)) return revision;
  const text = await readText(join(repoFolder(cache, hubId), "refs", ...revision.split("/")));
  if (text !== null && isCommit(text.trim())) return text.trim();
  // A commit may be shortened, as git prints it.
  const matching = /^[0-9a-f]{7,39}$/.test(revision) ? commits.filter((commit) => commit.startsWith(revision)) : [];
  return matching.length === 1 ? (matching[0] ?? null) : null;
}

/**
 * What a folder lacks to be opened: the configuration, the tokenizer, and every weight file, where the index lists them; or the one file.
 * Links that lead nowhere count as missing.
 */
export async function missingIn(folder: string, kind: Wanted): Promise<string[]> {
  if (typeof kind === "object") return (await isFile(join(folder, kind.file))) ? [] : [kind.file];
  const needed = kind === "adapter" ? [markOf.adapter, ADAPTER_WEIGHTS] : [markOf.model, "tokenizer.json"];
  if (kind === "model") {
    const index = (await isFile(join(folder, WEIGHTS))) ? null : await readText(join(folder, WEIGHTS_INDEX));
    needed.push(...(index === null ? [WEIGHTS] : (shardsOf(index) ?? [`a readable ${WEIGHTS_INDEX}`])));
  }
  const there = await Promise.all(needed.map((file) => isFile(join(folder, file))));
  return needed.filter((_, i) => there[i] !== true);
}

/** The weight files that an index names, each once; null where it is no index. Names that lead out of the folder are none. */
export function shardsOf(index: string): string[] | null {
  let map: unknown;
  try {
    map = (JSON.parse(index) as { readonly weight_map?: unknown } | null)?.weight_map;
  } catch {
    return null;
  }
  if (typeof map !== "object" || map === null) return null;
  const files = [...new Set(Object.values(map) as unknown[])];
  const right = (file: unknown): file is string => typeof file === "string" && /^[\w-][\w.-]*\.safetensors$/.test(file);
  return files.length > 0 && files.every(right) ? files : null;
}

export interface PutOptions {
  /** Whether links may be made. */
  readonly symlinks: boolean;
  /** Whether the blob is new, so that no other snapshot needs it where it is. */
  readonly fresh: boolean;
}

/**
 * Puts a blob into a snapshot, whole or not at all: a relative link; where links cannot be made, the file itself, as huggingface_hub does.
 * A file that is there already stays.
 */
export async function putIntoSnapshot(blob: string, place: string, { symlinks, fresh }: PutOptions): Promise<void> {
  if (await isFile(place)) return;
  await makeWhole(place, async (temporary) => {
    if (symlinks && (await linkTo(blob, temporary))) return;
    if (fresh) await rename(blob, temporary);
    else await copyFile(blob, temporary);
  });
}

/** Makes a file under a temporary name and moves it to its place, also over a link that leads nowhere. */
async function makeWhole(file: string, make: (temporary: string) => Promise<void>): Promise<void> {
  await makeFolder(dirname(file));
  const temporary = `${file}.${randomUUID().slice(0, 8)}.tmp`;
  try {
    await make(temporary);
    await rename(temporary, file);
  } finally {
    await rm(temporary, { force: true });
  }
}

async function linkTo(blob: string, place: string): Promise<boolean> {
  try {
    await symlink(relative(dirname(place), blob), place);
    return true;
  } catch (cause) {
    // Windows without developer mode, and some mounted file systems.
    if (["EPERM", "EACCES", "ENOSYS", "ENOTSUP", "UNKNOWN"].includes((cause as NodeJS.ErrnoException).code ?? "")) return false;
    throw cause;
  }
}

/** Notes which commit a branch or tag stands for. */
export async function writeRef(cache: string, hubId: HubId, commit: string): Promise<void> {
  const { revision } = hubId;
  if (revision === commit) return;
  const file = join(repoFolder(cache, hubId), "refs", ...revision.split("/"));
  if ((await readText(file)) === commit) return;
  await makeWhole(file, (temporary) => writeFile(temporary, commit));
}

export async function isFile(path: string): Promise<boolean> {
  return (await sizeOf(path)) !== null;
}

/** Bytes of a file, links followed; null where there is none. */
export async function sizeOf(path: string): Promise<number | null> {
  const found = await stat(path).catch(() => null);
  return found?.isFile() === true ? found.size : null;
}

/** Null where it cannot be read. */
export async function readText(path: string): Promise<string | null> {
  return readFile(path, "utf8").catch(() => null);
}
