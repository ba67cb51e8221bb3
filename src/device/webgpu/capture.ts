/** What capturing takes on any device of this folder: memory that stays reserved, and copies of storages that are made again where these have changed. */
import { Arena, type BufferPool } from "./buffer-pool.ts";
import type { CallContext } from "./context.ts";
import type { Fusion } from "./fusion.ts";
import type { WebGpuStorage } from "./storage.ts";

export interface CaptureParts {
  readonly pool: BufferPool;
  readonly context: CallContext;
  readonly fusion: Fusion;
}

export interface CapturedWork<T> {
  /** What `record` returned. */
  readonly recorded: T;
  /** To be called before the work runs again; `use` is told of each storage whose copies it reads. */
  readonly refresh: (use?: (storage: WebGpuStorage) => void) => void;
  /** Gives back what was reserved. */
  readonly free: () => void;
}

/** Runs `fn` within `record`, so that what it takes stays. */
export function captureWork<T>({ pool, context, fusion }: CaptureParts, fn: () => void, record: (work: () => void) => T): CapturedWork<T> {
  fusion.flush();
  context.forgetRecent();
  const arena = new Arena();
  const refreshes = new Map<WebGpuStorage, Map<string, () => void>>();
  pool.arena = arena;
  context.captured = refreshes;
  try {
    const recorded = record(() => {
      fn();
      fusion.flush();
    });
    return {
      recorded,
      refresh: (use) => {
        fusion.flush();
        for (const [storage, each] of refreshes) {
          use?.(storage);
          for (const refresh of each.values()) refresh();
        }
      },
      free: () => {
        pool.dispose(arena);
      },
    };
  } catch (error) {
    pool.dispose(arena);
    throw error;
  } finally {
    context.forgetRecent();
    pool.arena = null;
    context.captured = null;
  }
}
