/** What a model's pool is told, how it sorts its requests, and what it counts. */
import type { Dtype } from "../device/device.ts";
import type { DecodeRows } from "./decode-rows.ts";
import type { ActiveRequest } from "./sequence.ts";
import type { GeneratorCounts } from "./types.ts";

export interface PoolSettings {
  readonly maxRows: number;
  readonly maxPrefillTokens: number;
  readonly readInterval: number;
  readonly sharing: boolean;
  readonly cacheDtype: Dtype;
  readonly blocks: number;
  /** The weights never change: prefixes are kept while no sequence is open. */
  readonly frozen: boolean;
}

/** Requests under one adapter. */
export interface Lane {
  readonly adapter: string | undefined;
  readonly rows: DecodeRows;
  waiting: ActiveRequest[];
  /** Steps of other lanes since its own were last asked for. */
  passedOver: number;
}

/** Counts that run on; the blocks are asked for when the counts are taken. */
export type RunningCounts = { -readonly [K in Exclude<keyof GeneratorCounts, "blocksInUse" | "blocksShared">]: number };

export function zeroCounts(): RunningCounts {
  return {
    promptTokens: 0,
    sampledTokens: 0,
    prefillTokens: 0,
    sharedTokens: 0,
    decodeSteps: 0,
    decodeRows: 0,
    preemptions: 0,
    evictions: 0,
    intervals: 0,
    replayedIntervals: 0,
    refusedBegins: 0,
    emptyLandings: 0,
  };
}
