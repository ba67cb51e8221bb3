/**
 * Scripted trajectories for the policy's cold start: first its skills, then a base model's habits. Text only; the tokenizer comes later.
 */
import type { Hop } from "./documents.ts";
import type { InventedSource } from "./invented.ts";
import { skillOptions, type PolicyOptions, type Segment } from "./policy-options.ts";
import { formatDocuments, observationText, policyPrompt } from "./prompts.ts";
import { answerTag, inTags, SearchPlanner } from "./search-plan.ts";
import { foundThought, missingThought } from "./thoughts.ts";

const prompt = (text: string, weight: number): Segment => ({ text, kind: "prompt", weight });

/** Writes trajectories; one instance is one deterministic stream. */
export class PolicyScript {
  readonly #planner: SearchPlanner;
  readonly #options: PolicyOptions;

  /** @param purpose - names seed and purpose, for instance "7/policy/skill" */
  constructor(source: InventedSource, purpose: string, options: PolicyOptions = skillOptions) {
    this.#options = options;
    this.#planner = new SearchPlanner(source, purpose, options);
  }

  /** The next example. */
  next(hops: 1 | 2 = this.#planner.hopCount()): Segment[] {
    const plan = this.#planner.hops(hops);
    const u = this.#planner.random.next();
    if (u < this.#options.directShare) return this.#direct(plan);
    if (u < this.#options.directShare + this.#options.ragShare) return this.#rag(plan);
    return this.#searching(plan);
  }

  #policy(text: string): Segment {
    return { text, kind: "policy", weight: this.#options.policyWeight };
  }

  #observe(documents: readonly string[]): Segment {
    return { text: observationText(documents), kind: "observation", weight: this.#options.observationWeight };
  }

  #searching(plan: readonly Hop[]): Segment[] {
    const head = prompt(policyPrompt("zerosearch", this.#planner.question(plan)), this.#options.promptWeight);
    const steps = this.#planner.searching(plan).flatMap((step): Segment[] => {
      const said = this.#policy(inTags(step));
      return step.kind === "search" ? [said, this.#observe(step.documents)] : [said];
    });
    return [head, ...steps];
  }

  #direct(plan: readonly Hop[]): Segment[] {
    const last = plan[plan.length - 1] as Hop;
    const known = !last.country.id.startsWith("~");
    return [
      prompt(policyPrompt("direct", this.#planner.question(plan)), this.#options.promptWeight),
      this.#policy(answerTag(known ? last.value : this.#planner.guess(last))),
    ];
  }

  #rag(plan: readonly Hop[]): Segment[] {
    const { random, documents: maker } = this.#planner;
    const last = plan[plan.length - 1] as Hop;
    const hop = plan[0] as Hop;
    const found = random.chance(0.75);
    const documents = found ? maker.useful(hop) : maker.noisy(hop, this.#options.noiseKinds);
    const head = policyPrompt("rag", this.#planner.question(plan), formatDocuments(documents));
    const read = found ? foundThought(hop) : missingThought(hop);
    return [
      prompt(head, this.#options.promptWeight),
      this.#policy(read + answerTag(found && plan.length === 1 ? last.value : this.#planner.guess(last))),
    ];
  }
}

/** All texts of an example in a row. */
export function segmentText(segments: readonly Segment[]): string {
  return segments.map((segment) => segment.text).join("");
}
