/** Products of the same rows with several weights in one dispatch, where there are few rows. */
import type { KernelCall, KernelContext } from "../kernel.ts";

/** Products done together, at most. */
export const mostTogether = 3;

/** Whether a product may share a dispatch, with `other` where that is given. */
export function mayShare(_context: KernelContext, _call: KernelCall, _other?: KernelCall): boolean {
  return false;
}

export function matmulMany(context: KernelContext, calls: readonly KernelCall[]): void {
  for (const call of calls) context.call("matmul", call);
}
