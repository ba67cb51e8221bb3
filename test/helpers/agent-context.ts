/** A rollout's surroundings, with a policy that speaks by script: for tests of the agent room. */
import { expect } from "vitest";
import type { AgentSettings, MethodContext } from "../../src/agent/methods/method.ts";
import type { PromptSettings } from "../../src/agent/prompts.ts";
import { compileStopsOnce } from "../../src/generate/stop-automaton.ts";
import type { Question, SearchTrajectory } from "../../src/rl/trajectory.ts";
import { parseDocuments } from "../../src/search/documents.ts";
import type { SearchEngine, SearchRequest } from "../../src/search/search-engine.ts";
import { byteCodec, eosId, scriptedLogProb, ScriptedGenerator, tokenBytes, vocabulary, type Script } from "./scripted-generator.ts";

export const templates = { zerosearch: "Q: {question}\n", direct: "D: {question}\n", rag: "{documents}\nR: {question}\n" };
export const question: Question = { id: "7", question: "Capital of France?", goldenAnswers: ["Paris"], dataSource: "test" };
export const stops = compileStopsOnce({ eosIds: [eosId], tokenBytes }, vocabulary);

export function engineOf(reply: (request: SearchRequest) => string): SearchEngine & { readonly requests: SearchRequest[] } {
  const requests: SearchRequest[] = [];
  return {
    name: "fake",
    requests,
    search: async (request) => {
      requests.push(request);
      return { documents: parseDocuments(reply(request)), kind: "real" as const };
    },
    close: async () => undefined,
  };
}

export const noSearch = engineOf(() => {
  throw new Error("nobody should search");
});

export function setUp(
  turns: readonly (string | readonly number[])[] | Script,
  settings: Partial<AgentSettings> = {},
  context = 100_000,
  prompts: PromptSettings = { templates },
) {
  const generator = new ScriptedGenerator({ policy: typeof turns === "function" ? turns : (_, turn) => turns[turn] ?? "" }, { context });
  const engine = engineOf(() => "Doc 1: Paris is the capital of France.");
  const agent: MethodContext = {
    generator,
    engine,
    tokenizer: byteCodec,
    stops,
    prompts,
    key: { step: 3, question: 7, rollout: 1 },
    settings: {
      model: "policy",
      maxTurns: 3,
      maxNewTokens: 200,
      maxObservationTokens: 500,
      sampling: { temperature: 1, topK: 0, topP: 1 },
      seed: 1,
      purpose: "policySample",
      ...settings,
    },
  };
  return { generator, engine, agent };
}

/** The text of each stretch of equal mask, as [mask, text]. */
export function stretches({ ids, lossMask }: SearchTrajectory): [number, string][] {
  const out: [number, string][] = [];
  for (let i = 0; i < ids.length;) {
    let end = i;
    while (end < ids.length && lossMask[end] === lossMask[i]) end++;
    out.push([lossMask[i] as number, byteCodec.decode(ids.slice(i, end))]);
    i = end;
  }
  return out;
}

export function expectAligned(trajectory: SearchTrajectory): void {
  expect(trajectory.lossMask).toHaveLength(trajectory.ids.length);
  expect(trajectory.logProbs).toHaveLength(trajectory.ids.length);
  trajectory.logProbs.forEach((value, i) => expect(value).toBe(trajectory.lossMask[i] === 1 ? scriptedLogProb(i) : 0));
}
