/**
 * Search-o1: reasons, searches, and has the same model read the documents in a second pass, Reason-in-Documents; what that finds is put into the
 * reasoning. Where the paper's baselines stop: `maxTurns` searches (5 there) in twice as many turns (10).
 *
 * Mask: the second pass is a sequence of its own that no update sees, and what of it is put in has lossMask 0, as documents have. It is kept as an
 * aside of the trajectory.
 *
 * Source: Search-o1 (arXiv 2501.05366) 3.3, `scripts/run_search_o1.py` and `prompts.py` at github.com/sunnynexus/Search-o1 (6ced48f, MIT licence).
 */
import { generateUnlessAborted } from "../../generate/sequence.ts";
import type { Question, SearchRecord } from "../../rl/trajectory.ts";
import { fillPrompt, foreign, promptText, type Prompt } from "../../text/prompt.ts";
import { withoutThoughts } from "../../text/thinking.ts";
import { askEngine, isLeftOut } from "../ask-engine.ts";
import { neutralise } from "../dialects/dialect.ts";
import { resultParts, searchO1 as dialect } from "../dialects/search-o1.ts";
import { cutToTokens, frameOf, shownIds } from "../observation.ts";
import { fitting, sequenceOf, type OpenTurn, type Reply } from "../rollout.ts";
import type { Method, MethodContext } from "./method.ts";
import { converseInBoxes, refusal } from "./search-o1-turns.ts";

/** What a set of prompts calls its text for the second pass; without one it is `instruction`. */
const readingPrompt = "search-o1-reading";

/** Word for word; the line breaks and double spaces are the original's. */
const instruction = `**Task Instruction:**

You are tasked with reading and analyzing web pages based on the following inputs: **Previous Reasoning Steps**, **Current Search Query**, and **Searched Web Pages**. Your objective is to extract relevant and helpful information for **Current Search Query** from the **Searched Web Pages** and seamlessly integrate this information into the **Previous Reasoning Steps** to continue reasoning for the original question.

**Guidelines:**

1. **Analyze the Searched Web Pages:**
- Carefully review the content of each searched web page.
- Identify factual information that is relevant to the **Current Search Query** and can aid in the reasoning process for the original question.

2. **Extract Relevant Information:**
- Select the information from the Searched Web Pages that directly contributes to advancing the **Previous Reasoning Steps**.
- Ensure that the extracted information is accurate and relevant.

3. **Output Format:**
- **If the web pages provide helpful information for current search query:** Present the information beginning with \`**Final Information**\` as shown below.
**Final Information**

[Helpful information]

- **If the web pages do not provide any helpful information for current search query:** Output the following text.

**Final Information**

No helpful information found.

**Inputs:**
- **Previous Reasoning Steps:**  
{reasoning}

- **Current Search Query:**  
{query}

- **Searched Web Pages:**  
{documents}

Now you should analyze each web page and find helpful information based on the current search query "{query}" and previous reasoning steps.
`;

const nothingFound = "No helpful information found.";

/** What of the second pass is put in. */
export function finalInformation(text: string): string {
  const at = text.lastIndexOf("**Final Information**");
  if (at < 0) return nothingFound;
  const found = text
    .slice(at + "**Final Information**".length)
    .replace(/\s*\n\s*/g, " ") // the original joins words over a line break
    .trim()
    .replace(/^`+|`+$/g, "")
    .trim();
  return found === "" ? nothingFound : found;
}

/** Of the reasoning so far the first step, the last ones and all that search; the others as dots. */
export function recentSteps(written: string): string {
  const steps = written.replaceAll("\n\n", "\n").split("\n");
  const numbered = steps.map((step, i) => `Step ${i + 1}: ${step}`);
  // One more than there are steps is kept in the original's count, an empty one at the end.
  if (numbered.length < 5) return numbered.join("\n\n");
  const kept = numbered.map((step, i) =>
    i === 0 || i >= numbered.length - 3 || step.includes("<|begin_search_query|>") || step.includes("<|begin_search_result|>")
      ? step
      : "...",
  );
  return kept.filter((step, i) => step !== "..." || kept[i - 1] !== "...").join("\n\n");
}

export const searchO1 = {
  name: "search-o1",
  dialect,
  run: (question, context) => converseInBoxes(question, dialect, context, (turn) => respond(turn, question, context)),
} satisfies Method;

async function respond(taken: OpenTurn, question: Question, context: MethodContext): Promise<Reply> {
  const { tokenizer, settings } = context;
  const { action, turn, room, transcript } = taken;
  if (action.kind !== "search") return "end";
  const say = (text: string): Reply => fitting(tokenizer.encodePrompt(resultParts(`\n${text}\n`, "\n")), room);
  const refused = refusal(action.query, transcript, settings);
  if (refused !== null) return say(refused);
  if (room <= frameOf(resultParts, tokenizer)) return "full";
  const record = await askEngine(action.query, turn, question, dialect, context);
  transcript.searches.push(record);
  if (isLeftOut(transcript.searches, context)) return "end";
  const found = await reasonInDocuments(taken, record, context);
  if (found === null) return "full";
  return fitting(shownIds(neutralise(found, dialect), resultParts, tokenizer, settings.maxObservationTokens), room);
}

/**
 * The second pass: what the model itself finds in the documents, which are cut from the right to what fits beside it. Null where it has no room at all: it may
 * be as long as a rollout.
 */
async function reasonInDocuments(
  { turn, used, room, transcript }: OpenTurn,
  { query, text }: SearchRecord,
  context: MethodContext,
): Promise<string | null> {
  const { tokenizer, settings, prompts, signal, stops } = context;
  const asking = (documents: string): Prompt => {
    const prompt = fillPrompt(prompts.templates?.[readingPrompt] ?? instruction, {
      // Its tags are the rollout's own: those of documents were made harmless before.
      reasoning: foreign(recentSteps(transcript.text)),
      query: foreign(neutralise(query, dialect)),
      documents: foreign(documents),
    });
    return prompts.chat === undefined ? prompt : prompts.chat(prompt);
  };
  const idsOf = (documents: string): number[] => tokenizer.encodePrompt(asking(documents), prompts.encoding);
  const { maxNewTokens, sampling } = settings;
  const limit = used + room - maxNewTokens;
  let documents = text;
  let ids = idsOf(documents);
  // Words at its ends may be put together in another way when a text is cut.
  for (let left = limit - idsOf("").length; ids.length > limit; left -= ids.length - limit) {
    if (left < 0) return null;
    documents = cutToTokens(text, left, tokenizer);
    ids = idsOf(documents);
  }
  const prompt = asking(documents);
  const sequence = sequenceOf(ids, context, turn + 1);
  try {
    const promptTokens = sequence.ids.length;
    const generated = await generateUnlessAborted(sequence, { stop: stops([]), maxNewTokens, sampling }, signal);
    const wrote = tokenizer.decode(generated.ids, { continuation: true, skipSpecialTokens: true });
    const outcome = finalInformation(withoutThoughts(wrote) ?? "");
    transcript.asides.push({
      turn,
      purpose: "reason-in-documents",
      prompt: promptText(prompt),
      promptTokens,
      ids: generated.ids,
      text: wrote,
      outcome,
    });
    return outcome;
  } finally {
    sequence.close();
  }
}
