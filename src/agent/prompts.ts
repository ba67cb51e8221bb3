/** How a dialect's prompt is put to one policy: in whose words, and through which chat template. */
import type { Question } from "../rl/trajectory.ts";
import { promptText, type Prompt, type PromptEncoding, type TextCodec } from "../text/prompt.ts";
import type { ToolChat } from "../text/tool-chat.ts";
import { ConfigError, DataError } from "../util/errors.ts";
import { neutralise, type Dialect, type PromptValues } from "./dialects/dialect.ts";
import type { AgentContext } from "./methods/method.ts";

export interface PromptSettings {
  /** A set of prompts: template texts by the names of dialects. Without one each dialect has its own words. */
  readonly templates?: Readonly<Record<string, string>>;
  /** In place of a set: one text of the user's own, in any dialect, with the file it is from. */
  readonly text?: { readonly template: string; readonly file: string };
  /** A chat template that takes the prompt as one user message; what the policy writes after it is one assistant turn. */
  readonly chat?: (userText: Prompt) => Prompt;
  /** The chat template for dialects that call tools; null where it shows none. */
  readonly tools?: () => ToolChat | null;
  /** How the prompt becomes ids; without a beginning-of-sequence token unless given. A chat template writes its own. */
  readonly encoding?: PromptEncoding;
}

/** The first prompt of a dialect; what comes from outside is neutralised here. @throws ConfigError where the set has no text for it. */
export function promptOf(dialect: Dialect, values: PromptValues, settings: PromptSettings): Prompt {
  const { templates, text, chat } = settings;
  const template = templates === undefined ? text?.template : templates[dialect.name];
  if (templates !== undefined && template === undefined)
    throw new ConfigError({
      where: "rollout.prompt",
      what: `this set of prompts has none for the dialect ${dialect.name}`,
      expected: Object.keys(templates).join(", "),
      got: dialect.name,
      hint: "rollout.prompt=paper asks in each dialect's own words.",
    });
  const { question, documents } = values;
  const harmless = {
    ...values,
    question: neutralise(question, dialect),
    ...(documents === undefined ? {} : { documents: neutralise(documents, dialect) }),
  };
  const prompt = dialect.prompt(harmless, template);
  if (dialect.tools === true) return toolsOf(settings).prompt(prompt);
  return chat === undefined ? prompt : chat(prompt);
}

/** @throws ConfigError where the policy has no chat template that shows tools */
export function toolsOf({ tools }: PromptSettings): ToolChat {
  const chat = tools?.() ?? null;
  if (chat !== null) return chat;
  throw new ConfigError({
    where: "rollout.method=tools",
    what: tools === undefined ? "the policy has no chat template to call tools by" : "the policy's chat template shows no tools",
    expected: "a chat template that writes `tools`, such as those of Qwen2.5, Qwen3 and Llama 3.1 and later",
    hint: "Methods with tags of their own, such as rollout.method=zerosearch, need none.",
  });
}

/** For a baseline beside the method that a text of the user's own is for: its dialect's own words. */
export function withoutText(settings: PromptSettings): PromptSettings {
  return Object.fromEntries(Object.entries(settings).filter(([name]) => name !== "text"));
}

/**
 * Checks that a dialect takes a text of the user's own, which has a place for documents where the dialect tells some, and only there.
 * @throws ConfigError, which names its file.
 */
export function checkText(dialect: Dialect, { text }: PromptSettings): void {
  if (text === undefined) return;
  const where = `rollout.prompt=${text.file}`;
  const told = (words?: string): string => promptText(dialect.prompt({ question: "\u0001", documents: "\u0002" }, words));
  if (!told("\u0003{question}").includes("\u0003"))
    throw new ConfigError({ where, what: `the dialect ${dialect.name} has its own words and takes no others`, expected: "paper" });
  const [has, shows] = [text.template.includes("{documents}"), told().includes("\u0002")];
  if (shows && !has)
    throw new ConfigError({ where, what: "has no {documents}", expected: `{documents} where ${dialect.name} is to show them` });
  if (has && !shows)
    throw new ConfigError({
      where,
      what: `has {documents}, and ${dialect.name} has none before it is asked`,
      expected: "a text without {documents}",
    });
}

/** Its ids. @throws as `promptOf` */
export function promptIds(dialect: Dialect, values: PromptValues, settings: PromptSettings, tokenizer: TextCodec): number[] {
  return tokenizer.encodePrompt(promptOf(dialect, values, settings), settings.encoding);
}

/**
 * Checks that every question's prompt leaves the policy room for at least one token of the `limit` of a rollout: hours into a run is
 * no time to find out.
 * @throws DataError for the first that does not; as `promptOf` and `checkText`.
 */
export function checkPromptsFit(
  questions: readonly Question[],
  dialect: Dialect,
  { prompts, tokenizer, settings }: Pick<AgentContext, "prompts" | "tokenizer" | "settings">,
  limit: number,
): void {
  checkText(dialect, prompts);
  const bytes = new TextEncoder();
  for (const { id, question, dataSource } of questions) {
    const prompt = promptOf(dialect, { question, dataSource, maxSearches: settings.maxTurns }, prompts);
    // A token is at least a byte, so most prompts need not be encoded.
    if (bytes.encode(promptText(prompt)).length < limit) continue;
    const { length } = tokenizer.encodePrompt(prompt, prompts.encoding);
    if (length < limit) continue;
    throw new DataError({
      where: `question ${id}`,
      what: "its prompt leaves no room in the context",
      expected: `fewer than ${limit} tokens`,
      got: String(length),
      hint: "Raise rollout.maxContextTokens (at most the model's own context), or leave the question out.",
    });
  }
}
