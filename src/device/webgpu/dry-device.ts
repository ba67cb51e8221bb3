/**
 * A device that computes nothing: it runs the kernels' host sides on storages without memory and notes the pipelines that they ask for.
 * What is compiled ahead and what tests compile cannot drift from what hosts choose.
 */
import { DeviceError } from "../../util/errors.ts";
import { checkCall, signatures } from "../check-call.ts";
import type { Device, Dtype, HostArray, MemoryReport, Storage, Usage } from "../device.ts";
import type { KernelDims, KernelName } from "../kernels.ts";
import type { PooledBuffer } from "./buffer-pool.ts";
import type { Capabilities } from "./capabilities.ts";
import { CallContext } from "./context.ts";
import { Fusion } from "./fusion.ts";
import type { Dispatch } from "./kernel.ts";
import { kernelHosts } from "./kernels/index.ts";
import { specialisationKey, type Specialisation } from "./pipelines.ts";
import { WebGpuStorage } from "./storage.ts";

export interface DryDeviceOptions {
  readonly capabilities: Capabilities;
  readonly precision: "f32" | "f16";
  /** The largest binding unless told. */
  readonly maxShardBytes?: number | undefined;
  /** Whether calls that may be fused are: false unless told. */
  readonly fuse?: boolean | undefined;
  /** Sees every dispatch that would run. */
  readonly onDispatch?: ((dispatch: Dispatch) => void) | undefined;
}

export class DryDevice implements Device {
  readonly kind = "webgpu";
  readonly description = "webgpu: nothing is computed";
  readonly readInterval = 16;
  readonly batchInvariant = true;
  readonly precision: "f32" | "f16";
  private readonly options: DryDeviceOptions;
  private readonly found = new Map<string, Specialisation>();
  private readonly fusion: Fusion;
  private buffers = 0;

  constructor(options: DryDeviceOptions) {
    const { capabilities, precision } = options;
    this.options = options;
    this.precision = precision;
    const context = new CallContext({
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
          const key = specialisationKey(dispatch);
          if (!this.found.has(key)) this.found.set(key, dispatch);
          options.onDispatch?.(dispatch);
        },
      },
      pool: { take: (bytes) => this.buffer(bytes), give: () => undefined },
    });
    this.fusion = new Fusion(context, options.fuse ?? false);
  }

  /** The pipelines asked for so far, by key, in the order of first use. */
  get specialisations(): ReadonlyMap<string, Specialisation> {
    this.fusion.flush();
    return this.found;
  }

  allocate(rows: number, cols: number, dtype: Dtype, usage: Usage, label: string): Storage {
    const { capabilities, maxShardBytes = capabilities.maxBinding } = this.options;
    const storage = new WebGpuStorage({ rows, cols, dtype, usage, label }, this, maxShardBytes, capabilities.maxBinding);
    for (let shard = 0; shard < storage.shards; shard++) storage.buffers.push(this.buffer(storage.shardBytes(shard)));
    return storage;
  }

  run<K extends KernelName>(
    kernel: K,
    dims: KernelDims<K>,
    inputs: readonly (Storage | null)[],
    outputs: readonly (Storage | null)[],
  ): void {
    checkCall(signatures.get(kernel)!, dims, inputs, outputs);
    const own = (storage: Storage | null): WebGpuStorage | null => {
      if (storage === null || storage instanceof WebGpuStorage) return storage;
      throw new DeviceError({ where: `kernel ${kernel}`, what: `${storage.label} belongs to another device` });
    };
    this.fusion.run(kernel, { dims, inputs: inputs.map(own), outputs: outputs.map(own) });
  }

  /** Zeros. */
  async read(storage: Storage, firstRow = 0, rows = storage.rows - firstRow): Promise<HostArray> {
    this.fusion.flush();
    const length = rows * storage.cols;
    if (storage.dtype === "f32") return new Float32Array(length);
    return storage.dtype === "u32" ? new Uint32Array(length) : new Uint16Array(length);
  }

  memory(): MemoryReport {
    return { inUse: 0, peak: 0, reserved: 0 };
  }

  async synchronize(): Promise<void> {}
  async destroy(): Promise<void> {}
  release(): void {}
  write(): void {
    this.fusion.flush();
  }
  resetPeak(): void {}

  // What stands for the GPU's memory is never touched.
  private buffer(bytes: number): PooledBuffer {
    this.buffers += 1;
    return { buffer: null as unknown as GPUBuffer, id: this.buffers, bytes, usedIn: -1, arena: null };
  }
}
