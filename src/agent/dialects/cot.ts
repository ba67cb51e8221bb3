/** Thinks step by step, without a search engine, and answers in a box: the direct generation of Search-o1 (`run_direct_gen.py`). */
import { parseAnswer, reasoningTask } from "./boxed.ts";
import { templatePrompt, type Dialect } from "./dialect.ts";
import { zerosearch } from "./zerosearch.ts";

export const cot: Dialect = {
  ...zerosearch,
  name: "cot",
  stops: ["</answer>"],
  prompt: templatePrompt(reasoningTask),
  parse: parseAnswer,
};
