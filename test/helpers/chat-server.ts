/** An OpenAI-compatible server on this machine that answers by script and remembers what it was asked. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  readonly body: any;
}

export interface Reply {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** A text as it is, anything else as JSON; undefined never answers. */
  readonly body?: unknown;
  /** Milliseconds. */
  readonly delay?: number;
  /** Closes the connection instead of answering. */
  readonly hangUp?: boolean;
}

export interface ChatServer {
  /** Base URL: `http://127.0.0.1:port/v1`. */
  readonly endpoint: string;
  readonly asked: Asked[];
  /** Requests under way at once, at most. */
  readonly peak: () => number;
  close(): Promise<void>;
}

/** A completion with this text. */
export const completion = (content: string): Reply => ({
  body: {
    choices: [{ index: 0, message: { role: "assistant", content }, finish_reason: "stop" }],
    usage: { prompt_tokens: 100, completion_tokens: 7 },
  },
});

/** `reply` is asked for each request, with its number from 0. */
export async function openChatServer(reply: (asked: Asked, index: number) => Reply): Promise<ChatServer> {
  const asked: Asked[] = [];
  let running = 0,
    peak = 0;
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    peak = Math.max(peak, ++running);
    let text = "";
    for await (const chunk of request) text += String(chunk);
    const one: Asked = {
      method: request.method ?? "",
      path: request.url ?? "",
      headers: request.headers,
      body: text === "" ? undefined : JSON.parse(text),
    };
    const { status = 200, headers = {}, body, delay = 0, hangUp = false } = reply(one, asked.push(one) - 1);
    await new Promise((resolve) => setTimeout(resolve, delay));
    running--;
    if (hangUp) request.socket.destroy();
    else if (body !== undefined) {
      response.writeHead(status, { "content-type": "application/json", ...headers });
      response.end(typeof body === "string" ? body : JSON.stringify(body));
    }
  };
  const server = createServer((request, response) => void answer(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    asked,
    peak: () => peak,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
