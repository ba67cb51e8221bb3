/**
 * Tools in a chat template: the prompt that offers one, and what follows a turn that called it. What the model wrote is never rendered again: replies
 * are cut out of a rendering in which a mark stands for its turn.
 */
import { ConfigError } from "../util/errors.ts";
import type { ChatTemplate, PromptMessage, TemplateVariables } from "./chat-template.ts";
import { foreign, ours, partsOf, promptText, type Prompt, type PromptPart } from "./prompt.ts";

export interface ToolChat {
  /** The first prompt: the user's message, and the tool that may be called. */
  prompt(user: Prompt): PromptPart[];
  /**
   * What comes after a turn of the assistant: results of its calls, or a message of the user's, and the opening of its next turn.
   * @param end - text of the token that ended the turn, which is not written again; "" where none did
   */
  reply(messages: readonly PromptMessage[], end: string): PromptPart[];
}

/** A tool as OpenAI's `tools` and Hugging Face's templates describe one. */
export interface ToolDescription {
  readonly type: "function";
  readonly function: { readonly name: string; readonly description: string; readonly parameters: unknown };
}

const mark = "\ue002turn\ue002";

/** A token that ends a turn, as templates write it. */
const endOfTurn = /^(?:<\|[\w-]+\|>|<\/s>|<end_of_turn>)/;

/** @returns null where the template does not show the tool, or takes no results of calls */
export function toolChat(
  template: Pick<ChatTemplate, "renderPrompt">,
  tool: ToolDescription,
  variables: TemplateVariables = {},
): ToolChat | null {
  const all = { ...variables, tools: [tool] };
  const rendered = (messages: readonly PromptMessage[]): PromptPart[] => {
    const turns: PromptMessage[] = [{ role: "user", content: [ours("?")] }, { role: "assistant", content: [ours(mark)] }, ...messages];
    return template.renderPrompt(turns, all);
  };
  const probed = probe(template, tool, all, rendered);
  if (probed === null) return null;
  return {
    prompt: (user) => template.renderPrompt([{ role: "user", content: user }], all),
    reply(messages, end) {
      const said = messages.map(({ role, content }) => ({ role, content: probed.json && role === "tool" ? asJson(content) : content }));
      const rest = afterMark(rendered(said)) as PromptPart[];
      if (end === "") return rest;
      const [first, ...others] = rest;
      const text = first?.foreign === false ? first.text : "";
      const length = text.startsWith(end) ? end.length : (endOfTurn.exec(text)?.[0].length ?? 0);
      return partsOf([ours(text.slice(length)), ...(text === "" ? rest : others)]);
    },
  };
}

/**
 * Whether it shows the tool and its results; and whether as JSON, as Llama 3's does: a text from outside is put in as it is, and must then be
 * JSON itself.
 */
function probe(
  template: Pick<ChatTemplate, "renderPrompt">,
  { function: { name, description } }: ToolDescription,
  variables: TemplateVariables,
  rendered: (messages: readonly PromptMessage[]) => PromptPart[],
): { readonly json: boolean } | null {
  const text = 'a"b';
  try {
    const shown = promptText(template.renderPrompt([{ role: "user", content: [ours("?")] }], variables));
    if (!shown.includes(name) || !shown.includes(description)) return null;
    const result = rendered([{ role: "tool", content: [ours(text)] }]);
    if (afterMark(result) === null) return null;
    const json = promptText(result).includes(JSON.stringify(text));
    return json || promptText(result).includes(text) ? { json } : null;
  } catch (error) {
    if (error instanceof ConfigError) return null;
    throw error;
  }
}
function asJson(content: Prompt): PromptPart[] {
  return partsOf(content).map(({ text, foreign: outside }) => (outside ? foreign(JSON.stringify(text).slice(1, -1)) : ours(text)));
}

/** What stands behind the assistant's turn; null where that is not shown. */
function afterMark(parts: readonly PromptPart[]): PromptPart[] | null {
  const at = parts.findIndex(({ text, foreign: outside }) => !outside && text.includes(mark));
  if (at < 0) return null;
  const { text } = parts[at] as PromptPart;
  return partsOf([ours(text.slice(text.indexOf(mark) + mark.length)), ...parts.slice(at + 1)]);
}
