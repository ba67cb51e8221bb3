/** How a run ends that is not finished: what is kept of it, and how it goes on. */
import { basename, join } from "node:path";
import { stepName } from "../checkpoint/run-state.ts";
import type { Config } from "../config/index.ts";
import { logFolder } from "./run.ts";
import type { States } from "./states.ts";

/** A run that ends now. */
export interface Leaving {
  readonly config: Config;
  /** Steps done. */
  readonly done: number;
  /** The newest state that is saved. */
  readonly newest: States["newest"];
  /** Saves the last step, in the run's folder or in `place`; null where there is nothing to save: no step was done, or one is half done. */
  readonly save: ((place?: string) => Promise<void>) | null;
}

/** Saves what is whole, in `output.spare` where the run's own folder cannot be written. @returns in words, what is kept and how to go on */
export async function leave(leaving: Leaving): Promise<string> {
  const { config, save } = leaving;
  const { checkpoints, spare } = config.output;
  const { done } = leaving;
  let { newest } = leaving;
  let from = checkpoints;
  const faults: string[] = [];
  for (const place of save === null ? [] : [checkpoints, ...(spare === null ? [] : [spare])]) {
    const folder = join(place, config.name);
    try {
      await save?.(place === checkpoints ? undefined : folder);
      newest = { step: done, folder: join(folder, stepName(done)) };
      from = place;
      break;
    } catch (error) {
      faults.push(`Step ${done} could not be saved in ${folder}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  const stopped = done === 0 ? "Stopped before the first step was done" : `Stopped after step ${done} of ${config.train.steps}`;
  const kept =
    newest === null
      ? "nothing is saved"
      : newest.step === done
        ? `saved in ${newest.folder}`
        : `the newest saved state is that of step ${newest.step}, ${newest.folder}`;
  return [...faults, `${stopped}; ${kept}.`, `Go on with: ${resumeCommand(config, from)}`, ""].join("\n");
}

/** What goes on with a run, typed where this program was started. The other settings come from the run's saved configuration. */
export function resumeCommand({ name, output }: Config, checkpoints = output.checkpoints): string {
  const program = basename(process.argv[1] ?? "") === "train.js" ? "node train.js" : "npx zerosearch train";
  return [
    `${program} --resume ${name}`,
    ...(output.runs === "runs" ? [] : [quoted(`output.runs=${output.runs}`)]),
    ...(checkpoints === output.checkpoints ? [] : [quoted(`output.checkpoints=${checkpoints}`)]),
  ].join(" ");
}

/** What says in words why a run diverged. */
export function explainCommand(config: Config): string {
  return `npx zerosearch explain ${quoted(logFolder(config))}`;
}

function quoted(word: string): string {
  return /^[\w./=:@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
