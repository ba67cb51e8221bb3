/** Before any end-to-end test: what they start is built once, not by two of them at a time. */
import { buildIfStale } from "./program.ts";

export default buildIfStale;
