/**
 * What `generate/` offers to the rooms above: sequences of token ids that grow by appending and by sampling, many at once, over
 * several models on one device. It knows no text.
 */
import type { Purpose } from "../util/philox.ts";

/** Names a trajectory for its random numbers: global, never per process. For evaluation `step` is 0 and `rollout` 0. */
export interface TrajectoryKey {
  readonly step: number;
  readonly question: number;
  readonly rollout: number;
}

/** Sampling of one request. temperature 0 is greedy; topK 0 and topP 1 are off. */
export interface SamplingSettings {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
}

/** A compiled stop automaton (`stop-automaton.ts`): what ends a generation besides its budget. */
export interface StopTable {
  readonly states: number;
  readonly vocabulary: number;
  readonly start: number;
  /** [states, vocabulary]: next state. */
  readonly transitions: Uint32Array;
  /** [states]: 0, or 2 + the index of the stop string that was completed, or `EOS_CODE`. */
  readonly accepts: Uint32Array;
  /** The stop strings themselves, for generators that sample elsewhere. */
  readonly texts?: readonly string[];
}

/** Status codes of a row: 0 running, 1 ran out of budget, 2 + i stop string i was completed, EOS_CODE end of sequence. */
export const LENGTH_CODE = 1;
export const FIRST_STOP_CODE = 2;
export const EOS_CODE = 0x7fffffff;

export interface GenerateRequest {
  readonly stop: StopTable;
  readonly maxNewTokens: number;
  readonly sampling: SamplingSettings;
  /** Called whenever ids that were sampled have been added to the sequence. */
  readonly onSampled?: (() => void) | undefined;
}

export interface Generated {
  /** Sampled ids, the token that completes a stop string (kept whole) and the end-of-sequence id included. */
  readonly ids: readonly number[];
  /** log softmax(logits / temperature)[id] over all of V (temperature 1 where greedy), one per id. */
  readonly logProbs: readonly number[];
  readonly reason: "stop" | "eos" | "length";
  /** Which stop string was completed; -1 for "eos" and "length". */
  readonly stopIndex: number;
}

/** One growing sequence with its cache blocks. */
export interface Sequence {
  /** All ids so far: prompt, appended and sampled. */
  readonly ids: readonly number[];
  /** Tokens that may still be added before the context is full. */
  readonly room: number;
  /**
   * Adds ids that the model did not sample (an observation). They are prefilled with the next request.
   * @throws RequestError when they do not fit.
   */
  append(ids: readonly number[]): void;
  /**
   * Samples until a stop, the end of sequence, `maxNewTokens` or the end of the context.
   * @throws RequestError when there is room for no token, or a request is under way.
   */
  generate(request: GenerateRequest): Promise<Generated>;
  /** Gives the cache blocks back. */
  close(): void;
}

export interface OpenOptions {
  /** A model name registered with the generator. */
  readonly model: string;
  /** A LoRA adapter of that model, or none. */
  readonly adapter?: string | undefined;
  readonly key: TrajectoryKey;
  readonly seed: number;
  readonly purpose: Purpose;
  /** Distinguishes sequences of one trajectory (the simulator's request of turn t); 0 for the policy. */
  readonly turn?: number;
  readonly prompt: readonly number[];
}

export interface GeneratorCounts {
  readonly promptTokens: number;
  readonly sampledTokens: number;
  readonly prefillTokens: number;
  /** Prompt tokens whose cache was shared with another sequence instead of computed. */
  readonly sharedTokens: number;
  readonly decodeSteps: number;
  /** Rows of all decode steps together: over `decodeSteps`, how full the batch was. */
  readonly decodeRows: number;
  /** Requests that gave their blocks to earlier ones, and idle sequences that lost theirs: both are prefilled again, with the same results. */
  readonly preemptions: number;
  readonly evictions: number;
  /** Reads that a full interval of decode steps came before; those of them whose steps ran from what had been captured, with nothing to record. */
  readonly intervals: number;
  readonly replayedIntervals: number;
  /** Times that steps could not be asked for before others of the same model had landed. */
  readonly refusedBegins: number;
  /** Landings after which the device had nothing to do, though requests were left. */
  readonly emptyLandings: number;
  readonly blocksInUse: number;
  readonly blocksShared: number;
}

/** Continuous batching over all open sequences. */
export interface Generator {
  open(options: OpenOptions): Sequence;
  /** Counts since the last call, by model. */
  takeCounts(): ReadonlyMap<string, GeneratorCounts>;
}
