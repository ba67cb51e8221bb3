/**
 * The model's own tool calls, as its chat template writes them: Hermes' and Qwen's `<tool_call>{"name": ..., "arguments": ...}</tool_call>`, or Llama 3's bare
 * JSON with `parameters`. The prompt is ours: the question, and how the answer is to be marked.
 */
import { foreign, ours } from "../../text/prompt.ts";
import { withoutThoughts } from "../../text/thinking.ts";
import type { ToolDescription } from "../../text/tool-chat.ts";
import { lastAnswer } from "./answer-tag.ts";
import { lastBoxed } from "./boxed.ts";
import { templatePrompt, type Action, type Call, type Dialect } from "./dialect.ts";

/** What a policy is told that it may call. */
export const searchTool: ToolDescription = {
  type: "function",
  function: {
    name: "search",
    description: "Searches for documents about a query, and returns the best ones.",
    parameters: {
      type: "object",
      properties: { query: { type: "string", description: "What to search for." } },
      required: ["query"],
    },
  },
};

const howToCall = 'call search with {"query": "what to search for"}';

/** The tool calls of a turn, in order; none where it has none. */
function callsOf(text: string): Call[] {
  // A call that is not closed is read to the end.
  const blocks = [...text.matchAll(/<tool_call>(.*?)(?:<\/tool_call>|(?=<tool_call>)|$)/gs)];
  if (blocks.length > 0) return blocks.flatMap((block) => readCalls(block[1] ?? ""));
  const bare = text.replace(/^\s*<\|python_tag\|>/, "").trim();
  return bare.startsWith("{") || bare.startsWith("[") ? readCalls(bare) : [];
}

/** One call as JSON, a list of them, or several one after the other, with line breaks or semicolons between. */
function readCalls(json: string): Call[] {
  const whole = parseJson(json);
  if (whole !== undefined) return (Array.isArray(whole) ? whole : [whole]).map(readCall);
  const parts = json.split(/[;\n]/).filter((part) => part.trim() !== "");
  const parsed = parts.map(parseJson);
  if (parts.length > 1 && parsed.every((one) => one !== undefined)) return parsed.map(readCall);
  return [{ problem: `This call is no JSON. To search, ${howToCall}.` }];
}

function readCall(value: unknown): Call {
  const read = (typeof value === "object" ? value : null) as { name?: unknown; arguments?: unknown; parameters?: unknown } | null;
  if (read?.name !== searchTool.function.name) return { problem: `There is no tool of that name. To search, ${howToCall}.` };
  const given = read.arguments ?? read.parameters;
  const told = typeof given === "string" ? parseJson(given) : given;
  const query = (told as { readonly query?: unknown } | null | undefined)?.query;
  if (typeof query !== "string") return { problem: `This call has no query. To search, ${howToCall}.` };
  return { query: query.trim() };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** Tokens that end a turn, and what their texts look like, at the end of one. */
const ends = /(?:<\|[\w-]+\|>|<\/s>|\s)+$/;

export function parseTools(text: string): Action {
  const said = withoutThoughts(text.replace(ends, "")) ?? "";
  const calls = callsOf(said);
  if (calls.length > 0) return { kind: "calls", calls };
  const answer = lastAnswer(said) ?? lastBoxed(said);
  return answer === undefined ? { kind: "invalid" } : { kind: "answer", text: answer };
}

export const tools: Dialect = {
  name: "tools",
  tools: true,
  tags: ["tool_call", "tool_response", "answer", "tools"],
  stops: [],
  prompt: templatePrompt(
    "Answer the given question. Where you lack knowledge, call the tool search, as often as you need it; several calls in one turn are answered together. " +
      "When you know the answer, give it inside <answer> and </answer>, without detailed illustrations. For example, <answer> Beijing </answer>.\n\n" +
      "Question: {question}",
  ),
  parse: parseTools,
  /** In a message of its own, which the chat template writes. */
  observe: (documents) => [foreign(documents)],
  correction: [
    ours(`That was neither a call nor an answer. To search, ${howToCall}. If you know the answer, give it inside <answer> and </answer>.`),
  ],
};
