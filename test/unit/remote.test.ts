/** The circuit breaker of calls over a network, against a server on this machine. How calls are tried again is tested by endpoint.test.ts. */
import { afterEach, describe, expect, it } from "vitest";
import { requestJson } from "../../src/search/http-json.ts";
import { Remote, type RemoteOptions } from "../../src/search/remote.ts";
import { hider } from "../../src/search/secret.ts";
import { ServerError } from "../../src/util/errors.ts";
import { openChatServer, type ChatServer, type Reply } from "../helpers/chat-server.ts";

let server: ChatServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});

const good: Reply = { body: { fine: true } };
const broken: Reply = { status: 401, body: { error: "no credit left" } };

async function open(reply: (index: number) => Reply, options: Partial<RemoteOptions> = {}) {
  server = await openChatServer((_, index) => reply(index));
  const { asked, endpoint } = server;
  const time = { ms: 0 };
  const wait = (seconds: number): Promise<void> => {
    time.ms += 1000 * seconds;
    return Promise.resolve();
  };
  const remote = new Remote({ concurrency: 4, patience: 10, breakAfter: 3, breakSeconds: 30, now: () => time.ms, wait, ...options });
  const call = (signal?: AbortSignal): Promise<unknown> =>
    remote.call({
      where: "the engine",
      send: () => requestJson(new URL(endpoint), { method: "GET", headers: {}, timeout: 5, signal }),
      jitter: () => 0.5,
      error: ({ what }, { tries }) => new ServerError({ where: "the engine", what: `${what}, ${tries} tries` }),
      signal,
    });
  const failing = (signal?: AbortSignal): Promise<string> =>
    call(signal).then(
      () => "answered",
      (error: unknown) => (error as Error).message,
    );
  return { remote, asked, call, failing, time };
}

describe("a server that fails for good again and again", () => {
  it("is no longer asked: the calls after fail at once, with the reason, until the time is over and one call finds it back", async () => {
    let back = false;
    const { remote, asked, failing, time } = await open(() => (back ? good : broken));
    for (let i = 0; i < 3; i++) expect(await failing()).toBe('the engine: HTTP 401: "no credit left", 1 tries');
    time.ms += 10_000;
    expect(await failing()).toBe(
      'the engine: is not asked, as 3 calls in a row have failed; the last: HTTP 401: "no credit left"\n  It is tried again in 20 s.',
    );
    expect(asked).toHaveLength(3);
    // One call looks, finds nothing, and 30 more seconds pass.
    time.ms += 21_000;
    expect(await failing()).toContain("HTTP 401");
    expect(await failing()).toContain("is not asked, as 4 calls in a row have failed");
    expect(asked).toHaveLength(4);
    back = true;
    time.ms += 30_000;
    expect(await failing()).toBe("answered");
    for (let i = 0; i < 5; i++) expect(await failing()).toBe("answered");
    expect(remote.takeCounts()).toMatchObject({ requests: 6, retries: 0, failed: 4, refused: 2 });
    expect(remote.takeCounts()).toEqual({ requests: 0, retries: 0, failed: 0, refused: 0, seconds: 0 });
  });

  it("is looked at by one call alone, which is not tried again, while the others are refused", async () => {
    const { asked, failing, time } = await open((index) => ({ status: 503, body: "", delay: index < 9 ? 0 : 50 }), { patience: 0 });
    await Promise.all([failing(), failing(), failing()]);
    expect(asked).toHaveLength(3);
    time.ms += 31_000;
    const all = await Promise.all([failing(), failing(), failing(), failing()]);
    expect(asked).toHaveLength(4);
    expect(all.filter((message) => message.endsWith("HTTP 503, 1 tries"))).toHaveLength(1);
    expect(all.filter((message) => message.endsWith("One call is under way that looks whether it is back."))).toHaveLength(3);
  });

  it("is asked on where it answers now and then, or only finds fault with requests", async () => {
    const { asked, failing } = await open((index) => (index % 3 === 2 ? good : broken));
    for (let i = 0; i < 30; i++) await failing();
    expect(asked).toHaveLength(30);
    await server?.close();
    const other = await open(() => ({ status: 400, body: { error: "no such query" } }));
    for (let i = 0; i < 30; i++) expect(await other.failing()).toContain("HTTP 400");
    expect(other.asked).toHaveLength(30);
  });

  it("is asked for ever where the breaker is off", async () => {
    const { asked, failing } = await open(() => broken, { breakAfter: 0 });
    for (let i = 0; i < 30; i++) await failing();
    expect(asked).toHaveLength(30);
  });

  it("can be looked at again after a call that looked was given up", async () => {
    let silent = false;
    const { asked, failing, time } = await open(() => (silent ? {} : broken));
    for (let i = 0; i < 3; i++) await failing();
    time.ms += 31_000;
    silent = true;
    const controller = new AbortController();
    const looking = failing(controller.signal);
    while (asked.length < 4) await new Promise((resolve) => setTimeout(resolve, 2));
    controller.abort(new Error("stopped"));
    expect(await looking).toBe("stopped");
    silent = false;
    expect(await failing()).toContain("HTTP 401");
  });
});

describe("a key in what a server answers", () => {
  const secret = 'a+b/"c d';
  it.each([
    ["as it is", secret],
    ["inside JSON", JSON.stringify(secret).slice(1, -1)],
    ["inside an address", encodeURIComponent(secret)],
    ["inside an address, in small letters", encodeURIComponent(secret).toLowerCase()],
    ["inside a form", new URLSearchParams([["k", secret]]).toString().slice(2)],
  ])("is taken out %s", (_, form) => {
    expect(hider(secret)(`x${form}y${form}`)).toBe("x[key]y[key]");
  });

  it("is taken out before a message is cut, so that no part of it is left at the end", async () => {
    server = await openChatServer(() => ({ status: 403, body: { message: `${"x".repeat(295)}sk-very-secret-key` } }));
    const answer = await requestJson(new URL(server.endpoint), {
      method: "GET",
      headers: {},
      timeout: 5,
      hide: hider("sk-very-secret-key"),
    });
    expect(JSON.stringify(answer)).toContain("xxx[key]");
    expect(JSON.stringify(answer)).not.toContain("sk-");
  });
});

describe("a server whose answers are no JSON", () => {
  const page: Reply = { body: "<html>Welcome</html>" };

  it("is given up after a few tries where it has never answered: something else is at that address", async () => {
    const { failing, asked } = await open(() => page, { patience: 900 });
    expect(await failing()).toBe('the engine: an answer that is not JSON: "<html>Welcome</html>", 5 tries');
    expect(asked).toHaveLength(5);
  });

  it("is waited for where it has: a proxy speaks for it", async () => {
    const { failing, asked } = await open((index) => (index === 0 || index > 20 ? good : page), { patience: 900 });
    expect(await failing()).toBe("answered");
    expect(await failing()).toBe("answered");
    expect(asked).toHaveLength(22);
  });
});
