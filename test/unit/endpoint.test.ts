import { afterEach, describe, expect, it } from "vitest";
import { ChatClient, type ChatClientOptions, type Outage, type Retry } from "../../src/search/chat-client.ts";
import { drawKind } from "../../src/search/curriculum.ts";
import { EndpointSearch, type EndpointSearchOptions } from "../../src/search/endpoint.ts";
import { SimulatedSearch } from "../../src/search/simulated.ts";
import { simulatorStop } from "../../src/search/simulation.ts";
import { simulatorPrompt, tunedSimulatorTemplate } from "../../src/search/simulator-prompt.ts";
import { promptText } from "../../src/text/prompt.ts";
import { sleep } from "../../src/util/abort.ts";
import { TooLongError } from "../../src/util/errors.ts";
import { completion, openChatServer, type Asked, type ChatServer, type Reply } from "../helpers/chat-server.ts";
import { byteCodec, ScriptedGenerator, stopsOf } from "../helpers/scripted-generator.ts";

const request = {
  query: "capital of France",
  question: "What is the capital of France?",
  goldenAnswers: ["Paris", "Paname"],
  key: { step: 4, question: 2, rollout: 1 },
  turn: 1,
};

let server: ChatServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});

async function serve(
  reply: (asked: Asked, index: number) => Reply,
  options: Partial<ChatClientOptions> = {},
  search: Partial<EndpointSearchOptions> = {},
) {
  server = await openChatServer(reply);
  const retries: Retry[] = [];
  const outages: (string | Outage)[] = [];
  // Milliseconds; only waits take any.
  let clock = 0;
  const client = new ChatClient({
    endpoint: server.endpoint,
    model: "simulator-14b",
    concurrency: 64,
    timeout: 5,
    patience: 900,
    now: () => clock,
    wait: async (seconds, signal) => {
      await sleep(0, signal);
      clock += 1000 * seconds;
    },
    onRetry: (retry) => retries.push(retry),
    onOutage: ({ message }) => outages.push(message),
    onAnswer: (outage) => outages.push(outage),
    ...options,
  });
  const engine = new EndpointSearch({ client, seed: 11, noise: 0, documents: 5, ...search });
  return { server, client, engine, retries, outages, seconds: () => clock / 1000 };
}

const messageOf = async (act: Promise<unknown>): Promise<string> => {
  try {
    await act;
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error("nothing was thrown");
};

describe("a simulator behind an endpoint", () => {
  it("is asked as the paper's requests are: an empty system message, the prompt, and the sampling that was set", async () => {
    const { server: to, engine } = await serve(() => completion("Doc 1: Paris."));
    expect(await engine.simulate(request)).toEqual({
      documents: [{ text: "Paris." }],
      text: "Doc 1: Paris.",
      kind: "useful",
      noiseProbability: 0,
    });
    const [asked] = to.asked;
    expect(asked).toMatchObject({ method: "POST", path: "/v1/chat/completions" });
    expect(asked?.headers).toMatchObject({ "content-type": "application/json" });
    expect(asked?.headers.authorization).toBeUndefined();
    const { seed, ...body } = asked?.body as { seed: number };
    expect(body).toEqual({
      model: "simulator-14b",
      messages: [
        { role: "system", content: "" },
        {
          role: "user",
          content: promptText(
            simulatorPrompt(tunedSimulatorTemplate, "useful", { question: request.question, answer: "Paris", query: request.query }),
          ),
        },
      ],
      max_tokens: 600,
      temperature: 0.8,
      stop: ["Doc 6"],
    });
    expect(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 31).toBe(true);
  });

  it("is told top-p and top-k where they are on, and the model's own limit", async () => {
    const { server: to, engine } = await serve(
      () => completion("x"),
      {},
      { sampling: { temperature: 0, topP: 0.9, topK: 40 }, maxNewTokens: 96, documents: 3 },
    );
    await engine.simulate(request);
    expect(to.asked[0]?.body).toMatchObject({ max_tokens: 96, temperature: 0, top_p: 0.9, top_k: 40, stop: ["Doc 4"] });
  });

  it("gets a seed of its own for each search, the same in every run", async () => {
    const seeds = async (): Promise<number[]> => {
      const { server: to, engine } = await serve(() => completion("x"), { concurrency: 1 });
      for (const change of [{}, { turn: 2 }, { key: { ...request.key, rollout: 2 } }, { key: { ...request.key, step: 5 } }])
        await engine.simulate({ ...request, ...change });
      await to.close();
      return to.asked.map(({ body }) => (body as { seed: number }).seed);
    };
    const first = await seeds();
    expect(new Set(first).size).toBe(4);
    expect(await seeds()).toEqual(first);
  });

  it("gives the documents and kinds that a simulator in this process gives for the same text", async () => {
    const said = ({ kind, query }: { kind: string; query: string }): string =>
      `Doc 1: ${kind}\n\nDoc 2: ${query}\n\n\nDoc 3: end\nDoc 4: too many`;
    const read = (prompt: string) => ({
      kind: /(\w+) Output:\n$/.exec(prompt)?.[1] ?? "",
      query: /Query: (.*)\n/.exec(prompt)?.[1] ?? "",
    });
    const shared = { seed: 3, noise: { start: 0, end: 1, steps: 8 }, documents: 3 };
    const { engine } = await serve(
      ({ body }) => completion(said(read((body as { messages: { content: string }[] }).messages[1]?.content ?? ""))),
      {},
      shared,
    );
    const local = new SimulatedSearch({
      ...shared,
      generator: new ScriptedGenerator({ simulator: (_, __, text) => `${said(read(text))}<eos>` }),
      model: "simulator",
      tokenizer: byteCodec,
      stop: stopsOf([simulatorStop(3)]),
    });
    const searches = Array.from({ length: 40 }, (_, i) => ({
      ...request,
      query: `query ${i}`,
      key: { step: 1 + (i % 9), question: i, rollout: 0 },
    }));
    const [remote, here] = await Promise.all([
      Promise.all(searches.map((one) => engine.simulate(one))),
      Promise.all(searches.map((one) => local.simulate(one))),
    ]);
    expect(remote).toEqual(here);
    expect(remote[0]?.text).toMatch(/^Doc 1: \w+\nDoc 2: query 0\n\nDoc 3: end$/);
    remote.forEach(({ kind }, i) => {
      expect(kind).toBe(drawKind(3, searches[i]!.key, 1, engine.noiseProbability(searches[i]!.key.step)));
    });
    expect(new Set(remote.map(({ kind }) => kind)).size).toBe(2);
  });

  it("breaks the spelling of special tokens in what comes from outside, since the server would read them", async () => {
    const { server: to, engine } = await serve(() => completion("x"));
    await engine.simulate({ ...request, query: "a<|im_end|>b</s>[INST]<\uff5cUser\uff5c> 1 < 2 [see Nile]" });
    const content = (to.asked[0]?.body as { messages: { content: string }[] }).messages[1]?.content;
    expect(content).toContain("Query: a< |im_end|>b< /s>[ INST]< \uff5cUser\uff5c> 1 < 2 [see Nile]\n");
  });

  it("fails loudly for a question without an answer, and for a wrong number of documents", async () => {
    const { engine, client } = await serve(() => completion("x"));
    await expect(engine.simulate({ ...request, goldenAnswers: [] })).rejects.toThrow("the question has no answer");
    expect(() => new EndpointSearch({ client, seed: 1, noise: 0, documents: 0 })).toThrow("wrong number of documents");
    expect(() => new EndpointSearch({ client, seed: 1, noise: 2, documents: 1 })).toThrow("not a probability");
  });
});

describe("a request to an endpoint", () => {
  it("is tried again after errors that may pass, at growing intervals, and counted", async () => {
    const replies: Reply[] = [
      { status: 500, body: { error: { message: "out of luck" } } },
      { status: 429, body: "" },
      { hangUp: true },
      { status: 503, body: "<html>busy</html>" },
      completion("Doc 1: a"),
    ];
    const { engine, client, retries, seconds } = await serve((_, i) => replies[i] as Reply);
    expect((await engine.simulate(request)).text).toBe("Doc 1: a");
    expect(retries.map(({ tries }) => tries)).toEqual([1, 2, 3, 4]);
    const at = `${server?.endpoint ?? ""}/chat/completions`;
    expect(retries[0]?.message).toBe(`${at}: HTTP 500: "out of luck"`);
    expect(retries[1]?.message).toBe(`${at}: HTTP 429`);
    expect(retries[2]?.message).toMatch(/: no answer \(/);
    expect(retries[3]?.message).toBe(`${at}: HTTP 503: "<html>busy</html>"`);
    // Doubled each time, times 0.5 to 1.5, and the same in every run.
    retries.forEach(({ wait }, i) => {
      expect(wait).toBeGreaterThanOrEqual(0.25 * 2 ** i);
      expect(wait).toBeLessThan(0.75 * 2 ** i);
    });
    expect(seconds()).toBeGreaterThan(0.25 * 15);
    const estimates = { estimatedPromptTokens: 0, estimatedCompletionTokens: 0 };
    expect(client.takeCounts()).toEqual({
      requests: 1,
      retries: 4,
      seconds: seconds(),
      promptTokens: 100,
      completionTokens: 7,
      ...estimates,
    });
    expect(client.takeCounts()).toEqual({ requests: 0, retries: 0, seconds: 0, promptTokens: 0, completionTokens: 0, ...estimates });
  });

  it("is tried again for as long as patience lasts, the last time at its end, with an error that says where and what", async () => {
    const { engine, server: to, retries, seconds } = await serve(() => ({ status: 502, body: { message: "bad gateway" } }));
    const message = await messageOf(engine.simulate(request));
    expect(message).toBe(
      `${to.endpoint}/chat/completions: HTTP 502: "bad gateway" (${to.asked.length} tries)\n  A server is waited for: one that is away for longer needs a higher simulator.endpointPatience.`,
    );
    expect(seconds()).toBeCloseTo(900, 6);
    // 0.5, 1, 2, 4, 8, 16 s and then 30 s each, times 0.5 to 1.5.
    expect(retries.length).toBeGreaterThan(25);
    expect(Math.max(...retries.map(({ wait }) => wait))).toBeLessThanOrEqual(45);
    expect(to.asked).toHaveLength(retries.length + 1);
  });

  it("outlives a server that is away for ten minutes, which is said when it starts and when it ends", async () => {
    const { engine, server: to, outages, seconds } = await serve(() => (seconds() < 600 ? { hangUp: true } : completion("Doc 1: back")));
    const all = Array.from({ length: 8 }, (_, turn) => engine.simulate({ ...request, turn }));
    for (const { text } of await Promise.all(all)) expect(text).toBe("Doc 1: back");
    expect(seconds()).toBeGreaterThanOrEqual(600);
    expect(outages).toHaveLength(2);
    expect(outages[0]).toMatch(/\/chat\/completions: no answer \(/);
    const { seconds: away, retries } = outages[1] as Outage;
    expect(away).toBeGreaterThanOrEqual(600);
    // Requests that failed while the first answer came are asked once more, and are none of the outage's.
    const failed = to.asked.length - 8;
    expect(retries).toBeGreaterThan(failed - 8);
    expect(retries).toBeLessThanOrEqual(failed);
  });

  it("tells of short failures less and less often, and of every long one", async () => {
    // Every request fails once; the 12th many times.
    let asked = 0;
    const failures = (n: number): number => (n === 12 ? 6 : 1);
    const { engine, outages } = await serve(() => {
      if (asked++ < failures(turn)) return { status: 500, body: "" };
      return completion("x");
    });
    let turn = 1;
    const told: number[] = [];
    for (; turn <= 17; turn++) {
      asked = 0;
      const before = outages.length;
      await engine.simulate({ ...request, turn });
      if (outages.length > before) told.push(turn);
      expect(outages.length - before === 0 || outages.length - before === 2).toBe(true);
    }
    expect(told).toEqual([1, 2, 4, 8, 12, 16]);
  });

  it("is not tried again when it is wrong: the server's message is shown, cut", async () => {
    const { engine, server: to } = await serve(() => ({ status: 400, body: { error: { message: `too long ${"x".repeat(1000)}` } } }));
    const message = await messageOf(engine.simulate(request));
    expect(message).toMatch(/\/v1\/chat\/completions: HTTP 400: "too long x+\.\.\."$/);
    expect(message.length).toBeLessThan(450);
    expect(to.asked).toHaveLength(1);
    await to.close();
    const { engine: other } = await serve(() => ({ status: 404, body: { detail: "Not Found" } }));
    expect(await messageOf(other.simulate(request))).toMatch(/HTTP 404: "Not Found"\n {2}simulator.endpoint is the base URL/);
  });

  it("waits as long as the server asks, in seconds or until a date; not for ever", async () => {
    const dates = { date: "Mon, 01 Jan 2024 00:00:00 GMT", "retry-after": "Mon, 01 Jan 2024 00:00:00 GMT" };
    const replies: Reply[] = [
      { status: 429, body: "", headers: { "retry-after": "100" } },
      { status: 429, body: "", headers: dates },
      { status: 503, body: "", headers: { "retry-after": "600" } },
      { status: 503, body: "", headers: { "retry-after": "600" } },
    ];
    const { engine, retries } = await serve((_, i) => replies[i] as Reply);
    expect(await messageOf(engine.simulate(request))).toMatch(/HTTP 503, which asks to wait 600 s \(4 tries\)/);
    expect(retries.map(({ wait }) => wait)).toEqual([100, expect.closeTo(1, 0), 600]);
  });

  it("is given up when it takes too long, and tried again", async () => {
    const { engine, retries } = await serve((_, i) => (i === 0 ? {} : completion("Doc 1: late")), { timeout: 0.1 });
    expect((await engine.simulate(request)).text).toBe("Doc 1: late");
    expect(retries.map(({ message }) => message.replace(/^.*?completions/, ""))).toEqual([": no answer within 0.1 s"]);
    await server?.close();
    const { engine: silent } = await serve(() => ({}), { timeout: 0.05, patience: 0.1 });
    expect(await messageOf(silent.simulate(request))).toMatch(/no answer within 0.05 s \(2 tries\)\n {2}.*simulator.endpointTimeout/);
  });

  it.each([
    ["a page", { body: "<html>starting</html>" }, 'an answer that is not JSON: "<html>starting</html>"'],
    ["half a JSON", { body: '{"choices": [' }, "an answer that is not JSON"],
  ])("that is answered with %s is tried again: a proxy speaks for a server that is away", async (_, reply, expected) => {
    const { engine, retries } = await serve((__, i) => (i < 3 ? reply : completion("Doc 1: a")));
    expect((await engine.simulate(request)).text).toBe("Doc 1: a");
    expect(retries.map(({ message }) => message.includes(expected))).toEqual([true, true, true]);
    await server?.close();
    const { engine: never } = await serve(() => reply);
    expect(await messageOf(never.simulate(request))).toMatch(/is not JSON: .* \(\d+ tries\)\n {2}simulator.endpoint is the base URL/);
  });

  it.each([
    ["no choices", { choices: [] }, ' (3 tries); expected choices[0].message.content, got "{\\"choices\\":[]}"', false],
    ["no text", { choices: [{ message: { content: null } }] }, "an answer without a text", true],
    ["no text, and a reason", { choices: [{ message: { content: null }, finish_reason: "stop" }] }, "an answer without a text", false],
    ["no message", { choices: [null] }, "an answer without a text", false],
    ["null", "null", "an answer without a text", false],
  ])("that is answered with %s is tried twice more, each time with another seed", async (_, body, expected, mayHaveThought) => {
    const reply = { body };
    const { engine, server: to } = await serve(() => reply);
    const message = await messageOf(engine.simulate(request));
    expect(message).toContain(expected);
    expect(message.includes("Models that think before they answer")).toBe(mayHaveThought);
    const seeds = to.asked.map(({ body }) => (body as { seed: number }).seed);
    expect(seeds).toEqual([0, 1, 2].map((n) => (seeds[0] as number) + n));
    await server?.close();
    const { engine: once } = await serve((__, i) => (i === 0 ? reply : completion("Doc 1: a")));
    expect((await once.simulate(request)).text).toBe("Doc 1: a");
  });

  it.each([
    "This model's maximum context length is 2048 tokens. However, you requested 2700 tokens (2100 in the messages, 600 in the completion).",
    "The input (9000 tokens) is longer than the model's context length (4096 tokens).",
    "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096: context window exceeded",
    "prompt is too long: 300000 tokens > 200000 maximum",
  ])("that a server finds too long is an error of its own, at once: %s", async (text) => {
    const { engine, server: to } = await serve(() => ({ status: 400, body: { error: { message: text } } }));
    const error = await engine.simulate(request).catch((one: unknown) => one);
    expect(error).toBeInstanceOf(TooLongError);
    expect((error as Error).message).toMatch(/HTTP 400: .*\n {2}The prompt .* must fit the context/);
    expect(to.asked).toHaveLength(1);
  });

  it.each([
    ["too much", { body: " ".repeat(17 * 2 ** 20) }, "an answer of more than 16777216 bytes"],
    [
      "a redirection",
      { status: 302, headers: { location: "http://elsewhere/" }, body: "" },
      "HTTP 302, a redirection to http://elsewhere/",
    ],
  ])("with %s for an answer is an error that quotes it, at once", async (_, reply, expected) => {
    const { engine, server: to } = await serve(() => reply);
    expect(await messageOf(engine.simulate(request))).toContain(expected);
    expect(to.asked).toHaveLength(1);
  });

  it("shares the server with no more than the set number of others, in order", async () => {
    const { engine, server: to, client } = await serve(() => ({ ...completion("x"), delay: 5 }), { concurrency: 3 });
    await Promise.all(Array.from({ length: 20 }, (_, i) => engine.simulate({ ...request, query: `number ${i};` })));
    expect(to.peak()).toBe(3);
    const order = to.asked.map(({ body }) => Number(/number (\d+);/.exec(JSON.stringify(body))?.[1]));
    expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => i));
    expect(client.takeCounts()).toMatchObject({ requests: 20, retries: 0 });
  });

  it("ends when its signal fires: waiting for its turn, for an answer, or between two tries", async () => {
    const controller = new AbortController();
    const {
      engine,
      server: to,
      retries,
    } = await serve((_, i) => (i === 0 ? { status: 500, body: "" } : {}), { concurrency: 2, firstWait: 60, wait: sleep });
    const all = [0, 1, 2].map((turn) => messageOf(engine.simulate({ ...request, turn, signal: controller.signal })));
    while (retries.length === 0 || to.asked.length < 2) await new Promise((resolve) => setTimeout(resolve, 2));
    controller.abort(new Error("interrupted"));
    expect(await Promise.all(all)).toEqual(["interrupted", "interrupted", "interrupted"]);
    expect(to.asked).toHaveLength(2);
    await expect(engine.simulate({ ...request, signal: controller.signal })).rejects.toThrow("interrupted");
  });

  it("carries the key, which no message shows, not even the server's own", async () => {
    const key = "sk-very-secret-7";
    const {
      client,
      engine,
      server: to,
      retries,
    } = await serve(
      ({ path }, i) =>
        path.endsWith("models")
          ? { body: { data: [] } }
          : i === 1
            ? { status: 500, body: `no ${key}` }
            : { status: 401, body: { error: { message: `Incorrect key: ${key}` } } },
      { key },
    );
    await client.probe();
    const message = await messageOf(engine.simulate(request));
    expect(to.asked.map(({ headers }) => headers.authorization)).toEqual(Array.from({ length: 3 }, () => `Bearer ${key}`));
    expect(message).toMatch(/HTTP 401: "Incorrect key: \[key\]" \(2 tries\)\n {2}simulator.endpointKey names/);
    expect(JSON.stringify(retries)).not.toContain(key);
    expect(Object.values(client)).toEqual([]);
  });
});

describe("an endpoint at the start of a run", () => {
  const models = (...names: string[]): Reply => ({ body: { object: "list", data: names.map((id) => ({ id, object: "model" })) } });

  it("is asked what it serves", async () => {
    const { client, server: to } = await serve(() => models("other", "simulator-14b"));
    await client.probe();
    expect(to.asked).toMatchObject([{ method: "GET", path: "/v1/models" }]);
  });

  it("gives the name of its only model where none is set", async () => {
    const { client, engine, server: to } = await serve((_, i) => (i === 0 ? models("the-one") : completion("x")), { model: "" });
    await client.probe();
    expect(client.model).toBe("the-one");
    await engine.simulate(request);
    expect(to.asked[1]?.body).toMatchObject({ model: "the-one" });
  });

  it("is refused where it does not serve the model, or several and none is named", async () => {
    const { client, server: to } = await serve(() => models("a", "b"));
    expect(await messageOf(client.probe())).toBe(
      `simulator.endpointModel: is not served at ${to.endpoint}; expected one of a, b, got "simulator-14b"`,
    );
    await to.close();
    const { client: unnamed } = await serve(() => models("a", "b"), { model: "" });
    expect(await messageOf(unnamed.probe())).toMatch(/names none of the models at .*; expected one of a, b, got ""/);
  });

  it("is taken at its word where it offers completions only", async () => {
    const { client } = await serve(() => ({ status: 404, body: "" }));
    await client.probe();
    expect(client.model).toBe("simulator-14b");
  });

  it("is one clear error where it cannot be reached or refuses, at once", async () => {
    const { client, server: to, retries } = await serve(() => ({ status: 403, body: "" }));
    expect(await messageOf(client.probe())).toMatch(/\/v1\/models: HTTP 403\n {2}simulator.endpointKey/);
    await to.close();
    expect(await messageOf(client.probe())).toMatch(/\/v1\/models: no answer \(.*ECONNREFUSED.*\)\n {2}Is the server running/);
    expect(retries).toEqual([]);
  });

  it.each([
    ["localhost:8000", /simulator.endpoint: is not http or https; expected a base URL/],
    ["not a url", /simulator.endpoint: is no URL; expected a base URL such as http:\/\/127.0.0.1:6001\/v1, got "not a url"/],
    ["https://user:hunter2@host/v1", /simulator.endpoint: holds a user or a password/],
    ["http://host/v1/chat/completions", /simulator.endpoint: is the address of one method/],
  ])("is a base URL: %s is none", (endpoint, message) => {
    const make = (): ChatClient => new ChatClient({ endpoint, model: "", concurrency: 1, timeout: 1, patience: 0, now: () => 0 });
    expect(make).toThrow(message);
    expect(make).not.toThrow(/hunter2/);
  });
});
