/** Fetches a model, or a file of a data set, from the Hub into the local cache. */
import { readFile, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { makeFolder } from "../checkpoint/atomic.ts";
import { FileError } from "../util/errors.ts";
import { Slots } from "../util/slots.ts";
import { missingIn, putIntoSnapshot, repoFolder, sizeOf, snapshotFolder, writeRef, type FoundModel } from "./cache.ts";
import { HubAnswerError, HubClient } from "./client.ts";
import { diskError, fetchBlob, unfinishedFile } from "./fetch-blob.ts";
import type { LocateOptions } from "./find-model.ts";
import { withLock } from "../checkpoint/lock.ts";
import { checkedEntry, neededFiles, weightFiles, type RepoFile } from "./needed-files.ts";
import type { HubSettings } from "./settings.ts";
import { isCommit, pathOfRepo, type HubId, type Wanted } from "./source.ts";

/** How far a download is. */
export interface DownloadProgress {
  /** `organisation/name` */
  readonly id: string;
  readonly commit: string;
  /** Bytes of all its files that are here. */
  readonly done: number;
  /** Bytes of all its files. */
  readonly total: number;
  /** Files that are here, whole. */
  readonly files: number;
  readonly allFiles: number;
}

/** @internal What of `LocateOptions` a download needs. */
export type DownloadOptions = Pick<LocateOptions, "signal" | "patience" | "lockTimes"> &
  Required<Pick<LocateOptions, "onProgress" | "onNote">> & { readonly kind: Wanted };

/** Files that are fetched at a time. */
const ABREAST = 4;

/**
 * @internal Fetches what the cache lacks of a model at a revision, and notes in the cache which commit the revision is.
 * @throws HubStatusError, HubConnectionError, HubAnswerError, FileError; the signal's reason.
 */
export async function download(hubId: HubId, settings: HubSettings, options: DownloadOptions): Promise<FoundModel> {
  const { onNote, signal } = options;
  const { id } = hubId;
  const client = new HubClient(settings, options);
  const { commit, files } = await askHub(hubId, options.kind, settings, client);
  const folder = snapshotFolder(settings.cache, hubId, commit);
  const repo = repoFolder(settings.cache, hubId);
  try {
    // As long as one program fetches, others wait for it, and then find what they need.
    const lock = join(settings.cache, ".locks", repo.slice(settings.cache.length + 1), "zerosearch.lock");
    return await withLock(
      lock,
      async () => {
        const fetched = await fetchFiles({ id, path: pathOfRepo(hubId), commit, files, folder, repo, settings, client }, options);
        // Last, so that a branch stands for what is whole.
        await writeRef(settings.cache, hubId, commit);
        return { folder, from: fetched ? "download" : "cache", hub: { id, commit } };
      },
      { times: options.lockTimes, signal, onWait: () => onNote(`${id}: another program is fetching it; waiting`) },
    );
  } catch (error) {
    throw diskError(repo, error);
  }
}

/** Which commit a revision is, and its files: those beside the file that is wanted. */
async function askHub(
  { id, revision, type = "model" }: HubId,
  wanted: Wanted,
  { endpoint }: HubSettings,
  client: HubClient,
): Promise<{ readonly commit: string; readonly files: readonly RepoFile[] }> {
  // Only who fetches loads the library.
  const { datasetInfo, listFiles, modelInfo } = await import("@huggingface/hub");
  const asked = { hubUrl: endpoint, fetch: client.json };
  const folder = typeof wanted === "object" ? wanted.file.split("/").slice(0, -1).map(encodeURIComponent).join("/") : "";
  try {
    const named = { ...asked, name: id, revision };
    const { sha: commit } = await (type === "dataset"
      ? datasetInfo({ ...named, additionalFields: ["sha"] })
      : modelInfo({ ...named, additionalFields: ["sha"] }));
    if (typeof commit !== "string" || !isCommit(commit))
      throw new HubAnswerError(`${endpoint} does not say which commit ${revision} of ${id} is`);
    const files: RepoFile[] = [];
    const pages = { ...asked, fetch: client.pages(), path: folder };
    for await (const entry of listFiles({ ...pages, repo: { type, name: id }, revision: commit })) {
      const file = checkedEntry(id, entry);
      if (file !== null) files.push(file);
    }
    return { commit, files };
  } catch (cause) {
    // The library takes for granted what an answer looks like.
    if (cause instanceof TypeError) throw new HubAnswerError(`${endpoint} answers otherwise than the Hub: ${cause.message}`, { cause });
    throw cause;
  }
}

interface Snapshot {
  readonly id: string;
  /** Of the repository, in the Hub's addresses. */
  readonly path: string;
  readonly commit: string;
  readonly files: readonly RepoFile[];
  readonly folder: string;
  readonly repo: string;
  readonly settings: HubSettings;
  readonly client: HubClient;
}

/** @returns whether bytes came from the Hub; all may have been here. */
async function fetchFiles(snapshot: Snapshot, options: DownloadOptions): Promise<boolean> {
  const { id, commit, files, folder, repo } = snapshot;
  const { files: first, index } = neededFiles(id, files, options.kind);
  let needed = first;
  let fetched = false;
  if (index !== null) {
    // Small, and it says what else is needed.
    fetched = await fetchFile(snapshot, index, options, () => undefined);
    needed = [...first, ...weightFiles(id, await readFile(join(folder, index.path), "utf8"), files)];
  }
  const here = new Map<RepoFile, number>();
  for (const file of needed) here.set(file, await bytesHere(snapshot, file));
  const sum = (values: Iterable<number>): number => [...values].reduce((all, value) => all + value, 0);
  const total = sum(needed.map(({ bytes }) => bytes));
  await checkRoom(repo, total - sum(here.values()));
  const whole = new Set(needed.filter((file) => here.get(file) === file.bytes));
  const report = (): void => {
    options.onProgress({ id, commit, done: sum(here.values()), total, files: whole.size, allFiles: needed.length });
  };
  report();
  // The first failure ends the others, which leave what they have.
  const ended = new AbortController();
  const onAbort = (): void => ended.abort(options.signal?.reason);
  options.signal?.throwIfAborted();
  options.signal?.addEventListener("abort", onAbort);
  const client = new HubClient(snapshot.settings, { ...options, signal: ended.signal });
  // Files of the same content share a blob: one after the other.
  const byContent = new Map<string, RepoFile[]>();
  for (const file of [...needed].sort((x, y) => x.bytes - y.bytes)) byContent.set(file.etag, [...(byContent.get(file.etag) ?? []), file]);
  const slots = new Slots(ABREAST);
  const fetchSame = async (same: readonly RepoFile[]): Promise<void> => {
    for (const file of same) {
      const count = (bytes: number): void => {
        here.set(file, bytes);
        report();
      };
      const came = await fetchFile({ ...snapshot, client }, file, options, count);
      fetched ||= came;
      whole.add(file);
      count(file.bytes);
    }
  };
  const failures: unknown[] = [];
  const fail = (error: unknown): void => {
    failures.push(error);
    ended.abort(error);
  };
  await Promise.all([...byContent.values()].map((same) => slots.run(() => fetchSame(same), ended.signal).catch(fail)));
  options.signal?.removeEventListener("abort", onAbort);
  if (failures.length > 0) throw failures[0];
  const missing = await missingIn(folder, options.kind);
  if (missing.length > 0) throw new FileError({ where: repo, what: `${missing.join(", ")} cannot be read after the download` });
  return fetched;
}

/** Fetches one file and puts it into the snapshot; one that is in the cache already is only put there. @returns whether it was fetched. */
async function fetchFile(snapshot: Snapshot, file: RepoFile, options: DownloadOptions, onBytes: (bytes: number) => void): Promise<boolean> {
  const { path, commit, folder, repo, settings, client } = snapshot;
  const { symlinks } = settings;
  const place = join(folder, file.path);
  const blob = join(repo, "blobs", file.etag);
  const wrong = (where: string, bytes: number): void =>
    options.onNote(`${where}: has ${bytes} bytes instead of ${file.bytes}; fetching it again`);
  const placed = await sizeOf(place);
  if (placed === file.bytes) return false;
  const stored = await sizeOf(blob);
  if (stored !== file.bytes) {
    if (stored !== null) wrong(blob, stored);
    const url = `${settings.endpoint}/${path}/resolve/${commit}/${file.path.split("/").map(encodeURIComponent).join("/")}`;
    await fetchBlob({ client, url, file, blob, onBytes, onNote: options.onNote });
  }
  if (placed !== null && (await sizeOf(place)) !== file.bytes) {
    if (stored === file.bytes) wrong(place, placed);
    await rm(place);
  }
  await putIntoSnapshot(blob, place, { symlinks, fresh: stored !== file.bytes });
  return stored !== file.bytes;
}

/** Bytes of a file that need not be fetched. */
async function bytesHere({ folder, repo }: Snapshot, file: RepoFile): Promise<number> {
  const blob = join(repo, "blobs", file.etag);
  if ((await sizeOf(join(folder, file.path))) === file.bytes || (await sizeOf(blob)) === file.bytes) return file.bytes;
  const part = (await sizeOf(unfinishedFile(blob))) ?? 0;
  // A file that has all its bytes is whole only when its hash is known to be right.
  return part < file.bytes ? part : 0;
}

/** @throws FileError where the disk has not the room, before anything large is fetched. */
async function checkRoom(repo: string, bytes: number): Promise<void> {
  await makeFolder(join(repo, "blobs"));
  const { bavail, bsize } = await statfs(repo);
  if (bytes > bavail * bsize)
    throw new FileError({
      where: repo,
      what: "the disk has no room for the model",
      expected: `${gib(bytes)} GiB free`,
      got: `${gib(bavail * bsize)} GiB`,
      hint: "Make room, or put the cache elsewhere: HF_HOME=FOLDER.",
    });
}

function gib(bytes: number): string {
  return (bytes / 2 ** 30).toFixed(2);
}
