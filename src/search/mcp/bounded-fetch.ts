/** How the SDK's HTTP transport reaches a server: no redirections, bounded replies, and failures in our own words. */
import { failureOf, rootCause } from "../http-json.ts";
import { McpFault, mostBytes } from "./failure.ts";

/** Characters of a refusal that are read. */
const mostOfError = 2 ** 16;

/** @param hide - takes the key out of a text */
export function boundedFetch(hide: (text: string) => string): (url: string | URL, init?: RequestInit) => Promise<Response> {
  return async (url, init = {}) => {
    // The server's own messages are not waited for; a reply that goes on in another stream is.
    if (init.method === "GET" && !new Headers(init.headers).has("last-event-id")) return new Response(null, { status: 405 });
    let response;
    try {
      response = await fetch(url, { ...init, redirect: "manual" });
    } catch (error) {
      throw new McpFault({ what: `no answer (${hide(rootCause(error))})`, passing: true });
    }
    if (!response.ok) {
      if (init.method === "DELETE") return response;
      throw new McpFault(failureOf(response, await startOf(response), hide));
    }
    if (response.body === null) return response;
    const { status, headers } = response;
    return new Response(response.body.pipeThrough(bounded()), { status, headers });
  };
}

function bounded(): TransformStream<Uint8Array, Uint8Array> {
  let bytes = 0;
  return new TransformStream({
    transform(chunk, controller) {
      bytes += chunk.length;
      if (bytes > mostBytes) controller.error(new McpFault({ what: `an answer of more than ${mostBytes} bytes`, passing: false }));
      else controller.enqueue(chunk);
    },
  });
}

async function startOf(response: Response): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length > mostOfError) break;
  }
  return text;
}
