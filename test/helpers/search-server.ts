/** A search service on this machine: what it was asked, and answers of every kind, broken ones too. */
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface AskedOf {
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly headers: IncomingHttpHeaders;
  /** The text of the body. */
  readonly text: string;
}

/** JSON with status 200, or what a function writes. */
export type Answer = { readonly json: unknown } | ((response: ServerResponse) => void);

export interface SearchServer {
  /** `http://127.0.0.1:port` */
  readonly url: string;
  readonly asked: AskedOf[];
  close(): Promise<void>;
}

export async function openSearchServer(answer: (asked: AskedOf, index: number) => Answer): Promise<SearchServer> {
  const asked: AskedOf[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const { pathname, searchParams } = new URL(request.url ?? "", "http://here");
      const one = {
        method: request.method ?? "",
        path: pathname,
        query: Object.fromEntries(searchParams),
        headers: request.headers,
        text: Buffer.concat(chunks).toString("utf8"),
      };
      const reply = answer(one, asked.push(one) - 1);
      if (typeof reply === "function") reply(response);
      else response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(reply.json));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** A status with a text. */
export const status =
  (code: number, body: string | object = "", headers: Readonly<Record<string, string>> = {}): Answer =>
  (response) => {
    response.writeHead(code, headers).end(typeof body === "string" ? body : JSON.stringify(body));
  };
