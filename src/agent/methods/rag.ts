/** RAG: one search with the question itself, the documents in the prompt, one generation. */
import { rag as dialect } from "../dialects/rag.ts";
import { answerOnce, askEngine } from "../rollout.ts";
import type { Method } from "./method.ts";

export const rag = {
  name: "rag",
  dialect,
  async run(question, context) {
    const { tokenizer, settings } = context;
    const record = await askEngine(question.question, 0, question, dialect, context);
    // As long as an observation may be: a corpus of long passages must not fill the context.
    const ids = tokenizer.encodePrompt(record.text);
    const documents =
      ids.length <= settings.maxObservationTokens ? record.text : tokenizer.decode(ids.slice(0, settings.maxObservationTokens));
    return answerOnce(question, dialect, context, { documents, searches: [record] });
  },
} satisfies Method;
