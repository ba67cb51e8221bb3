/** Work that can be given up: waits and calls that end when a signal fires. */

/** The error a fired signal stands for. */
export function abortReason(signal: AbortSignal): Error {
  const reason: unknown = signal.reason;
  return reason instanceof Error ? reason : new Error("aborted", { cause: reason });
}

/** Resolves after `seconds`; when the signal fires, rejects with its reason. */
export function sleep(seconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(abortReason(signal));
      return;
    }
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(abortReason(signal as AbortSignal));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, 1000 * seconds);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/** Calls `act` with a signal that fires when `signal` does, or after `seconds`: then `timedOut` is true for what it throws. */
export async function withTimeout<T>(
  seconds: number,
  signal: AbortSignal | undefined,
  act: (signal: AbortSignal) => Promise<T>,
): Promise<{ readonly value: T } | { readonly error: unknown; readonly timedOut: boolean }> {
  const controller = new AbortController();
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    controller.abort(new Error(`no answer within ${seconds} s`));
  }, 1000 * seconds);
  const onAbort = (): void => controller.abort(abortReason(signal as AbortSignal));
  if (signal?.aborted === true) onAbort();
  else signal?.addEventListener("abort", onAbort, { once: true });
  try {
    return { value: await act(controller.signal) };
  } catch (error) {
    return { error, timedOut };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}
