/** Answers from documents in the prompt, in the tags of ZeroSearch. The paper does not print the prompt of this baseline: this is ours in its words. */
import { templatePrompt, type Dialect } from "./dialect.ts";
import { answerFormat, zerosearch } from "./zerosearch.ts";

export const rag: Dialect = {
  ...zerosearch,
  name: "rag",
  prompt: templatePrompt(
    "Answer the given question with the help of the documents between <information> and </information>. " +
      `Directly provide the answer ${answerFormat}\n\n<information>{documents}</information>\n\nQuestion: {question}\n`,
  ),
};
