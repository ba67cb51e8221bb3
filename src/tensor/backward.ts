/**
 * The backward pass: one walk over a tape in reverse. Gradients of leaves are added to `leaf.grad`, whose memory is made once and
 * kept, so they accumulate over micro-batches; gradients in between are freed as soon as they are used. Every sum is taken in tape
 * order, so the same program gives the same bits.
 */
import { ShapeError, ZeroSearchError } from "../util/errors.ts";
import { keep } from "./scope.ts";
import { formatShape, sameShape } from "./shape.ts";
import { withoutTape, type Tape } from "./tape.ts";
import { empty, full, runKernel, type Tensor } from "./tensor.ts";

function add(into: Tensor, gradient: Tensor): void {
  runKernel("accumulate", { scale: 1 }, [gradient], [into]);
}

function copy(into: Tensor, from: Tensor): void {
  runKernel("copy", { fromRow: 0, toRow: 0, rows: from.rows }, [from], [into]);
}

/** The gradient memory of a leaf, zero when new. */
function leafGradient(leaf: Tensor): Tensor {
  leaf.grad ??= keep(full(leaf.device, leaf.shape, 0, { usage: "parameter", label: `gradient of ${leaf.label}` }));
  return leaf.grad;
}

/** Gradient memory that several tensors may share until one of them adds to it. */
class Shared {
  readonly tensor: Tensor;
  users: number;
  constructor(tensor: Tensor, users = 1) {
    this.tensor = tensor;
    this.users = users;
  }
  release(): void {
    this.users -= 1;
    if (this.users === 0) this.tensor.dispose();
  }
}

/** What an op's backward may do with the gradients of its inputs. */
export interface Gradients {
  /** Whether this input wants a gradient at all. */
  needs(input: Tensor): boolean;
  /** New memory for a gradient of `input`, undefined contents; hand it to `give`. */
  make(input: Tensor): Tensor;
  /** Adds `gradient` to that of `input`, if it wants one, and takes it over: the caller must not use it again. */
  give(input: Tensor, gradient: Tensor): void;
  /** Adds the gradient of one of the node's own outputs, unchanged, to that of `input`. */
  pass(input: Tensor, dOutput: Tensor): void;
  /** Memory to be added to (zero where there was no gradient yet), for kernels that accumulate. */
  accumulator(input: Tensor): Tensor;
  /** Memory for kernels that either write or add: write where `accumulate` is 0. */
  slot(input: Tensor): { readonly tensor: Tensor; readonly accumulate: 0 | 1 };
}

class Walk implements Gradients {
  private readonly tape: Tape;
  private readonly parent: Gradients | null;
  private readonly gradients = new Map<Tensor, Shared>();
  private readonly byMemory = new Map<Tensor, Shared>();

  constructor(tape: Tape, parent: Gradients | null) {
    this.tape = tape;
    this.parent = parent;
  }

  needs(input: Tensor): boolean {
    return input.requiresGrad;
  }

  make(input: Tensor): Tensor {
    return keep(empty(input.device, input.shape, { label: `gradient of ${input.label}` }));
  }

  give(input: Tensor, gradient: Tensor): void {
    keep(gradient);
    if (!this.needs(input)) {
      gradient.dispose();
      return;
    }
    if (!this.isOurs(input)) {
      if (this.parent !== null) this.parent.give(input, gradient);
      else {
        add(leafGradient(input), gradient);
        gradient.dispose();
      }
      return;
    }
    const before = this.gradients.get(input);
    if (before === undefined) this.set(input, new Shared(gradient));
    else {
      add(this.own(input).tensor, gradient);
      gradient.dispose();
    }
  }

  pass(input: Tensor, dOutput: Tensor): void {
    const shared = this.byMemory.get(dOutput);
    if (shared !== undefined && this.isOurs(input) && !this.gradients.has(input)) {
      shared.users += 1;
      this.set(input, shared);
      return;
    }
    const { tensor, accumulate } = this.slot(input);
    if (accumulate === 1) add(tensor, dOutput);
    else copy(tensor, dOutput);
  }

  accumulator(input: Tensor): Tensor {
    const { tensor, accumulate } = this.slot(input);
    if (accumulate === 0) runKernel("fill", { value: 0 }, [], [tensor]);
    return tensor;
  }

  slot(input: Tensor): { tensor: Tensor; accumulate: 0 | 1 } {
    if (!this.isOurs(input)) return this.parent !== null ? this.parent.slot(input) : { tensor: leafGradient(input), accumulate: 1 };
    if (this.gradients.has(input)) return { tensor: this.own(input).tensor, accumulate: 1 };
    const shared = new Shared(this.make(input));
    this.set(input, shared);
    return { tensor: shared.tensor, accumulate: 0 };
  }

  /** Walks the nodes in reverse, freeing as it goes. */
  run(): void {
    const { nodes } = this.tape;
    for (let node = nodes.pop(); node !== undefined; node = nodes.pop()) {
      const dOutputs = node.outputs.map((output) => this.gradients.get(output)?.tensor ?? null);
      if (node.loss === true || dOutputs.some((gradient) => gradient !== null)) node.backward(this, dOutputs);
      for (const output of node.outputs) {
        this.drop(output);
        if (output.scope === this.tape.memory) output.dispose();
      }
      for (const tensor of node.saved ?? []) if (tensor.scope === this.tape.memory) tensor.dispose();
    }
  }

  /** Starts the walk at `root`; the caller keeps `gradient`. */
  seed(root: Tensor, gradient: Tensor): void {
    this.set(root, new Shared(gradient, 2));
  }

  /** Frees gradients that are left: of tensors that a failed walk did not reach. */
  clear(): void {
    for (const shared of this.gradients.values()) shared.release();
    this.gradients.clear();
    this.byMemory.clear();
  }

  private isOurs(input: Tensor): boolean {
    return this.tape.produced.has(input);
  }

  private set(input: Tensor, shared: Shared): void {
    this.gradients.set(input, shared);
    this.byMemory.set(shared.tensor, shared);
  }

  private drop(output: Tensor): void {
    const shared = this.gradients.get(output);
    if (shared === undefined) return;
    this.gradients.delete(output);
    if (shared.users === 1) this.byMemory.delete(shared.tensor);
    shared.release();
  }

  /** The gradient of `input` in memory that nobody else reads. */
  private own(input: Tensor): Shared {
    const shared = this.gradients.get(input)!;
    if (shared.users === 1) return shared;
    const mine = new Shared(this.make(input));
    copy(mine.tensor, shared.tensor);
    shared.release();
    this.set(input, mine);
    return mine;
  }
}

export interface BackwardOptions {
  /** Gradient of `root`, of its shape; needed where `root` is not a loss. It stays the caller's. */
  readonly seed?: Tensor;
  /** @internal Where gradients of tensors from outside the tape go: those of an enclosing walk. Leaves' `.grad` unless told. */
  readonly into?: Gradients;
}

/**
 * Walks `tape` once in reverse from `root` and adds the gradient of every leaf that wants one to `leaf.grad`. The tape is empty
 * afterwards and what it recorded is freed, but for `root` and what `withTape` returned.
 * @throws ZeroSearchError when `root` was not recorded on this tape, or the tape was walked before.
 * @throws ShapeError when `root` is not a loss and `seed` is absent or of another shape.
 */
export function backward(tape: Tape, root: Tensor, options: BackwardOptions = {}): void {
  if (!tape.produced.has(root))
    throw new ZeroSearchError({
      where: "backward",
      what: `"${root.label}" was not recorded on this tape`,
      hint:
        tape.nodes.length === 0
          ? "the tape is empty: a tape can be walked once, and nothing is recorded when no input has requiresGrad"
          : "pass the tensor that an op inside withTape returned",
    });
  const { seed } = options;
  if (
    seed === undefined ? !tape.nodes.some((node) => node.loss === true && node.outputs.includes(root)) : !sameShape(seed.shape, root.shape)
  )
    throw new ShapeError({
      where: "backward",
      what: "the walk must start from a loss or with its gradient",
      expected: `a seed ${formatShape(root.shape)}`,
      got: seed === undefined ? "none" : formatShape(seed.shape),
    });
  tape.memory.handOver(root);
  const walk = new Walk(tape, options.into ?? null);
  try {
    if (seed !== undefined) walk.seed(root, seed);
    withoutTape(() => {
      walk.run();
    });
  } finally {
    walk.clear();
    tape.dispose();
  }
}
