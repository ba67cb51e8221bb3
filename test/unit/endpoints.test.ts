/** A simulator behind several endpoints: they share the requests, take those of one that is away, and what is answered does not depend on which. */
import { afterEach, describe, expect, it } from "vitest";
import { ChatClient, type ChatClientOptions } from "../../src/search/chat-client.ts";
import { EndpointSearch } from "../../src/search/endpoint.ts";
import { completion, openChatServer, type Asked, type ChatServer, type Reply } from "../helpers/chat-server.ts";

const request = { query: "q", question: "Q?", goldenAnswers: ["A"], key: { step: 1, question: 2, rollout: 3 }, turn: 0 };

let servers: ChatServer[] = [];
afterEach(async () => {
  await Promise.all(servers.map((server) => server.close()));
  servers = [];
});

/** As many servers as there are scripts. */
async function serve(replies: readonly ((asked: Asked, index: number) => Reply)[], options: Partial<ChatClientOptions> = {}) {
  servers = await Promise.all(replies.map((reply) => openChatServer(reply)));
  const said: string[] = [];
  const waits: number[] = [];
  const time = { ms: 0 };
  const client = new ChatClient({
    endpoint: servers.map(({ endpoint }) => endpoint),
    model: "m",
    concurrency: 4,
    timeout: 5,
    patience: 60,
    now: () => time.ms,
    wait: (seconds) => {
      waits.push(seconds);
      time.ms += 1000 * seconds;
      return Promise.resolve();
    },
    onAway: ({ message }) => said.push(message),
    onBack: ({ endpoint }) => said.push(`back: ${endpoint}`),
    ...options,
  });
  const engine = new EndpointSearch({ client, seed: 1, noise: 0.5, documents: 2 });
  const ask = (from: number, to: number) =>
    Promise.all(Array.from({ length: to - from }, (_, i) => engine.simulate({ ...request, turn: from + i, query: `q${from + i}` })));
  return { client, engine, ask, said, waits, time, asked: () => servers.map(({ asked }) => asked.length) };
}

const always = (reply: Reply) => (): Reply => reply;
/** What a server that honours seeds would write. */
const seeded = ({ body }: Asked): Reply => completion(`Doc 1: ${JSON.stringify(body)}`);

describe("requests to several endpoints", () => {
  it("go to the one with fewest under way, by order where these are equal, and to none more than the set number at a time", async () => {
    const { ask, asked } = await serve([always({ ...completion("x"), delay: 20 }), always({ ...completion("x"), delay: 20 })]);
    await ask(0, 3);
    expect(asked()).toEqual([2, 1]);
    await ask(3, 43);
    expect(servers.map(({ peak }) => peak())).toEqual([4, 4]);
    const [one = 0, two = 0] = asked();
    expect(one + two).toBe(43);
    expect(Math.abs(one - two)).toBeLessThan(10);
    await ask(50, 51);
    expect(asked()).toEqual([one + 1, two]);
  });

  it("are answered the same by one, by three, and by three of which one breaks", async () => {
    const flaky = (asked: Asked, index: number): Reply => (index % 2 === 0 ? { hangUp: true } : seeded(asked));
    const results = [];
    for (const scripts of [[seeded], [seeded, seeded, seeded], [flaky, seeded, seeded]]) {
      const { ask, client } = await serve(scripts);
      results.push(await ask(0, 30));
      expect(client.takeCounts()).toMatchObject({ requests: 30 });
      await Promise.all(servers.map((server) => server.close()));
    }
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
  });

  it("are taken by the others at once where one is away, which is said once, and looked at by one request after a while", async () => {
    let away = true;
    const { ask, asked, said, waits, client, time } = await serve([
      () => (away ? { status: 503, body: "down" } : completion("x")),
      always(completion("x")),
    ]);
    await ask(0, 1);
    expect(asked()).toEqual([1, 1]);
    await ask(1, 11);
    expect(asked()).toEqual([1, 11]);
    expect(waits).toEqual([]);
    expect(client.takeMoved()).toBe(1);
    expect(client.takeCounts()).toMatchObject({ requests: 11, retries: 0 });
    expect(said).toEqual([`${servers[0]?.endpoint ?? ""}/chat/completions: HTTP 503: "down"`]);
    // It still is, and has a second more.
    time.ms += 600;
    await ask(11, 21);
    expect(asked()[0]).toBe(2);
    time.ms += 600;
    await ask(21, 31);
    expect(asked()[0]).toBe(2);
    away = false;
    time.ms += 600;
    await ask(31, 32);
    expect(asked()[0]).toBe(3);
    expect(said.slice(1)).toEqual([`back: ${servers[0]?.endpoint ?? ""}`]);
    await ask(32, 40);
    expect(asked()[0]).toBeGreaterThan(5);
  });

  it("that fail together are one outage: their server is looked at again as soon as after a single one", async () => {
    let away = true;
    const { ask, asked, time } = await serve([() => (away ? { hangUp: true } : completion("x")), always({ ...completion("x"), delay: 5 })]);
    await ask(0, 8);
    const [before = 0] = asked();
    expect(before).toBeGreaterThan(2);
    away = false;
    time.ms += 501;
    await ask(8, 9);
    expect(asked()[0]).toBe(before + 1);
  });

  it("wait where all are away, and fail for good with what the last of them said", async () => {
    const down = always({ status: 503, body: "down" });
    const back = await serve([down, (_, index) => (index < 3 ? { hangUp: true } : completion("x"))]);
    expect((await back.ask(0, 1))[0]?.text).toBe("x");
    expect(back.waits.length).toBeGreaterThan(1);
    await Promise.all(servers.map((server) => server.close()));
    const { ask } = await serve([down, down], { patience: 5 });
    await expect(ask(0, 1)).rejects.toThrow(
      /^simulator\.endpoint: http:\/\/127\.0\.0\.1:\d+\/v1\/chat\/completions: HTTP 503: "down" \(\d+ tries\)/,
    );
  });

  it("that a server refuses are not asked of another", async () => {
    const { ask, asked } = await serve([always({ status: 400, body: { error: { message: "no such thing" } } }), always(completion("x"))]);
    await expect(ask(0, 1)).rejects.toThrow(/^simulator\.endpoint: \S+: HTTP 400: "no such thing"$/);
    expect(asked()).toEqual([1, 0]);
  });
});

describe("several endpoints at the start of a run", () => {
  const models = (...names: string[]) => always({ body: { data: names.map((id) => ({ id })) } });

  it("are asked what they serve, each", async () => {
    const { client, asked } = await serve([models("m"), models("m", "n")]);
    await client.probe();
    expect(asked()).toEqual([1, 1]);
  });

  it("are refused where one serves another model, or is not there", async () => {
    const { client } = await serve([models("one"), models("two")], { model: "" });
    await expect(client.probe()).rejects.toThrow(
      `simulator.endpointModel: is not served at ${servers[1]?.endpoint ?? ""}; expected one of two, got "one"`,
    );
    await servers[1]?.close();
    await expect(client.probe()).rejects.toThrow(/\/models: no answer/);
  });

  it("are different servers", () => {
    const make = (): ChatClient =>
      new ChatClient({ endpoint: ["http://a:1/v1", "http://a:1/v1/"], model: "", concurrency: 1, timeout: 1, patience: 0, now: () => 0 });
    expect(make).toThrow("simulator.endpoint: names one server twice; expected different ones, got http://a:1/v1/");
  });
});
