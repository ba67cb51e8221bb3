/**
 * Ownership. JavaScript has no destructors, so whatever holds device memory belongs to a scope, which frees it, or to whoever
 * called `keep`. The innermost running scope owns what is made; without one, the maker does.
 */
import { ZeroSearchError } from "../util/errors.ts";

/** Something that holds device memory: a tensor, or a tape. */
export abstract class Owned {
  /** The scope that will free this, or null: then whoever made or kept it does. */
  scope: Scope | null = null;
  /** Frees it now. A second call does nothing. */
  abstract dispose(): void;
}

const running: Scope[] = [];
let serials = 0;

/**
 * An explicit scope, for work with waits in between: `run` pieces of it, wait, run more, and `dispose` at the end.
 *
 *     const scope = new Scope();
 *     try {
 *       const stats = scope.run(() => step(batch));
 *       report(await stats.read());
 *     } finally { scope.dispose(); }
 */
export class Scope {
  /** Scopes and tapes in the order they were made. */
  readonly serial = ++serials;
  readonly #items = new Set<Owned>();

  /** Things owned at the moment. */
  get size(): number {
    return this.#items.size;
  }

  /** Runs `fn`, which must not wait; this scope owns what is made inside, and keeps it until `dispose`. */
  run<T>(fn: () => T): T {
    running.push(this);
    let result: T;
    try {
      result = fn();
    } finally {
      running.pop();
    }
    refusePromise("Scope.run", result);
    return result;
  }

  /** Takes over ownership. */
  adopt(item: Owned): void {
    if (item.scope !== null) item.scope.#items.delete(item);
    item.scope = this;
    this.#items.add(item);
  }

  /** Gives up ownership; nothing is freed. */
  forget(item: Owned): void {
    if (this.#items.delete(item)) item.scope = null;
  }

  /** Hands what it owns to the scope that runs now; without one, whoever has it disposes of it. */
  handOver(item: Owned): void {
    if (item.scope !== this) return;
    const outer = currentScope();
    if (outer === null) this.forget(item);
    else outer.adopt(item);
  }

  /** Frees everything owned. The scope may be used again. */
  dispose(): void {
    for (const item of this.#items) {
      item.scope = null;
      item.dispose();
    }
    this.#items.clear();
  }
}

/** The innermost running scope, or null. */
export function currentScope(): Scope | null {
  return running.at(-1) ?? null;
}

/**
 * Runs `fn` and frees what was made inside, except what it returns (also inside arrays, maps and plain objects), which passes to
 * the scope around, and what was kept.
 * @throws ZeroSearchError when `fn` returns a promise: a function that waits needs a `Scope` of its own.
 */
export function withScope<T>(fn: () => T): T {
  const scope = new Scope();
  try {
    const result = scope.run(fn);
    for (const item of ownedIn(result)) scope.handOver(item);
    return result;
  } finally {
    scope.dispose();
  }
}

/** Takes a tensor (or a tape) out of its scope: the caller disposes of it. Returns it. */
export function keep<T extends Owned>(item: T): T {
  item.scope?.forget(item);
  return item;
}

/** Every owned thing in a value: itself, or in arrays, maps and plain objects. */
export function* ownedIn(value: unknown): Generator<Owned> {
  if (value instanceof Owned) yield value;
  else if (Array.isArray(value)) for (const item of value) yield* ownedIn(item);
  else if (value instanceof Map) for (const item of value.values()) yield* ownedIn(item);
  else if (typeof value === "object" && value !== null && isPlain(value)) for (const item of Object.values(value)) yield* ownedIn(item);
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function refusePromise(where: string, result: unknown): void {
  if (result instanceof Promise) {
    result.catch(() => undefined);
    throw new ZeroSearchError({
      where,
      what: "the function waits, so what it makes cannot be followed",
      expected: "a function that returns at once",
      got: "a promise",
      hint: "make a Scope, call its run() for each piece between the waits, and dispose() of it at the end",
    });
  }
}
