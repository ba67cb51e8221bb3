/**
 * A device that computes nothing: it runs the kernels' host sides on storages without memory, notes the pipelines that they ask for, and
 * counts the bytes that they take. What is compiled ahead, what tests compile and what a plan counts cannot drift from what hosts choose.
 */
import { checkCall } from "../check-call.ts";
import type { DryDevice, Dtype, HostArray, MemoryObserver, MemoryReport, Operands, Overflow, Replay, Storage, Usage } from "../device.ts";
import { arrayTypes } from "../host-rows.ts";
import type { KernelDims, KernelName } from "../kernels.ts";
import { expectOwn } from "../sharded-storage.ts";
import { nextMessage, nextTask } from "../../util/next-task.ts";
import { BufferPool } from "./buffer-pool.ts";
import type { Capabilities } from "./capabilities.ts";
import { captureWork } from "./capture.ts";
import { CallContext } from "./context.ts";
import { Fusion } from "./fusion.ts";
import type { Dispatch } from "./kernel.ts";
import { kernelHosts } from "./kernels/index.ts";
import { specialisationKey, type Specialisation } from "./pipelines.ts";
import { WebGpuStorage } from "./storage.ts";

export interface DryWebGpuOptions {
  readonly capabilities: Capabilities;
  readonly precision: "f32" | "f16";
  /** The largest binding unless told. */
  readonly maxShardBytes?: number | undefined;
  /** Whether calls that may be fused are: false unless told. */
  readonly fuse?: boolean | undefined;
  /** Whether a read takes a while, in which what waits for nothing has its turn, as with the real device: false unless told. */
  readonly slowReads?: boolean | undefined;
  /** Decode steps between two reads. Default 16, as that of the real device. */
  readonly readInterval?: number | undefined;
  /** Sees every dispatch that would run. */
  readonly onDispatch?: ((dispatch: Dispatch) => void) | undefined;
  /** Whether pipelines are noted: true unless told. */
  readonly notes?: boolean | undefined;
  /** Bytes that there are: when they are exceeded, free buffers are given up first, then `overflow` says so and counting goes on. */
  readonly maxMemoryBytes?: number | undefined;
  readonly observer?: MemoryObserver | undefined;
}

export class DryWebGpuDevice implements DryDevice {
  readonly kind = "webgpu";
  readonly description = "webgpu: nothing is computed";
  readonly readInterval: number;
  readonly precision: "f32" | "f16";
  overflow: Overflow | undefined;
  readonly #options: DryWebGpuOptions;
  readonly #found = new Map<string, Specialisation>();
  readonly #context: CallContext;
  readonly #fusion: Fusion;
  readonly #pool: BufferPool;

  constructor(options: DryWebGpuOptions) {
    const { capabilities, precision, notes = true } = options;
    this.#options = options;
    this.precision = precision;
    this.readInterval = options.readInterval ?? 16;
    this.#pool = new BufferPool({
      // What stands for the GPU's memory is never touched.
      source: { create: () => null as unknown as GPUBuffer, destroy: () => undefined },
      maxBytes: options.maxMemoryBytes ?? Number.MAX_SAFE_INTEGER,
      maxBuffer: capabilities.maxBuffer,
      flush: () => undefined,
      onDestroy: () => undefined,
      onOutOfMemory: (what, bytes) => {
        this.overflow ??= { what, bytes, inUse: this.#pool.inUse };
      },
      observer: options.observer,
    });
    this.#context = new CallContext({
      capabilities,
      precision,
      hosts: kernelHosts,
      recorder: {
        serial: 0,
        copy: () => undefined,
        uncaptured: (fn) => {
          fn();
        },
        dispatch: (dispatch) => {
          if (dispatch.grid.includes(0)) return;
          if (notes) this.#note(dispatch);
          options.onDispatch?.(dispatch);
        },
      },
      pool: this.#pool,
    });
    this.#fusion = new Fusion(this.#context, options.fuse ?? false);
  }

  /** The pipelines asked for so far, by key, in the order of first use. */
  get specialisations(): ReadonlyMap<string, Specialisation> {
    this.#fusion.flush();
    return this.#found;
  }

  /** @throws DeviceError where a row is larger than a binding, as the real device does. */
  allocate(rows: number, cols: number, dtype: Dtype, usage: Usage, label: string): Storage {
    const { capabilities, maxShardBytes = capabilities.maxBinding } = this.#options;
    const storage = new WebGpuStorage({ rows, cols, dtype, usage, label }, this, maxShardBytes, capabilities.maxBinding);
    storage.take(this.#pool, label, 0);
    return storage;
  }

  release(storage: Storage): void {
    const own = this.#own(storage, "release");
    own.released = true;
    this.#fusion.defer(() => {
      own.free(this.#pool);
    });
  }

  run<K extends KernelName>(kernel: K, dims: KernelDims<K>, inputs: Operands, outputs: Operands): void {
    checkCall(kernel, dims, inputs, outputs);
    const own = (storage: Storage | null): WebGpuStorage | null => (storage === null ? null : this.#own(storage, `kernel ${kernel}`));
    this.#fusion.run(kernel, { dims, inputs: inputs.map(own), outputs: outputs.map(own) });
  }

  /** What is captured takes what it took when it runs again, as on the real device. */
  capture(fn: () => void): Replay {
    const parts = {
      ...{ pool: this.#pool, context: this.#context, fusion: this.#fusion, replay: () => undefined, free: () => undefined },
      record: (work: () => void): void => {
        work();
      },
    };
    return captureWork(parts, fn);
  }

  /** Zeros. */
  async read(storage: Storage, firstRow = 0, rows = storage.rows - firstRow): Promise<HostArray> {
    this.#fusion.flush();
    if (this.#options.slowReads === true) {
      // Comes as input, like the real one's. After a timer, what is under way meanwhile would depend on how fast this machine is.
      await nextTask();
      await nextMessage();
    }
    return new arrayTypes[storage.dtype](rows * storage.cols);
  }

  memory(): MemoryReport {
    this.#fusion.flush();
    const { inUse, peak, reserved } = this.#pool;
    return { inUse, peak, reserved };
  }

  async synchronize(): Promise<void> {
    this.#fusion.flush();
  }
  async destroy(): Promise<void> {}
  write(storage: Storage): void {
    this.#fusion.flush();
    this.#own(storage, "write").version += 1;
  }
  resetPeak(): void {
    this.#pool.peak = this.#pool.inUse;
  }

  #own(storage: Storage, where: string): WebGpuStorage {
    return expectOwn(storage, WebGpuStorage, this, where);
  }

  #note(dispatch: Dispatch): void {
    const key = specialisationKey(dispatch);
    if (!this.#found.has(key)) this.#found.set(key, dispatch);
  }
}
