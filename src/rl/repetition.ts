/** Rollouts in which the policy says one thing over and over: a sign of collapse. */
import type { Trajectory } from "./trajectory.ts";

/** Of tokens that come again and again: so many in a row, so often in one turn. */
const repetition = { tokens: 6, times: 3 };

/** Whether the policy repeats itself within one turn: some six tokens in a row come three times. Asking one query in several turns is none. */
export function repeatsItself({ ids, lossMask }: Trajectory): boolean {
  const seen = new Map<string, number>();
  for (let t = 0; t < ids.length; t++) {
    if (lossMask[t] !== 1) {
      seen.clear();
      continue;
    }
    const from = t - repetition.tokens + 1;
    if (from < 0 || !lossMask.slice(from, t + 1).every((mask) => mask === 1)) continue;
    const words = ids.slice(from, t + 1).join(" ");
    const count = (seen.get(words) ?? 0) + 1;
    if (count >= repetition.times) return true;
    seen.set(words, count);
  }
  return false;
}
