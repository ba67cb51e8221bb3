/** Generation that can be given up: for rollouts and simulator calls whose neighbours failed, or when the user stops the program. */
import { abortReason } from "../util/abort.ts";
import type { Generated, GenerateRequest, Sequence } from "./types.ts";

/**
 * `sequence.generate(request)`, but when the signal fires the sequence is closed and the promise rejects with the signal's reason.
 */
export async function generateUnlessAborted(
  sequence: Sequence,
  request: GenerateRequest,
  signal: AbortSignal | undefined,
): Promise<Generated> {
  if (signal === undefined) return sequence.generate(request);
  if (signal.aborted) throw abortReason(signal);
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      sequence.close();
      reject(abortReason(signal));
    };
    signal.addEventListener("abort", onAbort, { once: true });
    sequence
      .generate(request)
      .then(resolve, reject)
      .finally(() => signal.removeEventListener("abort", onAbort));
  });
}
