/** Search-R1: the loop of ZeroSearch with documents shown in its own form. It is trained with a real engine in the loop. */
import { searchR1 as dialect } from "../dialects/search-r1.ts";
import { rollout } from "../rollout.ts";
import type { Method } from "./method.ts";

export const searchR1 = {
  name: "search-r1",
  dialect,
  run: (question, context) => rollout(question, dialect, context),
} satisfies Method;
