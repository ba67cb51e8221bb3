/**
 * Tool calls of a policy behind an endpoint. Its rollouts are kept in one form, Hermes' (`<tools>`, `<tool_call>`, `<tool_response>`); what is sent and comes back is
 * OpenAI's `tools` and `tool_calls`.
 */
import type { ChatMessageText, ChatReply, ToolCall } from "../search/chat-client.ts";
import { ours, partsOf } from "../text/prompt.ts";
import type { ToolChat } from "../text/tool-chat.ts";
import { searchTool } from "./dialects/tools.ts";

const offer = `<tools>\n${JSON.stringify(searchTool)}\n</tools>\n`;
const responses = /^(?:<tool_response>\n[^]*?\n<\/tool_response>\n)+$/;
const response = /<tool_response>\n([^]*?)\n<\/tool_response>\n/g;

/** How prompts and replies stand in the rollout. The tags in what comes from outside have been made harmless. */
export const endpointToolChat: ToolChat = {
  prompt: (user) => partsOf([ours(offer), ...partsOf(user)]),
  reply: (messages) =>
    partsOf(
      messages.flatMap(({ role, content }) =>
        role === "tool" ? [ours("<tool_response>\n"), ...partsOf(content), ours("\n</tool_response>\n")] : partsOf(content),
      ),
    ),
};

/** A prompt without its offer, and the tools that it offers. */
export function withoutOffer(prompt: string): { readonly text: string; readonly tools?: readonly object[] } {
  return prompt.startsWith(offer) ? { text: prompt.slice(offer.length), tools: [searchTool] } : { text: prompt };
}

/** What a reply is in the rollout. */
export function writtenReply({ text, toolCalls }: ChatReply): string {
  const calls = toolCalls.map(({ name, arguments: given }) => {
    const read = parsed(given);
    return `<tool_call>\n${JSON.stringify({ name, arguments: read ?? given })}\n</tool_call>`;
  });
  return [...(text === "" ? [] : [text]), ...calls].join("\n");
}

/** What stands in the rollout after a turn, as messages: results of its calls, each with its call, or the user's words. */
export function messagesOf(text: string, calls: readonly ToolCall[]): ChatMessageText[] {
  const results = responses.test(text) ? [...text.matchAll(response)].map((match) => match[1] ?? "") : [];
  if (calls.length > 0 && results.length === calls.length)
    return results.map((content, i) => ({ role: "tool", content, toolCallId: calls[i]?.id ?? "" }));
  return [{ role: "user", content: text.trim() }];
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
