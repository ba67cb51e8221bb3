/** The method that `rollout.method` names, and whether one fits the policy and the questions. */
import { methods } from "../agent/methods/index.ts";
import type { AgentContext, Method } from "../agent/methods/method.ts";
import { checkPromptsFit } from "../agent/prompts.ts";
import { observationIds } from "../agent/observation.ts";
import type { Question } from "../rl/trajectory.ts";
import { callOwn } from "../util/own-code.ts";
import { hasFunctions, loadModule, type Shape } from "./user-module.ts";

export const methodShape: Shape = {
  what: "a method: { name, run(question, context) }, and where it has a dialect { name, tags, stops, prompt, parse, observe, correction }",
  fits: (value) => hasFunctions(value, "run") && (!("dialect" in value) || value.dialect === undefined || isDialect(value.dialect)),
};

function isDialect(value: unknown): boolean {
  if (!hasFunctions(value, "prompt", "parse", "observe")) return false;
  const { name, tags, stops, correction } = value as Readonly<Record<string, unknown>>;
  return typeof name === "string" && [tags, stops, correction].every(Array.isArray);
}

/** One of the table, or a module of the user's own. `where` is what named it. @throws as `loadModule` */
export async function openMethod(name: string, where = "rollout.method"): Promise<Method> {
  const known = Object.entries<Method>(methods).find(([one]) => one === name);
  return known === undefined ? loadModule(name, where, methodShape) : known[1];
}

/**
 * Checks a method's dialect: its prompts of all questions, and the tags of an observation, leave the policy room.
 * @param maxPositions - the policy's
 * @throws DataError, ConfigError for what does not fit; ConfigError where a dialect of the user's fails.
 */
export async function checkMethodFits(
  { name, dialect }: Method,
  questions: readonly Question[],
  context: AgentContext,
  maxPositions: number,
): Promise<void> {
  if (dialect === undefined) return;
  const { maxContextTokens = Infinity, maxTurns, maxObservationTokens } = context.settings;
  await callOwn(`method ${name}`, () => {
    checkPromptsFit(questions, dialect, context, Math.min(maxContextTokens, maxPositions));
    // Throws where the tags alone need more.
    if (maxTurns > 0) observationIds("", dialect, context.tokenizer, maxObservationTokens);
  });
}
