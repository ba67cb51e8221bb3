/** What a client sends and is sent: bounded bodies of JSON, and refusals that say why. */
import { isUtf8 } from "node:buffer";
import type { IncomingMessage, ServerResponse } from "node:http";

/** A request that is refused, with its status. */
export class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** The JSON of a body of at most `most` bytes. @throws Refusal 400 where it is none, 413 where it is longer; the connection's error. */
export async function readJson(request: IncomingMessage, most: number): Promise<unknown> {
  const tooLong = new Refusal(413, `the body is longer than ${most} bytes`);
  if (Number(request.headers["content-length"] ?? 0) > most) throw tooLong;
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > most) throw tooLong;
    parts.push(part);
  }
  const body = Buffer.concat(parts);
  if (!isUtf8(body)) throw new Refusal(400, "the body is not UTF-8");
  try {
    return JSON.parse(body.toString("utf8")) as unknown;
  } catch (error) {
    throw new Refusal(400, `the body is not JSON: ${(error as Error).message}`);
  }
}

/** Answers with JSON. A client that is refused before its body was read is not read any further. */
export function sendJson(request: IncomingMessage, response: ServerResponse, status: number, value: unknown): void {
  if (response.destroyed || response.headersSent) return;
  const body = Buffer.from(JSON.stringify(value));
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": body.length,
    ...(request.complete ? {} : { connection: "close" }),
  });
  response.end(body);
}
