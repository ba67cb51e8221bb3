/** The log files of a run, kept in step with its saved states. */
import { join } from "node:path";
import { writeFileAtomic } from "../checkpoint/atomic.ts";
import { printConfig, runConfigFile, type Config } from "../config/index.ts";
import { JsonLines, truncateAfterStep } from "../log/json-lines.ts";
import type { MetricRow, RolloutRow } from "../log/rows.ts";

export interface RunLogs {
  readonly metrics: JsonLines<MetricRow>;
  readonly rollouts: JsonLines<RolloutRow>;
  /** The files' sizes: what a saved state records. */
  bytes(): Record<string, number>;
  /** Puts everything on the disk. */
  sync(): void;
  close(): void;
}

const METRICS = "metrics.jsonl";
const ROLLOUTS = "rollouts.jsonl";

/**
 * Opens the logs for step `done + 1`: rows of later steps, which a killed program had written after its last saved state, are cut off.
 * @param logBytes - sizes that the saved state recorded; a log that is now shorter is told by `warn`
 * @throws FileError when the folder cannot be written.
 */
export async function openRunLogs(
  config: Config,
  done: number,
  logBytes: Readonly<Record<string, number>>,
  warn: (text: string) => void,
): Promise<RunLogs> {
  const folder = join(config.output.runs, config.name);
  await writeFileAtomic(join(folder, runConfigFile), printConfig(config));
  for (const name of [METRICS, ROLLOUTS]) {
    const kept = truncateAfterStep(join(folder, name), done);
    const recorded = logBytes[name] ?? 0;
    if (kept !== recorded)
      warn(
        `warning: ${join(folder, name)} holds ${kept} bytes up to step ${done}, the saved state recorded ${recorded}: somebody changed it.`,
      );
  }
  const metrics = new JsonLines<MetricRow>(join(folder, METRICS));
  const rollouts = new JsonLines<RolloutRow>(join(folder, ROLLOUTS));
  return {
    metrics,
    rollouts,
    bytes: () => ({ [METRICS]: metrics.bytes, [ROLLOUTS]: rollouts.bytes }),
    sync() {
      metrics.sync();
      rollouts.sync();
    },
    close() {
      metrics.close();
      rollouts.close();
    },
  };
}
