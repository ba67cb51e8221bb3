/** What one kernel call may use: scratch memory, copies, other kernels. Scratch goes back to the pool when the call has been recorded. */
import { dtypeBytes, type Dtype } from "../device.ts";
import type { KernelName } from "../kernels.ts";
import { DeviceError } from "../../util/errors.ts";
import type { BufferPool, PooledBuffer } from "./buffer-pool.ts";
import type { Seen } from "./capture.ts";
import type { Capabilities } from "./capabilities.ts";
import {
  shardsOf,
  type Dispatch,
  type GpuBuffer,
  type GpuStorage,
  type KernelCall,
  type KernelContext,
  type KernelHost,
} from "./kernel.ts";
import type { Recorder } from "./recorder.ts";
import { strideOf, WebGpuStorage } from "./storage.ts";

/** Activations whose copies are kept: the two operands of a product, so that those before and after it that share one find it. */
const mostRecent = 2;

/** A copy of an activation as it was. */
interface Recent {
  readonly storage: WebGpuStorage;
  readonly buffer: PooledBuffer;
  readonly version: number;
}

export interface ContextParts {
  readonly capabilities: Capabilities;
  readonly precision: "f32" | "f16";
  readonly recorder: Pick<Recorder, "dispatch" | "copy" | "serial" | "uncaptured">;
  readonly pool: Pick<BufferPool, "take" | "give">;
  readonly hosts: Readonly<Record<KernelName, KernelHost>>;
}

export class CallContext implements KernelContext {
  /** Another tuning may take the place of theirs, between two calls. */
  capabilities: Capabilities;
  readonly precision: "f32" | "f16";
  readonly #parts: ContextParts;
  readonly #taken: PooledBuffer[] = [];
  readonly #after: (() => void)[] = [];
  #kernel: string = "";
  /** Those asked for last come last. */
  #recent: Recent[] = [];
  /** What is seen of work that is captured. */
  seen: Seen | null = null;

  constructor(parts: ContextParts) {
    this.#parts = parts;
    this.capabilities = parts.capabilities;
    this.precision = parts.precision;
  }

  /** One call from start to end. */
  run(kernel: KernelName, call: KernelCall): void {
    this.runTogether(kernel, [call], () => {
      this.#parts.hosts[kernel](this, call);
    });
  }

  /** Several calls that `host` records as one. */
  runTogether(name: string, calls: readonly KernelCall[], host: (context: KernelContext) => void): void {
    this.#kernel = name;
    if (this.seen !== null) note(this.seen, calls);
    try {
      host(this);
      for (const { outputs } of calls) changed(outputs);
      for (const write of this.#after) write();
    } finally {
      this.#after.length = 0;
      for (const buffer of this.#taken.splice(0)) this.#parts.pool.give(buffer);
    }
  }

  dispatch(dispatch: Dispatch): void {
    this.#parts.recorder.dispatch(dispatch);
  }

  scratch(bytes: number): GpuBuffer {
    const limit = this.capabilities.maxBinding;
    if (bytes > limit)
      throw new DeviceError({
        where: `kernel ${this.#kernel}`,
        what: "scratch memory does not fit one binding",
        expected: `at most ${limit} bytes`,
        got: String(bytes),
        hint: "Lower the tokens per micro-batch.",
      });
    const buffer = this.#parts.pool.take(
      bytes,
      { kind: "scratch", label: `scratch of kernel ${this.#kernel}` },
      this.#parts.recorder.serial,
    );
    this.#taken.push(buffer);
    return buffer;
  }

  scratchStorage(rows: number, cols: number, dtype: Dtype = "f32"): GpuStorage {
    const stride = strideOf(cols, dtype);
    const buffer = this.scratch(rows * stride * dtypeBytes[dtype]);
    return {
      rows,
      cols,
      dtype,
      stride,
      usage: "activation",
      label: `scratch of kernel ${this.#kernel}`,
      shards: 1,
      rowsPerShard: rows,
      bytes: rows * cols * dtypeBytes[dtype],
      buffers: [buffer],
    };
  }

  copy(from: GpuBuffer, fromByte: number, to: GpuBuffer, toByte: number, bytes: number): void {
    if (bytes > 0) this.#parts.recorder.copy(from, fromByte, to, toByte, bytes);
  }

  whole(storage: GpuStorage, access: "read" | "write"): GpuBuffer {
    const [only] = storage.buffers;
    if (storage.shards === 1 && only !== undefined) return only;
    const rowBytes = storage.stride * dtypeBytes[storage.dtype];
    const bytes = storage.rows * rowBytes;
    if (bytes > this.capabilities.maxBinding)
      throw new DeviceError({
        where: `kernel ${this.#kernel}`,
        what: `${storage.label} [${storage.rows}, ${storage.cols}] does not fit one binding, and this kernel does not split it`,
        expected: `at most ${this.capabilities.maxBinding} bytes`,
        got: String(bytes),
        hint: "Lower the tokens per micro-batch (train.microBatchTokens) or the cache (rollout.cacheMiB).",
      });
    const all = this.scratch(bytes);
    const shards = shardsOf(storage);
    if (access === "read") for (const { buffer, first, rows } of shards) this.copy(buffer, 0, all, first * rowBytes, rows * rowBytes);
    else
      this.#after.push(() => {
        for (const { buffer, first, rows } of shards) this.copy(all, first * rowBytes, buffer, 0, rows * rowBytes);
      });
    return all;
  }

  derived(storage: GpuStorage, name: string, bytes: number, fill: (into: GpuBuffer) => void): GpuBuffer {
    if (!(storage instanceof WebGpuStorage)) {
      const buffer = this.scratch(bytes);
      fill(buffer);
      return buffer;
    }
    let entry = storage.derived.get(name);
    if (entry === undefined) {
      const buffer = this.#parts.pool.take(bytes, { kind: "copy", label: `${name} copy of ${storage.label}` }, this.#parts.recorder.serial);
      entry = { buffer, version: -1 };
      storage.derived.set(name, entry);
    }
    const { buffer } = entry;
    const refresh = (): void => {
      if (entry.version === storage.version) return;
      fill(buffer);
      entry.version = storage.version;
    };
    if (this.seen === null) refresh();
    else {
      // Not part of what runs again: the copy is made anew only where the storage has changed.
      this.#parts.recorder.uncaptured(refresh);
      const known = this.seen.copies.get(storage) ?? new Map<string, () => void>();
      this.seen.copies.set(storage, known.set(name, refresh));
    }
    return buffer;
  }

  recent(storage: GpuStorage, bytes: number, fill: (into: GpuBuffer) => void): GpuBuffer {
    if (!(storage instanceof WebGpuStorage)) {
      const buffer = this.scratch(bytes);
      fill(buffer);
      return buffer;
    }
    const known = this.#recent.find((one) => one.storage === storage);
    this.#recent = this.#recent.filter((one) => one !== known);
    if (known !== undefined && known.version === storage.version && !storage.released) {
      this.#recent.push(known);
      return known.buffer;
    }
    if (known !== undefined) this.#drop(known);
    while (this.#recent.length >= mostRecent) this.#drop(this.#recent.shift()!);
    const label = `f16 copy of ${storage.label}`;
    const buffer = this.#parts.pool.take(bytes, { kind: "scratch", label }, this.#parts.recorder.serial);
    storage.recent = buffer;
    this.#recent.push({ storage, buffer, version: storage.version });
    fill(buffer);
    return buffer;
  }

  /** Gives up all copies of activations: what is captured neither finds those made before it nor leaves any behind. */
  forgetRecent(): void {
    for (const one of this.#recent.splice(0)) this.#drop(one);
  }

  /** Unless the storage has been released, and its copy with it. */
  #drop({ storage, buffer }: Recent): void {
    if (storage.recent !== buffer) return;
    storage.recent = null;
    this.#parts.pool.give(buffer);
  }

  /** What the inner call took is free for the next one: a loop of calls needs scratch memory once. */
  call(kernel: KernelName, call: KernelCall): void {
    const [taken, after] = [this.#taken.length, this.#after.length];
    this.#parts.hosts[kernel](this, call);
    changed(call.outputs);
    for (const write of this.#after.splice(after)) write();
    for (const buffer of this.#taken.splice(taken)) this.#parts.pool.give(buffer);
  }
}

function changed(outputs: KernelCall["outputs"]): void {
  for (const output of outputs) if (output instanceof WebGpuStorage) output.version += 1;
}

function note(seen: Seen, calls: readonly KernelCall[]): void {
  for (const { inputs, outputs } of calls) {
    for (const storage of [...inputs, ...outputs]) if (storage instanceof WebGpuStorage) seen.storages.add(storage);
    for (const output of outputs) if (output instanceof WebGpuStorage) seen.written.add(output);
  }
}
