/**
 * Tools: the policy searches by its own model's tool calls, so that it works in any client that offers it a search. Several calls of one turn are answered
 * together; `maxTurns` searches in all. A call that is malformed is answered with what is wrong with it, a turn that neither calls nor answers with a
 * correction by the user.
 *
 * Mask: 1 on what the policy sampled, its end-of-turn tokens too; 0 on everything that the chat template writes.
 */
import type { Question, SearchRecord } from "../../rl/trajectory.ts";
import type { PromptMessage } from "../../text/chat-template.ts";
import { foreign, ours, type PromptPart } from "../../text/prompt.ts";
import type { ToolChat } from "../../text/tool-chat.ts";
import { askEngine, isLeftOut } from "../ask-engine.ts";
import type { Call } from "../dialects/dialect.ts";
import { tools as dialect } from "../dialects/tools.ts";
import { cutToTokens } from "../observation.ts";
import { toolsOf } from "../prompts.ts";
import { converse, fitting, type OpenTurn, type Reply } from "../rollout.ts";
import type { Method, MethodContext } from "./method.ts";

const noneLeft = "No searches are left. Give the answer inside <answer> and </answer>.";

export const tools = {
  name: "tools",
  dialect,
  run(question, context) {
    const chat = toolsOf(context.prompts);
    return converse(question, dialect, context, {
      turns: context.settings.maxTurns,
      respond: (turn) => respond(turn, chat, question, context),
    });
  },
} satisfies Method;

async function respond(
  { action, room, generated, transcript }: OpenTurn,
  chat: ToolChat,
  question: Question,
  context: MethodContext,
): Promise<Reply> {
  const { tokenizer, settings } = context;
  const end = generated.reason === "eos" ? tokenizer.decode(generated.ids.slice(-1), { continuation: true }) : "";
  const idsOf = (messages: readonly PromptMessage[]): number[] => tokenizer.encodePrompt(chat.reply(messages, end));
  if (action.kind !== "calls") return fitting(idsOf([{ role: "user", content: dialect.correction }]), room);
  const left = settings.maxTurns - transcript.searches.length;
  const asked = limited(action.calls, left);
  const answered = (contentOf: (place: number) => PromptPart): number[] =>
    idsOf(asked.map((one, place) => ({ role: "tool", content: ["problem" in one ? ours(one.problem) : contentOf(place)] })));
  const frame = answered(() => ours("-")).length;
  // Searches whose results cannot fit are not made: nobody would read them.
  if (frame >= room) return "full";
  const records = await searchAll(asked, transcript.searches.length, question, context);
  const made = records.filter((one) => one !== null);
  transcript.searches.push(...made);
  if (isLeftOut(transcript.searches, context)) return "end";
  const share = Math.max(1, Math.floor((settings.maxObservationTokens - frame) / made.length));
  return fitting(
    answered((place) => foreign(cutToTokens(records[place]?.text ?? "", share, tokenizer))),
    room,
  );
}

/** The calls, those that search more often than they may told so. */
function limited(calls: readonly Call[], left: number): Call[] {
  let searches = 0;
  return calls.map((call) => ("query" in call && ++searches > left ? { problem: noneLeft } : call));
}

/** What is found for each call; null for no search. Each is a turn of its own to its engine: two of one turn draw other random numbers. */
function searchAll(
  calls: readonly Call[],
  made: number,
  question: Question,
  context: MethodContext,
): Promise<readonly (SearchRecord | null)[]> {
  let next = made;
  return Promise.all(
    calls.map((call) => ("query" in call ? askEngine(call.query, next++, question, dialect, context) : Promise.resolve(null))),
  );
}
