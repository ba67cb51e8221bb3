/**
 * What the simulator is told. Templates have the placeholders `{question}`, `{answer}`, `{query}`, `{kind}` (useful or noisy) and
 * `{Kind}` (the same, capitalised).
 */
import { fillPrompt, foreign, ours, type PromptPart } from "../text/prompt.ts";
import { ConfigError } from "../util/errors.ts";

export interface SimulatorTemplate {
  readonly useful: string;
  readonly noisy: string;
  /** Puts queries in as they are, line breaks and all; on one line unless true. */
  readonly rawQuery?: boolean;
}

/** Both kinds from one text with `{kind}` and `{Kind}`. @throws ConfigError, at `where`, when the query or the kind has no place in it. */
export function simulatorTemplate(text: string, where = "simulator.prompt"): SimulatorTemplate {
  for (const name of ["{query}", "{kind}"]) {
    if (!text.toLowerCase().includes(name))
      throw new ConfigError({
        where,
        what: "a placeholder is missing",
        expected: name,
        got: JSON.stringify(text.slice(0, 80)),
      });
  }
  return { useful: text, noisy: text };
}

/**
 * The prompt of simulators that were fine-tuned for the task, exact (released checkpoints depend on it): it says "five" whatever is
 * kept, and gives the answer to the noisy kind too.
 */
export const tunedSimulatorTemplate: SimulatorTemplate = simulatorTemplate(`You are the Google search engine.
Given a query, you need to generate five {kind} documents for the query.

The user is trying to answer the question: "{question}" whose answer is {answer}.
Each document should contain about 30 words, and these documents should contain {kind} information.

Query: {query}
{Kind} Output:
`);

/** The same without question and answer: what the simulator knows of them is worth what the policy learns less with this one. */
export const untoldSimulatorTemplate: SimulatorTemplate = simulatorTemplate(`You are the Google search engine.
Given a query, you need to generate five {kind} documents for the query.

Each document should contain about 30 words, and these documents should contain {kind} information.

Query: {query}
{Kind} Output:
`);

/** For simulators that only follow instructions: one demonstration; the noisy kind is told neither question nor answer. The demonstrations are ours. */
export const promptedSimulatorTemplate: SimulatorTemplate = {
  useful: `You are the Google search engine.
Given a query, you need to imitate the style of the following demo and generate five useful documents for the query.

Here is an example:
Query: Golden Gate Bridge opening year
Useful Output:
Doc 1: The Golden Gate Bridge opened to pedestrians on 27 May 1937 and to cars the next day. About 200,000 people walked across the new suspension bridge on the first day.
Doc 2: Work on the Golden Gate Bridge began on 5 January 1933 under chief engineer Joseph Strauss. Four years later, in the spring of 1937, San Francisco celebrated its opening for a week.
Doc 3: When it opened in 1937, the Golden Gate Bridge had the longest main span in the world, 1,280 metres. It held that record until 1964, when a bridge in New York passed it.
Doc 4: A short history of crossings in the bay: ferries ran from 1820, the Bay Bridge was opened in November 1936, and the Golden Gate Bridge followed six months later, in May 1937.
Doc 5: President Franklin Roosevelt opened the Golden Gate Bridge to traffic on 28 May 1937 by pressing a telegraph key in Washington. The toll for each car was fifty cents at the time.

The user is trying to answer the question: "{question}" whose answer is {answer}.
You should generate documents that can help the user find the answer.
Each document should contain about 30 words, and these documents should contain useful information.
You must directly output the English documents and not output any other texts.

Query: {query}
Useful Output:
`,
  noisy: `You are the Google search engine.
Given a query, you need to imitate the style of the following demo and generate five noisy documents for the query.

Here is an example:
Query: Golden Gate Bridge opening year
Noisy Output:
Doc 1: The colour of the Golden Gate Bridge is called international orange. Painters work on it all year, because the salt in the fog of the bay is hard on the steel and its coating.
Doc 2: Visitors to San Francisco can walk or cycle across the Golden Gate Bridge without paying. The eastern walkway is open to people on foot every day, from early morning until evening.
Doc 3: Suspension bridges carry their deck on vertical cables that hang from two main ones. Engineers prefer them for long spans over deep water, where piers would be costly or in the way of ships.
Doc 4: Fog at the Golden Gate forms in summer when warm air meets the cold water of the Pacific. It often hides all but the tops of the towers in the morning and again at night.
Doc 5: Many films show the Golden Gate Bridge. Directors like its towers as a sign that a story takes place in San Francisco, and some have destroyed it on the screen with waves or monsters.

Each document should contain about 30 words, and these documents should contain related but noisy information.
You must directly output the English documents and not output any other texts.

Query: {query}
Noisy Output:
`,
};

/** What `simulator.prompt` names: one of the above, or the text `simulator` of a set of prompts, which may be a file. @throws as `simulatorTemplate` */
export function simulatorTemplateOf(prompt: string, promptSet: (name: string) => { readonly simulator: string }): SimulatorTemplate {
  if (prompt === "paper") return tunedSimulatorTemplate;
  if (prompt === "untold") return untoldSimulatorTemplate;
  if (prompt === "prompted") return promptedSimulatorTemplate;
  const template = simulatorTemplate(promptSet(prompt).simulator, `simulator.prompt=${prompt}`);
  // The quickstart's policy does write line breaks into queries, and its receipt (test/witness) is of a run that put them in so.
  return prompt === "quickstart" ? { ...template, rawQuery: true } : template;
}

interface SimulatorPromptValues {
  readonly question: string;
  readonly answer: string;
  readonly query: string;
}

/** Control characters, and those that end a line or a paragraph. */
const breaks = /[\p{Cc}\p{Zl}\p{Zp}]/u;

/** A query on one line: what a policy writes behind a line break would stand in the prompt as if it were ours. Others stay as they are. */
function oneLine(query: string): string {
  return breaks.test(query) ? query.replace(/[\s\p{Cc}]+/gu, " ").trim() : query;
}

/** The prompt of one search. Values are inserted as they are, the query on one line (but for `rawQuery`), and are foreign. */
export function simulatorPrompt(template: SimulatorTemplate, kind: "useful" | "noisy", values: SimulatorPromptValues): PromptPart[] {
  return fillPrompt(template[kind], {
    question: foreign(values.question),
    answer: foreign(values.answer),
    query: foreign(template.rawQuery === true ? values.query : oneLine(values.query)),
    kind: ours(kind),
    Kind: ours(kind === "useful" ? "Useful" : "Noisy"),
  });
}
