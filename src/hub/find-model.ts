/**
 * Where a model is: a folder, or a model of the Hugging Face Hub, from the local cache that Python's tools share, else downloaded into it.
 */
import { existsSync } from "node:fs";
import { open, readdir } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { FileError } from "../util/errors.ts";
import { isFile, lookUp, repoFolder, sizeOf, type Cached, type FoundModel } from "./cache.ts";
import { HubAnswerError, HubConnectionError, HubStatusError, mayPass, type Patience } from "./client.ts";
import { download, type DownloadProgress } from "./download.ts";
import type { LockTimes } from "../checkpoint/lock.ts";
import { readHubSettings, type Environment, type HubSettings } from "./settings.ts";
import { defaultRevision, isCommit, markOf, parseHubId, pathOfRepo, type HubId, type ModelKind } from "./source.ts";

export type { FoundModel } from "./cache.ts";
export type { DownloadProgress } from "./download.ts";
export type { Environment } from "./settings.ts";
export type { ModelKind } from "./source.ts";

export interface LocateOptions {
  /** What is looked for; a model unless told. */
  readonly kind?: ModelKind;
  /** Who asks, for errors: a configuration key, a command. */
  readonly where?: string | undefined;
  /** Asks the Hub for the newest commit also where the cache has the model; with an older one, it is fetched. */
  readonly update?: boolean | undefined;
  /** Called at the start of a download, and at every piece that came. */
  readonly onProgress?: (progress: DownloadProgress) => void;
  /** Told, in one line each, of tries that failed, of waiting for another program, and of what is used in place of the Hub. */
  readonly onNote?: (note: string) => void;
  /** Ends a download; what came stays in the cache, and the next one goes on from there. */
  readonly signal?: AbortSignal | undefined;
  /** @internal The variables of huggingface_hub: HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE; those of this process unless told. */
  readonly env?: Environment | undefined;
  /** @internal */
  readonly patience?: Patience | undefined;
  /** @internal */
  readonly lockTimes?: LockTimes | undefined;
}

/**
 * Finds a model, or fetches it: an existing folder; else a Hub id, `Qwen/Qwen2.5-3B` or `Qwen/Qwen2.5-3B@revision`, in the local cache,
 * where all its files are there; else from the Hub.
 * @returns a folder with config.json, tokenizer and weights (an adapter's: adapter_config.json and adapter_model.safetensors).
 * @throws FileError where there is no such model, it may not be had, the disk is full, or the Hub cannot be asked; ConfigError for a
 * wrong environment variable; the signal's reason.
 */
export async function locateModel(source: string, options: LocateOptions = {}): Promise<string> {
  return (await findModel(source, options)).folder;
}

/** As `locateModel`; also says where it came from, and the commit. */
export async function findModel(source: string, options: LocateOptions = {}): Promise<FoundModel> {
  const kind = options.kind ?? "model";
  const where = options.where ?? source;
  if (await isFile(join(source, markOf[kind]))) {
    await refusePointers(where, source);
    return { folder: source, from: "folder", hub: null };
  }
  const hubId = parseHubId(source);
  if (hubId === null || existsSync(source)) throw await noFolder(where, source, kind);
  const settings = await readHubSettings(options.env);
  const cached = await lookUp(settings.cache, hubId, kind);
  const inCache: FoundModel | null =
    cached.folder !== null && cached.commit !== null && cached.missing?.length === 0
      ? { folder: cached.folder, from: "cache", hub: { id: hubId.id, commit: cached.commit } }
      : null;
  // A commit never changes; a branch may have moved.
  if (inCache !== null && (options.update !== true || isCommit(hubId.revision))) return inCache;
  const asked: Asked = { where, source, hubId, settings, cached };
  if (settings.offline !== null) {
    if (inCache === null) throw await notHere(asked, `the Hub may not be asked: ${settings.offline} is set`);
    options.onNote?.(
      `${hubId.id}: the Hub is not asked, as ${settings.offline} is set; taking ${inCache.hub?.commit ?? ""} from the cache`,
    );
    return inCache;
  }
  const note = (text: string): void => options.onNote?.(text);
  try {
    const { onProgress = () => undefined, signal, patience, lockTimes } = options;
    return await download(hubId, settings, { kind, onProgress, onNote: note, signal, patience, lockTimes });
  } catch (error) {
    if (inCache !== null && mayPass(error)) {
      note(`${hubId.id}: the Hub cannot be asked (${(error as Error).message}); taking ${inCache.hub?.commit ?? ""} from the cache`);
      return inCache;
    }
    throw await explained(error, asked);
  }
}

/** As `findModel`, of what is on this machine already, if only its configuration: a plan needs no weights, and fetches nothing. */
export async function findConfiguration(source: string, where: string, kind: ModelKind): Promise<FoundModel> {
  const mark = markOf[kind];
  if (await isFile(join(source, mark))) return { folder: source, from: "folder", hub: null };
  const hubId = parseHubId(source);
  if (hubId === null || existsSync(source)) throw await noFolder(where, source, kind);
  const { folder, commit } = await lookUp((await readHubSettings()).cache, hubId, kind);
  if (folder !== null && commit !== null && (await isFile(join(folder, mark))))
    return { folder, from: "cache", hub: { id: hubId.id, commit } };
  throw new FileError({
    where,
    what: `there is no ${mark} of ${source} on this machine, and a plan fetches nothing`,
    expected: "a folder, or what the Hub's cache has",
    hint: `Run npx zerosearch download ${source}, or put its ${mark} alone into a folder and give that: ${where}=FOLDER.`,
  });
}

/** `Qwen/Qwen2.5-3B @ 3aab1f1 from the Hub cache`; a folder by its name. */
export function describeFound({ folder, from, hub }: FoundModel): string {
  return hub === null
    ? folder
    : `${hub.id} @ ${hub.commit.slice(0, 7)} ${from === "cache" ? "from the Hub cache" : "downloaded from the Hub"}`;
}

/** What was looked for, and where. */
export interface Asked {
  readonly where: string;
  readonly source: string;
  readonly hubId: HubId;
  /** Of a data set. */
  readonly file?: string;
  readonly settings: HubSettings;
  readonly cached: Cached;
}

/** What went wrong at the Hub, in words. Other errors pass unchanged. */
export async function explained(error: unknown, asked: Asked): Promise<unknown> {
  const { where, hubId, settings } = asked;
  const { id, type } = hubId;
  const { endpoint, token } = settings;
  const page = `${endpoint}/${pathOfRepo(hubId)}`;
  if (error instanceof HubConnectionError) return notHere(asked, `${endpoint} cannot be reached: ${error.message}`, error);
  if (error instanceof HubAnswerError)
    return new FileError({ where, what: `${id} cannot be fetched: ${error.message}`, hint: "Is HF_ENDPOINT right?" }, { cause: error });
  if (!(error instanceof HubStatusError)) return error;
  const said = error.said === "" ? "" : ` (the Hub says: ${error.said})`;
  const giveToken = `make a token at ${endpoint}/settings/tokens and give it as the environment variable HF_TOKEN`;
  const withToken = token === null ? "" : ` with the token of ${token.origin}`;
  const refuse = (what: string, hint: string): FileError => new FileError({ where, what: `${what}${said}`, hint }, { cause: error });
  if (error.code === "GatedRepo")
    return refuse(
      `${id} is gated: its owner lets in who asks, and ${token === null ? "no token was given" : `the token of ${token.origin} is not let in`}`,
      `Ask for access at ${page}, then ${token === null ? giveToken : "try again with a token of the account that was let in"}.`,
    );
  if (error.status === 403)
    return refuse(
      `the Hub refuses ${id}${withToken}`,
      `It may be gated or private: ask for access at ${page}. ${token === null ? `Then ${giveToken}.` : "The token needs the right to read gated repositories."}`,
    );
  if (error.code === "RevisionNotFound" || (error.status === 404 && hubId.revision !== defaultRevision && error.code === null))
    return refuse(`${id} has no revision ${hubId.revision}`, `Its branches and tags: ${page}/tree/main; without @, main is taken.`);
  if (error.status === 401 && token !== null && error.code !== "RepoNotFound")
    return refuse(`the Hub does not accept the token of ${token.origin}`, `It may have expired: ${giveToken}.`);
  if (error.code === "EntryNotFound") return refuse(`${id} has no such file`, `Its files: ${page}/tree/${hubId.revision}.`);
  if (error.status === 404 || error.status === 401)
    return refuse(
      `there is no ${type === "dataset" ? "data set" : "model"} ${id} at ${endpoint}, or it is private and cannot be seen${withToken}`,
      [
        `A private one needs a token: ${token === null ? giveToken : "one of an account that may read it"}.`,
        ...(type === "dataset" ? [] : await asFolder(asked.source)),
      ].join("\n  "),
    );
  return refuse(`${id} cannot be fetched: ${endpoint} answered ${error.status}`, "Try again later; what was fetched stays.");
}

/** Not in the cache, and not to be had: the three ways to get it. */
export async function notHere(asked: Asked, why: string, cause?: unknown): Promise<FileError> {
  const { where, source, hubId, settings, cached } = asked;
  const { id, revision } = hubId;
  if (hubId.type === "dataset") return fileNotHere(asked, why, cause);
  const named = revision === defaultRevision ? id : `${id}@${revision}`;
  const { cache, endpoint } = settings;
  const repo = `models--${id.replace("/", "--")}`;
  let has = `${named} is neither a folder nor in the local Hub cache`;
  if (cached.folder !== null && cached.missing !== undefined)
    has = `${named} is in the local Hub cache only in part (${some(cached.missing)} missing in ${cached.folder})`;
  else if (cached.commits.length > 0)
    has += `, which has other commits of it (${some(cached.commits)}; one is taken as ${id}@${cached.commits[0]?.slice(0, 7) ?? ""})`;
  const ways = [
    "Three ways to get it:",
    `1. with a network, here: npx zerosearch download ${named} (HF_ENDPOINT=URL takes a mirror)`,
    `2. on another machine: the same, or Python's hf download ${id}; then copy ~/.cache/huggingface/hub/${repo} from there into ${cache} (HF_HOME says where the cache is)`,
    `3. as a folder: git clone ${endpoint}/${id} where there is a network and git-lfs, and give the folder in place of the id`,
    ...(await asFolder(source)),
  ];
  return new FileError({ where, what: `${has}, and ${why}`, hint: ways.join("\n  ") }, { cause });
}

/** The same of a file of a data set, which is fetched by whatever reads it. */
function fileNotHere(
  { where, source, hubId, file = "", settings: { cache, endpoint }, cached }: Asked,
  why: string,
  cause: unknown,
): FileError {
  const { id } = hubId;
  const others = cached.commits.length > 0 ? ` (it has files of the commits ${some(cached.commits)})` : "";
  return new FileError(
    {
      where,
      what: `${source} is not in the local Hub cache${others}, and ${why}`,
      hint: [
        "Three ways to get it:",
        "1. with a network, here: the same command (HF_ENDPOINT=URL takes a mirror)",
        `2. on another machine: Python's hf download ${id} ${file} --repo-type dataset; then copy ~/.cache/huggingface/hub/${basename(repoFolder(cache, hubId))} from there into ${cache} (HF_HOME says where the cache is)`,
        `3. as a file: ${endpoint}/${pathOfRepo(hubId)}/resolve/main/${file}, saved, and its path in place of the address`,
      ].join("\n  "),
    },
    { cause },
  );
}

/** The other reading of a Hub id: a folder that is not there, and what is there instead. */
async function asFolder(source: string): Promise<string[]> {
  const lines = [`If a folder was meant: there is none at ${resolve(source)}.`];
  const siblings = await foldersBeside(source);
  if (siblings.length > 0) lines.push(`${dirname(resolve(source))} has ${some(siblings)}.`);
  return lines;
}

async function refusePointers(where: string, folder: string): Promise<void> {
  const pointers = await lfsPointers(folder);
  if (pointers.length > 0)
    throw new FileError({
      where,
      what: `${folder} was cloned without its weights: ${some(pointers)} ${pointers.length === 1 ? "is a pointer" : "are pointers"} of git-lfs`,
      hint: `Install git-lfs, then: cd ${folder} && git lfs pull`,
    });
}

/** Of a pointer of git-lfs. */
const BEGINNING = "version https://git-lfs.github.com/spec/";

/** The weight files of a folder that are only pointers of git-lfs: cloned without it, a repository has a few lines of text in their place. */
async function lfsPointers(folder: string): Promise<string[]> {
  const pointers: string[] = [];
  for (const name of (await readdir(folder)).sort()) {
    // A pointer has about 130 bytes; weights are not read.
    if (name.endsWith(".safetensors") && ((await sizeOf(join(folder, name))) ?? Infinity) < 1024 && (await isPointer(join(folder, name))))
      pointers.push(name);
  }
  return pointers;
}

async function isPointer(file: string): Promise<boolean> {
  const handle = await open(file);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(BEGINNING.length), 0, BEGINNING.length, 0);
    return buffer.toString("latin1", 0, bytesRead) === BEGINNING;
  } finally {
    await handle.close();
  }
}

/** A source that can only be a folder, and is none that can be opened. */
async function noFolder(where: string, source: string, kind: ModelKind): Promise<FileError> {
  const expected =
    kind === "adapter"
      ? "a folder with adapter_config.json, or a Hub id"
      : "a folder with config.json, or a Hub id such as Qwen/Qwen2.5-3B";
  if (existsSync(source)) {
    const other = kind === "model" ? "adapter" : "model";
    let hint = "An existing folder is never taken for a Hub id: if that was meant, name it from another working directory.";
    if (parseHubId(source) === null) hint = "Is the model in a folder inside it?";
    if (await isFile(join(source, markOf[other])))
      hint =
        other === "adapter"
          ? "It is a LoRA adapter: give the model it belongs to, and this as lora.from or simulator.adapter."
          : "It is a model.";
    else if (await isFile(source)) hint = "It is a file: give the folder it is in.";
    return new FileError({ where, what: `${source} has no ${markOf[kind]}`, expected, hint });
  }
  const siblings = await foldersBeside(source);
  const hint = siblings.length > 0 ? `${dirname(resolve(source))} has ${some(siblings)}.` : undefined;
  const home = source.startsWith("~") ? "~ is not expanded here: write the whole path, or $HOME in a shell." : hint;
  return new FileError({
    where,
    what: `there is no folder ${basename(source) === source ? source : resolve(source)}`,
    expected,
    got: source,
    hint: home,
  });
}

/** The folders beside where one should be, those that begin like it first. */
async function foldersBeside(source: string): Promise<string[]> {
  const wanted = basename(source);
  const alike = (name: string): number => {
    let same = 0;
    while (same < name.length && name[same] === wanted[same]) same++;
    return same;
  };
  try {
    const entries = await readdir(dirname(source), { withFileTypes: true });
    const folders = entries.filter((entry) => (entry.isDirectory() || entry.isSymbolicLink()) && !entry.name.startsWith("."));
    return folders.map(({ name }) => name).sort((a, b) => alike(b) - alike(a) || (a < b ? -1 : 1));
  } catch {
    return [];
  }
}

function some(names: readonly string[]): string {
  return names.slice(0, 5).join(", ") + (names.length > 5 ? ` and ${names.length - 5} more` : "");
}
