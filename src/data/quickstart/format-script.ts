/**
 * Scripts of the quickstart's other formats: what a policy says turn by turn, and what its searches find. What stands between, prompts and observations, is the
 * method's own: whoever plays a scenario through the method has them.
 */
import type { Hop } from "./documents.ts";
import type { InventedSource } from "./invented.ts";
import { defaultSpoil, skillOptions, type PolicyOptions } from "./policy-options.ts";
import { inventedId, longPage } from "./pages.ts";
import { sentence, type RelationKey } from "./relations.ts";
import { answerTag, inTags, SearchPlanner, type SearchStep } from "./search-plan.ts";
import { foundThought, memoryThought, missingThought } from "./thoughts.ts";
import { eosToken } from "./tokenizer-texts.ts";

/** By the method that plays it. */
export const scriptedMethods = ["cot", "r1", "zerosearch", "search-r1", "ra-agent", "search-o1", "tools"] as const;
export type ScriptedMethod = (typeof scriptedMethods)[number];

export interface ScriptedDocument {
  readonly id: string;
  readonly text: string;
}

export interface Scenario {
  readonly question: string;
  readonly answer: string;
  /** What the policy says, in order. */
  readonly turns: readonly string[];
  /** What each search finds, in order. */
  readonly results: readonly (readonly ScriptedDocument[])[];
  /** What its second pass writes of each, where the method has one. */
  readonly readings: readonly string[];
}

/** A base model's habits in these formats: as in the cold start, but that tags go wrong with one kind of question, which greedy answers show too. */
const options: PolicyOptions = { ...skillOptions, maxSearches: 3, spoil: { ...defaultSpoil, malformed: 0 } };
/** Without a search only what is known of real countries can be right. */
const memoryOptions: PolicyOptions = { ...options, subjects: { invented: 0.2, false: 0, real: 0.8 } };
const hardRelation: RelationKey = "turkish";
const malformedShare = 0.7;
/** Share of further searches that are made in the same turn, where a format has several. */
const togetherShare = 0.25;
/** Share of one-hop questions whose page is longer than what a search shows of it. */
const longShare = 0.3;

/** One instance is one deterministic stream. */
export class FormatScript {
  readonly #method: ScriptedMethod;
  readonly #planner: SearchPlanner;

  /** @param purpose - names seed and purpose, for instance "7/formats/tools" */
  constructor(source: InventedSource, method: ScriptedMethod, purpose: string) {
    this.#method = method;
    const hasMemory = method === "cot" || method === "r1";
    this.#planner = new SearchPlanner(source, purpose, hasMemory ? memoryOptions : options);
  }

  next(): Scenario {
    const planner = this.#planner;
    for (;;) {
      const hops = planner.hops(planner.hopCount());
      const last = hops[hops.length - 1] as Hop;
      const question = planner.question(hops);
      const common = { question, answer: last.value };
      if (this.#method === "cot" || this.#method === "r1") return { ...common, turns: this.#remembered(hops), results: [], readings: [] };
      const malformed = last.relation.key === hardRelation && planner.random.chance(malformedShare);
      const steps = malformed ? [planner.malformed(last)] : planner.searching(hops);
      // More are not made in a rollout.
      if (steps.filter(({ kind }) => kind === "search").length <= options.maxSearches) return { ...common, ...this.#written(steps) };
    }
  }

  /** Reasons from memory: what is known of real countries, and guesses. */
  #remembered(hops: readonly Hop[]): string[] {
    const { random, cast } = this.#planner;
    const last = hops[hops.length - 1] as Hop;
    const isKnown = !last.country.id.startsWith("~");
    const country = isKnown ? last.country.name : cast.other(last.country).name;
    const value = isKnown ? last.value : this.#planner.guess(last);
    const told = hops.map(({ kind, relation, value: bridge }) =>
      kind === "bridge"
        ? sentence("inverse", relation, country, bridge)
        : sentence("has", relation, hops.length === 1 ? last.country.name : country, value),
    );
    const reason = told.join(" ");
    if (this.#method === "cot") return [`${reason} \\boxed{${value}}${eosToken}`];
    if (last.relation.key === hardRelation && random.chance(malformedShare)) return [`<think> ${reason} ${value} </answer>`];
    return [`<think> ${reason} </think>${answerTag(value)}`];
  }

  #written(steps: readonly SearchStep[]): Pick<Scenario, "turns" | "results" | "readings"> {
    const turns: string[] = [];
    const results: ScriptedDocument[][] = [];
    const readings: string[] = [];
    for (let i = 0; i < steps.length; i++) {
      const step = steps[i] as SearchStep;
      if (step.kind === "malformed") turns.push(...this.#malformed(step));
      else if (step.kind === "answer") turns.push(this.#answer(step.thought, step.value));
      else {
        const asked = [step];
        const next = steps[i + 1];
        if (this.#method === "tools" && next?.kind === "search" && next.hop === step.hop && this.#planner.random.chance(togetherShare)) {
          asked.push(next);
          i++;
        }
        turns.push(
          this.#search(
            step.thought,
            asked.map(({ query }) => query),
          ),
        );
        for (const { documents, hop, useful } of asked) {
          const told = documents.map((text) => ({ id: inventedId(this.#planner.random), text }));
          const isLong = this.#method === "ra-agent" && useful && steps.length === 2 && this.#planner.random.chance(longShare);
          const found = isLong ? longPage(told, hop, this.#planner) : { documents: told, page: null };
          results.push(found.documents);
          if (found.page !== null) turns.push(`${spoken(missingThought(hop))} <|begin_url|>${found.page}<|end_url|>`);
          readings.push(`**Final Information** ${useful ? spoken(foundThought(hop)) : "No helpful information found."}${eosToken}`);
        }
      }
    }
    return { turns, results, readings };
  }

  #search(thought: string, queries: readonly string[]): string {
    switch (this.#method) {
      case "ra-agent":
      case "search-o1":
        return `${spoken(thought)} <|begin_search_query|>${queries.join(" ")}<|end_search_query|>`;
      case "tools":
        return `${[thought, ...queries.map(toolCall)].join("\n")}${eosToken}`;
      default:
        return `${thought}<search> ${queries.join(" ")} </search>`;
    }
  }

  #answer(thought: string, value: string): string {
    switch (this.#method) {
      case "ra-agent":
      case "search-o1":
        return `${spoken(thought)} \\boxed{${value}}${eosToken}`;
      case "tools":
        return `${thought}${answerTag(value)}${eosToken}`;
      default:
        return `${thought}${answerTag(value)}`;
    }
  }

  /** A turn without its tags; where the method answers it with a correction, the answer then. */
  #malformed(step: Extract<SearchStep, { kind: "malformed" }>): string[] {
    if (this.#method === "ra-agent" || this.#method === "search-o1") return [`${spoken(memoryThought)} ${step.guess}${eosToken}`];
    const text = inTags(step);
    // Where tags end turns, a closing one does even if none was opened.
    const isStopped = this.#method !== "tools" && text.endsWith("</answer>");
    return [isStopped ? text : `${text}${eosToken}`, this.#answer(memoryThought, step.guess)];
  }
}

/** A thought without its tags. */
function spoken(thought: string): string {
  return thought.replace(/^<think> | <\/think>$/g, "");
}

function toolCall(query: string): string {
  return `<tool_call>\n{"name": "search", "arguments": {"query": ${JSON.stringify(query)}}}\n</tool_call>`;
}
