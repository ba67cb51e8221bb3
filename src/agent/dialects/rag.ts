/**
 * Answers from documents in the prompt, in a box: the naive RAG of Search-o1 (`run_naive_rag.py`). Its documents are shown as ZeroSearch shows them, so that
 * methods differ in what they do, not in how they read.
 */
import { parseAnswer, reasoningTask } from "./boxed.ts";
import { templatePrompt, type Dialect } from "./dialect.ts";
import { zerosearch } from "./zerosearch.ts";

export const rag: Dialect = {
  ...zerosearch,
  name: "rag",
  stops: ["</answer>"],
  prompt: templatePrompt(
    "You are a knowledgeable assistant that uses the provided documents to answer the user's question.\n\n" +
      `Question:\n{question}\nDocuments:\n{documents}\n\n\n${reasoningTask}`,
  ),
  parse: parseAnswer,
};
