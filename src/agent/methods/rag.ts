/** RAG: one search with the question itself, the documents in the prompt, one generation. */
import { neutralise } from "../protocol.ts";
import { answerOnce, askEngine } from "../rollout.ts";
import type { Method } from "./method.ts";

export const rag: Method = {
  name: "rag",
  async run(question, context) {
    const { style, tokenizer, settings } = context;
    const record = await askEngine(question.question, 0, question, context);
    // As long as an observation may be: a corpus of long passages must not fill the context.
    const ids = tokenizer.encodePrompt(record.documents);
    const documents =
      ids.length <= settings.maxObservationTokens ? record.documents : tokenizer.decode(ids.slice(0, settings.maxObservationTokens));
    return answerOnce(style.ragPrompt(neutralise(question.question), documents), [record], question, context);
  },
};
