/**
 * The prompts of the quickstart's tiny models. `{question}`, `{answer}`, `{query}` and `{documents}` are placeholders. The long prompts of the paper stay the
 * default everywhere else: 0.9 M parameters have no use for 100 tokens of instruction that never change.
 */
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { fillTemplate } from "../../util/template.ts";

/** What the policy is told, by dialect: the file that a run with `rollout.prompt=quickstart` reads too. */
const templates = parse(readFileSync(new URL("../../../configs/prompts/quickstart.yaml", import.meta.url), "utf8")) as Readonly<
  Record<"zerosearch" | "direct" | "rag", string>
>;

/** The paper's simulator prompt, exact. `{kind}` is useful or noisy, `{Kind}` the same capitalised. */
export const fullSimulatorPrompt = `You are the Google search engine.
Given a query, you need to generate five {kind} documents for the query.

The user is trying to answer the question: "{question}" whose answer is {answer}.
Each document should contain about 30 words, and these documents should contain {kind} information.

Query: {query}
{Kind} Output:
`;

/** The simulator prompt of the quickstart: the same facts in the same order. */
export const shortSimulatorPrompt = `Question: "{question}" answer: {answer}
Query: {query}
{Kind} Output:
`;

/** Which simulator prompt to use. */
export type SimulatorPromptForm = "short" | "full";

/** What the simulator is asked. */
export interface SimulatorRequest {
  readonly question: string;
  readonly answer: string;
  readonly query: string;
  readonly useful: boolean;
}

/** The simulator's prompt for one request. */
export function simulatorPrompt(request: SimulatorRequest, form: SimulatorPromptForm = "short"): string {
  const { question, answer, query } = request;
  const kind = request.useful ? "useful" : "noisy";
  const Kind = request.useful ? "Useful" : "Noisy";
  return fillTemplate(form === "short" ? shortSimulatorPrompt : fullSimulatorPrompt, { question, answer, query, kind, Kind });
}

/** Documents as they are shown to the policy and as the simulator writes them: "Doc 1: ..." lines. */
export function formatDocuments(documents: readonly string[]): string {
  return documents.map((document, i) => `Doc ${i + 1}: ${document}`).join("\n");
}

/** The observation that follows a search, exact. */
export function observationText(documents: readonly string[]): string {
  return `\n\n<information>${formatDocuments(documents)}</information>\n\n`;
}

/** The three prompts of the policy. */
export const quickstartStyle = {
  policyPrompt: (question: string): string => fillTemplate(templates.zerosearch, { question }),
  directPrompt: (question: string): string => fillTemplate(templates.direct, { question }),
  ragPrompt: (question: string, documents: string): string => fillTemplate(templates.rag, { question, documents }),
};
