/** Buffers by size class, used again and again: WebGPU's own are slow to make and freed late. */
import type { MemoryObserver, MemoryUse } from "../device.ts";
import { bufferUsage } from "./constants.ts";
import { guardBytes, type Guard } from "./guard.ts";
import type { GpuBuffer } from "./kernel.ts";

export interface PooledBuffer extends GpuBuffer {
  /** Changes whenever a guarded buffer is taken, as does the part of it that kernels see. */
  id: number;
  offset: number;
  bound: number;
  /** The recording (`Recorder.serial`) that used it last. */
  usedIn: number;
  /** Captures that write to it whenever they run: it must be free then, and is for others in between. */
  captures: number;
  /** Whether it lies in the pool. */
  free: boolean;
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
  /** Puts canaries around every buffer; scratch memory is then filled with them, so that a test sees what nothing wrote. */
  readonly guard?: Guard | null | undefined;
}

/** What a buffer is for while captured work runs. */
const running: MemoryUse = { kind: "scratch", label: "reserved for what was captured" };

/** A new buffer of at most so many bytes is made rather than one taken that captures wait for. */
const cheap = 2 ** 16;

export class BufferPool {
  readonly #options: PoolOptions;
  readonly #free = new Map<number, PooledBuffer[]>();
  #ids = 0;
  /** While work is captured: what it has taken so far, copies of parameters apart, which stay. */
  capturing: Set<PooledBuffer> | null = null;
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
    const buffer = this.#takeFree(size, serial, use.kind === "copy") ?? this.#make(size, use.label);
    if (use.kind !== "copy") this.capturing?.add(buffer);
    const { guard } = this.#options;
    if (guard !== undefined && guard !== null) {
      this.#ids += 1;
      guard.taken(buffer, bytes, this.#ids, use.label, use.kind === "scratch");
    }
    this.#use(buffer, use);
    return buffer;
  }

  give(buffer: PooledBuffer): void {
    this.#options.guard?.given(buffer);
    buffer.free = true;
    this.inUse -= buffer.bytes;
    append(this.#free, buffer);
    this.#options.observer?.given(buffer.id);
  }

  /** Takes these buffers and gives them back, as work does that has run before; false, and nothing has changed, where one is in use or gone. */
  again(buffers: ReadonlySet<PooledBuffer>): boolean {
    for (const { free } of buffers) if (!free) return false;
    let bytes = 0;
    for (const buffer of buffers) bytes += buffer.bytes;
    this.peak = Math.max(this.peak, this.inUse + bytes);
    const { observer } = this.#options;
    if (observer === undefined) return true;
    for (const { id, bytes: each } of buffers) observer.taken(id, each, running);
    for (const { id } of buffers) observer.given(id);
    return true;
  }

  /** Gives all free buffers back to the system. */
  trim(): void {
    if (this.reserved === this.inUse) return;
    this.#options.flush();
    for (const list of this.#free.values())
      for (const buffer of list.splice(0)) {
        buffer.free = false;
        this.reserved -= buffer.bytes;
        this.#options.onDestroy(buffer);
        this.#options.source.destroy(buffer.buffer);
      }
  }

  /**
   * One that no capture waits for is preferred, then one that no recorded work touches; while work is captured, one that it has used already, then
   * one of another capture: they run one after the other. What `stays`
   * after a capture must not lie where the captured work writes whenever it runs.
   */
  #takeFree(size: number, serial: number, stays: boolean): PooledBuffer | null {
    const list = this.#free.get(size);
    if (list === undefined || list.length === 0) return null;
    const own = stays ? null : this.capturing;
    const rank = (buffer: PooledBuffer): number => {
      if (stays && this.capturing?.has(buffer) === true) return 4;
      if (own === null ? buffer.captures > 0 : !own.has(buffer)) return own !== null && buffer.captures === 0 ? 3 : 2;
      return buffer.usedIn === serial ? 1 : 0;
    };
    let at = list.length - 1;
    for (let i = at - 1; i >= 0 && rank(list[at]!) > 0; i--) if (rank(list[i]!) < rank(list[at]!)) at = i;
    if (rank(list[at]!) === 4 || (own === null && size <= cheap && list[at]!.captures > 0)) return null;
    return list.splice(at, 1)[0]!;
  }

  #use(buffer: PooledBuffer, use: MemoryUse): void {
    buffer.free = false;
    this.inUse += buffer.bytes;
    this.peak = Math.max(this.peak, this.inUse);
    this.#options.observer?.taken(buffer.id, buffer.bytes, use);
  }

  #make(size: number, label: string): PooledBuffer {
    const { source, maxBytes, onOutOfMemory } = this.#options;
    if (this.reserved + size > maxBytes) this.trim();
    if (this.reserved + size > maxBytes) onOutOfMemory(label, size, `the limit of ${maxBytes} bytes is reached`);
    const guards = this.#options.guard === undefined || this.#options.guard === null ? 0 : guardBytes;
    const buffer = source.create(size + guards, label);
    this.reserved += size;
    this.#ids += 1;
    return { buffer, id: this.#ids, bytes: size, offset: 0, bound: size, usedIn: -1, captures: 0, free: false };
  }
}

function append(lists: Map<number, PooledBuffer[]>, buffer: PooledBuffer): void {
  const list = lists.get(buffer.bytes);
  if (list === undefined) lists.set(buffer.bytes, [buffer]);
  else list.push(buffer);
}
