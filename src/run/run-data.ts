/** The questions and the corpus of a run, all read and checked before anything is computed or written. */
import { neutralise, type PromptStyle } from "../agent/protocol.ts";
import type { Config } from "../config/index.ts";
import { loadQuestions } from "../data/questions.ts";
import type { Question } from "../rl/trajectory.ts";
import { Bm25Search } from "../search/bm25.ts";
import type { TextCodec } from "../text/text-codec.ts";
import { promptText } from "../text/prompt.ts";
import { DataError } from "../util/errors.ts";

export interface RunData {
  readonly train: readonly Question[];
  /** Empty where there are none. */
  readonly validation: readonly Question[];
  readonly test: readonly Question[];
  /** The real search engine; null where nothing is judged. */
  readonly engine: Bm25Search | null;
}

/**
 * Reads the question files and builds the search index. The caller closes the engine.
 * @throws FileError, DataError: a file that is missing, empty or wrong, with its line.
 */
export async function openData({ data, evaluation, bm25, train }: Config): Promise<RunData> {
  const some = async (file: string | null, count: number): Promise<Question[]> => {
    if (file === null || data.corpus === null) return [];
    const questions = await loadQuestions(file);
    return count === 0 ? questions : questions.slice(0, count);
  };
  const questions = {
    train: data.train === null ? [] : await loadQuestions(data.train),
    validation: train.validateEvery === 0 ? [] : await some(data.validation, evaluation.validationQuestions),
    test: await some(data.test, evaluation.questions),
  };
  const judged = questions.validation.length + questions.test.length > 0;
  return { ...questions, engine: judged && data.corpus !== null ? await Bm25Search.fromCorpus(data.corpus, bm25.documents) : null };
}

/**
 * Checks that every question's prompt leaves the policy room for at least one token of the `limit` of a rollout: hours into a run is
 * no time to find out.
 * @throws DataError for the first that does not.
 */
export function checkPromptsFit({ train, validation, test }: RunData, style: PromptStyle, tokenizer: TextCodec, limit: number): void {
  for (const { id, question } of [...train, ...validation, ...test]) {
    const prompt = style.policyPrompt(neutralise(question));
    // A token is at least a byte, so most prompts need not be encoded.
    if (Buffer.byteLength(promptText(prompt)) < limit) continue;
    const { length } = tokenizer.encodePrompt(prompt, style.encoding);
    if (length < limit) continue;
    throw new DataError({
      where: `question ${id}`,
      what: "its prompt leaves no room in the context",
      expected: `fewer than ${limit} tokens`,
      got: String(length),
      hint: "Raise rollout.maxContextTokens (at most the model's own context), or leave the question out.",
    });
  }
}
