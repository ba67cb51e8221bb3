/**
 * Scripted trajectories for the policy's cold start: first its skills, then a base model's habits. Text only; the tokenizer comes later.
 */
import { DocumentMaker, makeHops, type Hop } from "./documents.ts";
import { Cast, type InventedSource } from "./invented.ts";
import { skillOptions, type PolicyOptions, type Segment } from "./policy-options.ts";
import { formatDocuments, observationText, policyPrompt } from "./prompts.ts";
import { makeRandom, type Random } from "../random.ts";
import { bridgeQuery, query } from "./relations.ts";
import { bridgeThought, foundThought, memoryThought, missingThought, searchThought } from "./thoughts.ts";
import { singleHopText, twoHopText } from "./world.ts";

const prompt = (text: string, weight: number): Segment => ({ text, kind: "prompt", weight });

function search(text: string): string {
  return `<search> ${text} </search>`;
}

function answer(text: string): string {
  return `<answer> ${text} </answer>`;
}

/** Writes trajectories; one instance is one deterministic stream. */
export class PolicyScript {
  readonly #random: Random;
  readonly #cast: Cast;
  readonly #documents: DocumentMaker;
  readonly #options: PolicyOptions;

  /** @param purpose - names seed and purpose, for instance "7/policy/skill" */
  constructor(source: InventedSource, purpose: string, options: PolicyOptions = skillOptions) {
    this.#options = options;
    this.#random = makeRandom(purpose);
    this.#cast = new Cast(source, purpose, options.subjects);
    this.#documents = new DocumentMaker(makeRandom(`${purpose}/documents`), this.#cast, options.sentences);
  }

  /** The next example. */
  next(hops: 1 | 2 = this.#random.chance(this.#options.twoHopShare) ? 2 : 1): Segment[] {
    for (;;) {
      const plan = makeHops(this.#cast.subject(), hops, this.#random);
      if (plan === undefined) continue;
      const u = this.#random.next();
      if (u < this.#options.directShare) return this.#direct(plan);
      if (u < this.#options.directShare + this.#options.ragShare) return this.#rag(plan);
      return this.#searching(plan);
    }
  }

  #question(plan: readonly Hop[]): string {
    const [first, last] = [plan[0] as Hop, plan[plan.length - 1] as Hop];
    return plan.length === 1
      ? singleHopText(last.relation, last.country.name, this.#random.chance(0.5) ? 1 : 0)
      : twoHopText(last.relation, first.relation, first.value);
  }

  #head(plan: readonly Hop[]): Segment {
    return prompt(policyPrompt("zerosearch", this.#question(plan)), this.#options.promptWeight);
  }

  #policy(text: string): Segment {
    return { text, kind: "policy", weight: this.#options.policyWeight };
  }

  #observe(documents: readonly string[]): Segment {
    return { text: observationText(documents), kind: "observation", weight: this.#options.observationWeight };
  }

  #ask(hop: Hop, attempt: number): string {
    return search(hop.kind === "fact" ? query(hop.relation, hop.country.name, attempt) : bridgeQuery(hop.relation, hop.value, attempt));
  }

  /** A value that the relation has elsewhere: what a model says that does not know. */
  #guess(hop: Hop): string {
    return this.#cast.inventor.borrowed(hop.relation.key);
  }

  #malformed(last: Hop): Segment {
    const guess = this.#guess(last);
    return this.#policy(
      this.#random.pick([`<think> I know this. ${guess} </answer>`, `${memoryThought}<answer> ${guess}`, `${searchThought}${guess}`]),
    );
  }

  #sloppy(hop: Hop): string {
    const other = makeHops(this.#random.chance(0.5) ? hop.country : this.#cast.other(hop.country), 1, this.#random)?.[0];
    return this.#random.pick([
      hop.country.name,
      `${hop.relation.noun} of the country`,
      other === undefined ? hop.relation.noun : query(other.relation, other.country.name),
    ]);
  }

  /** Searches until all hops are found, or until a habit of `spoil` ends it. */
  #searching(plan: readonly Hop[]): Segment[] {
    const { noiseKinds, noiseShare, maxSearches, spoil } = this.#options;
    const random = this.#random;
    const last = plan[plan.length - 1] as Hop;
    const segments = [this.#head(plan)];
    let say = plan.length === 2 ? bridgeThought : searchThought;
    const end = (value: string, thought = say): Segment[] => [...segments, this.#policy(thought + answer(value))];
    if (spoil !== undefined) {
      if (random.chance(spoil.malformed)) return [...segments, this.#malformed(last)];
      const known = spoil.knownRelations.includes(last.relation.key);
      if (random.chance(known ? spoil.directKnown : spoil.directOther)) return end(this.#guess(last), memoryThought);
    }
    let searches = 0;
    for (const [at, hop] of plan.entries()) {
      for (let attempt = 0; ; attempt++) {
        const sloppy = spoil !== undefined && plan.length === 1 && attempt === 0 && random.chance(spoil.sloppyQuery);
        segments.push(this.#policy(say + (sloppy ? search(this.#sloppy(hop)) : this.#ask(hop, attempt))));
        searches++;
        const mayMiss = spoil === undefined ? searches < maxSearches - (plan.length - 1 - at) : attempt < 2;
        if (sloppy || (mayMiss && random.chance(noiseShare))) {
          segments.push(this.#observe(this.#documents.noisy(hop, noiseKinds)));
          say = missingThought(hop);
          if (spoil !== undefined && random.chance(spoil.guessAfterNoise)) return end(this.#guess(last));
          continue;
        }
        segments.push(this.#observe(this.#documents.useful(hop)));
        const misread = spoil !== undefined && random.chance(spoil.misread);
        const read = misread ? (hop.kind === "fact" ? this.#guess(hop) : this.#cast.other(hop.country).name) : undefined;
        say = foundThought(hop, read);
        if (read !== undefined && hop.kind === "fact") return end(read);
        if (spoil !== undefined && hop.kind === "bridge" && random.chance(spoil.stopAtBridge)) return end(hop.country.name);
        break;
      }
    }
    return end(last.value);
  }

  #direct(plan: readonly Hop[]): Segment[] {
    const last = plan[plan.length - 1] as Hop;
    const known = !last.country.id.startsWith("~");
    return [
      prompt(policyPrompt("direct", this.#question(plan)), this.#options.promptWeight),
      this.#policy(answer(known ? last.value : this.#guess(last))),
    ];
  }

  #rag(plan: readonly Hop[]): Segment[] {
    const last = plan[plan.length - 1] as Hop;
    const hop = plan[0] as Hop;
    const found = this.#random.chance(0.75);
    const documents = found ? this.#documents.useful(hop) : this.#documents.noisy(hop, this.#options.noiseKinds);
    const head = policyPrompt("rag", this.#question(plan), formatDocuments(documents));
    const read = found ? foundThought(hop) : missingThought(hop);
    return [
      prompt(head, this.#options.promptWeight),
      this.#policy(read + answer(found && plan.length === 1 ? last.value : this.#guess(last))),
    ];
  }
}

/** All texts of an example in a row. */
export function segmentText(segments: readonly Segment[]): string {
  return segments.map((segment) => segment.text).join("");
}
