/** What a scripted example is made of, and all that may be varied in the policy's data. */
import { defaultNoiseShares, type NoiseShares } from "./documents.ts";
import { defaultSubjectShares, type SubjectShares } from "./invented.ts";
import { defaultSentenceShares, type RelationKey, type SentenceShares } from "./relations.ts";

/** A piece of a training example. The texts of all pieces in a row are the example; each piece is encoded on its own. */
export interface Segment {
  readonly text: string;
  /** `policy`: what the trained model writes. `observation`, `prompt`: what it is given. */
  readonly kind: "prompt" | "policy" | "observation";
  /** Loss weight of predicting this piece's tokens. */
  readonly weight: number;
}

/** The habits of a base model, as shares. */
export interface SpoilShares {
  /** No opening tag, or an answer that is never closed. */
  readonly malformed: number;
  /** Answers from memory, wrongly, on the relations that it thinks it knows ... */
  readonly directKnown: number;
  /** ... and on the others. */
  readonly directOther: number;
  readonly knownRelations: readonly RelationKey[];
  /** One-hop queries that ask for something else. */
  readonly sloppyQuery: number;
  /** Reads a wrong value off useful documents. */
  readonly misread: number;
  /** After noise answers with a guess instead of searching again. */
  readonly guessAfterNoise: number;
  /** Answers with the country after the first of two hops. */
  readonly stopAtBridge: number;
}

/** All that may be varied in the policy's data. */
export interface PolicyOptions {
  readonly twoHopShare: number;
  /** Share of document sets that are noisy, drawn for each search. */
  readonly noiseShare: number;
  readonly noiseKinds: NoiseShares;
  /** After this many searches in a trajectory no more noise comes (skill only). */
  readonly maxSearches: number;
  /** Shares of examples in the formats of the baselines. */
  readonly directShare: number;
  readonly ragShare: number;
  /** Loss weight of what the policy writes. */
  readonly policyWeight: number;
  readonly promptWeight: number;
  readonly observationWeight: number;
  readonly sentences: SentenceShares;
  readonly subjects: SubjectShares;
  /** Absent: good trajectories only. */
  readonly spoil?: SpoilShares;
}

/** Good trajectories. */
export const skillOptions: PolicyOptions = {
  twoHopShare: 0.5,
  noiseShare: 0.35,
  noiseKinds: defaultNoiseShares,
  maxSearches: 4,
  directShare: 0.03,
  ragShare: 0.06,
  policyWeight: 1,
  promptWeight: 0.1,
  observationWeight: 0.2,
  sentences: defaultSentenceShares,
  subjects: defaultSubjectShares,
};

/** The habits that reinforcement learning is to break. */
export const defaultSpoil: SpoilShares = {
  malformed: 0.04,
  directKnown: 0.68,
  directOther: 0.35,
  knownRelations: ["region", "subregion", "capital", "currency", "language", "border", "french"],
  sloppyQuery: 0.15,
  misread: 0.08,
  guessAfterNoise: 0.25,
  stopAtBridge: 0.6,
};
