/** Direct answer: one generation from memory, no search. */
import { answerOnce } from "../rollout.ts";
import { neutralise } from "../protocol.ts";
import type { Method } from "./method.ts";

export const direct: Method = {
  name: "direct",
  run: (question, context) => answerOnce(context.style.directPrompt(neutralise(question.question)), [], question, context),
};
