/** All ways of answering, by name: a new one is a file in this folder and a line here. */
import { cot } from "./cot.ts";
import { direct } from "./direct.ts";
import type { Method } from "./method.ts";
import { r1 } from "./r1.ts";
import { raAgent } from "./ra-agent.ts";
import { rag } from "./rag.ts";
import { searchO1 } from "./search-o1.ts";
import { searchR1 } from "./search-r1.ts";
import { tools } from "./tools.ts";
import { zerosearch } from "./zerosearch.ts";

export const methods = {
  direct,
  cot,
  rag,
  "ra-agent": raAgent,
  "search-o1": searchO1,
  r1,
  "search-r1": searchR1,
  zerosearch,
  tools,
} satisfies Readonly<Record<string, Method>>;
