/** R1: reinforcement learning without a search engine. One generation that reasons and answers, in the prompt of Search-R1's baseline. */
import { r1 as dialect } from "../dialects/r1.ts";
import { answerOnce } from "../rollout.ts";
import type { Method } from "./method.ts";

export const r1 = {
  name: "r1",
  dialect,
  searches: false,
  run: (question, context) => answerOnce(question, dialect, context),
} satisfies Method;
