/**
 * An MCP server that this program starts, over its standard input and output. It is a group of processes of its own, so that Ctrl-C, which a terminal
 * sends to all of ours, leaves it alive until the run closes it, and so that nothing that it has started outlives it. What it writes on standard
 * error is kept for messages, and shown nowhere else.
 */
import { spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import type { JSONRPCMessage } from "@modelcontextprotocol/sdk/types.js";
import { sleep } from "../../util/abort.ts";
import { quote } from "../http-json.ts";
import { McpFault, mostBytes } from "./failure.ts";

interface ChildOptions {
  readonly command: string;
  readonly args: readonly string[];
  /** All of its environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Takes what is secret out of a text. */
  readonly hide: (text: string) => string;
  /** Reads a message; throws for what is none. */
  readonly read: (line: string) => JSONRPCMessage;
}

/** Characters of standard error that are kept, and lines of them that are told. */
const keptErrors = 8192;
const toldLines = 5;
/** Lines on standard output that are no messages, such as a greeting; a server that writes more is none. */
const mostJunk = 1000;
/** Seconds that it is given to end by itself, and then after SIGTERM. */
const graces = [1, 0.5, 0.25] as const;
const grouped = process.platform !== "win32";

/** A child that reads no more: it has ended, or is about to. */
export class InputClosed extends Error {
  constructor(options?: ErrorOptions) {
    super("the server's input is closed", options);
    this.name = "InputClosed";
  }
}

export class ChildTransport implements Transport {
  onclose?: () => void;
  onerror?: (error: Error) => void;
  onmessage?: (message: JSONRPCMessage) => void;
  readonly #options: ChildOptions;
  #child: ChildProcessWithoutNullStreams | null = null;
  #ended: Promise<void> = Promise.resolve();
  /** What of a line has come so far. */
  #line: Buffer[] = [];
  #bytes = 0;
  #junk: { readonly first: string; lines: number } | null = null;
  #errors = "";
  #end: string | null = null;
  #closing = false;
  /** Messages that have come. */
  heard = 0;

  constructor(options: ChildOptions) {
    this.#options = options;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** How it ended, and what else may tell why something went wrong; "" where there is nothing to tell. */
  get told(): string {
    const lines = this.#errors.split("\n").filter((line) => line.trim() !== "");
    const errors = lines.slice(-toldLines).join(" | ");
    return [
      ...(this.#end === null ? [] : [this.#end]),
      ...(this.#junk === null
        ? []
        : [`on standard output it wrote ${quote(this.#options.hide(this.#junk.first), 100)}, which is no message`]),
      ...(errors === "" ? [] : [`its last words on standard error: ${quote(this.#options.hide(errors), 600)}`]),
    ].join("; ");
  }

  /** @throws McpFault where it cannot be started */
  async start(): Promise<void> {
    const { command, args, env } = this.#options;
    let child: ChildProcessWithoutNullStreams;
    try {
      child = spawn(command, [...args], { env, stdio: ["pipe", "pipe", "pipe"], detached: grouped, windowsHide: true });
    } catch (cause) {
      throw notStarted(cause);
    }
    this.#child = child;
    this.#ended = new Promise((resolve) => {
      child.once("close", () => resolve());
      child.once("error", () => resolve());
    });
    child.once("exit", (code, signal) => {
      if (!this.#closing) this.#end ??= signal === null ? `it ended with exit code ${code ?? 0}` : `it was ended by ${signal}`;
      // What it has started may keep its pipes open.
      setTimeout(() => this.#destroy(), 250).unref();
    });
    process.once("exit", this.#kill);
    child.once("close", () => {
      process.off("exit", this.#kill);
      this.#kill();
      this.onclose?.();
    });
    child.stdin.on("error", (error) => this.onerror?.(error));
    child.stdout.on("error", (error) => this.onerror?.(error)).on("data", (chunk: Buffer) => this.#take(chunk));
    child.stderr
      .setEncoding("utf8")
      .on("error", () => undefined)
      .on("data", (text: string) => {
        this.#errors = (this.#errors + text).slice(-keptErrors);
      });
    await new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", (cause) => {
        process.off("exit", this.#kill);
        reject(notStarted(cause));
      });
    });
  }

  send(message: JSONRPCMessage): Promise<void> {
    const stdin = this.#child?.stdin;
    if (stdin === undefined || !stdin.writable) return Promise.reject(new InputClosed());
    return new Promise((resolve, reject) => {
      stdin.write(`${JSON.stringify(message)}\n`, (error) => (error ? reject(new InputClosed({ cause: error })) : resolve()));
    });
  }

  /** Waits for a child that seems to have ended, so that how it did can be told; not for long. Whether it has. */
  settle(): Promise<boolean> {
    return Promise.race([this.#ended.then(() => true), sleep(0.5, undefined).then(() => false)]);
  }

  /** `told` in brackets, after a space. */
  get why(): string {
    return this.told === "" ? "" : ` (${this.told})`;
  }

  /** Ends it and all that it has started, within two seconds. */
  async close(): Promise<void> {
    const child = this.#child;
    if (child?.pid === undefined) return;
    this.#closing = true;
    child.stdin.end();
    const ends = [() => undefined, () => this.#signal("SIGTERM"), () => this.#destroy()];
    for (const [i, end] of ends.entries()) {
      end();
      if (await Promise.race([this.#ended.then(() => true), sleep(graces[i] as number, undefined).then(() => false)])) return;
    }
  }

  readonly #kill = (): void => this.#signal("SIGKILL");

  /** Ends all of it at once, and lets go of its pipes. */
  #destroy(): void {
    this.#kill();
    this.#child?.stdin.destroy();
    this.#child?.stdout.destroy();
    this.#child?.stderr.destroy();
  }

  #signal(name: NodeJS.Signals): void {
    const pid = this.#child?.pid;
    if (pid === undefined) return;
    try {
      if (grouped) process.kill(-pid, name);
      else this.#child?.kill(name);
    } catch {
      // It is gone.
    }
  }

  /** Ends a server that writes what no server should. */
  #refuse(what: string): void {
    this.#line = [];
    this.#end ??= what;
    this.#destroy();
  }

  #take(chunk: Buffer): void {
    let rest = chunk;
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      const line = Buffer.concat([...this.#line, rest.subarray(0, end)]).toString("utf8");
      this.#line = [];
      this.#bytes = 0;
      rest = rest.subarray(end + 1);
      this.#read(line);
      if (this.#child?.stdout.destroyed === true) return;
    }
    this.#line.push(rest);
    this.#bytes += rest.length;
    if (this.#bytes > mostBytes) this.#refuse(`it wrote a message of more than ${mostBytes} bytes`);
  }

  #read(line: string): void {
    if (line.trim() === "") return;
    try {
      const message = this.#options.read(line);
      this.heard++;
      this.onmessage?.(message);
    } catch (error) {
      this.#junk ??= { first: line.slice(0, 1000), lines: 0 };
      if (++this.#junk.lines > mostJunk) this.#refuse(`it wrote ${mostJunk} lines that are no messages`);
      this.onerror?.(error as Error);
    }
  }
}

function notStarted(cause: unknown): McpFault {
  const { code, message } = cause as NodeJS.ErrnoException;
  return new McpFault({
    what: `the server cannot be started: ${code === "ENOENT" ? "there is no such program" : message}`,
    passing: false,
    hint: "mcp.command is the program alone, and mcp.args the list of its arguments.",
  });
}
