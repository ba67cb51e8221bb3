/**
 * Calls that one dispatch does together: some are held back until the next call shows whether it goes with them. The bits are those
 * of the calls one by one, so nobody above sees more than fewer dispatches; on a fast GPU the gaps between small ones are what a decode
 * step waits for.
 *
 *   add, rms_norm of its sum    the residual stream and the norm behind it
 *   rope, rope                  of queries and keys, by the same positions
 */
import type { KernelName } from "../kernels.ts";
import type { CallContext } from "./context.ts";
import type { KernelCall, KernelContext } from "./kernel.ts";
import { addRmsNorm } from "./kernels/rms-norm.ts";
import { ropeTwo } from "./kernels/rope.ts";

interface Held {
  readonly kernel: "add" | "rope";
  readonly call: KernelCall;
}

export class Fusion {
  readonly #context: CallContext;
  readonly #enabled: boolean;
  #held: Held | null = null;
  /** What was asked for meanwhile and must come after: memory that a held call reads must not be given away before it is recorded. */
  readonly #after: (() => void)[] = [];

  constructor(context: CallContext, enabled: boolean) {
    this.#context = context;
    this.#enabled = enabled;
  }

  run(kernel: KernelName, call: KernelCall): void {
    const held = this.#held;
    if (held !== null) {
      const together = partner(held, kernel, call);
      if (together !== null) {
        this.#held = null;
        this.#context.runTogether(kernel, [held.call, call], (context) => {
          together(context, [held.call, call]);
        });
        this.#settle();
        return;
      }
      this.flush();
    }
    if (this.#enabled && (kernel === "add" || kernel === "rope")) this.#held = { kernel, call };
    else this.#context.run(kernel, call);
  }

  /** Runs what is held back. */
  flush(): void {
    const held = this.#held;
    if (held === null) return;
    this.#held = null;
    this.#context.run(held.kernel, held.call);
    this.#settle();
  }

  /** Does `work` when nothing is held back any more: now, or after the next flush. */
  defer(work: () => void): void {
    if (this.#held === null) work();
    else this.#after.push(work);
  }

  #settle(): void {
    for (const work of this.#after.splice(0)) work();
  }
}

type Together = (context: KernelContext, calls: readonly KernelCall[]) => void;

/** What does the held call and this one together, if anything does. */
function partner(held: Held, kernel: KernelName, call: KernelCall): Together | null {
  const { inputs, outputs, dims } = held.call;
  if (held.kernel === "add") {
    const [a, b] = inputs;
    return kernel === "rms_norm" && call.inputs[0] === outputs[0] && call.dims["groups"] === 1 && a !== b ? addRmsNorm : null;
  }
  const [x, positions, table] = call.inputs;
  const same = kernel === "rope" && positions === inputs[1] && table === inputs[2] && call.dims["inverse"] === dims["inverse"];
  return same && x !== outputs[0] ? ropeTwo : null;
}
