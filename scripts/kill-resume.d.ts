export interface KillOptions {
  /** Arguments of `node train.js`: `--config FILE` and settings; name and output folders are chosen here. */
  readonly args: readonly string[];
  /** How often a run is killed in all; as many runs are made as that takes. */
  readonly kills: number;
  /** Everything is written here. */
  readonly folder: string;
  /** Seed of the moments of the kills. 1 unless told. */
  readonly seed?: number;
  readonly say?: (line: string) => void;
}

export interface Kill {
  readonly run: string;
  /** Whether the kill waited for a save to begin. */
  readonly aim: "saving" | "any moment";
  /** Milliseconds after the start of the process. */
  readonly after: number;
  /** What was half written at that moment. */
  readonly unfinished: readonly string[];
  /** The newest saved step afterwards; 0 for none. */
  readonly step: number;
}

/** Kills and resumes runs until they end, and compares each with a run that was left alone. @throws Error saying what differs. */
export function killAndResume(options: KillOptions): Promise<readonly Kill[]>;

/** What two runs with one seed must agree in. @throws Error naming what differs. */
export function compareRuns(folder: string, name: string, other: string): void;
