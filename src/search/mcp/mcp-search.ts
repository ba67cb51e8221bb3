/** A real search engine behind an MCP tool: one call for each search, tried again while the server is away, or ends and is started anew. */
import { philox, streamKey, uniform } from "../../util/philox.ts";
import { ServerError } from "../../util/errors.ts";
import { wellFormed } from "../http-request.ts";
import { Remote, type RemoteCounts, type RemoteOptions } from "../remote.ts";
import type { SearchDocument, SearchEngine, SearchRequest, SearchResult } from "../search-engine.ts";
import { McpFault, type McpFailure } from "./failure.ts";
import { readReply } from "./reply.ts";
import type { McpServer } from "./server.ts";
import { shown } from "./tool.ts";

export interface McpSearchOptions extends RemoteOptions {
  readonly server: McpServer;
  /** Its program or address, for messages. */
  readonly where: string;
  readonly seed: number;
  /** Documents of a search, at most. */
  readonly documents: number;
  readonly hide: (text: string) => string;
  readonly hideInDocuments: (text: string) => string;
}

/** Tries of what may be the query's own fault. */
const fewTries = 4;

export class McpSearch implements SearchEngine {
  readonly name: string;
  readonly #options: McpSearchOptions;
  readonly #remote: Remote;

  private constructor(options: McpSearchOptions, tool: string) {
    this.name = `mcp (${shown(tool)})`;
    this.#options = options;
    this.#remote = new Remote(options);
  }

  /** Starts or reaches the server once, so that what is wrong is told before a model is loaded. @throws ConfigError for a wrong tool; ServerError where it cannot be had. */
  static async open(options: McpSearchOptions, signal?: AbortSignal): Promise<McpSearch> {
    try {
      return new McpSearch(options, (await options.server.tool(signal)).name);
    } catch (error) {
      await options.server.close();
      throw error instanceof McpFault
        ? errorOf(options.where, error.failure, 1, "At the start of a run it must be there; later it is waited for.")
        : error;
    }
  }

  /** None where the query is empty. @throws ServerError when the server refuses, answers nonsense, or has not answered in all its tries. */
  async search({ query, key, turn, signal }: SearchRequest): Promise<SearchResult> {
    const { server, where, seed } = this.#options;
    const asked = wellFormed(query).trim();
    if (asked === "") return { documents: [], kind: "real" };
    // A stream of this search alone, for the waits.
    const stream = philox(streamKey(seed, "engineWait"), [key.step, key.question, key.rollout, turn]);
    let failed = 0;
    const documents = await this.#remote.call<readonly SearchDocument[]>({
      where,
      send: async () => {
        const answer = await this.#ask(server, asked, signal);
        if (!("failure" in answer)) return { value: answer.documents };
        const { few = false, ...failure } = answer.failure;
        return { failure: { ...failure, passing: failure.passing && !(few && ++failed >= fewTries) } };
      },
      jitter: (n) => uniform([stream[0], stream[1]], [n, 0, 0, 0]),
      error: (failure, { tries }) => errorOf(where, failure, tries),
      signal,
    });
    return { documents, kind: "real" };
  }

  /** What happened since the last call. */
  takeCounts(): RemoteCounts {
    return this.#remote.takeCounts();
  }

  close(): Promise<void> {
    return this.#options.server.close();
  }

  async #ask(server: McpServer, query: string, signal: AbortSignal | undefined) {
    try {
      return readReply(await server.call(query, signal), this.#options);
    } catch (error) {
      if (error instanceof McpFault) return { failure: error.failure };
      throw error;
    }
  }
}

/** @param away - what may help where it is away */
function errorOf(where: string, failure: McpFailure, tries: number, away = isAway): ServerError {
  const { what, expected, got, hint, status, retryAfter, passing } = failure;
  const asks = retryAfter === undefined ? "" : `, which asks to wait ${retryAfter} s`;
  const whole = `${what}${asks}${tries > 1 ? ` (${tries} tries)` : ""}`;
  return new ServerError({ where, what: whole, expected, got, hint: hint ?? hintFor(status) ?? (passing ? away : undefined) });
}

const isAway =
  "A server that is away, or allows fewer calls, needs a higher mcp.patience or a lower mcp.concurrency; a slow one a higher mcp.timeout.";

function hintFor(status: number | undefined): string | undefined {
  if (status === 401 || status === 403)
    return "mcp.key names the environment variable that holds its key, and mcp.header the header it is sent in.";
  if (status === 404 || status === 405 || status === 501)
    return "mcp.url is the address of the MCP server itself, such as https://host/mcp, over streamable HTTP.";
  if (status !== undefined && status >= 300 && status < 400)
    return "Redirections are not followed, as the key would go along: mcp.url is the address itself.";
  return undefined;
}
