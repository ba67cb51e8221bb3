/**
 * Calls that one dispatch does together: some are held back until the next call shows whether it goes with them. The bits are those
 * of the calls one by one, so nobody above sees more than fewer dispatches; on a fast GPU the gaps between small ones are what a decode
 * step waits for.
 *
 *   add, rms_norm of its sum    the residual stream and the norm behind it
 *   rope, rope                  of queries and keys, by the same positions
 *   matmul, matmul, matmul      of one input, by subgroup matrices: queries, keys and values; the gate and what it opens
 */
import type { KernelName } from "../kernels.ts";
import type { CallContext } from "./context.ts";
import type { KernelCall, KernelContext } from "./kernel.ts";
import { goTogether, matmulTogether } from "./kernels/matmul.ts";
import { addRmsNorm } from "./kernels/rms-norm.ts";
import { ropeTwo } from "./kernels/rope.ts";

interface Held {
  readonly kernel: "add" | "matmul" | "rope";
  readonly calls: readonly KernelCall[];
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
        this.#record(kernel, [...held.calls, call], together);
        return;
      }
      const more = { kernel: "matmul", calls: [...held.calls, call] } as const;
      if (held.kernel === "matmul" && kernel === "matmul" && goTogether(this.#context, more.calls)) {
        this.#held = more;
        return;
      }
      this.flush();
    }
    if (this.#enabled && holds(kernel) && (kernel !== "matmul" || goTogether(this.#context, [call])))
      this.#held = { kernel, calls: [call] };
    else this.#context.run(kernel, call);
  }

  /** Runs what is held back. */
  flush(): void {
    const held = this.#held;
    if (held === null) return;
    this.#held = null;
    const [first, second] = held.calls;
    if (second === undefined) {
      this.#context.run(held.kernel, first!);
      this.#settle();
    } else this.#record(held.kernel, held.calls, matmulTogether);
  }

  /** Does `work` when nothing is held back any more: now, or after the next flush. */
  defer(work: () => void): void {
    if (this.#held === null) work();
    else this.#after.push(work);
  }

  #record(name: KernelName, calls: readonly KernelCall[], together: Together): void {
    this.#context.runTogether(name, calls, (context) => {
      together(context, calls);
    });
    this.#settle();
  }

  #settle(): void {
    for (const work of this.#after.splice(0)) work();
  }
}

function holds(kernel: KernelName): kernel is Held["kernel"] {
  return kernel === "add" || kernel === "matmul" || kernel === "rope";
}

type Together = (context: KernelContext, calls: readonly KernelCall[]) => void;

/** What does the held call and this one together at once, if anything does. */
function partner(held: Held, kernel: KernelName, call: KernelCall): Together | null {
  if (held.kernel === "matmul") return null;
  const { inputs, outputs, dims } = held.calls[0]!;
  if (held.kernel === "add") {
    const [a, b] = inputs;
    return kernel === "rms_norm" && call.inputs[0] === outputs[0] && call.dims["groups"] === 1 && a !== b ? addRmsNorm : null;
  }
  const [x, positions, table] = call.inputs;
  const same = kernel === "rope" && positions === inputs[1] && table === inputs[2] && call.dims["inverse"] === dims["inverse"];
  return same && x !== outputs[0] ? ropeTwo : null;
}
