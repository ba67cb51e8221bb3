/** RAG: one search with the question itself, the documents in the prompt, one generation. */
import { askEngine } from "../ask-engine.ts";
import { rag as dialect } from "../dialects/rag.ts";
import { cutToTokens } from "../observation.ts";
import { answerOnce } from "../rollout.ts";
import type { Method } from "./method.ts";

export const rag = {
  name: "rag",
  dialect,
  async run(question, context) {
    const { tokenizer, settings } = context;
    const record = await askEngine(question.question, 0, question, dialect, context);
    // As long as an observation may be: a corpus of long passages must not fill the context.
    const documents = cutToTokens(record.text, settings.maxObservationTokens, tokenizer);
    return answerOnce(question, dialect, context, { documents, searches: [record] });
  },
} satisfies Method;
