/** The device on a GPU: Dawn in Node, or the browser's own WebGPU. Kernels are WGSL; recording is eager, waiting only for reads. */
import { DeviceError } from "../../util/errors.ts";
import { checkCall } from "../check-call.ts";
import type { Device, DeviceProgram, Dtype, HostArray, MemoryReport, Replay, Storage, Usage, Operands } from "../device.ts";
import { arrayTypes, checkData, checkRows, eachRun, isPart } from "../host-rows.ts";
import type { KernelDims, KernelName } from "../kernels.ts";
import { expectOwn } from "../sharded-storage.ts";
import { BufferPool, buffersOf, type PooledBuffer } from "./buffer-pool.ts";
import { placeOf, type Capabilities } from "./capabilities.ts";
import { captureWork, type CaptureParts } from "./capture.ts";
import { CallContext } from "./context.ts";
import { Downloads } from "./downloads.ts";
import { Fusion } from "./fusion.ts";
import { kernelHosts } from "./kernels/index.ts";
import { Guard, guardSource } from "./guard.ts";
import { Poison } from "./poison.ts";
import type { WebGpuOptions } from "./options.ts";
import { Pipelines } from "./pipelines.ts";
import { collect, prepareAll } from "./prepare.ts";
import { Recorder, type Captured, type RecorderCounts } from "./recorder.ts";
import { scrambled } from "./scramble.ts";
import { WebGpuStorage } from "./storage.ts";
import type { Tuning, TuningPlace } from "./tuning.ts";
import { packRows, unpackRows } from "./rows.ts";

/** Options that are settled when the device is opened. */
type Settled = "maxShardBytes" | "maxMemoryBytes" | "readInterval" | "poison" | "guard" | "fuse" | "precompile" | "precision" | "sources";

interface WebGpuDeviceParts extends Readonly<{ [O in Settled]-?: NonNullable<WebGpuOptions[O]> }> {
  readonly device: GPUDevice;
  readonly capabilities: Capabilities;
  readonly description: string;
  /** What the device is on. */
  readonly adapter: { readonly name: string; readonly vendor: string; readonly driver: string; readonly software: boolean };
}

/** Dispatches after which recorded work is handed to the GPU though nobody reads. */
const submitAfter = 128;

export class WebGpuDevice implements Device {
  readonly kind = "webgpu";
  readonly description: string;
  readonly readInterval: number;
  readonly precision: "f32" | "f16";
  readonly adapter: WebGpuDeviceParts["adapter"];
  readonly pipelines: Pipelines;
  readonly #gpu: GPUDevice;
  readonly #parts: WebGpuDeviceParts;
  readonly #pool: BufferPool;
  readonly #recorder: Recorder;
  readonly #context: CallContext;
  readonly #fusion: Fusion;
  readonly #downloads: Downloads;
  readonly #capturing: CaptureParts<Captured>;
  readonly #poison: Poison | null;
  readonly #guard: Guard | null;
  #detail: string | undefined;
  #submitted = 0;
  /** Why the device can no longer be used. */
  #ended: DeviceError | null = null;

  constructor(parts: WebGpuDeviceParts) {
    const { device, capabilities, precision } = parts;
    this.#parts = parts;
    this.#gpu = device;
    this.description = parts.description;
    this.readInterval = parts.readInterval;
    this.precision = precision;
    this.adapter = parts.adapter;
    const fail = (error: DeviceError): void => {
      this.#ended ??= error;
    };
    const sources = parts.guard ? new Map([...parts.sources, guardSource]) : parts.sources;
    const onError = (error: DeviceError): void => {
      this.#ended = error; // it comes first: what it leads to may have been reported before it
    };
    this.pipelines = new Pipelines(device, sources, onError, parts.guard ? scrambled : undefined);
    this.#recorder = new Recorder(device, this.pipelines, capabilities.maxBinding);
    const onOutOfMemory = (label: string, bytes: number, message: string): void => {
      fail(this.#outOfMemory(label, bytes, message));
    };
    this.#downloads = new Downloads(device, this.#recorder);
    this.#guard = parts.guard ? new Guard(device, this.#recorder, this.#downloads, capabilities.maxBinding) : null;
    this.#pool = new BufferPool({
      source: buffersOf(device, onOutOfMemory),
      maxBytes: parts.maxMemoryBytes,
      maxBuffer: capabilities.maxBuffer,
      flush: () => {
        this.#recorder.flush();
      },
      onDestroy: (buffer) => {
        this.#recorder.forget(buffer);
      },
      onOutOfMemory,
      guard: this.#guard,
    });
    this.#context = new CallContext({ capabilities, precision, recorder: this.#recorder, pool: this.#pool, hosts: kernelHosts });
    this.#fusion = new Fusion(this.#context, parts.fuse);
    this.#capturing = {
      pool: this.#pool,
      context: this.#context,
      fusion: this.#fusion,
      record: (work) => this.#recorder.capture(work),
      replay: (captured) => {
        this.#recorder.replay(captured, submitAfter);
        this.#submitted = this.#recorder.counts.dispatches;
      },
      free: ({ params }) => {
        this.#recorder.flush();
        params?.destroy();
      },
    };
    this.#poison = parts.poison ? new Poison(device, this.#recorder) : null;
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      fail(new DeviceError({ where: "webgpu device", what: event.error.message, hint: "The device cannot be used any more." }));
    });
    void device.lost.then(({ reason, message }) => {
      fail(
        reason === "destroyed"
          ? new DeviceError({ where: "webgpu device", what: "it was destroyed" })
          : new DeviceError({
              where: "webgpu device",
              what: `the GPU was lost (${reason}): ${message}`,
              hint: "Start again with --resume NAME: a run goes on from its last saved step.",
            }),
      );
    });
  }

  get capabilities(): Capabilities {
    return this.#context.capabilities;
  }

  /** Where a tuning of this device holds. */
  get place(): TuningPlace {
    return placeOf(this.adapter, this.precision, this.capabilities);
  }

  get detail(): string | undefined {
    return this.#detail;
  }

  /** Products are cut as this tuning says from now on; captured ones as before. Bits do not depend on it. `detail` says so to people. */
  retune(tuning: Tuning, detail?: string): void {
    this.#checkAlive("retune");
    this.#fusion.flush();
    this.#context.capabilities = { ...this.#context.capabilities, tuning };
    this.#detail = detail;
  }

  /** Dispatches and submissions so far. */
  get counts(): Readonly<RecorderCounts> {
    return this.#recorder.counts;
  }

  allocate(rows: number, cols: number, dtype: Dtype, usage: Usage, label: string): Storage {
    const where = `allocate ${label}`;
    this.#checkAlive(where);
    const storage = new WebGpuStorage({ rows, cols, dtype, usage, label }, this, this.#parts.maxShardBytes, this.capabilities.maxBinding);
    storage.take(this.#pool, `${label} [${rows}, ${cols}] ${dtype}`, this.#recorder.serial);
    for (const [shard, buffer] of storage.buffers.entries()) this.#poison?.fill(buffer, storage.shardBytes(shard));
    this.#checkAlive(where);
    return storage;
  }

  release(storage: Storage): void {
    if (this.#ended !== null) return;
    const own = this.#own(storage, "release");
    own.released = true;
    this.#fusion.defer(() => {
      own.free(this.#pool);
    });
  }

  write(storage: Storage, data: HostArray, firstRow = 0): void {
    const own = this.#own(storage, "write");
    const rows = checkData(own, data, firstRow);
    if (this.#recorder.capturing) throw new DeviceError({ where: `write ${own.label}`, what: "what is captured may ask for kernels only" });
    this.#fusion.flush();
    own.version += 1;
    // The queue writes before anything that is recorded but not submitted.
    const ready = (buffer: PooledBuffer): void => {
      if (buffer.usedIn === this.#recorder.serial) this.#recorder.flush();
    };
    if (isPart(own, data)) {
      const [only] = own.buffers;
      ready(only!);
      this.#gpu.queue.writeBuffer(only!.buffer, only!.offset + 4 * firstRow, data.buffer, data.byteOffset, data.byteLength);
      return;
    }
    eachRun(own, firstRow, rows, (shard, row, from, to) => {
      const buffer = own.buffers[shard]!;
      ready(buffer);
      packRows(own, data, from, to, (bytes, at) => {
        this.#gpu.queue.writeBuffer(
          buffer.buffer,
          buffer.offset + row * own.rowBytes + at,
          bytes.buffer,
          bytes.byteOffset,
          bytes.byteLength,
        );
      });
    });
  }

  async read(storage: Storage, firstRow = 0, rows = storage.rows - firstRow): Promise<HostArray> {
    const own = this.#own(storage, "read");
    if (this.#recorder.capturing) throw new DeviceError({ where: `read ${own.label}`, what: "what is captured may ask for kernels only" });
    checkRows(own, "read", firstRow, rows);
    this.#fusion.flush();
    const data = new arrayTypes[own.dtype](rows * own.cols);
    const parts: Promise<unknown>[] = [];
    eachRun(own, firstRow, rows, (shard, row, from, to) => {
      const bytes = (to - from) * own.rowBytes;
      parts.push(
        this.#downloads.read(own.buffers[shard]!, row * own.rowBytes, bytes, (memory) => {
          unpackRows(own, memory, data, from, to);
        }),
      );
    });
    if (this.#guard !== null) {
      for (const buffer of own.buffers) this.#guard.check(buffer);
      parts.push(this.#verifyGuards());
    }
    try {
      await Promise.all(parts);
    } catch (cause) {
      this.#ended ??= new DeviceError(
        { where: `read ${own.label}`, what: cause instanceof Error ? cause.message : String(cause) },
        { cause },
      );
    }
    await this.pipelines.settled();
    this.#checkAlive(`read ${own.label}`);
    return data;
  }

  run<K extends KernelName>(kernel: K, dims: KernelDims<K>, inputs: Operands, outputs: Operands): void {
    const where = `kernel ${kernel}`;
    this.#checkAlive(where);
    checkCall(kernel, dims, inputs, outputs);
    const own = (one: Storage | null): WebGpuStorage | null => (one === null ? null : this.#own(one, where));
    this.#fusion.run(kernel, { dims, inputs: inputs.map(own), outputs: outputs.map(own) });
    const { dispatches } = this.#recorder.counts;
    if (dispatches - this.#submitted >= submitAfter) {
      this.#recorder.flush();
      this.#submitted = dispatches;
    }
  }

  capture(fn: () => void): Replay {
    this.#checkAlive("capture");
    if (this.#recorder.capturing) throw new DeviceError({ where: "capture", what: "it was called inside a capture" });
    const captured = captureWork(this.#capturing, fn);
    let disposed = false;
    return {
      run: () => {
        this.#checkAlive("replay");
        if (disposed) throw new DeviceError({ where: "replay", what: "it has been disposed of" });
        return captured.run();
      },
      dispose: () => {
        if (!disposed && this.#ended === null) captured.dispose();
        disposed = true;
      },
    };
  }

  async prepare(program: DeviceProgram, onProgress?: (done: number, total: number) => void): Promise<void> {
    this.#checkAlive("prepare");
    const { capabilities, precision } = this;
    const parts = this.#parts;
    if (!parts.precompile) return;
    const { maxShardBytes, fuse, readInterval } = parts;
    const wanted = await collect({ capabilities, precision, maxShardBytes, fuse, readInterval }, program);
    await prepareAll(this.pipelines, wanted.values(), onProgress);
    this.#checkAlive("prepare");
  }

  async synchronize(): Promise<void> {
    this.#checkAlive("synchronize");
    this.#fusion.flush();
    this.#guard?.check();
    this.#recorder.flush();
    await this.#gpu.queue.onSubmittedWorkDone();
    await this.#verifyGuards();
    await this.pipelines.settled();
    await settled(); // errors of what was submitted arrive as events
    this.#checkAlive("synchronize");
  }

  memory(): MemoryReport {
    this.#checkAlive("memory");
    this.#fusion.flush();
    const { inUse, peak, reserved } = this.#pool;
    return { inUse, peak, reserved };
  }

  resetPeak(): void {
    this.#checkAlive("resetPeak");
    this.#pool.peak = this.#pool.inUse;
  }

  /** Gives memory that nobody uses back to the system. */
  trim(): void {
    this.#checkAlive("trim");
    this.#pool.trim();
    this.resetPeak();
  }

  /** @throws DeviceError if a guard of a buffer is broken and no call has said so yet. */
  async destroy(): Promise<void> {
    let broken: DeviceError | null = null;
    if (this.#ended === null) {
      this.#fusion.flush();
      this.#guard?.check();
      this.#recorder.flush();
      await this.#gpu.queue.onSubmittedWorkDone();
      broken = await this.#verifyGuards();
    }
    this.#ended ??= new DeviceError({ where: "webgpu device", what: "it was destroyed" });
    this.#gpu.destroy();
    if (broken !== null) throw broken;
  }

  async #verifyGuards(): Promise<DeviceError | null> {
    // a lost device is reported by itself
    const broken = (await this.#guard?.verify().catch(() => null)) ?? null;
    if (broken !== null) this.#ended ??= broken;
    return broken;
  }

  #checkAlive(where: string): void {
    if (this.#ended === null) return;
    const { complaint } = this.#ended;
    throw new DeviceError({ ...complaint, where: `${where} (${complaint.where})` }, { cause: this.#ended });
  }

  #own(storage: Storage, where: string): WebGpuStorage {
    this.#checkAlive(where);
    return expectOwn(storage, WebGpuStorage, this, where);
  }

  #outOfMemory(label: string, bytes: number, message: string): DeviceError {
    return new DeviceError({
      where: "webgpu device",
      what: `out of memory for ${label}: ${message}`,
      got: `${mib(bytes)} asked with ${mib(this.#pool.inUse)} in use and ${mib(this.#pool.reserved - this.#pool.inUse)} pooled`,
      hint: "Lower the tokens per micro-batch, the sequences in a batch, the KV cache or the model size, or store weights and cache as f16.",
    });
  }
}

function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

/** Lets events that are due be delivered. */
function settled(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, 0);
  });
}
