import { afterEach, describe, expect, it } from "vitest";
import { readOverride } from "../../src/config/source.ts";
import { resolveConfig } from "../../src/config/resolve.ts";
import { engines } from "../../src/search/engines.ts";
import type { EngineContext, OpenedEngine } from "../../src/search/engine-kind.ts";
import { SimulatedSearch, simulatorStop } from "../../src/search/simulated.ts";
import { promptSettings } from "../../src/setup/open-agents.ts";
import { ChatTemplate } from "../../src/text/chat-template.ts";
import { ours, promptText, type Prompt, type TextCodec } from "../../src/text/prompt.ts";
import { endsInThought, thoughtDecoder, withoutThoughts } from "../../src/text/thinking.ts";
import { openChatServer, type ChatServer, type Reply } from "../helpers/chat-server.ts";
import { byteCodec, ScriptedGenerator, stopsOf, tokenBytes, vocabulary } from "../helpers/scripted-generator.ts";

const request = {
  query: "capital of France",
  question: "What is the capital of France?",
  goldenAnswers: ["Paris"],
  key: { step: 1, question: 0, rollout: 0 },
  turn: 1,
};
const thought = "The answer is Paris, but it must be noisy.";
const documents = "Doc 1: Lyon lies on the Rhone.";

describe("a text's thoughts", () => {
  it.each([
    ["a text without any", documents, documents],
    ["a closed one", `<think>${thought}</think>\n${documents}`, `\n${documents}`],
    ["several, in other tags", `<thinking>a</thinking>x<seed:think>b</seed:think>y[THINK]c[/THINK]z`, "xyz"],
    ["one that the prompt opened", `${thought}</think>\n${documents}`, `\n${documents}`],
    ["one that quotes its own tag", `<think>a <think> b</think> c </think>d`, "d"],
    ["one that never ends", `<think>${thought} Doc 1: Paris.`, null],
    ["one that never ends after documents", `${documents}\n<think>${thought}`, null],
    ["tags of something else", "<thinker> 1 < 2 </p>", "<thinker> 1 < 2 </p>"],
  ])("are left out: %s", (_, text, expected) => {
    expect(withoutThoughts(text)).toBe(expected);
  });

  it("take time that grows with the text alone", () => {
    const started = performance.now();
    expect(withoutThoughts("<think>".repeat(1e6))).toBeNull();
    expect(withoutThoughts("</think>".repeat(1e6))).toBe("");
    expect(performance.now() - started).toBeLessThan(5000);
  });

  it("are seen to begin in the prompt only where the template wrote it, at its end", () => {
    expect(endsInThought([ours("<|assistant|><think>\n")])).toBe(true);
    expect(endsInThought([ours("Think inside <think> and </think>.")])).toBe(false);
    expect(endsInThought([ours("<think>\n\n</think>\n\n")])).toBe(false);
    expect(endsInThought("my question <think>")).toBe(false);
  });

  it("keep their tags when decoded, also where these are special tokens", () => {
    const specials = ["<think>", "</think>"];
    const codec: TextCodec = {
      encodePrompt: (prompt) => {
        const at = specials.indexOf(promptText(prompt));
        return at < 0 ? byteCodec.encodePrompt(prompt) : [1000 + at];
      },
      decode: (ids, options) =>
        byteCodec.decode(
          ids.filter((id) => id < 1000),
          options,
        ),
    };
    const ids = [1000, ...byteCodec.encodePrompt("Paris"), 1001, ...byteCodec.encodePrompt("x<eos>")];
    expect(codec.decode(ids, { skipSpecialTokens: true })).toBe("Parisx<eos>");
    expect(thoughtDecoder(codec)(ids)).toBe("<think>Paris</think>x<eos>");
  });
});

describe("a simulator in this process that thinks", () => {
  const simulate = (text: string, chat?: (prompt: Prompt) => Prompt) => {
    let unfinished = 0;
    const engine = new SimulatedSearch({
      generator: new ScriptedGenerator({ simulator: () => text }),
      model: "simulator",
      tokenizer: byteCodec,
      stop: stopsOf([simulatorStop(2)]),
      seed: 1,
      noise: 1,
      documents: 2,
      onUnfinishedThought: () => unfinished++,
      ...(chat === undefined ? {} : { chat }),
    });
    return engine.simulate(request).then(({ documents: found, text: shown }) => ({ found, shown, unfinished }));
  };
  const opening = (prompt: Prompt): Prompt => [ours(`${promptText(prompt)}<|assistant|><think>\n`)];

  it.each([
    ["its own block", `<think>${thought}</think>\n\n${documents}<eos>`, undefined],
    ["a block that the template opened", `${thought}</think>\n\n${documents}<eos>`, opening],
  ])("gives documents without the thought: %s", async (_, text, chat) => {
    expect(await simulate(text, chat)).toEqual({ found: [{ text: "Lyon lies on the Rhone." }], shown: documents, unfinished: 0 });
  });

  it.each([
    ["its own block", `<think>${thought}<eos>`, undefined],
    ["a block that the template opened", `${thought}<eos>`, opening],
  ])("gives no documents where the thought never ends: %s", async (_, text, chat) => {
    expect(await simulate(text, chat)).toEqual({ found: [], shown: "", unfinished: 1 });
  });
});

const config = (...settings: string[]) =>
  resolveConfig(["model.policy=p", "simulator.path=s", "data.train=t", ...settings].map(readOverride));
const template = new ChatTemplate(
  "{{ messages[-1].content }}<|assistant|>{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>{% endif %}",
);

/** The engine as a configuration opens it, and what it told. */
async function open(context: Partial<EngineContext>, ...settings: string[]): Promise<OpenedEngine & { readonly told: string[] }> {
  const told: string[] = [];
  const whole: EngineContext = {
    seed: 1,
    noise: { start: 0, end: 0, steps: 1 },
    corpus: null,
    promptSet: () => ({ simulator: "" }),
    now: () => 0,
    say: (text) => told.push(text),
    ...context,
  };
  return { ...(await engines.simulated.open(config(...settings).simulator, whole)), told };
}

const ask = ({ simulate }: OpenedEngine) => simulate!().simulate(request);

describe("chatTemplateKwargs", () => {
  it("of the policy are variables of its chat template", () => {
    const end = (...settings: string[]): string =>
      promptText(promptSettings(config(...settings), { chatTemplate: template }).chat!("hi")).slice(2);
    expect(end()).toBe("<|assistant|>");
    expect(end('rollout.chatTemplateKwargs={"enable_thinking": false}')).toBe("<|assistant|><think>\n\n</think>");
  });

  it("of a simulator in this process are variables of its chat template, and texts that are all thought are counted and told", async () => {
    const generator = new ScriptedGenerator({
      simulator: (_, __, text) => (text.endsWith("</think>") ? `${documents}<eos>` : "<think>Paris<eos>"),
    });
    const tokenizer = Object.assign(byteCodec, { tokenBytes, eosIds: [256] });
    const local = { generator, model: "simulator", tokenizer: tokenizer as never, chatTemplate: template, vocabulary };
    const thinking = await open({ local });
    expect((await ask(thinking)).text).toBe("");
    expect((await ask(thinking)).documents).toEqual([]);
    expect(thinking.takeCounts?.()).toEqual({ simulator_unfinished_thoughts: 2 });
    expect(thinking.takeCounts?.()).toEqual({ simulator_unfinished_thoughts: 0 });
    expect(thinking.told[0]).toMatch(/simulator: a text is all thought, without documents; simulator.chatTemplateKwargs/);
    const plain = await open({ local }, 'simulator.chatTemplateKwargs={"enable_thinking": false}');
    expect((await ask(plain)).text).toBe(documents);
    expect(plain.takeCounts?.()).toEqual({ simulator_unfinished_thoughts: 0 });
  });

  it("that would take the place of the messages are refused", () => {
    expect(() => template.render([{ role: "user", content: "hi" }], { messages: [] })).toThrow(/messages are no further variable/);
  });
});

describe("a simulator behind an endpoint that thinks", () => {
  let server: ChatServer | undefined;
  afterEach(() => server?.close());
  const serve = async (message: object, ...settings: string[]) => {
    await server?.close();
    const reply: Reply = { body: { choices: [{ index: 0, message: { role: "assistant", ...message } }] } };
    server = await openChatServer(({ path }) => (path.endsWith("/models") ? { body: { data: [{ id: "one" }] } } : reply));
    return open({}, `simulator.endpoint=${server.endpoint}`, "simulator.path=null", ...settings);
  };

  it.each([
    ["a block in the text", { content: `<think>${thought}</think>\n\n${documents}` }],
    ["a block that the server's template opened", { content: `${thought}</think>\n\n${documents}` }],
    ["reasoning_content", { content: documents, reasoning_content: thought }],
    ["reasoning", { content: documents, reasoning: thought }],
  ])("gives documents without the thought: %s", async (_, message) => {
    const engine = await serve(message);
    expect(await ask(engine)).toMatchObject({ documents: [{ text: "Lyon lies on the Rhone." }], text: documents });
    expect(engine.takeCounts?.()).toMatchObject({ simulator_requests: 1, simulator_unfinished_thoughts: 0 });
  });

  it.each([
    ["in the text", { content: `<think>${thought}` }, []],
    ["in reasoning_content, with no text", { content: null, reasoning_content: thought }, []],
    ["in reasoning, with an empty text", { content: "", reasoning: thought }, []],
    ["opened by the server's template, as the configuration says", { content: thought }, ["simulator.opensThought=true"]],
  ])("gives no documents where the thought never ends, and counts it: %s", async (_, message, settings) => {
    const engine = await serve(message, ...settings);
    expect(await ask(engine)).toMatchObject({ documents: [], text: "" });
    expect(engine.takeCounts?.()).toMatchObject({ simulator_requests: 1, simulator_unfinished_thoughts: 1 });
    expect(engine.told).toHaveLength(1);
  });

  it("is sent chat_template_kwargs, where there are any", async () => {
    await ask(await serve({ content: documents }));
    expect(server?.asked.at(-1)?.body).not.toHaveProperty("chat_template_kwargs");
    await ask(await serve({ content: documents }, 'simulator.chatTemplateKwargs={"enable_thinking": false}'));
    expect(server?.asked.at(-1)?.body).toMatchObject({ chat_template_kwargs: { enable_thinking: false } });
  });
});
