/** Direct answer: one generation from memory, no search. */
import { direct as dialect } from "../dialects/direct.ts";
import { answerOnce } from "../rollout.ts";
import type { Method } from "./method.ts";

export const direct = {
  name: "direct",
  dialect,
  searches: false,
  run: (question, context) => answerOnce(question, dialect, context),
} satisfies Method;
