/** The prompts of the quickstart's tiny models, as a run with `rollout.prompt=quickstart` and `simulator.prompt=quickstart` has them. */
import { fillTemplate } from "../../util/template.ts";
import { promptSet } from "../prompt-set.ts";

const templates = promptSet("quickstart");

/** The simulator's prompt for one request. */
export function simulatorPrompt({
  useful,
  ...values
}: Readonly<Record<"question" | "answer" | "query", string>> & { readonly useful: boolean }): string {
  return fillTemplate(templates.simulator, { ...values, Kind: useful ? "Useful" : "Noisy" });
}

/** Documents as they are shown to the policy and as the simulator writes them: "Doc 1: ..." lines. */
export function formatDocuments(documents: readonly string[]): string {
  return documents.map((document, i) => `Doc ${i + 1}: ${document}`).join("\n");
}

/** The observation that follows a search, exact. */
export function observationText(documents: readonly string[]): string {
  return `\n\n<information>${formatDocuments(documents)}</information>\n\n`;
}

/** The policy's prompt in a dialect. */
export function policyPrompt(dialect: "zerosearch" | "direct" | "rag", question: string, documents = ""): string {
  return fillTemplate(templates.policy[dialect] as string, { question, documents });
}
