/**
 * What a scripted policy does with a question, whatever format it is written in: its searches with what they find, and the answer; where habits are asked for, a base
 * model's.
 */
import { makeRandom, type Random } from "../random.ts";
import { DocumentMaker, makeHops, type Hop } from "./documents.ts";
import { Cast, type InventedSource } from "./invented.ts";
import type { PolicyOptions } from "./policy-options.ts";
import { bridgeQuery, query } from "./relations.ts";
import { bridgeThought, foundThought, memoryThought, missingThought, searchThought } from "./thoughts.ts";
import { singleHopText, twoHopText } from "./world.ts";

/** One turn. `thought` stands in think tags. */
export type SearchStep =
  | {
      readonly kind: "search";
      readonly thought: string;
      readonly hop: Hop;
      readonly query: string;
      readonly documents: readonly string[];
      /** Whether they tell the hop's value. */
      readonly useful: boolean;
    }
  | { readonly kind: "answer"; readonly thought: string; readonly value: string }
  /** Neither a search nor an answer: tags are missing. */
  | { readonly kind: "malformed"; readonly form: 0 | 1 | 2; readonly guess: string };

/** Makes plans; one instance is one deterministic stream. */
export class SearchPlanner {
  readonly random: Random;
  readonly cast: Cast;
  readonly documents: DocumentMaker;
  readonly #options: PolicyOptions;

  /** @param purpose - names seed and purpose, for instance "7/policy/skill" */
  constructor(source: InventedSource, purpose: string, options: PolicyOptions) {
    this.#options = options;
    this.random = makeRandom(purpose);
    this.cast = new Cast(source, purpose, options.subjects);
    this.documents = new DocumentMaker(makeRandom(`${purpose}/documents`), this.cast, options.sentences);
  }

  /** Whether the next question has one hop or two. */
  hopCount(): 1 | 2 {
    return this.random.chance(this.#options.twoHopShare) ? 2 : 1;
  }

  /** A question's hops. */
  hops(count: 1 | 2): Hop[] {
    for (;;) {
      const hops = makeHops(this.cast.subject(), count, this.random);
      if (hops !== undefined) return hops;
    }
  }

  question(hops: readonly Hop[]): string {
    const [first, last] = [hops[0] as Hop, hops[hops.length - 1] as Hop];
    return hops.length === 1
      ? singleHopText(last.relation, last.country.name, this.random.chance(0.5) ? 1 : 0)
      : twoHopText(last.relation, first.relation, first.value);
  }

  /** A value that the relation has elsewhere: what a model says that does not know. */
  guess(hop: Hop): string {
    return this.cast.inventor.borrowed(hop.relation.key);
  }

  malformed(last: Hop): SearchStep {
    const guess = this.guess(last);
    return { kind: "malformed", form: this.random.pick([0, 1, 2] as const), guess };
  }

  #ask(hop: Hop, attempt: number): string {
    return hop.kind === "fact" ? query(hop.relation, hop.country.name, attempt) : bridgeQuery(hop.relation, hop.value, attempt);
  }

  #sloppy(hop: Hop): string {
    const other = makeHops(this.random.chance(0.5) ? hop.country : this.cast.other(hop.country), 1, this.random)?.[0];
    return this.random.pick([
      hop.country.name,
      `${hop.relation.noun} of the country`,
      other === undefined ? hop.relation.noun : query(other.relation, other.country.name),
    ]);
  }

  /** Searches until all hops are found, or until a habit of `spoil` ends it. */
  searching(hops: readonly Hop[]): SearchStep[] {
    const { noiseKinds, noiseShare, maxSearches, spoil } = this.#options;
    const random = this.random;
    const last = hops[hops.length - 1] as Hop;
    const steps: SearchStep[] = [];
    let say = hops.length === 2 ? bridgeThought : searchThought;
    const end = (value: string, thought = say): SearchStep[] => [...steps, { kind: "answer", thought, value }];
    if (spoil !== undefined) {
      if (random.chance(spoil.malformed)) return [this.malformed(last)];
      const known = spoil.knownRelations.includes(last.relation.key);
      if (random.chance(known ? spoil.directKnown : spoil.directOther)) return end(this.guess(last), memoryThought);
    }
    let searches = 0;
    for (const [at, hop] of hops.entries()) {
      for (let attempt = 0; ; attempt++) {
        const sloppy = spoil !== undefined && hops.length === 1 && attempt === 0 && random.chance(spoil.sloppyQuery);
        const asked = { kind: "search", thought: say, hop, query: sloppy ? this.#sloppy(hop) : this.#ask(hop, attempt) } as const;
        searches++;
        const mayMiss = spoil === undefined ? searches < maxSearches - (hops.length - 1 - at) : attempt < 2;
        if (sloppy || (mayMiss && random.chance(noiseShare))) {
          steps.push({ ...asked, documents: this.documents.noisy(hop, noiseKinds), useful: false });
          say = missingThought(hop);
          if (spoil !== undefined && random.chance(spoil.guessAfterNoise)) return end(this.guess(last));
          continue;
        }
        steps.push({ ...asked, documents: this.documents.useful(hop), useful: true });
        const misread = spoil !== undefined && random.chance(spoil.misread);
        const read = misread ? (hop.kind === "fact" ? this.guess(hop) : this.cast.other(hop.country).name) : undefined;
        say = foundThought(hop, read);
        if (read !== undefined && hop.kind === "fact") return end(read);
        if (spoil !== undefined && hop.kind === "bridge" && random.chance(spoil.stopAtBridge)) return end(hop.country.name);
        break;
      }
    }
    return end(last.value);
  }
}

export function answerTag(value: string): string {
  return `<answer> ${value} </answer>`;
}

/** A turn in ZeroSearch's tags. */
export function inTags(step: SearchStep): string {
  switch (step.kind) {
    case "search":
      return `${step.thought}<search> ${step.query} </search>`;
    case "answer":
      return step.thought + answerTag(step.value);
    case "malformed":
      return [`<think> I know this. ${step.guess} </answer>`, `${memoryThought}<answer> ${step.guess}`, `${searchThought}${step.guess}`][
        step.form
      ] as string;
  }
}
