/** All ways of answering, by name: a new one is a file in this folder and a line here. */
import { direct } from "./direct.ts";
import type { Method } from "./method.ts";
import { rag } from "./rag.ts";
import { zerosearch } from "./zerosearch.ts";

export const methods = { direct, rag, zerosearch } satisfies Readonly<Record<string, Method>>;
