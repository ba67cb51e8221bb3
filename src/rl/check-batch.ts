/** The door of an update: what is wrong with trajectories or settings is an error that names it, before anything is computed. */
import type { TrajectoryKey } from "../generate/types.ts";
import { ConfigError, ShapeError } from "../util/errors.ts";
import type { Trajectory } from "./trajectory.ts";
import type { UpdateSettings } from "./update.ts";

/** How errors call a trajectory. */
export function nameOf({ step, question, rollout }: TrajectoryKey): string {
  return `trajectory ${step}/${question}/${rollout}`;
}

/**
 * Checks trajectories that a model is to score.
 * @param vocabulary - rows of the model's embedding: ids are below it
 * @throws ShapeError naming the trajectory, and the position: arrays that do not fit each other, a mask that is not 0 or 1, an id that is none.
 */
export function checkTrajectories(trajectories: readonly Trajectory[], vocabulary: number): void {
  for (const { key, ids, lossMask, logProbs } of trajectories) {
    const where = nameOf(key);
    if (lossMask.length !== ids.length || logProbs.length !== ids.length)
      throw new ShapeError({
        where,
        what: "ids, lossMask and logProbs do not fit",
        expected: `${ids.length} each`,
        got: `${lossMask.length} and ${logProbs.length}`,
      });
    for (let t = 0; t < ids.length; t++) {
      const [id, mask] = [ids[t] as number, lossMask[t] as number];
      if (mask !== 0 && mask !== 1)
        throw new ShapeError({ where, what: `lossMask ${t} is wrong`, expected: "the number 0 or 1", got: shown(mask) });
      if (!Number.isInteger(id) || id < 0 || id >= vocabulary)
        throw new ShapeError({ where, what: `id ${t} is none`, expected: `an integer from 0 to ${vocabulary - 1}`, got: shown(id) });
    }
  }
}

/** @throws ShapeError for two trajectories with one key, naming both. */
export function refuseTwins(trajectories: readonly Trajectory[]): void {
  const first = new Map<string, number>();
  trajectories.forEach(({ key }, i) => {
    const where = nameOf(key);
    const before = first.get(where);
    if (before !== undefined)
      throw new ShapeError({
        where,
        what: "two trajectories have this key",
        expected: "a key that occurs once",
        got: `those at ${before} and ${i}`,
      });
    first.set(where, i);
  });
}

/**
 * Checks what an update is given.
 * @throws as `checkTrajectories` and `refuseTwins`; ConfigError for settings out of their range.
 */
export function checkUpdate(trajectories: readonly Trajectory[], settings: UpdateSettings, learningRate: number, vocabulary: number): void {
  checkTrajectories(trajectories, vocabulary);
  refuseTwins(trajectories);
  const { clipLow, clipHigh, klCoef, entropyCoef } = settings;
  const need = (right: boolean, name: string, value: number, expected: string): void => {
    if (!right) throw new ConfigError({ where: "update", what: `wrong ${name}`, expected, got: shown(value) });
  };
  need(clipLow >= 0 && clipLow <= 1, "clipLow", clipLow, "0 to 1");
  need(clipHigh >= 0, "clipHigh", clipHigh, "0 or more");
  need(Number.isFinite(klCoef), "klCoef", klCoef, "a number");
  need(Number.isFinite(entropyCoef), "entropyCoef", entropyCoef, "a number");
  need(learningRate >= 0 && learningRate < Infinity, "learningRate", learningRate, "0 or more");
}

function shown(value: unknown): string {
  return typeof value === "string" || (typeof value === "object" && value !== null) ? JSON.stringify(value) : String(value);
}
