/** ZeroSearch: think, search as often as wanted, answer. Search-R1 is the same loop with a real engine, R1 with `maxTurns` 0. */
import { rollout } from "../rollout.ts";
import type { Method } from "./method.ts";

export const zerosearch: Method = {
  name: "zerosearch",
  run: (question, context) => rollout(question, context),
};
