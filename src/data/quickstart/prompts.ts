/**
 * The prompts of the quickstart's tiny models. `{question}`, `{answer}`, `{query}` and `{documents}` are placeholders. The long prompts of the paper stay the
 * default everywhere else: 0.9 M parameters have no use for 100 tokens of instruction that never change.
 */
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { fillTemplate } from "../../util/template.ts";

/** What policy and simulator are told: the file that a run with `rollout.prompt=quickstart` and `simulator.prompt=quickstart` reads too. */
const templates = parse(readFileSync(new URL("../../../configs/prompts/quickstart.yaml", import.meta.url), "utf8")) as {
  readonly policy: Readonly<Record<"zerosearch" | "direct" | "rag", string>>;
  readonly simulator: string;
};

/** What the simulator is asked. */
interface SimulatorRequest {
  readonly question: string;
  readonly answer: string;
  readonly query: string;
  readonly useful: boolean;
}

/** The simulator's prompt for one request. */
export function simulatorPrompt({ question, answer, query, useful }: SimulatorRequest): string {
  return fillTemplate(templates.simulator, { question, answer, query, Kind: useful ? "Useful" : "Noisy" });
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
  policyPrompt: (question: string): string => fillTemplate(templates.policy.zerosearch, { question }),
  directPrompt: (question: string): string => fillTemplate(templates.policy.direct, { question }),
  ragPrompt: (question: string, documents: string): string => fillTemplate(templates.policy.rag, { question, documents }),
};
