/** What an error of the SDK, of a transport or of JSON-RPC means for whoever asked. */
import { show } from "../../util/errors.ts";
import { quote } from "../http-json.ts";
import { InputClosed, type ChildTransport } from "./child-transport.ts";
import { McpFault, type McpFailure } from "./failure.ts";

/** Of the SDK: an answer that will not come. */
const connectionClosed = -32000;
/** Of JSON-RPC: invalid request, no such method, invalid parameters. The same call never succeeds. */
const refusals: readonly unknown[] = [-32600, -32601, -32602];

/** @param child - the server, where it is a child of ours; @param hide - takes what is secret out of a text */
export async function failureOf(error: unknown, child: ChildTransport | null, hide: (text: string) => string): Promise<McpFailure> {
  if (error instanceof McpFault) return error.failure;
  const { code, message, name } = error as { code?: unknown; message?: unknown; name?: unknown };
  if (child !== null && (code === connectionClosed || error instanceof InputClosed)) {
    // A server may use the SDK's number for errors of its own.
    if ((await child.settle()) || error instanceof InputClosed) return { what: `the server has ended${child.why}`, passing: true };
  }
  const said = quote(hide(typeof message === "string" ? message.slice(0, 2000) : show(error)));
  if (child === null && code === connectionClosed) return { what: "the connection was closed", passing: true, few: true };
  if (name === "ZodError" || name === "$ZodError" || name === "SyntaxError")
    return { what: `an answer that is no message of MCP: ${said}`, passing: true, few: true };
  if (refusals.includes(code)) return { what: `the server refuses: ${said}`, passing: false, status: 422 };
  return { what: `an error: ${said}`, passing: true, few: true };
}
