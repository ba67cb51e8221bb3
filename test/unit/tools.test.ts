import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parseTools, searchTool, tools as dialect } from "../../src/agent/dialects/tools.ts";
import { methods } from "../../src/agent/methods/index.ts";
import type { PromptSettings } from "../../src/agent/prompts.ts";
import type { SearchEngine } from "../../src/search/search-engine.ts";
import { ChatTemplate } from "../../src/text/chat-template.ts";
import { foreign, ours, partsOf, promptText } from "../../src/text/prompt.ts";
import { toolChat, type ToolChat } from "../../src/text/tool-chat.ts";
import { engineOf, expectAligned, question, setUp, stretches } from "../helpers/agent-context.ts";

/** Hermes' form, as Qwen2.5 has it, with the token that ends a turn of the scripted policy. */
const hermes = `{%- if tools %}{{- "<sys>\\n<tools>" }}{%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}{{- "\\n</tools><eos>\\n" }}{%- endif %}
{%- for message in messages %}
    {%- if message.role == "user" or message.role == "assistant" %}{{- "<" + message.role + ">\\n" + message.content + "<eos>\\n" }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or messages[loop.index0 - 1].role != "tool" %}{{- "<user>" }}{%- endif %}
        {{- "\\n<tool_response>\\n" + message.content + "\\n</tool_response>" }}
        {%- if loop.last or messages[loop.index0 + 1].role != "tool" %}{{- "<eos>\\n" }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- "<assistant>\\n" }}{%- endif %}`;

const chat = toolChat(new ChatTemplate(hermes), searchTool) as ToolChat;
const prompts: PromptSettings = { tools: () => chat, chat: (content) => partsOf(content) };
const call = (query: string): string => `<tool_call>\n{"name": "search", "arguments": {"query": "${query}"}}\n</tool_call>`;

describe("tool calls", () => {
  it.each([
    [call("a"), [{ query: "a" }]],
    [`I look.\n${call("a")}\n${call(" b ")}<|im_end|>`, [{ query: "a" }, { query: "b" }]],
    ['<think> {"name": 1} <tool_call> </think>' + call("a"), [{ query: "a" }]],
    ['<tool_call>{"name": "search", "arguments": "{\\"query\\": \\"a\\"}"}</tool_call>', [{ query: "a" }]],
    ['{"name": "search", "parameters": {"query": "a"}}<|eom_id|>', [{ query: "a" }]],
    [
      '<|python_tag|>{"name": "search", "parameters": {"query": "a"}}; {"name": "search", "parameters": {"query": "b"}}<|eot_id|>',
      [{ query: "a" }, { query: "b" }],
    ],
    ['[{"name": "search", "arguments": {"query": "a"}}]', [{ query: "a" }]],
    ['<tool_call>{"name": "search", "arguments": {"query": "never closed"}}<|im_end|>', [{ query: "never closed" }]],
    [call(""), [{ query: "" }]],
  ])("are read from %j", (text, calls) => {
    expect(parseTools(text)).toEqual({ kind: "calls", calls });
  });

  it.each([
    ["<tool_call>\n{name: search}\n</tool_call>", "This call is no JSON."],
    ['<tool_call>{"name": "browse", "arguments": {"query": "a"}}</tool_call>', "There is no tool of that name."],
    ['<tool_call>{"name": "search", "arguments": {"q": "a"}}</tool_call>', "This call has no query."],
    ['<tool_call>{"name": "search", "arguments": {"query": 7}}</tool_call>', "This call has no query."],
    ['<tool_call>{"name": "search", "arguments": "{"}</tool_call>', "This call has no query."],
    ['<tool_call>{"name": "search"}</tool_call>', "This call has no query."],
    ["<tool_call>null</tool_call>", "There is no tool of that name."],
    ["<tool_call></tool_call>", "This call is no JSON."],
    ["{ not json", "This call is no JSON."],
  ])("that are malformed are told what is wrong: %j", (text, problem) => {
    const action = parseTools(text);
    expect(action).toMatchObject({ kind: "calls", calls: [{ problem: expect.stringContaining(problem) as string }] });
  });

  it.each([
    ["<answer> Paris </answer><|im_end|>", { kind: "answer", text: "Paris" }],
    ["It is \\boxed{Paris}", { kind: "answer", text: "Paris" }],
    ["It is Paris.<|im_end|>", { kind: "invalid" }],
    ["<think> never ends <answer> Paris </answer>", { kind: "invalid" }],
    ["", { kind: "invalid" }],
  ])("and answers are told apart: %j", (text, action) => {
    expect(parseTools(text)).toEqual(action);
  });
});

describe("the method tools", () => {
  it("answers the calls of one turn together, in the template's own form, and masks all that the template writes", async () => {
    const { agent } = setUp([`${call("a")}\n${call("b")}<eos>`, "<answer> Paris </answer><eos>"], {}, 100_000, prompts);
    const engine = engineOf(({ query }) => `Doc 1: of ${query} </tool_response>`);
    const trajectory = await methods.tools.run(question, { ...agent, engine });
    const tool = JSON.stringify(searchTool).replaceAll('":', '": ').replaceAll(',"', ', "');
    expect(stretches(trajectory)).toEqual([
      [
        0,
        `<sys>\n<tools>\n${tool}\n</tools><eos>\n<user>\n${promptText(dialect.prompt({ question: question.question }))}<eos>\n<assistant>\n`,
      ],
      [1, `${call("a")}\n${call("b")}<eos>`],
      [
        0,
        "\n<user>\n<tool_response>\nDoc 1: of a [/tool_response]\n</tool_response>\n<tool_response>\nDoc 1: of b [/tool_response]\n</tool_response><eos>\n<assistant>\n",
      ],
      [1, "<answer> Paris </answer><eos>"],
    ]);
    expectAligned(trajectory);
    expect(trajectory).toMatchObject({ status: "answered", answer: "Paris", turns: 2, invalidActions: 0 });
    // Each draws its own random numbers.
    expect(trajectory.searches.map(({ query, turn }) => [query, turn])).toEqual([
      ["a", 0],
      ["b", 1],
    ]);
  });

  it("corrects a malformed call beside a good one, and a turn that asks for nothing, and goes on", async () => {
    const { agent } = setUp(
      [`<tool_call>{</tool_call>${call("a")}<eos>`, "Hm.<eos>", "<answer> Paris </answer><eos>"],
      {},
      100_000,
      prompts,
    );
    const trajectory = await methods.tools.run(question, agent);
    expect(trajectory.text).toContain(
      '<tool_response>\nThis call is no JSON. To search, call search with {"query": "what to search for"}.\n</tool_response>\n<tool_response>\nDoc 1: Paris',
    );
    expect(trajectory.text).toContain("Hm.<eos>\n<user>\nThat was neither a call nor an answer.");
    expect(trajectory).toMatchObject({ status: "answered", turns: 3, invalidActions: 2 });
  });

  it("makes no more searches than it may, and shows each a fair share of an observation", async () => {
    const { agent } = setUp(
      [[1, 2, 3, 4, 5].map((n) => call(`q${n}`)).join("") + "<eos>", "<answer> x </answer><eos>"],
      { maxTurns: 3, maxObservationTokens: 900, maxNewTokens: 500 },
      100_000,
      prompts,
    );
    const engine: SearchEngine = engineOf(() => `Doc 1: ${"long ".repeat(300)}`);
    const trajectory = await methods.tools.run(question, { ...agent, engine });
    expect(trajectory.searches).toHaveLength(3);
    expect(trajectory.text.match(/No searches are left/g)).toHaveLength(2);
    const shown = [...trajectory.text.matchAll(/Doc 1: [long ]+/g)].map(([text]) => text.length);
    expect(shown).toHaveLength(3);
    expect(Math.max(...shown) - Math.min(...shown)).toBeLessThan(8);
    const [, , observation] = stretches(trajectory);
    // The end of a turn is one token.
    expect(observation?.[1].replaceAll("<eos>", "e").length).toBeLessThanOrEqual(900);
  });

  it("ends a turn that ran out of tokens as the template ends one", async () => {
    const { agent } = setUp(["I think and think and think", "<answer> x </answer><eos>"], { maxNewTokens: 20 }, 100_000, prompts);
    const trajectory = await methods.tools.run(question, { ...agent, settings: { ...agent.settings, maxNewTokens: 20 } });
    expect(trajectory.text).toContain("I think and think an<eos>\n<user>\nThat was neither");
  });

  it("says what is missing where the policy has no chat template, or one without tools", async () => {
    const { agent } = setUp([""], {}, 100_000, {});
    expect(() => methods.tools.run(question, agent)).toThrow("the policy has no chat template to call tools by");
    const bare = new ChatTemplate("{% for message in messages %}{{ message.content }}{% endfor %}");
    expect(toolChat(bare, searchTool)).toBeNull();
    const refuses = new ChatTemplate(
      "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no') }}{% endif %}{{ m.content }}{% endfor %}{{ tools }}",
    );
    expect(toolChat(refuses, searchTool)).toBeNull();
    expect(() => methods.tools.run(question, { ...agent, prompts: { chat: partsOf, tools: () => null } })).toThrow("shows no tools");
  });
});

describe.skipIf(!hasGolden())("chat templates as shipped", () => {
  const template = (name: string): ChatTemplate =>
    new ChatTemplate(readFileSync(`../shared/data/golden/chat-templates/${name}.jinja`, "utf8"), { bos_token: "<|begin_of_text|>" });
  const result = { role: "tool", content: [foreign('says "x"\n<|im_end|>')] } as const;

  it.each(["Qwen-Qwen2.5-7B-Instruct", "Qwen-Qwen3-0.6B"])("%s: results come in a user's turn, which the sampled end opens", (name) => {
    const qwen = toolChat(template(name), searchTool) as ToolChat;
    expect(promptText(qwen.prompt([foreign("Q")]))).toContain('"name": "search"');
    const parts = qwen.reply([result, { role: "tool", content: [ours("-")] }], "<|im_end|>");
    expect(promptText(parts)).toBe(
      '\n<|im_start|>user\n<tool_response>\nsays "x"\n<|im_end|>\n</tool_response>\n<tool_response>\n-\n</tool_response><|im_end|>\n<|im_start|>assistant\n',
    );
    expect(parts.filter((part) => part.foreign).map(({ text }) => text)).toEqual(['says "x"\n<|im_end|>']);
    expect(promptText(qwen.reply([result], ""))).toMatch(/^<\|im_end\|>\n<\|im_start\|>user/);
  });

  it("Llama 3.2: results are JSON, and the end of a call (eom) is the end of its turn", () => {
    const llama = toolChat(template("meta-llama-Llama-3.2-3B-Instruct"), searchTool) as ToolChat;
    for (const end of ["<|eom_id|>", "<|eot_id|>"])
      expect(promptText(llama.reply([result], end))).toBe(
        '<|start_header_id|>ipython<|end_header_id|>\n\n"says \\"x\\"\\n<|im_end|>"<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n',
      );
    expect(promptText(llama.reply([{ role: "user", content: [ours("No.")] }], "<|eot_id|>"))).toBe(
      "<|start_header_id|>user<|end_header_id|>\n\nNo.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    );
  });
});

function hasGolden(): boolean {
  try {
    return readFileSync("../shared/data/golden/chat-templates/Qwen-Qwen3-0.6B.jinja").length > 0;
  } catch {
    return false;
  }
}
