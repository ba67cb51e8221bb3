/** What measuring tiles takes, and what comes of it. */
import type { Tuning, TuningPlace } from "./tuning.ts";

export interface TuneOptions {
  /** About how long it may take. What is not measured by then stays with the rule. */
  readonly seconds: number;
  /** Of so many measurements so many are done; `what` is under way. */
  readonly onProgress?: ((done: number, total: number, what: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Of c[M, N] = op(a)[M, K] op(b)[K, N]. */
export interface TunedProduct {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  /** For people. */
  readonly name: string;
  /** By the rule: how it is cut, and how long it takes. */
  readonly rule: string;
  readonly ruleSeconds: number;
  /** As tuned. */
  readonly tuned: string;
  readonly tunedSeconds: number;
  /** Variants that were measured, and whether all had the bits of the rule's. */
  readonly variants: number;
  readonly same: boolean;
}

export interface TuningReport {
  readonly tuning: Tuning;
  /** Where it holds. */
  readonly place: TuningPlace;
  readonly software: boolean;
  /** The device, in words. */
  readonly device: string;
  readonly products: readonly TunedProduct[];
  /** Variants that differ from the rule in their bits, or fail: a fault of the driver, or of this program. Those are never taken. */
  readonly faults: readonly string[];
  /** What there was too little time to decide, which is as the rule has it: "groups", and classes of rows. */
  readonly undecided: readonly string[];
  /** Whether anything was decided at all. */
  readonly decided: boolean;
  /** Measurements for which there was no time. */
  readonly left: number;
}
