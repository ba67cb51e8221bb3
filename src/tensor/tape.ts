/**
 * The tape: ops in program order, each with what its backward needs. A tape owns the tensors it recorded; `backward` frees them
 * one by one as it walks, so that memory falls while gradients are made.
 */
import { currentScope, Owned, ownedIn, Scope } from "./scope.ts";
import type { Gradients } from "./backward.ts";
import type { Tensor } from "./tensor.ts";

/** One recorded op. */
export interface TapeNode {
  /** The op's name, for errors. */
  readonly op: string;
  /** Those that gradients may be wanted of. */
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  /**
   * Those whose elements the backward reads, inputs, outputs, ids or whatever else: the others are freed with the scope that made them, and
   * only their shapes are known later. Inputs and outputs unless told.
   */
  readonly holds?: readonly Tensor[];
  /** Made by the op for its backward only; freed after it, unless the backward handed them to `give`. */
  readonly saved?: readonly Tensor[];
  /** A loss starts the walk by itself: its gradient with respect to itself is 1. */
  readonly loss?: boolean;
  /** Record it even when no input wants a gradient: parameters are hidden inside. */
  readonly always?: boolean;
  /** dOutputs has one entry per output: its gradient, or null where nothing depends on it. Not all are null, but for a loss. */
  readonly backward: (gradients: Gradients, dOutputs: readonly (Tensor | null)[]) => void;
}

export class Tape extends Owned {
  /** @internal */
  readonly nodes: TapeNode[] = [];
  /** @internal Every tensor that a node put out. */
  readonly produced = new Set<Tensor>();
  /** @internal Owns what was recorded. */
  readonly memory = new Scope();

  constructor() {
    super();
    currentScope()?.adopt(this);
  }

  /** Frees everything recorded without walking. */
  dispose(): void {
    this.scope?.forget(this);
    this.nodes.length = 0;
    this.produced.clear();
    this.memory.dispose();
  }
}

let active: Tape | null = null;

/** The tape that records now, or null. */
export function activeTape(): Tape | null {
  return active;
}

function during<T>(tape: Tape | null, fn: () => T): T {
  const before = active;
  active = tape;
  try {
    return fn();
  } finally {
    active = before;
  }
}

/**
 * Records the ops of `fn`. What `fn` returns belongs to the scope around, as with `withScope`; all else that is made inside belongs
 * to the tape, which `backward` walks once and frees.
 *
 *     const { tape, value: loss } = withTape(() => policyLoss(...));
 *     backward(tape, loss);
 */
export function withTape<T>(fn: () => T): { readonly tape: Tape; readonly value: T } {
  const tape = new Tape();
  try {
    const value = during(tape, () => tape.memory.run(fn));
    for (const item of ownedIn(value)) tape.memory.handOver(item);
    return { tape, value };
  } catch (error) {
    tape.dispose();
    throw error;
  }
}

/** Runs `fn` without recording. */
export function withoutTape<T>(fn: () => T): T {
  return during(null, fn);
}

/** Called by ops after their forward. Records the node if a tape runs and some input wants a gradient; if not, frees `saved`. */
export function record(node: TapeNode): void {
  if (active === null || !(node.always === true || node.inputs.some((input) => input.requiresGrad))) {
    for (const tensor of node.saved ?? []) tensor.dispose();
    return;
  }
  active.nodes.push(node);
  const { memory } = active;
  const madeInside = ({ scope }: Tensor): boolean => scope !== null && scope.serial > memory.serial;
  for (const output of node.outputs) {
    output.requiresGrad = true;
    active.produced.add(output);
    if (!madeInside(output)) memory.adopt(output);
  }
  for (const tensor of node.saved ?? []) memory.adopt(tensor);
  // What scopes inside this recording own would be gone before the walk.
  for (const tensor of node.holds ?? [...node.inputs, ...node.outputs]) if (madeInside(tensor)) memory.adopt(tensor);
}
