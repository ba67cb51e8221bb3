/**
 * Fetches the content of one file into the cache: goes on where an earlier try stopped, and puts the file in its place only when its size
 * and its hash are right.
 *
 * `downloadFileToCacheDir` of @huggingface/hub (2.17) does neither: it starts again from the first byte, checks nothing, and waits for
 * ever for a server that has stopped sending. It serves for what to fetch; the bytes are fetched here, from the plain `resolve` addresses,
 * which every repository has, those on Xet storage included.
 */
import { createHash, type Hash } from "node:crypto";
import { constants } from "node:fs";
import { open, rename, rm, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { makeFolder, writeFault } from "../checkpoint/atomic.ts";
import { FileError } from "../util/errors.ts";
import { sizeOf } from "./cache.ts";
import { HubAnswerError, HubConnectionError, mayPass, shown, type HubClient } from "./client.ts";
import type { RepoFile } from "./needed-files.ts";

export interface FetchBlobOptions {
  readonly client: HubClient;
  readonly url: string;
  readonly file: RepoFile;
  /** Where the blob comes to lie. */
  readonly blob: string;
  /** Told how many bytes of the file are there, again and again; fewer where some must be fetched once more. */
  readonly onBytes: (bytes: number) => void;
  readonly onNote: (note: string) => void;
}

/** The unfinished content of a blob. Python's tools know this ending and delete such files with the rest of the cache. */
export function unfinishedFile(blob: string): string {
  return `${blob}.zerosearch.incomplete`;
}

/** Bytes that make up for failures before them: a connection that is cut now and then is not given up. */
const PROGRESS = 2 ** 20;

/**
 * @throws FileError where the content is not what its hash says, or the disk is full; HubStatusError, HubConnectionError or
 * HubAnswerError where it cannot be had. What was fetched by then stays, to go on from.
 */
export async function fetchBlob(options: FetchBlobOptions): Promise<void> {
  const { file, blob, onNote } = options;
  const unfinished = unfinishedFile(blob);
  await makeFolder(dirname(blob));
  // What an earlier try left may be damaged: then once more, from nothing.
  const resumed = (await sizeOf(unfinished)) ?? 0;
  for (const last of resumed > 0 ? [false, true] : [true]) {
    const found = await fetchAll(options, unfinished);
    if (found === file.etag) {
      await rename(unfinished, blob);
      return;
    }
    await rm(unfinished, { force: true });
    options.onBytes(0);
    if (last)
      throw new FileError({
        where: shown(options.url),
        what: "the content that came is not the right one: its hash differs",
        expected: file.etag,
        got: found,
        hint: "Something on the way, or the server, gave other bytes; they were deleted. Try again, or another HF_ENDPOINT.",
      });
    onNote(`${file.path}: what an earlier download left of it is damaged; fetching it from the start`);
  }
}

/** Fetches what is missing of a file. @returns the hash of the whole. */
async function fetchAll(options: FetchBlobOptions, unfinished: string): Promise<string> {
  const { client, file, onBytes, onNote } = options;
  if (((await sizeOf(unfinished)) ?? 0) > file.bytes) await rm(unfinished);
  let part = await Part.open(unfinished, file);
  try {
    onBytes(part.bytes);
    let failures = 0;
    let mark = part.bytes;
    while (part.bytes < file.bytes) {
      try {
        await fetchRest(options, part, async () => {
          onNote(`${file.path}: the server cannot go on in the middle of a file; fetching it from the start`);
          onBytes(0);
          await part.close();
          // A new file: whoever else might still hold the old one does no harm.
          await rm(unfinished);
          part = await Part.open(unfinished, file);
          return part;
        });
      } catch (error) {
        if (!mayPass(error)) throw error;
        if (part.bytes - mark >= PROGRESS) failures = 0;
        mark = part.bytes;
        await client.waitFor(error, failures++, `${file.path} at ${percent(part.bytes, file.bytes)}`);
      }
    }
    await part.sync();
    return part.hash();
  } finally {
    await part.close();
  }
}

/** One request for what is missing. */
async function fetchRest({ client, url, file, onBytes }: FetchBlobOptions, from: Part, restart: () => Promise<Part>): Promise<void> {
  let part = from;
  const start = part.bytes;
  // Compressed on the way, a part of a file would be a part of something else.
  const headers = new Headers({ "accept-encoding": "identity" });
  if (start > 0) headers.set("range", `bytes=${start}-`);
  await client.read(
    url,
    headers,
    async (chunk) => {
      if (part.bytes + chunk.length > file.bytes)
        throw new HubAnswerError(`${shown(url)} sends more than the ${file.bytes} bytes that the Hub lists`);
      await part.write(chunk);
      onBytes(part.bytes);
    },
    async (response) => {
      if (start === 0 || isRest(response, start, file.bytes)) return;
      part = await restart();
      // A whole file can be taken as it is; another part is of no use.
      if (response.status !== 200) throw new HubConnectionError("the server sent another part of the file", false);
    },
  );
  if (part.bytes < file.bytes) throw new HubConnectionError("the connection ended early", false);
}

/** Whether an answer is the bytes from `start` to the end, as they are in the file. */
function isRest(response: Response, start: number, bytes: number): boolean {
  if (response.status !== 206 || (response.headers.get("content-encoding") ?? "identity") !== "identity") return false;
  const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get("content-range") ?? "");
  return Number(range?.[1]) === start && ["*", String(bytes)].includes(range?.[2] ?? "");
}

/** An unfinished file, and the hash of what is in it. */
class Part {
  readonly #handle: FileHandle;
  readonly #hash: Hash;
  readonly #path: string;
  #bytes = 0;
  #closed = false;

  private constructor(path: string, handle: FileHandle, hash: Hash) {
    this.#path = path;
    this.#handle = handle;
    this.#hash = hash;
  }

  /** Opens it, or makes it; what is there is read for the hash. */
  static async open(path: string, file: RepoFile): Promise<Part> {
    const handle = await open(path, constants.O_RDWR | constants.O_CREAT);
    // git hashes a small file with its length before it; large ones are hashed as they are.
    const hash = createHash(file.etag.length === 64 ? "sha256" : "sha1");
    if (file.etag.length === 40) hash.update(`blob ${file.bytes}\0`);
    const part = new Part(path, handle, hash);
    try {
      if (!(await handle.stat()).isFile()) throw new FileError({ where: path, what: "is not a file" });
      const buffer = Buffer.allocUnsafe(2 ** 20);
      for (;;) {
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, part.#bytes);
        if (bytesRead === 0) return part;
        hash.update(buffer.subarray(0, bytesRead));
        part.#bytes += bytesRead;
      }
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  get bytes(): number {
    return this.#bytes;
  }

  async write(chunk: Uint8Array): Promise<void> {
    try {
      for (let done = 0; done < chunk.length;) {
        const { bytesWritten } = await this.#handle.write(chunk, done, chunk.length - done, this.#bytes + done);
        done += bytesWritten;
      }
    } catch (cause) {
      throw diskError(this.#path, cause);
    }
    this.#hash.update(chunk);
    this.#bytes += chunk.length;
  }

  async sync(): Promise<void> {
    try {
      await this.#handle.sync();
    } catch (cause) {
      throw diskError(this.#path, cause);
    }
  }

  /** Hexadecimal; once. */
  hash(): string {
    return this.#hash.digest("hex");
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#handle.close();
  }
}

/** The error of a write into the cache, in words. Errors of this project, and those of no file, pass unchanged. */
export function diskError(where: string, cause: unknown): Error {
  const error = cause instanceof Error ? cause : new Error(String(cause));
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (error instanceof FileError || code === undefined || syscall === undefined) return error;
  const [what] = writeFault(code, error.message);
  const hint = "HF_HOME=FOLDER puts the cache elsewhere; what was fetched stays, and the same command goes on from there.";
  return new FileError({ where, what, hint }, { cause });
}

function percent(bytes: number, all: number): string {
  return `${Math.floor((100 * bytes) / all)} %`;
}
