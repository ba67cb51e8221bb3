/** The one shared WebAssembly memory: its fixed areas, the heap of storages, descriptors, repacked panels, and what to say when it is full. */
import { DeviceError } from "../../util/errors.ts";
import type { MemoryObserver, MemoryReport, MemoryUse, Overflow } from "../device.ts";
import type { StorageShape } from "../sharded-storage.ts";
import { Heap, sizeClass } from "./heap.ts";
import type { CpuDeviceOptions } from "./options.ts";
import { CpuStorage, DESCRIPTOR_BYTES, INLINE_SHARDS, type Panels } from "./storage.ts";
import { CONTROL_BYTES, type WorkerPlace } from "./threads.ts";

const PAGE = 65536;
/** Statics of the module lie below; asc refuses a module that needs more (`--initialMemory 2`). */
const STATIC_BYTES = 2 * PAGE;
/** Private scratch of a thread: SCRATCH_BYTES of kernels/wasm/lib/call.ts. */
const SCRATCH_BYTES = 4 << 20;
const CALL_BYTES = 2048;
/** A thread's call block for machine code: kernels/wasm/lib/native.ts. */
const BLOCK_BYTES = 128;
const DESCRIPTORS_PER_SLAB = 256;

type Settled = "threads" | "maxShardBytes" | "maxMemoryBytes" | "poison";

interface MemoryOptions extends Readonly<{ [O in Settled]-?: NonNullable<CpuDeviceOptions[O]> }> {
  /**
   * Counts only: the addresses of storages and scratch mean nothing, and may lie beyond any limit; just the fixed areas and the
   * descriptors are real, which kernels read to say how much scratch they need.
   */
  readonly hollow?: boolean;
  readonly observer?: MemoryObserver | undefined;
}

export class CpuMemory {
  readonly memory: WebAssembly.Memory;
  readonly control = STATIC_BYTES;
  /** Address of the call block; the word before it is the shared scratch. */
  readonly args = STATIC_BYTES + CONTROL_BYTES + 64;
  /** Of each thread, the calling one first. */
  readonly places: readonly WorkerPlace[];
  /** The storage whose panels the call in progress uses: they stay, whatever the pressure. */
  pinned: CpuStorage | undefined;
  readonly hollow: boolean;
  /** Whether weights of 16 bits are widened by machine code, as fast as they can be read. */
  readsHalves = false;
  /** Undefined where all fits; always so in real memory, which throws instead. */
  overflow: Overflow | undefined;
  readonly #heap: Heap;
  readonly #options: MemoryOptions;
  readonly #descriptors: number[] = [];
  readonly #withPanels = new Set<CpuStorage>();
  readonly #limit: number;
  #words: Uint32Array;
  #panelBytes = 0;
  #fixedBytes = 0;
  #realEnd: number;

  constructor(options: MemoryOptions) {
    this.#options = options;
    this.hollow = options.hollow ?? false;
    const blockStart = STATIC_BYTES + CONTROL_BYTES + CALL_BYTES + 1536;
    const scratchStart = Math.ceil((blockStart + options.threads * BLOCK_BYTES) / 4096) * 4096;
    this.places = Array.from({ length: options.threads }, (_, i) => ({
      scratch: scratchStart + i * SCRATCH_BYTES,
      block: blockStart + i * BLOCK_BYTES,
    }));
    const heapStart = scratchStart + options.threads * SCRATCH_BYTES;
    this.#realEnd = heapStart;
    const pages = Math.ceil(heapStart / PAGE) + 16;
    const limit = Math.min(65535, Math.floor(options.maxMemoryBytes / PAGE));
    if (pages > limit)
      throw new DeviceError({
        where: "cpu device",
        what: "maxMemoryBytes is too small for the threads' scratch",
        expected: `at least ${mib(pages * PAGE)} for ${options.threads} threads`,
        got: mib(options.maxMemoryBytes),
      });
    try {
      this.memory = new WebAssembly.Memory({ initial: pages, maximum: 65536, shared: true });
    } catch (cause) {
      throw new DeviceError(
        {
          where: "cpu device",
          what: "cannot reserve address space for the memory",
          expected: "4 GiB of virtual memory",
          hint: "Raise the limit (ulimit -v), or destroy devices that are no longer used.",
        },
        { cause },
      );
    }
    this.#words = new Uint32Array(this.memory.buffer);
    this.#limit = limit * PAGE;
    this.#heap = new Heap(heapStart, pages * PAGE, this.#limit, (end) => this.hollow || this.#grow(end));
  }

  /** All of the memory as 32-bit words; not to be kept across an allocation. */
  get words(): Uint32Array {
    return this.#words;
  }

  allocate(shape: StorageShape, maxShardBytes = this.#options.maxShardBytes): CpuStorage {
    const { rows, cols, dtype, label } = shape;
    const storage = new CpuStorage(shape, this, { maxShardBytes });
    try {
      for (let shard = 0; shard < storage.shards; shard++)
        storage.addresses.push(this.take(storage.shardBytes(shard), { kind: "storage", label }, `${label} [${rows}, ${cols}] ${dtype}`));
      if (storage.shards > INLINE_SHARDS)
        storage.table = this.take(storage.shards * 4, { kind: "storage", label: `${label}'s shard table` });
      storage.descriptor = this.#takeDescriptor();
    } catch (error) {
      for (const address of storage.addresses) this.free(address);
      if (storage.table !== 0) this.free(storage.table);
      throw error;
    }
    storage.addresses.forEach((address, shard) => {
      this.poison(address, storage.shardBytes(shard));
    });
    // where addresses mean nothing, there is no table either
    storage.describe(this.#words, this.hollow ? { descriptor: storage.descriptor, table: storage.table, addresses: [] } : storage);
    return storage;
  }

  /** NaN in every float type, for tests that look for what is read before it is written. */
  poison(address: number, bytes: number): void {
    if (this.#options.poison && !this.hollow) this.#words.fill(0x7fc07fc0, address / 4, address / 4 + Math.ceil(bytes / 4));
  }

  release(storage: CpuStorage): void {
    storage.released = true;
    this.#dropPanels(storage);
    for (const address of storage.addresses) this.free(address);
    if (storage.table !== 0) this.free(storage.table);
    this.#descriptors.push(storage.descriptor);
  }

  /** A range for a while, or for good; `what` is for the message, the use's label unless told. Repacked panels give way before it fails. */
  take(bytes: number, use: MemoryUse, what = use.label): number {
    const address = this.#find(bytes, what);
    this.#options.observer?.taken(address, this.#heap.sizeOf(address), use);
    return address;
  }
  free(address: number): void {
    this.#heap.free(address);
    this.#options.observer?.given(address);
  }

  /** Room for the panels of one orientation of a parameter, if the budget allows; the caller packs them. */
  panelsFor(storage: CpuStorage, orientation: 0 | 1, bytes: number): Panels | undefined {
    // What does not fit in any case would not be helped by panels.
    if (this.#panelBytes + bytes > this.#limit / 3 || this.overflow !== undefined) return undefined;
    const address = this.#heap.allocate(bytes);
    if (address === undefined) return undefined;
    const panels: Panels = { address, bytes: sizeClass(bytes), ready: false };
    this.#options.observer?.taken(address, panels.bytes, { kind: "copy", label: `panels of ${storage.label}` });
    storage.panels[orientation] = panels;
    this.#withPanels.add(storage);
    this.#panelBytes += panels.bytes;
    return panels;
  }

  report(): MemoryReport {
    return {
      inUse: this.#heap.inUse - this.#fixedBytes,
      peak: Math.max(0, this.#heap.peak - this.#fixedBytes),
      reserved: this.hollow ? this.#heap.end : this.memory.buffer.byteLength,
    };
  }
  resetPeak(): void {
    this.#heap.resetPeak();
  }

  #find(bytes: number, what: string): number {
    const address = this.#heap.allocate(bytes) ?? this.#takeUnderPressure(bytes) ?? this.#takeBeyond(bytes, what);
    if (address !== undefined) return address;
    throw new DeviceError({
      where: "cpu device",
      what: `out of memory for ${what}`,
      expected: `at most ${mib(this.#limit)} in all`,
      got: `${mib(bytes)} asked with ${mib(this.#heap.inUse)} in use`,
      hint: "Lower the tokens per micro-batch, the sequences in a batch, the context length or the model size, or store weights and cache as f16.",
    });
  }

  #takeUnderPressure(bytes: number): number | undefined {
    // out-of-date copies first, then all of them
    for (const all of [false, true]) {
      for (const storage of [...this.#withPanels]) {
        if (storage !== this.pinned && (all || !storage.panels.some((panels) => panels?.ready))) this.#dropPanels(storage);
      }
      const address = this.#heap.allocate(bytes);
      if (address !== undefined) return address;
    }
    return undefined;
  }

  /** In memory that only counts: as if there were no limit from here on. */
  #takeBeyond(bytes: number, what: string): number | undefined {
    if (!this.hollow) return undefined;
    this.overflow ??= { what, bytes, inUse: this.#heap.inUse };
    this.#heap.unlimit();
    return this.#heap.allocate(bytes);
  }

  #dropPanels(storage: CpuStorage): void {
    if (!this.#withPanels.delete(storage)) return;
    for (const orientation of [0, 1] as const) {
      const panels = storage.panels[orientation];
      if (panels === undefined) continue;
      this.free(panels.address);
      this.#panelBytes -= panels.bytes;
      storage.panels[orientation] = undefined;
    }
  }

  #takeDescriptor(): number {
    const free = this.#descriptors.pop();
    if (free !== undefined) return free;
    const bytes = DESCRIPTORS_PER_SLAB * DESCRIPTOR_BYTES;
    const place = this.#find(bytes, "descriptors");
    this.#fixedBytes += sizeClass(bytes);
    const slab = this.hollow ? this.#realSlab(bytes) : place;
    for (let i = DESCRIPTORS_PER_SLAB - 1; i >= 0; i--) this.#descriptors.push(slab + i * DESCRIPTOR_BYTES);
    return this.#takeDescriptor();
  }

  /** Real bytes behind descriptors, in memory that only counts. */
  #realSlab(bytes: number): number {
    const slab = this.#realEnd;
    this.#realEnd += bytes;
    this.#grow(Math.ceil(this.#realEnd / PAGE) * PAGE);
    return slab;
  }

  #grow(end: number): boolean {
    const pages = (end - this.memory.buffer.byteLength) / PAGE;
    if (pages > 0) {
      try {
        this.memory.grow(pages);
      } catch {
        return false;
      }
      this.#words = new Uint32Array(this.memory.buffer);
    }
    return true;
  }
}

function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 24 ? 2 : 0)} MiB`;
}
