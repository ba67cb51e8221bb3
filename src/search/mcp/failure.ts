/** What went wrong with an MCP server, in the words of `Remote`. */
import type { JsonFailure } from "../http-json.ts";

export interface McpFailure extends JsonFailure {
  /** Tried again a few times only: it may be the query's own fault, and nobody can tell. */
  readonly few?: boolean;
}

/** Carries a failure through the SDK. */
export class McpFault extends Error {
  readonly failure: McpFailure;
  constructor(failure: McpFailure) {
    super(failure.what);
    this.name = "McpFault";
    this.failure = failure;
  }
}

/** Bytes of one message, at most: an answer holds a few hundred tokens. */
export const mostBytes = 16 * 2 ** 20;
