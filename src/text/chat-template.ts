/**
 * Renders the chat templates of model folders (Jinja, as `transformers` does: `trim_blocks` and `lstrip_blocks`).
 */
import { Template } from "@huggingface/jinja";
import { ConfigError } from "../util/errors.ts";
import { foreign, ours, partsOf, type Prompt, type PromptPart } from "./prompt.ts";
import { printedBy, runTemplate } from "./template-values.ts";
import type { SpecialTokenJson, Tokenizer } from "./tokenizer.ts";

export interface ChatMessage {
  readonly role: "system" | "user" | "assistant" | "tool";
  readonly content: string;
}

/** A message that remembers which parts of it come from outside. */
export interface PromptMessage {
  readonly role: ChatMessage["role"];
  readonly content: Prompt;
}

/** Further variables of a template: `enable_thinking`, `tools`, `date_string` … */
export type TemplateVariables = Readonly<Record<string, unknown>>;

/** What a template says of the messages by `raise_exception`. */
class Refusal extends Error {}

/** The names `transformers` gives every template, but for the clock. Where there are no tools or documents, they are None, not undefined. */
const globals: Readonly<Record<string, unknown>> = {
  true: true,
  false: false,
  none: null,
  True: true,
  False: false,
  None: null,
  tools: null,
  documents: null,
  raise_exception: (message: string): never => {
    throw new Refusal(message);
  },
  range: (start: number, stop?: number, step = 1): number[] => {
    const [from, to] = stop === undefined ? [0, start] : [start, stop];
    if (step === 0) throw new Error("range() step must not be zero");
    const values: number[] = [];
    for (let i = from; step > 0 ? i < to : i > to; i += step) values.push(i);
    return values;
  },
};

const supported =
  "@huggingface/jinja renders it, which knows what the templates of Llama 2 and 3, Qwen2, Qwen2.5 and Qwen3 use of Jinja2; put a simpler chat_template into tokenizer_config.json.";

/** Renderings that are remembered. */
const mostRendered = 32;

/** Stands for the i-th foreign text while a template is rendered. Private-use characters: no template looks at them. */
const placeholder = (index: number): string => `\ue000${index}\ue001`;
const placeholders = /\ue000(\d+)\ue001/g;

/** A parsed template; parse once, render often. */
export class ChatTemplate {
  readonly #template: Template;
  readonly #printed: ReadonlySet<object>;
  readonly #rendered = new Map<string, string>();
  readonly #specials: Readonly<Record<string, string>>;
  readonly #where: string;

  /**
   * @param source the Jinja text; `specials`: bos_token, eos_token … as the template sees them
   * @throws ConfigError when the template does not parse.
   */
  constructor(source: string, specials: Readonly<Record<string, string>> = {}, where = "chat template") {
    this.#where = where;
    this.#specials = specials;
    try {
      this.#template = new Template(source);
    } catch (cause) {
      throw new ConfigError({ where, what: `the chat template does not parse (${messageOf(cause)})`, hint: supported }, { cause });
    }
    this.#printed = printedBy(this.#template);
  }

  /**
   * The template of a tokenizer's config, or `own` in its place, with the special tokens that the tokenizer names.
   * @throws ConfigError when there is none, or it does not parse
   */
  static of(tokenizer: Tokenizer, own?: { readonly source: string; readonly where: string }): ChatTemplate {
    const source = own?.source ?? tokenizer.chatTemplate;
    if (source === undefined) {
      throw new ConfigError({
        where: tokenizer.where,
        what: "the model has no chat template",
        hint: "It is a base model: write prompts without roles, or put a chat_template into tokenizer_config.json.",
      });
    }
    const specials: Record<string, string> = {};
    for (const name of ["bos_token", "eos_token", "pad_token", "unk_token"]) {
      const value = tokenizer.config[name] as SpecialTokenJson | null | undefined;
      if (value !== null && value !== undefined) specials[name] = typeof value === "string" ? value : value.content;
    }
    return new ChatTemplate(source, specials, own?.where ?? tokenizer.where);
  }

  /**
   * The conversation as a prompt: what the template writes is ours, foreign parts of the messages stay foreign and as they are
   * (the template sees a placeholder in their place).
   * @throws ConfigError when the template refuses the messages, or does not show each foreign part once.
   */
  renderPrompt(messages: readonly PromptMessage[], variables: TemplateVariables = {}): PromptPart[] {
    const texts: string[] = [];
    const shown = messages.map(({ role, content }): ChatMessage => ({
      role,
      content: partsOf(content)
        .map((part) => (part.foreign ? placeholder(texts.push(part.text) - 1) : part.text))
        .join(""),
    }));
    const parts: PromptPart[] = [];
    const seen: number[] = [];
    let at = 0;
    const whole = this.#renderOnce(shown, variables);
    for (const match of whole.matchAll(placeholders)) {
      const index = Number(match[1]);
      seen.push(index);
      parts.push(ours(whole.slice(at, match.index)), foreign(texts[index] ?? ""));
      at = match.index + match[0].length;
    }
    if (seen.length !== texts.length || new Set(seen).size !== texts.length || seen.some((index) => index >= texts.length)) {
      throw new ConfigError({
        where: this.#where,
        what: "the chat template does not show the text of its messages as it is",
        expected: `each of ${texts.length} texts once`,
        got: `${seen.length}`,
      });
    }
    return partsOf([...parts, ours(whole.slice(at))]);
  }

  /** A run renders the same few messages again and again, with other foreign texts in them: half a millisecond each time. */
  #renderOnce(messages: readonly ChatMessage[], variables: TemplateVariables): string {
    const key = JSON.stringify([messages, variables]);
    const known = this.#rendered.get(key);
    if (known !== undefined) return known;
    const text = this.render(messages, variables);
    if (this.#rendered.size >= mostRendered) this.#rendered.clear();
    this.#rendered.set(key, text);
    return text;
  }

  /**
   * The text of a conversation. No clock is read: a template that asks for today's date gets its own default unless
   * `date_string` is given, so that prompts are the same every day.
   * @throws ConfigError when the template refuses the messages.
   */
  render(messages: readonly ChatMessage[], variables: TemplateVariables = {}): string {
    if (Object.hasOwn(variables, "messages"))
      throw new ConfigError({
        where: this.#where,
        what: "messages are no further variable of a chat template: each rendering has its own",
      });
    try {
      // Ends with the opening of the assistant's turn.
      const all = { ...globals, ...this.#specials, messages, add_generation_prompt: true, ...variables };
      return runTemplate(this.#template, this.#printed, all);
    } catch (cause) {
      const got = messages.map((m) => m.role).join(", ") || "no messages";
      const reason = messageOf(cause);
      throw cause instanceof Refusal
        ? new ConfigError({ where: this.#where, what: `the chat template refuses the messages (${reason})`, got }, { cause })
        : new ConfigError({ where: this.#where, what: `the chat template cannot be rendered (${reason})`, hint: supported }, { cause });
    }
  }
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
