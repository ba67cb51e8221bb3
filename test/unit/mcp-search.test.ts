/** MCP servers as a search engine: real ones by the SDK, over standard input and output and over HTTP, and such as do what none should. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { neutralise } from "../../src/agent/dialects/dialect.ts";
import { methods } from "../../src/agent/methods/index.ts";
import type { OpenedEngine } from "../../src/search/engine-kind.ts";
import { engines } from "../../src/search/engines.ts";
import { renderDocuments } from "../../src/search/documents.ts";
import { readReply } from "../../src/search/mcp/reply.ts";
import type { SearchEngine, SearchResult } from "../../src/search/search-engine.ts";
import { mcpSettings, type McpSettings } from "../../src/search/settings.ts";
import { openMcpHttp, type McpHttpServer } from "../helpers/mcp-http.ts";
import { errorOf } from "../helpers/message-of.ts";

const program = fileURLToPath(new URL("../fixtures/mcp/server.mjs", import.meta.url));
const secret = "sk-of-this-very-test";
const folder = mkdtempSync(join(tmpdir(), "zerosearch-mcp-"));
const opened: OpenedEngine[] = [];
const servers: McpHttpServer[] = [];
const told: string[] = [];
afterEach(async () => {
  for (const one of opened.splice(0)) await one.engine.close();
  for (const one of servers.splice(0)) await one.close();
  vi.unstubAllEnvs();
  told.length = 0;
});
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
const newFile = (): string => join(folder, `file-${files++}`);

async function open(settings: Partial<McpSettings>) {
  const all = { ...mcpSettings.parse({}), patience: 5, timeout: 5, ...settings };
  const context = {
    seed: 1,
    noise: { start: 0, end: 0, steps: 1 },
    corpus: null,
    promptSet: () => ({ simulator: "" }),
    now: () => performance.now(),
    say: (text: string) => void told.push(text),
  };
  const one = await engines.mcp.open(all, context);
  opened.push(one);
  const engine = one.engine as SearchEngine;
  const search = (query: string, signal?: AbortSignal): Promise<SearchResult> =>
    engine.search({ query, key: { step: 1, question: 2, rollout: 3 }, turn: 0, ...(signal === undefined ? {} : { signal }) });
  return {
    engine,
    search,
    counts: () => one.takeCounts?.(),
    texts: async (query: string) => (await search(query)).documents.map(({ text }) => text),
  };
}
const child = (mode = "usual", settings: Partial<McpSettings> = {}, ...more: string[]) =>
  open({ command: process.execPath, args: [program, mode, ...more], ...settings });
const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    // What nobody has waited for yet is still in the table.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
};

describe("a server that is started", () => {
  it("finds documents in structured content, in JSON, in several items and in plain text with several results", async () => {
    const { search, texts, engine } = await child();
    expect(engine.name).toBe("mcp (search)");
    expect(await search("structured")).toEqual({
      documents: [{ text: "structured text", title: "T", url: "https://a.example/", score: 0.5 }],
      kind: "real",
    });
    expect((await search("wrapped")).documents).toEqual([{ text: "wrapped text", title: "A", url: "https://a.example/" }]);
    expect(await texts("items")).toEqual(["first", "second", "third"]);
    expect((await search("json")).documents).toEqual([{ text: "json text", title: "J", url: "https://j.example/" }, { text: "other" }]);
    expect((await search("titles")).documents).toEqual([
      { text: "first text\nmore of it", title: "One", url: "https://1.example/" },
      { text: "second text", title: "Two" },
    ]);
    expect(await texts("capital of France")).toEqual(["found capital of France"]);
    for (const none of ["nothing", "empty", "image", "  "]) expect(await texts(none)).toEqual([]);
  });

  it("is asked many times at once, and each search has its own answer", async () => {
    const { texts, counts } = await child();
    const all = await Promise.all(Array.from({ length: 50 }, (_, i) => texts(`number ${i}`)));
    expect(all).toEqual(Array.from({ length: 50 }, (_, i) => [`found number ${i}`]));
    expect(counts()).toMatchObject({ mcp_requests: 50, mcp_retries: 0, mcp_failed: 0, mcp_refused: 0 });
  });

  it("is given the variables that are named and no others, and their values stand in no document and no message", async () => {
    vi.stubEnv("MCP_TEST_KEY", secret);
    vi.stubEnv("MCP_TEST_OTHER", "not for it");
    const { texts, search } = await child("usual", { env: ["MCP_TEST_KEY"], patience: 0 });
    expect(await texts("env MCP_TEST_OTHER")).toEqual(["MCP_TEST_OTHER is not there"]);
    expect(await texts("env MCP_TEST_KEY")).toEqual(["MCP_TEST_KEY is [key]"]);
    for (const query of ["error", "die"]) {
      const { message } = await errorOf(() => search(query));
      expect(message).toContain("[key]");
      expect(message).not.toContain(secret);
    }
    vi.stubEnv("MCP_TEST_KEY", "");
    await expect(child("usual", { env: ["MCP_TEST_KEY"] })).rejects.toThrow("mcp.env: the environment variable MCP_TEST_KEY is not set");
  });

  it("has the tool that was named, or the one that searches, asked by the argument that takes a query", async () => {
    await expect(child("several")).rejects.toThrow(
      "mcp.tool: must say which of the server's tools is meant; expected one of fetch_page, web_search, news_search",
    );
    await expect(child("several", { tool: "searching" })).rejects.toThrow(
      'mcp.tool: is no tool of the server; expected one of fetch_page, web_search, news_search, got "searching"',
    );
    // One says that it has none, the other does not know what tools are.
    for (const mode of ["none", "resources"])
      await expect(child(mode)).rejects.toThrow(
        "mcp: the server offers no tools; expected one that searches\n  Resources and prompts, which it may offer, are not searched.",
      );
    expect((await child("several", { tool: "news_search" })).engine.name).toBe("mcp (news_search)");
    await expect(child("two")).rejects.toThrow(
      "mcp.arguments: lacks n, which the tool wiki-search must be given; expected phrase, n, got none".replace("phrase, ", ""),
    );
    const { texts } = await child("two", { arguments: { n: 3 } });
    expect(await texts("arguments x")).toEqual(['{"n":3,"phrase":"arguments x"}']);
    await expect(child("two", { arguments: { n: 3, phrases: "y" } })).rejects.toThrow(
      'mcp.arguments: "phrases" is no argument of the tool wiki-search; expected some of phrase, n\n  did you mean phrase?',
    );
    await expect(child("usual", { arguments: { constructor: 1 } })).rejects.toThrow('"constructor" is no argument of the tool search');
    // Who says that there may be others is given others.
    const open = await child("open", { arguments: { lang: "en" } });
    expect(await open.texts("arguments x")).toEqual(['{"lang":"en","query":"arguments x"}']);
    await expect(child("usual", { queryField: "words" })).rejects.toThrow(
      "mcp.queryField: is no argument of the tool search; expected one of query",
    );
  });

  it("that ends is started again, and the search that it died of is asked anew", async () => {
    const { texts, counts } = await child();
    const [before] = await texts("pid");
    expect(await texts(`die ${newFile()}`)).toEqual(["alive again"]);
    const [after] = await texts("pid");
    expect(after).not.toBe(before);
    expect(counts()).toMatchObject({ mcp_requests: 3, mcp_retries: 1, mcp_failed: 0 });
    expect(isAlive(Number(before))).toBe(false);
  });

  it("that dies of every search makes it fail for good, within its patience, with the server's last words", async () => {
    const { search } = await child("usual", { patience: 1 });
    const { message } = await errorOf(() => search("die"));
    expect(message).toMatch(
      /^mcp \(node\): the server has ended \(it ended with exit code 7; its last words on standard error: "about to die with no key"\) \(\d tries\)\n/,
    );
    expect(message).toContain("mcp.patience");
    expect(told[0]).toMatch(/^mcp: mcp \(node\): the server has ended .*; trying again for up to 1 s \(mcp\.patience\)$/);
  });

  it("that reports an error is asked a few times, then the search has failed", async () => {
    const { search, texts, counts } = await child("usual", { patience: 60 });
    expect(await texts(`once ${newFile()}`)).toEqual(["answered in the end"]);
    expect(counts()).toMatchObject({ mcp_retries: 1 });
    const { message } = await errorOf(() => search("error"));
    expect(message).toBe('mcp (node): the tool reports an error: "the index is closed" (4 tries)');
    expect(counts()).toMatchObject({ mcp_retries: 3, mcp_failed: 1 });
    expect((await errorOf(() => search("refuse"))).message).toBe('mcp (node): the server refuses: "MCP error -32602: no such query"');
  });

  it("that never answers is given up and started anew; the signal ends a search at once", async () => {
    const { search, texts } = await child("usual", { timeout: 0.3, patience: 0 });
    const [before] = await texts("pid");
    expect((await errorOf(() => search("hang"))).message).toMatch(/^mcp \(node\): no answer within 0\.3 s\n/);
    expect(await texts("pid")).not.toEqual([before]);
    expect(isAlive(Number(before))).toBe(false);
    const controller = new AbortController();
    const searching = search("hang", controller.signal);
    setTimeout(() => controller.abort(new Error("stopped")), 50);
    await expect(searching).rejects.toThrow("stopped");
  });

  it("may greet on standard output, which is no message", async () => {
    expect(await (await child("greeting")).texts("x")).toEqual(["found x"]);
  });

  it.each<[string, RegExp]>([
    [
      "flood",
      /^mcp \(node\): the server has ended \(it wrote 1000 lines that are no messages; on standard output it wrote "junk", which is no message\)/,
    ],
    ["endless", /^mcp \(node\): the server has ended \(it wrote a message of more than 16777216 bytes\)/],
    [
      "crash",
      /^mcp \(node\): the server has ended \(it ended with exit code 3; its last words on standard error: "cannot open the index: wrong key \[key\]"\)\n {2}At the start/,
    ],
    ["silent", /^mcp \(node\): the server has not started within 1 s\n {2}One that is slow to start needs a higher mcp\.startTimeout\./],
  ])("that does nothing but %s is an error that says so", async (mode, message) => {
    vi.stubEnv("MCP_TEST_KEY", secret);
    expect((await errorOf(() => child(mode, { startTimeout: mode === "silent" ? 1 : 15, env: ["MCP_TEST_KEY"] }))).message).toMatch(
      message,
    );
  });

  it("that is not there, or not both or neither of program and address, is an error before anything is asked", async () => {
    await expect(open({ command: "no-such-program-of-mcp" })).rejects.toThrow(
      "mcp (no-such-program-of-mcp): the server cannot be started: there is no such program\n  mcp.command is the program alone",
    );
    await expect(open({})).rejects.toThrow("mcp.command: is missing; expected one of them: a program to start, or the address of a server");
    await expect(open({ command: "a", url: "http://b" })).rejects.toThrow("mcp.command: and mcp.url are both given");
    await expect(open({ command: "a", key: "K" })).rejects.toThrow("mcp.key: is never used");
    await expect(open({ url: "http://127.0.0.1:9/{key}" })).rejects.toThrow("mcp.key: is missing");
  });

  it("ends with the engine, with all that it has started, also where it ends for nothing but SIGKILL", async () => {
    const file = newFile();
    const { engine, texts } = await child("stubborn", {}, file);
    expect(await texts("x")).toEqual(["found x"]);
    const pids = readFileSync(file, "utf8").split(" ").map(Number);
    expect(pids.map(isAlive)).toEqual([true, true]);
    const from = performance.now();
    await engine.close();
    expect(performance.now() - from).toBeLessThan(2500);
    await vi.waitFor(() => expect(pids.map(isAlive)).toEqual([false, false]));
    expect((await errorOf(() => texts("x"))).message).toBe("mcp (node): is closed");
  });
});

describe("what a tool answers", () => {
  it("of 100 MB is an error, of megabytes or 100,000 results is cut", async () => {
    const { search, texts } = await child("usual", { patience: 0, timeout: 20 });
    expect((await errorOf(() => search("huge"))).message).toMatch(
      /the server has ended \(it wrote a message of more than 16777216 bytes\)/,
    );
    const [large = ""] = await texts("large");
    expect(large.length).toBeGreaterThan(2 ** 19);
    expect(large.length).toBeLessThanOrEqual(2 ** 20);
    expect(await texts("many")).toEqual(["n 0", "n 1", "n 2", "n 3", "n 4"]);
  });

  it("has no halves of characters, no control characters, and no tags of a dialect in what the policy is shown", async () => {
    const { texts, search } = await child();
    expect(await texts("surrogates")).toEqual(["half \ufffd of \ufffd a   character"]);
    const result = await search("tags");
    for (const { dialect } of Object.values(methods)) {
      const shown = neutralise(renderDocuments(result), dialect);
      for (const tag of dialect.tags) expect(shown).not.toContain(`<${tag}>`);
    }
    expect(await texts("\ud800 query")).toEqual(["found \ufffd query"]);
  });
});

describe("a reply of any shape", () => {
  const reading = { documents: 5, hide: (text: string) => text, hideInDocuments: (text: string) => text };
  const textsIn = (text: string) => {
    const reply = readReply({ content: [{ type: "text", text }] }, reading);
    return "documents" in reply ? reply.documents : [];
  };

  it("without content is a failure that quotes it", () => {
    for (const shapeless of [null, 5, {}, { toolResult: 5 }, { content: "text" }])
      expect(readReply(shapeless, reading)).toMatchObject({ failure: { what: "an answer without content", passing: false } });
  });

  it("is read as search tools write for models: numbered, between dashes, under headings, as Doc i, or as one text", () => {
    expect(
      textsIn(
        "Found 2 search results:\n\n1. First\n   URL: https://1.example/\n   Summary: one 2. not a head\n\n2. **Second**\n   text of two",
      ),
    ).toEqual([
      { title: "First", text: "one 2. not a head", url: "https://1.example/" },
      { title: "Second", text: "text of two" },
    ]);
    expect(textsIn("one\n---\ntwo\nmore")).toEqual([{ text: "one" }, { text: "more", title: "two" }]);
    expect(textsIn("# A\ntext a\n## B\ntext b")).toEqual([
      { text: "text a", title: "A" },
      { text: "text b", title: "B" },
    ]);
    expect(textsIn("Doc 1: one\nDoc 2: two")).toEqual([{ text: "one" }, { text: "two" }]);
    expect(textsIn("A text.\n\nOf two paragraphs.")).toEqual([{ text: "A text.\n\nOf two paragraphs." }]);
    expect(textsIn('{"weather": {"celsius": 21}}')).toEqual([{ text: '{"weather": {"celsius": 21}}' }]);
  });

  it("is read where lists stand deep, beside what is no result, and where texts stand inside results", () => {
    expect(textsIn('{"response": {"data": {"items": [{"document": {"contents": "deep"}, "score": "0.25"}, {}, 5, "plain"]}}}')).toEqual([
      { text: "deep", score: 0.25 },
      { text: "plain" },
    ]);
    expect(textsIn('{"title": "only one", "text": "result"}')).toEqual([{ title: "only one", text: "result" }]);
    expect(textsIn('{"results": []}')).toEqual([]);
    const links = [{ type: "resource_link", uri: "file:///a", name: "a", description: "what a is" }];
    const embedded = [{ type: "resource", resource: { uri: "file:///b", text: "text of b" } }];
    expect(readReply({ content: [...links, ...embedded] }, reading)).toEqual({
      documents: [{ text: "what a is", title: "a", url: "file:///a" }, { text: "text of b" }],
    });
  });

  it("gives documents or a failure, never an exception, and never more than was asked for", () => {
    fc.assert(
      fc.property(fc.anything({ maxDepth: 4 }), fc.string({ unit: "binary" }), (anything, text) => {
        const content = [{ type: "text", text }, anything, { type: "text", text: JSON.stringify(anything) }];
        for (const reply of [readReply(anything, reading), readReply({ content, structuredContent: anything }, reading)]) {
          if (!("documents" in reply)) continue;
          expect(reply.documents.length).toBeLessThanOrEqual(5);
          for (const document of reply.documents) expect(document.text.trim()).not.toBe("");
        }
      }),
    );
    const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;
    expect(textsIn(deep)).toHaveLength(1);
    for (const line of ["1. ", "Title:", "---\n", "# ", "Doc 1:", "\n", "*", " "]) {
      const from = performance.now();
      textsIn(line.repeat(2 ** 19));
      expect(performance.now() - from, JSON.stringify(line)).toBeLessThan(3000);
    }
  });
});

describe("a server over HTTP", () => {
  const at = async (settings: Partial<McpSettings> = {}, ...first: Parameters<typeof openMcpHttp>) => {
    const server = await openMcpHttp(...first);
    servers.push(server);
    return { server, ...(await open({ url: server.url, ...settings })) };
  };

  it("is asked with its key in the header that is named, and finds the same", async () => {
    vi.stubEnv("MCP_TEST_KEY", secret);
    const { search, server } = await at({ key: "MCP_TEST_KEY" });
    expect((await search("structured")).documents).toEqual([
      { text: "structured text", title: "T", url: "https://a.example/", score: 0.5 },
    ]);
    expect(server.asked.every(({ headers }) => headers.authorization === `Bearer ${secret}`)).toBe(true);
    const other = await at({ key: "MCP_TEST_KEY", header: "X-Api-Key" });
    expect(other.server.asked.every(({ headers }) => headers["x-api-key"] === secret && headers.authorization === undefined)).toBe(true);
  });

  it("may have its key in its address, which no message shows", async () => {
    vi.stubEnv("MCP_TEST_KEY", secret);
    const server = await openMcpHttp();
    servers.push(server);
    const { texts } = await open({ url: `${server.url}?apiKey={key}`, key: "MCP_TEST_KEY", patience: 0 });
    expect(await texts("x")).toEqual(["found x"]);
    expect(server.asked.every(({ url, headers }) => url.endsWith(`?apiKey=${secret}`) && headers.authorization === undefined)).toBe(true);
    await server.close();
    const { message } = await errorOf(() => texts("x"));
    expect(message).toMatch(/^mcp \(http:\/\/127\.0\.0\.1:\d+\/mcp\): no answer/);
    expect(message).not.toContain(secret);
  });

  it("that has forgotten its sessions is greeted again", async () => {
    const { texts, server, counts } = await at();
    server.forget();
    expect(await texts("x")).toEqual(["found x"]);
    expect(counts()).toMatchObject({ mcp_requests: 1, mcp_retries: 1 });
  });

  it("that is busy is asked again, after Retry-After; one that refuses is an error with what may help", async () => {
    let busy = 1;
    const { texts, counts } = await at({}, ({ method }, response, index) => {
      if (index < 3 || method !== "POST" || busy-- <= 0) return false;
      response.writeHead(429, { "retry-after": "0.1" }).end("slow down");
      return true;
    });
    expect(await texts("x")).toEqual(["found x"]);
    expect(counts()).toMatchObject({ mcp_retries: 1 });
    const refusing = async (status: number, headers: Record<string, string> = {}): Promise<string> => {
      const server = await openMcpHttp((_, response) => {
        response.writeHead(status, headers).end(`no ${secret}`);
        return true;
      });
      servers.push(server);
      vi.stubEnv("MCP_TEST_KEY", secret);
      return (await errorOf(() => open({ url: server.url, key: "MCP_TEST_KEY" }))).message;
    };
    expect(await refusing(401)).toMatch(/: HTTP 401: "no \[key\]"\n {2}mcp\.key names the environment variable/);
    expect(await refusing(404)).toMatch(/: HTTP 404: .*\n {2}mcp\.url is the address of the MCP server itself/);
    expect(await refusing(302, { location: "http://127.0.0.1:9/" })).toMatch(
      /HTTP 302, a redirection .*\n {2}Redirections are not followed/,
    );
    expect(await refusing(200, { "content-type": "text/html" })).toMatch(/Unexpected content type: text\/html/);
  });

  it("that sends too much, or nothing more, is an error in time", async () => {
    const { search, texts } = await at({ patience: 0, timeout: 1.5 });
    expect((await errorOf(() => search("hang"))).message).toMatch(/no answer within 1\.5 s/);
    expect((await errorOf(() => search("huge"))).message).toMatch(/an answer of more than 16777216 bytes|no answer within 1\.5 s/);
    expect(await texts("x")).toEqual(["found x"]);
  });
});

describe("the identity of an MCP server in a recording", () => {
  it("is what its answers depend on, without who may ask and how patiently", async () => {
    const identity = (settings: Partial<McpSettings>) => engines.mcp.identity({ ...mcpSettings.parse({}), ...settings }, {} as never);
    const plain = await identity({ command: "c", args: ["a"] });
    expect(await identity({ command: "c", args: ["a"], env: ["K"], timeout: 1, patience: 2, concurrency: 3, price: 4 })).toEqual(plain);
    for (const other of [{ command: "d" }, { args: ["b"] }, { tool: "t" }, { documents: 3 }, { arguments: { n: 1 } }])
      expect(await identity({ command: "c", args: ["a"], ...other })).not.toEqual(plain);
    expect(existsSync(folder)).toBe(true);
  });
});
