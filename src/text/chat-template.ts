/**
 * Renders the chat templates of model folders (Jinja, as `transformers` does: `trim_blocks` and `lstrip_blocks`).
 */
import { Environment, Interpreter, Template } from "@huggingface/jinja";
import { ConfigError } from "../util/errors.ts";
import type { SpecialTokenJson, Tokenizer } from "./tokenizer.ts";

export interface ChatMessage {
  readonly role: "system" | "user" | "assistant" | "tool";
  readonly content: string;
}

export interface ChatOptions {
  /** Ends with the opening of the assistant's turn. Default true. */
  readonly addGenerationPrompt?: boolean;
  /** Further variables of the template: `enable_thinking`, `tools`, `date_string` … */
  readonly variables?: Readonly<Record<string, unknown>>;
}

/** What is used of the library's runtime. */
interface JinjaScope {
  set(name: string, value: unknown): unknown;
}
interface JinjaInterpreter {
  run(program: unknown): { value: string };
}

/** The names `transformers` gives every template, but for the clock. */
const globals: Readonly<Record<string, unknown>> = {
  true: true,
  false: false,
  none: null,
  True: true,
  False: false,
  None: null,
  raise_exception: (message: string): never => {
    throw new Error(message);
  },
  range: (start: number, stop?: number, step = 1): number[] => {
    const [from, to] = stop === undefined ? [0, start] : [start, stop];
    if (step === 0) throw new Error("range() step must not be zero");
    const values: number[] = [];
    for (let i = from; step > 0 ? i < to : i > to; i += step) values.push(i);
    return values;
  },
};

/** A parsed template; parse once, render often. */
export class ChatTemplate {
  private readonly template: Template;
  private readonly specials: Readonly<Record<string, string>>;
  private readonly where: string;

  /**
   * @param source the Jinja text; `specials`: bos_token, eos_token … as the template sees them
   * @throws ConfigError when the template does not parse.
   */
  constructor(source: string, specials: Readonly<Record<string, string>> = {}, where = "chat template") {
    this.where = where;
    this.specials = specials;
    try {
      this.template = new Template(source);
    } catch (cause) {
      throw new ConfigError({ where, what: `the chat template does not parse (${messageOf(cause)})` }, { cause });
    }
  }

  /** The template of a tokenizer's config. @throws ConfigError when it has none. */
  static of(tokenizer: Tokenizer): ChatTemplate {
    const source = tokenizer.chatTemplate;
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
    return new ChatTemplate(source, specials, tokenizer.where);
  }

  /**
   * The text of a conversation. No clock is read: a template that asks for today's date gets its own default unless
   * `date_string` is given, so that prompts are the same every day.
   * @throws ConfigError when the template refuses the messages.
   */
  render(messages: readonly ChatMessage[], options: ChatOptions = {}): string {
    try {
      const scope: JinjaScope = new Environment();
      const variables = {
        ...globals,
        ...this.specials,
        messages,
        add_generation_prompt: options.addGenerationPrompt ?? true,
        ...options.variables,
      };
      for (const [name, value] of Object.entries(variables)) scope.set(name, value);
      const interpreter: JinjaInterpreter = new Interpreter(scope);
      return interpreter.run(this.template.parsed).value;
    } catch (cause) {
      throw new ConfigError(
        {
          where: this.where,
          what: `the chat template refuses the messages (${messageOf(cause)})`,
          got: messages.map((m) => m.role).join(", ") || "no messages",
        },
        { cause },
      );
    }
  }
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
