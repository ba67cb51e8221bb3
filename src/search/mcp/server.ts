/**
 * An MCP server, by the SDK: started or reached when it is needed, and again when it has ended, for as long as its callers try. Its tool is looked for
 * each time it starts.
 */
import type { Client } from "@modelcontextprotocol/sdk/client/index.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import { withTimeout, abortReason } from "../../util/abort.ts";
import { ZeroSearchError } from "../../util/errors.ts";
import { boundedFetch } from "./bounded-fetch.ts";
import { ChildTransport } from "./child-transport.ts";
import { McpFault } from "./failure.ts";
import { failureOf } from "./sdk-failure.ts";
import { chooseTool, toolsIn, type SearchTool, type Tool } from "./tool.ts";

/** A program, or an address. */
export type McpPlace =
  | { readonly command: string; readonly args: readonly string[]; readonly env: Readonly<Record<string, string>> }
  | { readonly url: URL; readonly headers: Readonly<Record<string, string>> };

export interface McpServerOptions {
  readonly place: McpPlace;
  readonly tool: string | null;
  readonly queryField: string | null;
  readonly arguments: Readonly<Record<string, unknown>>;
  /** Seconds to start, and of one call. */
  readonly startTimeout: number;
  readonly timeout: number;
  /** Takes what is secret out of a text. */
  readonly hide: (text: string) => string;
}

interface Connection {
  readonly client: Client;
  readonly transport: Transport;
  readonly tool: SearchTool;
  /** The child, where it is one. */
  readonly child: ChildTransport | null;
}

/** Of JSON-RPC: a server without tools may not know how to list them. */
const noSuchMethod = -32601;
/** Pages of a list of tools that are asked for. */
const mostPages = 20;
/** The SDK's own limit of a call is never the first. Milliseconds. */
const longestCall = 2 ** 31 - 1;

export class McpServer {
  readonly #options: McpServerOptions;
  #connection: Promise<Connection> | null = null;
  readonly #closing = new AbortController();

  constructor(options: McpServerOptions) {
    this.#options = options;
  }

  /** The tool that searches. @throws ConfigError where there is none; McpFault where the server cannot be had. */
  async tool(signal?: AbortSignal): Promise<SearchTool> {
    return (await this.#connected(signal)).tool;
  }

  /** What the tool answers, as it is. @throws McpFault, ConfigError, the signal's reason. */
  async call(query: string, signal: AbortSignal | undefined): Promise<unknown> {
    const { timeout } = this.#options;
    const { client, transport, tool, child } = await this.#connected(signal);
    const { ResultSchema } = await import("@modelcontextprotocol/sdk/types.js");
    const heard = child?.heard;
    const request = { method: "tools/call" as const, params: { name: tool.name, arguments: tool.argumentsFor(query) } };
    const answer = await withTimeout(timeout, signal, (limit) =>
      client.request(request, ResultSchema, { signal: limit, timeout: longestCall }),
    );
    if (signal?.aborted === true) throw abortReason(signal);
    if ("value" in answer) return answer.value;
    if (answer.timedOut) {
      // One that says nothing to anybody is started anew.
      if (child !== null && child.heard === heard) await this.#drop(transport);
      throw new McpFault({ what: `no answer within ${timeout} s${child?.why ?? ""}`, passing: true });
    }
    const failure = await failureOf(answer.error, child, this.#options.hide);
    const { status } = failure;
    if (child === null && (status === 404 || status === 400)) {
      // A server that was started anew knows no sessions of before.
      await this.#drop(transport);
      throw new McpFault({ ...failure, passing: true, few: true });
    }
    throw new McpFault(failure);
  }

  /** Ends the server, if it runs, and every call. */
  async close(): Promise<void> {
    this.#closing.abort();
    const connection = await this.#connection?.catch(() => null);
    this.#connection = null;
    await connection?.transport.close();
  }

  #connected(signal: AbortSignal | undefined): Promise<Connection> {
    if (this.#closing.signal.aborted) return Promise.reject(isClosed());
    if (this.#connection === null) {
      const connection = this.#connect();
      this.#connection = connection;
      connection.catch(() => this.#forget(connection));
    }
    return untilAborted(this.#connection, signal);
  }

  /** The next call starts or reaches the server anew. */
  #forget(connection: Promise<Connection>): void {
    if (this.#connection === connection) this.#connection = null;
  }

  async #drop(transport: Transport): Promise<void> {
    const connection = await this.#connection?.catch(() => null);
    if (connection?.transport === transport) this.#connection = null;
    await transport.close();
  }

  async #connect(): Promise<Connection> {
    const { startTimeout } = this.#options;
    const [{ Client }, transport] = await Promise.all([import("@modelcontextprotocol/sdk/client/index.js"), this.#transport()]);
    const child = transport instanceof ChildTransport ? transport : null;
    const client = new Client({ name: "zerosearch", version: "1" });
    const connection = withTimeout(startTimeout, this.#closing.signal, async (signal) => {
      const options = { signal, timeout: longestCall };
      // The SDK keeps what a transport throws at its start from whoever called.
      await client.connect(transport, options);
      return chooseTool(await listTools(client, options), this.#options);
    });
    client.onclose = () => {
      const current = this.#connection;
      const isThis = (one: Connection): boolean => one.transport === transport;
      void current?.then(
        (one) => {
          if (isThis(one)) this.#forget(current);
        },
        () => undefined,
      );
    };
    const opened = await connection;
    if ("value" in opened && !this.#closing.signal.aborted) return { client, transport, tool: opened.value, child };
    const fault = "value" in opened ? isClosed() : await this.#faultAtStart(opened, child);
    await transport.close().catch(() => undefined);
    throw fault;
  }

  async #faultAtStart(
    { error, timedOut }: { readonly error: unknown; readonly timedOut: boolean },
    child: ChildTransport | null,
  ): Promise<Error> {
    const { startTimeout, hide } = this.#options;
    if (this.#closing.signal.aborted) return isClosed();
    if (error instanceof ZeroSearchError) return error;
    if (!timedOut) return new McpFault(await failureOf(error, child, hide));
    const what = `the server has not started within ${startTimeout} s${child?.why ?? ""}`;
    return new McpFault({ what, passing: true, hint: "One that is slow to start needs a higher mcp.startTimeout." });
  }

  async #transport(): Promise<Transport> {
    const { place, hide } = this.#options;
    if ("url" in place) {
      const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
      const options = { fetch: boundedFetch(hide), requestInit: { headers: place.headers } };
      return new StreamableHTTPClientTransport(place.url, options);
    }
    const [{ getDefaultEnvironment }, { deserializeMessage }] = await Promise.all([
      import("@modelcontextprotocol/sdk/client/stdio.js"),
      import("@modelcontextprotocol/sdk/shared/stdio.js"),
    ]);
    const { command, args, env } = place;
    return new ChildTransport({ command, args, env: { ...getDefaultEnvironment(), ...env }, hide, read: deserializeMessage });
  }
}

function isClosed(): McpFault {
  return new McpFault({ what: "is closed", passing: false });
}

/** None where the server says that it has no such list. */
async function listTools(client: Client, options: { readonly signal: AbortSignal; readonly timeout: number }): Promise<Tool[]> {
  const { ResultSchema } = await import("@modelcontextprotocol/sdk/types.js");
  const tools: Tool[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < mostPages; page++) {
    const request = { method: "tools/list" as const, params: cursor === undefined ? {} : { cursor } };
    const reply: unknown = await client.request(request, ResultSchema, options).catch((error: unknown) => {
      if ((error as { code?: unknown }).code === noSuchMethod) return {};
      throw error;
    });
    const { tools: some, nextCursor } = reply as { tools?: unknown; nextCursor?: unknown };
    tools.push(...toolsIn(some));
    if (typeof nextCursor !== "string" || nextCursor === "") break;
    cursor = nextCursor;
  }
  return tools;
}

/** What a promise gives; the signal's reason where that fires first. */
function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(abortReason(signal));
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}
