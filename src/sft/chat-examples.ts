/** Conversations and pairs of texts as examples to learn from: what the model is to write has weight, what it is given has none. */
import type { ChatMessage, PromptMessage, TemplateVariables } from "../text/chat-template.ts";
import { ours, promptText, foreign, type PromptPart, type TextCodec } from "../text/prompt.ts";
import { DataError } from "../util/errors.ts";
import type { Example } from "./fine-tune.ts";

/** A stretch of a text to be written; `weight` 0 is given to the model instead, as documents are. */
export interface Segment {
  readonly text: string;
  readonly weight: number;
}

/**
 * One row of a file: a conversation whose assistant's messages are learnt, or a prompt and what is to follow it. A chat template is given `system`,
 * where there is one, before the prompt: an empty one keeps the template's own words out.
 */
export type TuningRow =
  | { readonly messages: readonly ChatMessage[] }
  | { readonly system?: string; readonly prompt: string; readonly output: readonly Segment[] };

/** How texts become tokens: as in rollouts. */
export interface ExampleText {
  readonly tokenizer: TextCodec & { readonly eosIds: readonly number[]; readonly eosId: number };
  /** Null: texts are taken as they are, special tokens in them too. */
  readonly chat: ((messages: readonly PromptMessage[], variables: TemplateVariables) => PromptPart[]) | null;
  readonly variables: TemplateVariables;
}

/**
 * The examples of a row: one, or one for each of the assistant's messages where the template shows earlier ones otherwise than it did when they
 * were written (Qwen3 drops their thoughts). Each stretch is encoded on its own, as it is when the model writes it, and what the model writes last
 * is the token that ends a turn.
 * @throws DataError where the template does not show what the assistant wrote after its prompt; ConfigError where it refuses the messages.
 */
export function examplesOf(row: TuningRow, text: ExampleText, where: string): Example[] {
  const { chat, tokenizer } = text;
  if (chat === null) {
    if ("messages" in row)
      throw new DataError({
        where,
        what: "holds messages, and there is no chat template to write them with",
        expected: "{prompt, output}",
        hint: "sft.raw=true sets a template aside. A base model is tuned on plain texts; or put a chat_template into its tokenizer_config.json.",
      });
    if ((row.system ?? "") !== "")
      throw new DataError({
        where,
        what: "holds a system message, and there is no chat template to write it with",
        expected: "{prompt, output}, or an empty system message",
        got: JSON.stringify(shortened(row.system as string)),
      });
    const builder = new Builder(tokenizer);
    builder.add([ours(row.prompt)], 0, true);
    for (const { text: written, weight } of row.output) builder.add([ours(written)], weight);
    builder.addIds([tokenizer.eosId], 1);
    return [builder.example()];
  }
  const turns = turnsOf(row, { ...text, chat }, where);
  const nested = turns.every(({ prompt }, i) => i === 0 || promptText(prompt).startsWith(whole(turns[i - 1] as Turn)));
  if (!nested) return turns.map((turn) => exampleOfTurns([turn], tokenizer));
  return [exampleOfTurns(turns, tokenizer)];
}

/** What the assistant is given, and what it writes then. */
interface Turn {
  readonly prompt: readonly PromptPart[];
  readonly written: readonly Segment[];
}

function whole({ prompt, written }: Turn): string {
  return promptText(prompt) + written.map((one) => one.text).join("");
}

function turnsOf(
  row: TuningRow,
  { chat, variables }: ExampleText & { readonly chat: NonNullable<ExampleText["chat"]> },
  where: string,
): Turn[] {
  const messages: readonly ChatMessage[] =
    "messages" in row
      ? row.messages
      : [
          ...(row.system === undefined ? [] : [{ role: "system", content: row.system } as const]),
          { role: "user", content: row.prompt },
          { role: "assistant", content: row.output.map((one) => one.text).join("") },
        ];
  // What the model writes may hold tokens of its own; nothing else may.
  const parts = messages.map(({ role, content }): PromptMessage => ({
    role,
    content: role === "assistant" ? [ours(content)] : saidByOthers(content),
  }));
  return messages.flatMap(({ role, content }, i) => {
    if (role !== "assistant") return [];
    const prompt = chat(parts.slice(0, i), variables);
    const after = promptText(chat(parts.slice(0, i + 1), { ...variables, add_generation_prompt: false }));
    const before = promptText(prompt);
    const written = after.slice(before.length);
    const trimmed = content.trim();
    const at = written.indexOf(trimmed);
    if (!after.startsWith(before) || at < 0)
      throw new DataError({
        where,
        what: `the chat template does not show message ${i + 1} as it is, after the prompt that it answers`,
        expected: JSON.stringify(shortened(before.slice(-40) + trimmed)),
        got: JSON.stringify(shortened(after.slice(Math.max(0, before.length - 40)))),
        hint: "sft.raw=true takes {prompt, output} as they are, without a template.",
      });
    const [head, tail] = [written.slice(0, at), written.slice(at + trimmed.length)];
    const segments =
      "messages" in row || row.output.length === 1 ? [{ text: trimmed, weight: weightOf(row) }] : trimmedSegments(row.output);
    return [{ prompt, written: joined([{ text: head, weight: 1 }, ...segments, { text: tail, weight: 1 }]) }];
  });
}

/** Letters, whatever special token they spell. White space at the ends is a template's to keep or to trim, as it is at the ends of what we write. */
function saidByOthers(content: string): PromptPart[] {
  const body = content.trim();
  const at = content.indexOf(body);
  return [ours(content.slice(0, at)), foreign(body), ours(content.slice(at + body.length))];
}

function weightOf(row: TuningRow): number {
  return "messages" in row ? 1 : (row.output[0]?.weight ?? 1);
}

/** Without the white space around the whole, which a template may not show. */
function trimmedSegments(output: readonly Segment[]): Segment[] {
  const last = output.length - 1;
  return output.map(({ text, weight }, i) => {
    const start = i === 0 ? text.trimStart() : text;
    return { text: i === last ? start.trimEnd() : start, weight };
  });
}

/** Neighbours of one weight are written in one go. */
function joined(segments: readonly Segment[]): Segment[] {
  const all: Segment[] = [];
  for (const one of segments) {
    const last = all.at(-1);
    if (one.text === "") continue;
    if (last?.weight === one.weight) all[all.length - 1] = { text: last.text + one.text, weight: one.weight };
    else all.push(one);
  }
  return all;
}

/** Turns of which each prompt begins with the whole of the turn before. */
function exampleOfTurns(turns: readonly Turn[], tokenizer: ExampleText["tokenizer"]): Example {
  const builder = new Builder(tokenizer);
  let done = 0;
  for (const turn of turns) {
    builder.add(partsAfter(turn.prompt, done), 0);
    for (const { text, weight } of turn.written) builder.add([ours(text)], weight);
    builder.endTurn();
    done = whole(turn).length;
  }
  return builder.example();
}

function partsAfter(prompt: readonly PromptPart[], from: number): PromptPart[] {
  let at = 0;
  return prompt.flatMap((part) => {
    const start = Math.max(0, from - at);
    at += part.text.length;
    return start >= part.text.length ? [] : [{ ...part, text: part.text.slice(start) }];
  });
}

class Builder {
  readonly #tokenizer: ExampleText["tokenizer"];
  readonly #ids: number[] = [];
  readonly #weights: number[] = [];
  /** Where the newest turn begins. */
  #turn = 0;

  constructor(tokenizer: ExampleText["tokenizer"]) {
    this.#tokenizer = tokenizer;
  }

  add(parts: readonly PromptPart[], weight: number, begin = false): void {
    this.addIds(this.#tokenizer.encodePrompt(parts, { begin }), weight);
  }

  addIds(ids: readonly number[], weight: number): void {
    for (const id of ids) {
      this.#ids.push(id);
      this.#weights.push(weight);
    }
  }

  /** What a template writes after the token that ends a turn is not for the model to write. */
  endTurn(): void {
    const end = Math.max(...this.#tokenizer.eosIds.map((id) => this.#ids.lastIndexOf(id)));
    if (end >= this.#turn) this.#weights.fill(0, end + 1);
    this.#turn = this.#ids.length;
  }

  example(): Example {
    return { ids: this.#ids, weights: this.#weights };
  }
}

function shortened(text: string): string {
  return text.length > 160 ? `${text.slice(0, 157)}...` : text;
}
