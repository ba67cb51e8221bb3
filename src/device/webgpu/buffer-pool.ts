/** Buffers by size class, used again and again: WebGPU's own are slow to make and freed late. */
import type { MemoryObserver, MemoryUse } from "../device.ts";
import { bufferUsage } from "./constants.ts";
import type { GpuBuffer } from "./kernel.ts";

export interface PooledBuffer extends GpuBuffer {
  /** The recording (`Recorder.serial`) that used it last. */
  usedIn: number;
  /** The capture that it is reserved for. */
  arena: Arena | null;
}

/** Buffers reserved for work that will run again: what is freed inside is used again inside only. */
export class Arena {
  readonly free = new Map<number, PooledBuffer[]>();
  disposed = false;
}

/** Rounds up: powers of two and three steps between them, at least 256. */
export function sizeClass(bytes: number): number {
  const wanted = Math.max(256, bytes);
  const step = Math.max(256, 2 ** Math.floor(Math.log2(wanted)) / 4);
  return Math.ceil(wanted / step) * step;
}

/** Where buffers come from. */
export interface BufferSource {
  create(size: number, label: string): GPUBuffer;
  destroy(buffer: GPUBuffer): void;
}

/** Those of a device. `onOutOfMemory` is told later of a buffer that could not be had. */
export function buffersOf(device: GPUDevice, onOutOfMemory: PoolOptions["onOutOfMemory"]): BufferSource {
  return {
    create(size, label) {
      device.pushErrorScope("out-of-memory");
      device.pushErrorScope("validation");
      const buffer = device.createBuffer({ size, usage: bufferUsage.storage | bufferUsage.copySrc | bufferUsage.copyDst, label });
      const check = (error: GPUError | null): void => {
        if (error !== null) onOutOfMemory(label, size, error.message);
      };
      const ignore = (): void => undefined; // a lost device is reported by itself
      device.popErrorScope().then(check, ignore);
      device.popErrorScope().then(check, ignore);
      return buffer;
    },
    destroy(buffer) {
      buffer.destroy();
    },
  };
}

export interface PoolOptions {
  readonly source: BufferSource;
  /** Most bytes to hold from the system. */
  readonly maxBytes: number;
  /** Largest single buffer. */
  readonly maxBuffer: number;
  /** Called before a buffer that may be in use by recorded work is destroyed. */
  readonly flush: () => void;
  readonly onDestroy: (buffer: GpuBuffer) => void;
  /** Memory ran out for something asked for: what it is for, and its bytes. */
  readonly onOutOfMemory: (label: string, bytes: number, message: string) => void;
  readonly observer?: MemoryObserver | undefined;
}

/** What a buffer of an arena is for while nothing uses it. */
const reserved: MemoryUse = { kind: "scratch", label: "reserved for what was captured" };

export class BufferPool {
  readonly #options: PoolOptions;
  readonly #free = new Map<number, PooledBuffer[]>();
  #ids = 0;
  /** Where buffers come from and go to, while work is captured. */
  arena: Arena | null = null;
  /** Bytes held from the system, in use or free. */
  reserved = 0;
  inUse = 0;
  peak = 0;

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  /**
   * A buffer of at least `bytes`. One that no recorded work touches is preferred (`serial` is the recording under way).
   * @param exact of little more than `bytes`: what stays, as copies do
   */
  take(bytes: number, use: MemoryUse, serial: number, exact = use.kind === "copy"): PooledBuffer {
    const size = exact ? Math.max(256, Math.ceil(bytes / 256) * 256) : Math.min(sizeClass(bytes), Math.max(this.#options.maxBuffer, bytes));
    const buffer = this.arena?.free.get(size)?.pop() ?? this.#takeFree(size, use.label, serial);
    this.#options.observer?.taken(buffer.id, size, use);
    return buffer;
  }

  give(buffer: PooledBuffer): void {
    const { arena } = buffer;
    if (arena !== null && !arena.disposed) {
      append(arena.free, buffer);
      this.#options.observer?.taken(buffer.id, buffer.bytes, reserved);
      return;
    }
    buffer.arena = null;
    this.inUse -= buffer.bytes;
    append(this.#free, buffer);
    this.#options.observer?.given(buffer.id);
  }

  /** What was reserved is free for all; what is still in use follows when it is given back. */
  dispose(arena: Arena): void {
    arena.disposed = true;
    for (const list of arena.free.values()) for (const buffer of list.splice(0)) this.give(buffer);
  }

  /** Gives all free buffers back to the system. */
  trim(): void {
    if (this.reserved === this.inUse) return;
    this.#options.flush();
    for (const list of this.#free.values())
      for (const buffer of list.splice(0)) {
        this.reserved -= buffer.bytes;
        this.#options.onDestroy(buffer);
        this.#options.source.destroy(buffer.buffer);
      }
  }

  #takeFree(size: number, label: string, serial: number): PooledBuffer {
    const list = this.#free.get(size);
    let found: PooledBuffer | undefined;
    if (list !== undefined && list.length > 0) {
      let at = list.length - 1;
      while (at > 0 && list[at]!.usedIn === serial) at--;
      found = list.splice(list[at]!.usedIn === serial ? list.length - 1 : at, 1)[0];
    }
    found ??= this.#make(size, label);
    found.arena = this.arena;
    this.inUse += size;
    this.peak = Math.max(this.peak, this.inUse);
    return found;
  }

  #make(size: number, label: string): PooledBuffer {
    const { source, maxBytes, onOutOfMemory } = this.#options;
    if (this.reserved + size > maxBytes) this.trim();
    if (this.reserved + size > maxBytes) onOutOfMemory(label, size, `the limit of ${maxBytes} bytes is reached`);
    const buffer = source.create(size, label);
    this.reserved += size;
    this.#ids += 1;
    return { buffer, id: this.#ids, bytes: size, usedIn: -1, arena: null };
  }
}

function append(lists: Map<number, PooledBuffer[]>, buffer: PooledBuffer): void {
  const list = lists.get(buffer.bytes);
  if (list === undefined) lists.set(buffer.bytes, [buffer]);
  else list.push(buffer);
}
