/**
 * Reasons and answers, without a search engine.
 *
 * Source: the R1 baseline of Search-R1 (arXiv 2503.09516), `scripts/data_process/nq.py` at github.com/PeterGriffinJin/Search-R1 (Apache-2.0), word for word.
 */
import { templatePrompt, type Dialect } from "./dialect.ts";
import { parseAction, zerosearch } from "./zerosearch.ts";

export const r1: Dialect = {
  ...zerosearch,
  name: "r1",
  stops: ["</answer>"],
  prompt: templatePrompt(
    "Answer the given question. You should first have a reasoning process in mind and then provides the answer. " +
      "Show your reasoning in <think> </think> tags and return the final answer in <answer> </answer> tags, " +
      "for example <answer> Beijing </answer>. Question: {question}\n",
  ),
  parse: (text) => {
    const action = parseAction(text);
    return action.kind === "answer" ? action : { kind: "invalid" };
  },
};
