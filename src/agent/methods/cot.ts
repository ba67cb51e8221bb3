/** Chain of thought: one generation that reasons and answers, no search. */
import { cot as dialect } from "../dialects/cot.ts";
import { answerOnce } from "../rollout.ts";
import type { Method } from "./method.ts";

export const cot = {
  name: "cot",
  dialect,
  searches: false,
  run: (question, context) => answerOnce(question, dialect, context),
} satisfies Method;
