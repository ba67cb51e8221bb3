/** What Search-o1 and its RAG agent have in common: how long a rollout may be, where its answer may stand, and which searches are not made. */
import type { Question, SearchTrajectory } from "../../rl/trajectory.ts";
import { lastBoxed } from "../dialects/boxed.ts";
import type { Dialect } from "../dialects/dialect.ts";
import { converse, type ConverseOptions, type RolloutSoFar } from "../rollout.ts";
import type { AgentSettings, MethodContext } from "./method.ts";

const searchesUsed = "The maximum search limit is exceeded. You are not allowed to search.";
const askedBefore = "You have searched this query. Please refer to previous results.";

/** Twice as many turns as searches; without an answer at its end, the last box that the policy wrote. */
export function converseInBoxes(
  question: Question,
  dialect: Dialect,
  context: MethodContext,
  respond: ConverseOptions["respond"],
): Promise<SearchTrajectory> {
  const turns = Math.max(0, 2 * context.settings.maxTurns - 1);
  return converse(question, dialect, context, { turns, respond, answerIn: lastBoxed });
}

/** What is said in place of a search that is one too many, or was made before; null where it is made. */
export function refusal(query: string, { searches }: RolloutSoFar, { maxTurns }: AgentSettings): string | null {
  if (searches.length >= maxTurns) return searchesUsed;
  return searches.some((one) => one.query === query) ? askedBefore : null;
}
