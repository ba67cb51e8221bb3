/** ZeroSearch: think, search as often as wanted, answer. Search-R1 is the same loop with a real engine, R1 with `maxTurns` 0. */
import { zerosearch as dialect } from "../dialects/zerosearch.ts";
import { rollout } from "../rollout.ts";
import type { Method } from "./method.ts";

export const zerosearch = {
  name: "zerosearch",
  dialect,
  run: (question, context) => rollout(question, dialect, context),
} satisfies Method;
