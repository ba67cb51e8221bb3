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

/** The simulator prompt of the quickstart: the facts of the paper's, in the same order. `{Kind}` is Useful or Noisy. */
export const shortSimulatorPrompt = `Question: "{question}" answer: {answer}
Query: {query}
{Kind} Output:
`;

/** What the simulator is asked. */
interface SimulatorRequest {
  readonly question: string;
  readonly answer: string;
  readonly query: string;
  readonly useful: boolean;
}

/** The simulator's prompt for one request. */
export function simulatorPrompt({ question, answer, query, useful }: SimulatorRequest): string {
  return fillTemplate(shortSimulatorPrompt, { question, answer, query, Kind: useful ? "Useful" : "Noisy" });
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
