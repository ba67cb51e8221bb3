/** The log files of a run, kept in step with its saved states. */
import { join } from "node:path";
import { writeFileAtomic } from "../checkpoint/atomic.ts";
import type { RunState } from "../checkpoint/run-state.ts";
import { printConfig, runConfigFile, type Config } from "../config/index.ts";
import { JsonLines, truncateAfterStep } from "../log/json-lines.ts";
import type { MetricRow, RolloutRow } from "../log/rows.ts";

export interface RunLogs {
  /** Adds the rows of a step. @returns the error where the disk is full: they are then written with the next ones, or by `sync`. */
  append(metrics: MetricRow, rollouts: readonly RolloutRow[]): Error | null;
  /** The files' sizes: what a saved state records. */
  bytes(): Record<string, number>;
  /** Puts everything on the disk. @throws FileError */
  sync(): void;
  /** Rows that could not be written, by file. */
  unwritten(): Record<string, string>;
  close(): void;
}

const METRICS = "metrics.jsonl";
const ROLLOUTS = "rollouts.jsonl";

/**
 * Opens the logs for step `done + 1`: rows of later steps, which a killed program had written after its last saved state, are cut off.
 * @param state - the saved state: the sizes that it recorded, and rows that were not written; a log that is now shorter is told by `warn`
 * @throws FileError when the folder cannot be written.
 */
export async function openRunLogs(
  config: Config,
  done: number,
  state: RunState | undefined,
  warn: (text: string) => void,
): Promise<RunLogs> {
  const folder = join(config.output.runs, config.name);
  await writeFileAtomic(join(folder, runConfigFile), printConfig(config));
  const logs = [METRICS, ROLLOUTS].map((name) => {
    const file = join(folder, name);
    const recorded = state?.logBytes[name];
    const rest = unwrittenOf(state)[name] ?? "";
    const before = (recorded ?? 0) - Buffer.byteLength(rest);
    // Where these rows were written after all, they are in the file.
    const kept = truncateAfterStep(file, done, recorded);
    if (kept !== recorded && kept !== before && state !== undefined)
      warn(`warning: ${file} holds ${kept} bytes up to step ${done}, the saved state recorded ${recorded ?? 0}: somebody changed it.`);
    const log = new JsonLines<object>(file);
    if (kept === before && rest !== "") log.appendText(rest);
    return log;
  });
  const [metrics, rollouts] = logs as [JsonLines<object>, JsonLines<object>];
  return {
    append(row, rows) {
      const faults = [(): void => metrics.append([row]), (): void => rollouts.append(rows)].map((write) => {
        try {
          write();
          return null;
        } catch (error) {
          return error as Error;
        }
      });
      return faults[0] ?? faults[1] ?? null;
    },
    bytes: () => ({ [METRICS]: metrics.bytes, [ROLLOUTS]: rollouts.bytes }),
    sync: () => logs.forEach((log) => log.sync()),
    unwritten: () =>
      Object.fromEntries(
        [
          [METRICS, metrics.unwritten],
          [ROLLOUTS, rollouts.unwritten],
        ].filter(([, text]) => text !== ""),
      ) as Record<string, string>,
    close: () => logs.forEach((log) => log.close()),
  };
}

function unwrittenOf(state: RunState | undefined): Readonly<Record<string, string>> {
  return (state?.extra["unwritten"] ?? {}) as Record<string, string>;
}
