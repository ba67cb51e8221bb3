/**
 * Calls that one dispatch does together: some are held back until the next call shows whether it goes with them. The bits are those
 * of the calls one by one, so nobody above sees more than fewer dispatches; on a fast GPU the gaps between small ones are what a decode
 * step waits for.
 *
 *   add, rms_norm of its sum    the residual stream and the norm behind it
 *   rope, rope                  of queries and keys, with the same positions
 *   matmul, matmul, matmul      of the same few rows with different weights: q, k, v; gate and up
 */
import type { KernelName } from "../kernels.ts";
import type { CallContext } from "./context.ts";
import type { KernelCall } from "./kernel.ts";
import { matmulMany, mayShare, mostTogether } from "./kernels/matmul-many.ts";
import { addRmsNorm } from "./kernels/rms-norm.ts";
import { ropeTwo } from "./kernels/rope.ts";

interface Held {
  readonly kernel: "add" | "rope" | "matmul";
  readonly calls: KernelCall[];
}

export class Fusion {
  private readonly context: CallContext;
  private readonly enabled: boolean;
  private held: Held | null = null;
  /** What was asked for meanwhile and must come after: memory that a held call reads must not be given away before it is recorded. */
  private readonly after: (() => void)[] = [];

  constructor(context: CallContext, enabled: boolean) {
    this.context = context;
    this.enabled = enabled;
  }

  run(kernel: KernelName, call: KernelCall): void {
    const { held } = this;
    if (held !== null) {
      if (this.joins(held, kernel, call)) return;
      this.flush();
    }
    if (this.enabled && (kernel === "add" || kernel === "rope" || (kernel === "matmul" && mayShare(this.context, call)))) this.held = { kernel, calls: [call] };
    else this.context.run(kernel, call);
  }

  /** Runs what is held back. */
  flush(): void {
    const { held } = this;
    if (held === null) return;
    this.held = null;
    const { kernel, calls } = held;
    const [first, second] = calls;
    if (kernel === "matmul" && calls.length > 1) this.together(kernel, calls, matmulMany);
    else if (kernel === "rope" && second !== undefined) this.together(kernel, calls, ropeTwo);
    else this.context.run(kernel, first!);
    for (const work of this.after.splice(0)) work();
  }

  /** Does `work` when nothing is held back any more: now, or after the next flush. */
  defer(work: () => void): void {
    if (this.held === null) work();
    else this.after.push(work);
  }

  /** Whether the call goes with what is held; then it is taken. */
  private joins(held: Held, kernel: KernelName, call: KernelCall): boolean {
    const first = held.calls[0]!;
    if (held.kernel === "add") {
      const [a, b] = first.inputs;
      const [sum] = first.outputs;
      if (kernel !== "rms_norm" || call.inputs[0] !== sum || call.dims["groups"] !== 1 || a === b) return false;
      this.held = null;
      this.together("rms_norm", [first, call], addRmsNorm);
      for (const work of this.after.splice(0)) work();
      return true;
    }
    if (held.kernel !== kernel || held.calls.some(({ outputs }) => call.inputs.includes(outputs[0]!))) return false;
    if (kernel === "rope") {
      const same =
        call.inputs[1] === first.inputs[1] && call.inputs[2] === first.inputs[2] && call.dims["inverse"] === first.dims["inverse"];
      if (!same || held.calls.length === 2) return false;
    } else if (held.calls.length === mostTogether || !mayShare(this.context, call, first)) return false;
    held.calls.push(call);
    const most = kernel === "rope" ? 2 : mostTogether;
    if (held.calls.length === most) this.flush();
    return true;
  }

  private together(name: string, calls: readonly KernelCall[], host: (context: CallContext, calls: readonly KernelCall[]) => void): void {
    this.context.runTogether(name, calls, () => {
      host(this.context, calls);
    });
  }
}
