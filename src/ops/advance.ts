/** One step of the stop automaton and of the budgets, on the device. */
import { runKernel, type Tensor } from "../tensor/tensor.ts";
import { expectMatrix, expectShape } from "./check.ts";
import type { Sampled } from "./sample.ts";

/** What one decode slot carries from step to step: [R] u32 each. */
export interface DecodeState {
  /** The id to be fed next. */
  readonly last: Tensor;
  /** Its position; 0xffffffff where the row is inactive. */
  readonly positions: Tensor;
  /** State of the stop automaton. */
  readonly states: Tensor;
  /** Tokens that may still be sampled. */
  readonly remaining: Tensor;
  /** 0 while running, else why it stopped. */
  readonly status: Tensor;
}

/** What was sampled: [steps, R] each, ids u32 and log-probabilities f32. */
export interface DecodeRecord {
  readonly ids: Tensor;
  readonly logProbs: Tensor;
}

/**
 * For each active row: last = id, state = transitions[state, id], remaining -= 1, position += 1, and row `step` of the record is
 * written; on an accepting state, or when nothing remains, status is set and the row becomes inactive. An inactive row records id
 * 0xffffffff. transitions [S, V] u32, accepts [S] u32. Everything but `sampled` and the tables changes in place.
 * @throws ShapeError
 */
export function advance(
  sampled: Sampled,
  transitions: Tensor,
  accepts: Tensor,
  state: DecodeState,
  into: DecodeRecord,
  step: number,
): void {
  const R = sampled.ids.size;
  expectMatrix("advance", "transitions", transitions);
  expectShape("advance", "accepts", accepts, [transitions.rows]);
  expectShape("advance", "logProb", sampled.logProb, [R]);
  for (const [name, tensor] of Object.entries(state) as [string, Tensor][]) {
    expectShape("advance", name, tensor, [R], "u32");
  }
  expectShape("advance", "record ids", into.ids, [into.ids.rows, R]);
  expectShape("advance", "record logProbs", into.logProbs, into.ids.shape);
  const { last, positions, states, remaining, status } = state;
  const outputs = [last, positions, states, remaining, status, into.ids, into.logProbs];
  runKernel("advance", { step }, [sampled.ids, sampled.logProb, transitions, accepts], outputs);
}
