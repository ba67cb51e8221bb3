/** Answers from memory in the tags of ZeroSearch. The paper does not print the prompt of this baseline: this is ours in its words. */
import { templatePrompt, type Dialect } from "./dialect.ts";
import { answerFormat, zerosearch } from "./zerosearch.ts";

export const direct: Dialect = {
  ...zerosearch,
  name: "direct",
  prompt: templatePrompt(`Answer the given question. Directly provide the answer ${answerFormat} Question: {question}\n`),
};
