/**
 * What capturing takes on any device of this folder. What was captured owns no memory: it runs in the buffers that it was recorded with, which are
 * in the pool for others in between, as all work runs in the order in which it was asked for. Where one of them is in use or gone when it is to
 * run, or a storage that it names is, the work is recorded anew.
 */
import type { Replay } from "../device.ts";
import type { BufferPool, PooledBuffer } from "./buffer-pool.ts";
import type { CallContext } from "./context.ts";
import type { Fusion } from "./fusion.ts";
import type { WebGpuStorage } from "./storage.ts";

export interface CaptureParts<T> {
  readonly pool: BufferPool;
  readonly context: CallContext;
  readonly fusion: Fusion;
  /** Runs the work and keeps what it asks for. */
  readonly record: (work: () => void) => T;
  /** Asks for what was kept. */
  readonly replay: (recorded: T) => void;
  /** Gives back what `record` took. */
  readonly free: (recorded: T) => void;
}

/** What is seen of the work while it is recorded. */
export class Seen {
  /** That kernels read or wrote. */
  readonly storages = new Set<WebGpuStorage>();
  readonly written = new Set<WebGpuStorage>();
  /** Repacked copies that are read, and how to make them again. */
  readonly copies = new Map<WebGpuStorage, Map<string, () => void>>();
}

interface Work<T> {
  readonly recorded: T;
  readonly seen: Seen;
  readonly buffers: ReadonlySet<PooledBuffer>;
  /** False where it must be recorded each time. */
  readonly repeatable: boolean;
}

/** Runs `fn` and keeps what it asks for. */
export function captureWork<T>(parts: CaptureParts<T>, fn: () => void): Replay {
  let work: Work<T> | null = recordWork(parts, fn);
  const forget = (): void => {
    if (work === null) return;
    parts.fusion.flush();
    for (const buffer of work.buffers) buffer.captures -= 1;
    parts.free(work.recorded);
    work = null;
  };
  return {
    run: () => {
      if (work !== null && ready(parts, work)) {
        parts.replay(work.recorded);
        for (const storage of work.seen.written) storage.version += 1;
        return true;
      }
      forget();
      work = recordWork(parts, fn);
      return false;
    },
    dispose: forget,
  };
}

function recordWork<T>({ pool, context, fusion, record }: CaptureParts<T>, fn: () => void): Work<T> {
  fusion.flush();
  context.forgetRecent();
  const buffers = new Set<PooledBuffer>();
  const seen = new Seen();
  pool.capturing = buffers;
  context.seen = seen;
  try {
    const recorded = record(() => {
      fn();
      fusion.flush();
      context.forgetRecent();
    });
    // What was made and freed inside is not looked for again.
    for (const each of [seen.storages, seen.written]) for (const storage of each) if (storage.released) each.delete(storage);
    // What was kept lies where the work may have had other things before; what was destroyed is not there; and copies are made before the work runs.
    let repeatable = [...seen.copies.keys()].every((storage) => !seen.written.has(storage));
    for (const { free } of buffers) repeatable &&= free;
    for (const buffer of buffers) buffer.captures += 1;
    return { recorded, seen, buffers, repeatable };
  } finally {
    context.forgetRecent();
    pool.capturing = null;
    context.seen = null;
  }
}

/** Whether the work can run where it ran before; copies are made again where their storages have changed. */
function ready<T>({ pool, context, fusion }: CaptureParts<T>, { seen, buffers, repeatable }: Work<T>): boolean {
  if (!repeatable) return false;
  fusion.flush();
  context.forgetRecent();
  for (const { released } of seen.storages) if (released) return false;
  for (const each of seen.copies.values()) for (const refresh of each.values()) refresh();
  return pool.again(buffers);
}
