/**
 * A Hugging Face Hub on this machine: its API (revisions, file lists in pages), `resolve` addresses that redirect, and a content server of
 * another origin. It can fail as the real one does. Python's huggingface_hub downloads from it as from the Hub.
 */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface HubRepo {
  readonly commit: string;
  readonly files: Readonly<Record<string, string | Uint8Array>>;
  /** Stored on the content server (LFS); the others are in git. Those that end in .safetensors unless told. */
  readonly large?: (path: string) => boolean;
  /** Further names of the commit, besides main. */
  readonly refs?: readonly string[];
  /** Contents only for these tokens. */
  readonly gatedFor?: readonly string[];
  /** Invisible to all but these tokens. */
  readonly privateTo?: readonly string[];
}

export interface HubRequest {
  readonly server: "hub" | "content";
  readonly method: string;
  readonly path: string;
  readonly authorization: string | undefined;
  readonly range: string | undefined;
}

/** What goes wrong with the content of a file, for so many requests. */
export interface Fault {
  readonly file: string;
  readonly times: number;
  /** The connection is cut after so many bytes of this answer. */
  readonly cutAfter?: number;
  /** Nothing more is sent after so many bytes; the connection stays. */
  readonly stallAfter?: number;
  readonly status?: number;
  /** Other bytes, of the same length. */
  readonly corrupt?: boolean;
  /** Sends all, whatever range was asked for. */
  readonly ignoreRange?: boolean;
}

export interface HubServer {
  readonly url: string;
  readonly contentUrl: string;
  /** By `organisation/name`; data sets by `datasets/organisation/name`. */
  readonly repos: Map<string, HubRepo>;
  readonly requests: HubRequest[];
  readonly faults: Fault[];
  /** Rows of the file list a page. */
  pageSize: number;
  /** Where further pages are said to be; null: where the first one was. */
  pagesAt: string | null;
  /** What the cursor of a further page becomes: a list that goes in a circle, or has no end. Such a list always has a further page. */
  cursor: ((next: number) => number) | null;
  /** In place of the file list. */
  listing: unknown;
  /** Answers to the API with this status, so often. */
  apiFaults: { status: number; times: number; headers?: Record<string, string>; body?: string } | null;
  close(): Promise<void>;
}

const bytesOf = (content: string | Uint8Array): Buffer => Buffer.from(content);
export const sha256 = (content: string | Uint8Array): string => createHash("sha256").update(bytesOf(content)).digest("hex");
export const gitSha1 = (content: string | Uint8Array): string =>
  createHash("sha1")
    .update(`blob ${bytesOf(content).length}\0`)
    .update(bytesOf(content))
    .digest("hex");

export async function startHubServer(repos: Readonly<Record<string, HubRepo>>): Promise<HubServer> {
  const state = {
    repos: new Map(Object.entries(repos)),
    requests: [] as HubRequest[],
    faults: [] as Fault[],
    pageSize: 1000,
    pagesAt: null as string | null,
    cursor: null as HubServer["cursor"],
    listing: undefined as unknown,
    apiFaults: null as HubServer["apiFaults"],
  };
  const note = (server: "hub" | "content", request: IncomingMessage): void => {
    const { method = "", url = "", headers } = request;
    state.requests.push({ server, method, path: url, authorization: headers.authorization, range: headers.range });
  };
  const isLarge = (repo: HubRepo, path: string): boolean => repo.large?.(path) ?? path.endsWith(".safetensors");
  const takeFault = (file: string): Fault | undefined => {
    const at = state.faults.findIndex((fault) => fault.file === file && fault.times > 0);
    const fault = state.faults[at];
    if (fault !== undefined) state.faults[at] = { ...fault, times: fault.times - 1 };
    return fault;
  };

  const sendContent = (request: IncomingMessage, response: ServerResponse, file: string, content: Buffer, etag: string): void => {
    const fault = takeFault(file);
    if (fault?.status !== undefined) return void response.writeHead(fault.status).end("no");
    const range = fault?.ignoreRange === true ? null : /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    const start = Number(range?.[1] ?? 0);
    const end = range?.[2] ? Number(range[2]) + 1 : content.length;
    let body = content.subarray(start, end);
    if (fault?.corrupt === true) body = Buffer.from(body.map((byte) => byte ^ 1));
    const head: Record<string, string | number> = { etag: `"${etag}"`, "content-length": body.length, "accept-ranges": "bytes" };
    if (range !== null) head["content-range"] = `bytes ${start}-${end - 1}/${content.length}`;
    response.writeHead(range === null ? 200 : 206, head);
    if (request.method === "HEAD") return void response.end();
    const limit = fault?.cutAfter ?? fault?.stallAfter;
    if (limit === undefined) return void response.end(body);
    response.write(body.subarray(0, limit), () => {
      if (fault?.cutAfter !== undefined) setTimeout(() => response.destroy(), 20);
    });
  };

  const hub = createServer((request, response) => {
    note("hub", request);
    const url = new URL(request.url ?? "/", "http://hub");
    const token = request.headers.authorization?.replace(/^Bearer /, "");
    const json = (status: number, value: unknown, headers: Record<string, string> = {}): void =>
      void response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(value));
    const fail = (status: number, code: string, error: string): void =>
      json(status, { error }, { "x-error-code": code, "x-error-message": error });
    if (url.pathname.startsWith("/api/") && state.apiFaults !== null && state.apiFaults.times-- > 0) {
      const { status, headers = {}, body = "busy" } = state.apiFaults;
      return void response.writeHead(status, headers).end(body);
    }
    const parts = url.pathname.split("/").slice(1).map(decodeURIComponent);
    const isApi = parts[0] === "api";
    if (isApi && parts[1] === "resolve-cache") {
      const [, , kind, organisation, name, commit = "", ...path] = parts;
      response.setHeader("x-repo-commit", commit);
      const content = bytesOf(
        state.repos.get(`${kind === "datasets" ? "datasets/" : ""}${organisation}/${name}`)?.files[path.join("/")] ?? "",
      );
      sendContent(request, response, path.join("/"), content, gitSha1(content));
      return;
    }
    const isDataset = isApi ? parts[1] === "datasets" : parts[0] === "datasets";
    const [organisation, name, verb, revision = "main", ...path] = isApi ? parts.slice(2) : parts.slice(isDataset ? 1 : 0);
    const id = `${isDataset ? "datasets/" : ""}${organisation}/${name}`;
    const repo = state.repos.get(id);
    if (token === "hf_expired") {
      fail(401, "", "Invalid credentials in Authorization header");
      return;
    }
    if (repo === undefined || (repo.privateTo !== undefined && !repo.privateTo.includes(token ?? ""))) {
      fail(token === undefined ? 401 : 404, "RepoNotFound", "Repository not found");
      return;
    }
    if (![repo.commit, "main", ...(repo.refs ?? [])].includes(revision)) {
      fail(404, "RevisionNotFound", `Invalid rev id: ${revision}`);
      return;
    }
    if (isApi && (verb === "revision" || verb === undefined)) {
      const siblings = Object.keys(repo.files).map((rfilename) => ({ rfilename }));
      json(200, { _id: "1", id, modelId: id, sha: repo.commit, private: false, gated: repo.gatedFor ? "manual" : false, siblings });
      return;
    }
    if (isApi && verb === "tree") {
      if (state.listing !== undefined) {
        json(200, state.listing);
        return;
      }
      const recursive = url.searchParams.get("recursive") === "true" || url.searchParams.get("recursive") === "True";
      const all = treeOf(repo, recursive, isLarge, path.join("/"));
      if (all.length === 0 && path.length > 0) {
        fail(404, "EntryNotFound", `${path.join("/")} does not exist on "${revision}"`);
        return;
      }
      const from = Number(url.searchParams.get("cursor") ?? 0);
      const next = from + state.pageSize;
      url.searchParams.set("cursor", String(state.cursor?.(next) ?? next));
      const link = `<${state.pagesAt ?? `http://${request.headers.host ?? ""}`}${url.pathname}${url.search}>; rel="next"`;
      json(200, all.slice(from, next), next < all.length || state.cursor !== null ? { link } : {});
      return;
    }
    if (!isApi && verb === "resolve") {
      const file = path.join("/");
      const content = repo.files[file];
      if (content === undefined) {
        fail(404, "EntryNotFound", "Entry not found");
        return;
      }
      if (repo.gatedFor !== undefined && !repo.gatedFor.includes(token ?? "")) {
        const said = `Access to ${isDataset ? "dataset" : "model"} ${id} is restricted. You must have access to it and be authenticated to access it.`;
        fail(token === undefined ? 401 : 403, "GatedRepo", said);
        return;
      }
      const head = { "x-repo-commit": repo.commit };
      if (isLarge(repo, file)) {
        const location = `${contentUrl}/store/${sha256(content)}?file=${encodeURIComponent(file)}&X-Signature=secret`;
        const linked = { "x-linked-etag": `"${sha256(content)}"`, "x-linked-size": String(bytesOf(content).length) };
        return void response.writeHead(302, { ...head, ...linked, location }).end();
      }
      const linked = { etag: `"${gitSha1(content)}"`, "x-linked-size": String(bytesOf(content).length) };
      const location = `/api/resolve-cache/${isDataset ? id : `models/${id}`}/${repo.commit}/${file}`;
      return void response.writeHead(307, { ...head, ...linked, location }).end();
    }
    response.writeHead(404).end();
  });

  const content = createServer((request, response) => {
    note("content", request);
    const url = new URL(request.url ?? "/", "http://content");
    const hash = url.pathname.split("/").at(-1) ?? "";
    for (const repo of state.repos.values())
      for (const file of Object.values(repo.files))
        if (sha256(file) === hash) {
          sendContent(request, response, url.searchParams.get("file") ?? "", bytesOf(file), hash);
          return;
        }
    response.writeHead(404).end();
  });
  const url = await listen(hub);
  const contentUrl = await listen(content);
  return Object.assign(state, {
    url,
    contentUrl,
    close: async () => {
      await Promise.all([hub, content].map((server) => stop(server)));
    },
  });
}

/** An address where nobody listens. */
export async function silentUrl(): Promise<string> {
  const server = createServer();
  const url = await listen(server);
  await stop(server);
  return url;
}

/** The rows of a folder's listing; `under` is the whole where it is empty. */
function treeOf(repo: HubRepo, recursive: boolean, isLarge: (repo: HubRepo, path: string) => boolean, under: string): object[] {
  const start = under === "" ? "" : `${under}/`;
  const rest = (path: string): string => path.slice(start.length);
  const below = Object.entries(repo.files).filter(([path]) => path.startsWith(start));
  const folders = new Set(below.flatMap(([path]) => (rest(path).includes("/") ? [start + rest(path).split("/", 1).join("")] : [])));
  const rows = below
    .filter(([path]) => recursive || !rest(path).includes("/"))
    .map(([path, content]) => {
      const size = bytesOf(content).length;
      const lfs = isLarge(repo, path) ? { lfs: { oid: sha256(content), size, pointerSize: 130 } } : {};
      return { type: "file", oid: lfs.lfs === undefined ? gitSha1(content) : gitSha1(`pointer to ${path}`), size, ...lfs, path };
    });
  return [...[...folders].map((path) => ({ type: "directory", oid: gitSha1(path), size: 0, path })), ...rows];
}

function listen(server: Server): Promise<string> {
  return new Promise((resolve) =>
    server.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)),
  );
}

function stop(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
