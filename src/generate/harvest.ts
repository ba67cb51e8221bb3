/** What the device has sampled, put into the sequences it belongs to. */
import { ZeroSearchError } from "../util/errors.ts";
import type { ActiveRequest } from "./sequence.ts";
import { EOS_CODE, FIRST_STOP_CODE, LENGTH_CODE, type Generated } from "./types.ts";

/** What a few steps sampled, [steps, R]; ids are `INACTIVE` where the row had stopped. status [R]. */
export interface Harvest {
  readonly steps: number;
  /** Whose each row was when the steps were asked for; null for a row without a request. */
  readonly rows: readonly (ActiveRequest | null)[];
  readonly ids: Uint32Array;
  readonly logProbs: Float32Array;
  readonly status: Uint32Array;
}

/** As an id: the row had stopped. As a position: it takes no part. */
export const INACTIVE = 0xffffffff;

/**
 * Adds row r's tokens to its sequence and follows its stop automaton, so that the row can be put on the device again. Returns the
 * stop code, 0 while it goes on.
 */
export function takeRow(active: ActiveRequest, { steps, rows, ids, logProbs, status }: Harvest, r: number, model: string): number {
  const R = rows.length;
  const { transitions, accepts, vocabulary } = active.request.stop;
  let code = 0;
  for (let step = 0; step < steps && code === 0; step++) {
    const id = ids[step * R + r]!;
    if (id === INACTIVE) break;
    const logProb = logProbs[step * R + r]!;
    if (Number.isNaN(logProb))
      throw new ZeroSearchError({
        where: `generate with ${model}`,
        what: "the model's logits are not finite",
        expected: "numbers",
        got: `NaN at token ${active.sequence.ids.length} of a sequence`,
        hint: "Its weights are damaged or have diverged, or f16 overflows: try model.dtype, model.cacheDtype or device.precision f32.",
      });
    active.sequence.ids.push(id);
    active.logProbs.push(logProb);
    active.remaining--;
    active.state = transitions[active.state * vocabulary + id]!;
    code = accepts[active.state]!;
    if (code === 0 && active.remaining === 0) code = LENGTH_CODE;
  }
  if (code !== status[r]) {
    throw new ZeroSearchError({
      where: `generate with ${model}`,
      what: "device and host disagree about the end of a row",
      expected: `status ${code}`,
      got: String(status[r]),
    });
  }
  active.request.onSampled?.();
  return code;
}

/** The answer to a request that has ended. */
export function generatedBy({ request, state, logProbs, sequence, firstId }: ActiveRequest): Generated {
  const code = request.stop.accepts[state]!;
  const reason = code === EOS_CODE ? "eos" : code === 0 ? "length" : "stop";
  return { ids: sequence.ids.slice(firstId), logProbs, reason, stopIndex: reason === "stop" ? code - FIRST_STOP_CODE : -1 };
}
