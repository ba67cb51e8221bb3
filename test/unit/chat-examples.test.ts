import { readFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadTuningRows } from "../../src/data/tuning-rows.ts";
import { examplesOf, type TuningRow } from "../../src/sft/chat-examples.ts";
import type { Example } from "../../src/sft/fine-tune.ts";
import { simulatorMessages } from "../../src/search/simulation.ts";
import { simulatorPrompt, tunedSimulatorTemplate } from "../../src/search/simulator-prompt.ts";
import { ChatTemplate } from "../../src/text/chat-template.ts";
import { promptText } from "../../src/text/prompt.ts";
import { Tokenizer, type TokenizerJson } from "../../src/text/tokenizer.ts";
import { hasTokenizer, realTemplate, realTokenizer, realTokenizers } from "../helpers/tokenizers.ts";
import { root } from "../helpers/tiny-quickstart.ts";

const chatml =
  "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content | trim }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
/** As Qwen3's: thoughts of earlier turns are not shown. */
const forgetful = chatml.replace(
  "{{ message.content | trim }}",
  "{% if message.role == 'assistant' and not loop.last %}{{ message.content.split('</think>')[-1] | trim }}{% else %}{{ message.content | trim }}{% endif %}",
);

let tokenizer: Tokenizer;
let ends: number;
beforeAll(() => {
  const json = JSON.parse(readFileSync(join(root, "checkpoints", "quickstart", "policy", "tokenizer.json"), "utf8")) as TokenizerJson & {
    added_tokens: object[];
  };
  const last = 1024;
  const special = (content: string, id: number) => ({
    ...{ id, content, special: true, single_word: false, lstrip: false, rstrip: false, normalized: false },
  });
  json.added_tokens = [...json.added_tokens, special("<|im_start|>", last), special("<|im_end|>", (ends = last + 1))] as never;
  tokenizer = new Tokenizer(json, { eos_token: "<|im_end|>" });
});

const text = (template: string | null) => {
  const chat = template === null ? null : new ChatTemplate(template);
  return { tokenizer, chat: chat === null ? null : chat.renderPrompt.bind(chat), variables: {} };
};
/** What is learnt, and what is given, in stretches. */
function stretches({ ids, weights }: Example): [number, string][] {
  const parts: [number, number[]][] = [];
  ids.forEach((id, i) => {
    const weight = weights[i]!;
    if (parts.at(-1)?.[0] === weight) parts.at(-1)![1].push(id);
    else parts.push([weight, [id]]);
  });
  return parts.map(([weight, part]) => [weight, tokenizer.decode(part, { skipSpecialTokens: false })]);
}

describe("conversations as examples", () => {
  const messages: TuningRow = {
    messages: [
      { role: "system", content: "Be short." },
      { role: "user", content: "Hi <|im_end|>" },
      { role: "assistant", content: "<think>well</think> Hello" },
      { role: "user", content: "Bye" },
      { role: "assistant", content: " Bye. " },
    ],
  };

  it("learn what the assistant writes, the token that ends its turn too, and nothing else", () => {
    const [example, ...others] = examplesOf(messages, text(chatml), "rows:1");
    expect(others).toEqual([]);
    expect(stretches(example!)).toEqual([
      [0, "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n"],
      [1, "<think>well</think> Hello<|im_end|>"],
      [0, "\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"],
      [1, "Bye.<|im_end|>"],
      [0, "\n"],
    ]);
    // What a user wrote is letters, whatever it spells.
    expect(example!.ids.filter((id) => id === ends)).toHaveLength(5);
  });

  it.skipIf(!realTokenizers.every(hasTokenizer))(
    "have the text of the whole conversation with the templates of Qwen2.5, Qwen3 and Llama 3",
    () => {
      for (const name of realTokenizers) {
        const [template, real] = [realTemplate(name), realTokenizer(name)];
        const rows =
          "messages" in messages
            ? messages.messages.map((one) => ({
                ...one,
                content: one.content.replace(" <|im_end|>", "").replace("<think>well</think> ", ""),
              }))
            : [];
        const examples = examplesOf(
          { messages: rows },
          { tokenizer: real, chat: template.renderPrompt.bind(template), variables: {} },
          "rows:1",
        );
        const whole = (ids: readonly number[]) => real.decode(ids, { skipSpecialTokens: false });
        const shown = template.render(rows, { add_generation_prompt: false });
        expect(whole(examples.at(-1)!.ids)).toBe(shown);
        const learnt = examples.map(({ ids, weights }) => whole(ids.filter((_, i) => weights[i] === 1))).join("");
        const end = name === "llama3" ? "<|eot_id|>" : "<|im_end|>";
        expect(learnt.replaceAll(" ", "").replaceAll(/<think>\s*<\/think>\s*/g, "")).toBe(`Hello${end}Bye.${end}`);
      }
    },
  );

  it("are prompts as rollouts have them", () => {
    const chat = new ChatTemplate(chatml);
    const prompt = tokenizer.encodePrompt(chat.renderPrompt([{ role: "user", content: "Where is Chad?" }]));
    const [example] = examplesOf({ prompt: "Where is Chad?", output: [{ text: "Africa", weight: 1 }] }, text(chatml), "rows:1");
    expect(example!.ids.slice(0, prompt.length)).toEqual(prompt);
    expect(example!.weights.slice(0, prompt.length + 1)).toEqual([...prompt.map(() => 0), 1]);
  });

  it("are one for each turn, where a template shows earlier turns otherwise than they were written", () => {
    const examples = examplesOf(messages, text(forgetful), "rows:1");
    expect(examples.map((one) => stretches(one).filter(([weight]) => weight === 1))).toEqual([
      [[1, "<think>well</think> Hello<|im_end|>"]],
      [[1, "Bye.<|im_end|>"]],
    ]);
    expect(stretches(examples[1]!)[0]![1]).not.toContain("well");
  });

  it("mask what stands between as given", () => {
    const output = [
      { text: "<search> x </search>", weight: 1 },
      { text: "<information> y </information>", weight: 0 },
      { text: "<answer> z </answer>", weight: 0.5 },
    ];
    const [example] = examplesOf({ prompt: "Q", output }, text(chatml), "rows:1");
    expect(stretches(example!).slice(1)).toEqual([
      [1, "<search> x </search>"],
      [0, "<information> y </information>"],
      [0.5, "<answer> z </answer>"],
      [1, "<|im_end|>"],
      [0, "\n"],
    ]);
    const [plain] = examplesOf({ prompt: "Q", output }, text(null), "rows:1");
    expect(stretches(plain!).map(([weight]) => weight)).toEqual([0, 1, 0, 0.5, 1]);
    expect(plain!.ids.at(-1)).toBe(ends);
  });

  it("are an error where the template does not show what was written, or there is none", () => {
    const upper = chatml.replace("message.content | trim", "message.content | upper");
    expect(() => examplesOf(messages, text(upper), "rows:7")).toThrow("rows:7: the chat template does not show message 3 as it is");
    expect(() => examplesOf(messages, text(null), "rows:7")).toThrow("rows:7: holds messages, and there is no chat template");
  });
});

describe("rows to fine-tune on", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "zerosearch-rows-"));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const rowsOf = (...rows: unknown[]) => {
    const file = join(folder, "rows.jsonl");
    writeFileSync(file, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
    return loadTuningRows(file);
  };

  it("are taken as published sets have them", async () => {
    const turn = { role: "assistant", content: "b" };
    const rows = await rowsOf(
      { messages: [{ role: "user", content: [{ type: "text", text: "a" }] }, turn] },
      {
        conversations: [
          { from: "human", value: "a" },
          { from: "gpt", value: "b" },
        ],
      },
      { prompt: [{ role: "user", content: "a" }], completion: [turn] },
      { prompt: "a", completion: "b" },
      { prompt: "a", response: "b" },
      { prompt: "a", output: [{ text: "b" }, { text: "c", weight: 0 }] },
    );
    const chat = { messages: [{ role: "user", content: "a" }, turn] };
    const pair = { prompt: "a", output: [{ text: "b", weight: 1 }] };
    const masked = {
      prompt: "a",
      output: [
        { text: "b", weight: 1 },
        { text: "c", weight: 0 },
      ],
    };
    expect(rows.map(({ row }) => row)).toEqual([chat, chat, chat, pair, pair, masked]);
    expect(rows[3]!.where).toMatch(/rows\.jsonl:4$/);
  });

  it.each([
    [{ text: "a" }, "there is neither a conversation nor a prompt"],
    [{ prompt: "a" }, "there is nothing to learn in its output"],
    [{ prompt: "a", output: "" }, "there is nothing to learn in its output"],
    [{ prompt: "a", output: [{ text: 5 }] }, "its output is no text, or a weight in it no number from 0"],
    [{ prompt: "a", output: [{ text: "b", weight: -1 }] }, "its output is no text, or a weight in it no number from 0"],
    [{ messages: "a" }, "its messages are no list"],
    [{ messages: [{ role: "robot", content: "a" }] }, "message 1 has no role or no content that is known"],
    [{ messages: [{ role: "assistant", content: null }] }, "message 1 has no role or no content that is known"],
    [{ messages: [{ role: "user", content: "a" }] }, "there is no message of the assistant to learn from"],
    [5, "there is neither a conversation nor a prompt"],
  ])("%j is an error that names its line", async (row, what) => {
    await expect(rowsOf({ prompt: "a", output: "b" }, row)).rejects.toThrow(`rows.jsonl:2: ${what}; expected {messages`);
  });
});

describe("an example of a simulator", () => {
  // As Qwen2.5's: without a system message there is one of its own.
  const withDefault = `{% if messages[0].role != 'system' %}<|im_start|>system\nYou are Qwen.<|im_end|>\n{% endif %}${chatml}`;
  const values = { question: "Who wrote Emma?", answer: "Jane Austen", query: "Emma <|im_end|> author" };
  const prompt = simulatorPrompt(tunedSimulatorTemplate, "useful", values);

  it("is given exactly the tokens that the simulator is asked with in a run, and learns the documents", () => {
    const rows = { system: "", prompt: promptText(prompt), output: [{ text: "Doc 1: Jane Austen", weight: 1 }] };
    const [example] = examplesOf(rows, text(withDefault), "here");
    const asked = tokenizer.encodePrompt(new ChatTemplate(withDefault).renderPrompt(simulatorMessages(prompt), {}));
    expect(example!.ids.slice(0, asked.length)).toEqual(asked);
    expect(tokenizer.decode(asked, { skipSpecialTokens: false })).not.toContain("You are Qwen");
    expect(stretches(example!).map(([weight, part]) => [weight, part.slice(0, 30)])).toEqual([
      [0, "<|im_start|>system\n<|im_end|>\n"],
      [1, "Doc 1: Jane Austen<|im_end|>"],
      [0, "\n"],
    ]);
    const [without] = examplesOf({ prompt: rows.prompt, output: rows.output }, text(withDefault), "here");
    expect(tokenizer.decode(without!.ids, { skipSpecialTokens: false })).toContain("You are Qwen");
  });

  it("needs no chat template where its system message is empty, and is refused where it is not", () => {
    const row = { system: "", prompt: "Query: x\n", output: [{ text: "Doc 1: y", weight: 1 }] };
    const [example] = examplesOf(row, text(null), "here");
    expect(example).toEqual(examplesOf({ prompt: row.prompt, output: row.output }, text(null), "here")[0]);
    expect(() => examplesOf({ ...row, system: "Be short." }, text(null), "file:3")).toThrow(
      /file:3: holds a system message, and there is no chat template/,
    );
  });
});
