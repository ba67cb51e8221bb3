/** RAG: one search with the question itself, the documents in the prompt, one generation. */
import { askEngine } from "../ask-engine.ts";
import { rag as dialect } from "../dialects/rag.ts";
import { cutToTokens } from "../observation.ts";
import { promptIds } from "../prompts.ts";
import { answerOnce, valuesOf } from "../rollout.ts";
import type { Method } from "./method.ts";

export const rag = {
  name: "rag",
  dialect,
  async run(question, context) {
    const { tokenizer, settings, prompts } = context;
    const record = await askEngine(question.question, 0, question, dialect, context);
    // As long as an observation may be, and no longer than leaves room for a turn: a corpus of long passages must not fill the context.
    const { maxObservationTokens, maxNewTokens, maxContextTokens = Infinity } = settings;
    const bare = promptIds(dialect, { ...valuesOf(question, context), documents: "" }, prompts, tokenizer).length;
    const limit = Math.min(maxObservationTokens, Math.max(0, maxContextTokens - maxNewTokens - bare));
    return answerOnce(question, dialect, context, { documents: cutToTokens(record.text, limit, tokenizer), searches: [record] });
  },
} satisfies Method;
