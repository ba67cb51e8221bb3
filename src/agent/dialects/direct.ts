/** Answers from memory, in a box. ZeroSearch's paper does not print the prompt of this baseline: it is that of Search-o1 without reasoning. */
import { directTask, parseAnswer } from "./boxed.ts";
import { templatePrompt, type Dialect } from "./dialect.ts";
import { zerosearch } from "./zerosearch.ts";

export const direct: Dialect = {
  ...zerosearch,
  name: "direct",
  stops: ["</answer>"],
  prompt: templatePrompt(directTask),
  parse: parseAnswer,
};
