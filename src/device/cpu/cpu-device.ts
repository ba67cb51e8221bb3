/**
 * The CPU device: AssemblyScript SIMD kernels (`kernels/wasm/`) over one shared WebAssembly memory, run by the calling thread and a pool of
 * workers. A call has taken effect when `run` returns, so `read` waits for nothing.
 */
import { availableParallelism } from "node:os";
import { DeviceError } from "../../util/errors.ts";
import type {
  ByRow,
  Device,
  DryDevice,
  Dtype,
  HostArray,
  MemoryObserver,
  MemoryReport,
  Operands,
  Overflow,
  Replay,
  Storage,
  Usage,
} from "../device.ts";
import { arrayTypes, checkData, checkRows, eachRun, isPart } from "../host-rows.ts";
import type { KernelDims, KernelName } from "../kernels.ts";
import { expectOwn } from "../sharded-storage.ts";
import { checkCall } from "../check-call.ts";
import { CapturedCalls, Recording, type ReplayKernels } from "./capture.ts";
import { CpuMemory } from "./memory.ts";
import { bindNative, nativeFor, noNative, type Native } from "./native/executable.ts";
import { compileKernels, loadKernelsFromDist, type KernelExports } from "./module.ts";
import type { CpuDeviceOptions, SimdBuild } from "./options.ts";
import { packedOperand, preparePanels } from "./panels.ts";
import { CpuStorage } from "./storage.ts";
import { ThreadPool } from "./threads.ts";

/** Iterations of an idle thread's loop before it sleeps: some 50 us. */
const SPIN = 20000;

/** @throws DeviceError if the kernels are not built, nothing validates or an option is out of range. */
export function createCpuDevice(options: CpuDeviceOptions = {}): Promise<Device> {
  return open(options, null);
}

/**
 * As `createCpuDevice`: address by address, scratch by scratch, what a device with these options would do; nothing else is taken, and what
 * is read are zeros.
 */
export function createDryCpuDevice(options: CpuDeviceOptions = {}, observer?: MemoryObserver): Promise<DryDevice> {
  return open(options, { observer });
}

async function open(options: CpuDeviceOptions, dry: { readonly observer: MemoryObserver | undefined } | null): Promise<CpuDevice> {
  const cores = availableParallelism();
  const threads = integerOption("threads", options.threads ?? cores, 1, 256);
  const maxShardBytes = integerOption("maxShardBytes", options.maxShardBytes ?? 2 ** 30, 1, 2 ** 31);
  const maxMemoryBytes = integerOption("maxMemoryBytes", options.maxMemoryBytes ?? 2 ** 32, 2 ** 20, 2 ** 32);
  // with more threads than cores, whoever spins keeps another from working
  const spin = threads > cores ? 0 : SPIN;
  const { module, build } = await compileKernels(options.loadKernels ?? loadKernelsFromDist, options.simd ?? "auto");
  const { poison = false } = options;
  const memory = new CpuMemory({ threads, maxShardBytes, maxMemoryBytes, poison, hollow: dry !== null, observer: dry?.observer });
  const { kernels, native, detail } = await instantiate(module, memory, nativeFor(options.native));
  kernels.useThreads(threads);
  memory.readsHalves = native !== null;
  const { control } = memory;
  const shared = { module, memory: memory.memory, control, spin, threads, native };
  const pool = dry === null ? await ThreadPool.start(shared, memory.places.slice(1)) : null;
  return new CpuDevice({ memory, kernels, pool, description: describe(threads, build), detail, spin });
}

/** The kernels, and the machine code that they call: none, and why, where it would not round as they do. */
async function instantiate(module: WebAssembly.Module, { memory, places }: CpuMemory, wanted: Native) {
  const abort = (): never => {
    throw new Error("abort");
  };
  const imports = "why" in wanted ? noNative : bindNative(wanted.code, memory);
  const { exports } = await WebAssembly.instantiate(module, { env: { memory, abort, ...imports } });
  const kernels = exports as unknown as KernelExports;
  const without = (why: string) => ({ kernels, native: null, detail: `no machine code: ${why}` });
  if ("why" in wanted) return without(wanted.why);
  if (kernels.isFused() === 0) return without("these kernels round every product");
  kernels.useNative(places[0]?.block ?? 0);
  return { kernels, native: wanted.code, detail: `products and attention in ${wanted.code.set} machine code` };
}

function describe(threads: number, build: SimdBuild): string {
  const simd = build === "relaxed" ? "WASM SIMD relaxed FMA" : "WASM SIMD mul+add";
  return `cpu: ${threads} thread${threads === 1 ? "" : "s"}, ${simd}`;
}

interface Parts {
  readonly memory: CpuMemory;
  readonly kernels: KernelExports;
  /** Null where nothing is computed. */
  readonly pool: ThreadPool | null;
  readonly description: string;
  readonly detail: string;
  readonly spin: number;
}

class CpuDevice implements DryDevice {
  readonly kind = "cpu";
  readonly description: string;
  readonly detail: string;
  readonly readInterval = 1;
  readonly precision = "f32";
  readonly #memory: CpuMemory;
  readonly #kernels: KernelExports;
  readonly #pool: ThreadPool | null;
  readonly #spin: number;
  readonly #dims: Float64Array;
  /** What a capture under way keeps. */
  #recording: Recording | null = null;
  /** Why the device can no longer be used. */
  #ended: string | undefined;

  constructor({ memory, kernels, pool, description, detail, spin }: Parts) {
    this.#memory = memory;
    this.#kernels = kernels;
    this.#pool = pool;
    this.#spin = spin;
    this.description = description;
    this.detail = detail;
    // a shared buffer that has grown still is the same memory
    this.#dims = new Float64Array(memory.memory.buffer, memory.args, 16);
  }

  get overflow(): Overflow | undefined {
    return this.#memory.overflow;
  }

  allocate(rows: number, cols: number, dtype: Dtype, usage: Usage, label: string): Storage {
    this.#checkAlive(`allocate ${label}`);
    const storage = this.#memory.allocate({ rows, cols, dtype, usage, label });
    this.#recording?.allocated(storage);
    return storage;
  }

  release(storage: Storage): void {
    if (this.#ended !== undefined) return;
    const own = this.#own(storage, "release");
    this.#memory.release(own);
    this.#recording?.released(own);
  }

  write(storage: Storage, data: HostArray, firstRow = 0): void {
    const own = this.#own(storage, "write");
    const rows = checkData(own, data, firstRow);
    if (this.#recording !== null) this.#recording.unrepeatable = true;
    if (this.#pool !== null && isPart(own, data)) this.#eachView(own, 0, 1, (view) => view.set(data, firstRow));
    else if (this.#pool !== null) this.#eachView(own, firstRow, rows, (view, at) => view.set(data.subarray(at, at + view.length)));
    own.written();
  }

  read(storage: Storage, firstRow = 0, rows = storage.rows - firstRow): Promise<HostArray> {
    return new Promise((resolve) => {
      const own = this.#own(storage, "read");
      checkRows(own, "read", firstRow, rows);
      const data = new arrayTypes[own.dtype](rows * own.cols);
      if (this.#pool !== null) this.#eachView(own, firstRow, rows, (view, at) => data.set(view, at));
      resolve(data);
    });
  }

  run<K extends KernelName>(kernel: K, dims: KernelDims<K>, inputs: Operands, outputs: Operands): void {
    this.#checkAlive(`kernel ${kernel}`);
    const values: Readonly<Record<string, number>> = dims;
    const signature = checkCall(kernel, values, inputs, outputs);
    const own = (storage: Storage | null): CpuStorage | null => (storage === null ? null : this.#own(storage, `kernel ${kernel}`));
    const [ins, outs] = [inputs.map(own), outputs.map(own)];
    if (this.#kernels.hasKernel(signature.id) === 0)
      throw new DeviceError({ where: `kernel ${kernel}`, what: "the CPU device does not have this kernel" });
    const operand = packedOperand(kernel, values, ins);
    const panels = operand === undefined ? undefined : preparePanels(this.#memory, operand);
    this.#memory.pinned = panels === undefined ? undefined : operand?.parameter;
    const list = signature.dims.map((name) => values[name] ?? 0);
    const storages = [...ins, ...outs];
    const scratchBytes = this.#execute(signature.id, kernel, list, storages);
    this.#memory.pinned = undefined;
    if (panels !== undefined) panels.ready = true;
    const kept = panels !== undefined;
    this.#recording?.called({ id: signature.id, kernel, dims: list, storages, outputs: outs, operand, kept, scratchBytes });
    for (const output of outs) output?.written();
  }

  // One kernel from call block to end; the bytes of its scratch. `storages` are inputs, then outputs.
  #execute(id: number, kernel: KernelName, dims: readonly number[], storages: readonly (CpuStorage | null)[]): number {
    const { args, control, places } = this.#memory;
    this.#dims.set(dims);
    let word = args / 4 + dims.length * 2;
    for (const storage of storages) this.#memory.words[word++] = storage === null ? 0 : storage.descriptor;
    const bytes = this.#kernels.scratchBytes(id, args) >>> 0;
    const shared = bytes === 0 ? 0 : this.#memory.take(bytes, { kind: "scratch", label: `scratch of kernel ${kernel}` });
    this.#memory.words[args / 4 - 1] = shared;
    this.#compute(`kernel ${kernel}`, (workers) => this.#kernels.run(control, id, args, places[0]?.scratch ?? 0, workers, this.#spin));
    if (shared !== 0) this.#memory.free(shared);
    return bytes;
  }

  // `work`, told how many threads help, returns other than 0 where one of them failed. Nothing happens where nothing is computed.
  #compute(where: string, work: (workers: number) => number): void {
    if (this.#pool === null) return;
    try {
      if (work(this.#pool.size) !== 0) throw new Error(`a worker thread failed: ${this.#pool.failure() ?? "unknown"}`);
    } catch (cause) {
      this.#ended = `${where} failed: ${cause instanceof Error ? cause.message : String(cause)}`;
      throw new DeviceError({ where, what: this.#ended, hint: "The device cannot be used any more." }, { cause });
    }
  }

  capture(fn: () => void, byRow?: ByRow): Replay {
    let captured = this.#record(fn, byRow);
    let disposed = false;
    const { control, places } = this.#memory;
    const kernels: ReplayKernels = {
      runApart: (lists) => {
        this.#compute("a replayed kernel", (workers) =>
          this.#kernels.replayApart(control, lists, places[0]?.scratch ?? 0, workers, this.#spin),
        );
      },
      run: (list, count) => {
        this.#compute("a replayed kernel", (workers) =>
          this.#kernels.replay(control, list, count, places[0]?.scratch ?? 0, workers, this.#spin),
        );
      },
      scratchBytes: (id, args) => this.#kernels.scratchBytes(id, args) >>> 0,
    };
    const again = (rows = byRow?.rows ?? 0): boolean => {
      this.#checkAlive("replay");
      if (disposed) throw new DeviceError({ where: "replay", what: "it has been disposed of" });
      if (!Number.isInteger(rows) || rows < 0)
        throw new DeviceError({ where: "replay", what: "wrong number of rows", expected: "a whole number, 0 or more", got: String(rows) });
      if (rows === 0 && byRow !== undefined) return true;
      if (captured === null) fn();
      else if (captured.run(kernels, rows)) return true;
      else {
        captured.free();
        captured = null; // should `fn` fail
        captured = this.#record(fn, byRow);
      }
      return false;
    };
    const dispose = (): void => {
      if (this.#ended === undefined && !disposed) captured?.free();
      disposed = true;
    };
    return { run: again, dispose };
  }

  // Runs `fn`; null where what it asks for cannot be repeated from a list.
  #record(fn: () => void, byRow: ByRow | undefined): CapturedCalls | null {
    if (this.#recording !== null) throw new DeviceError({ where: "capture", what: "a capture is under way" });
    const recording = new Recording();
    this.#recording = recording;
    try {
      fn();
    } finally {
      this.#recording = null;
    }
    return CapturedCalls.of(this.#memory, recording, byRow, this.#memory.places.length);
  }

  synchronize(): Promise<void> {
    this.#checkAlive("synchronize");
    return Promise.resolve();
  }

  memory(): MemoryReport {
    this.#checkAlive("memory");
    return this.#memory.report();
  }

  resetPeak(): void {
    this.#checkAlive("resetPeak");
    this.#memory.resetPeak();
  }

  async destroy(): Promise<void> {
    this.#ended = "it was destroyed";
    await this.#pool?.stop();
  }

  #checkAlive(where: string): void {
    if (this.#ended !== undefined) throw new DeviceError({ where, what: `the CPU device cannot be used: ${this.#ended}` });
  }

  #own(storage: Storage, where: string): CpuStorage {
    this.#checkAlive(where);
    return expectOwn(storage, CpuStorage, this.#memory, where);
  }

  // Contiguous pieces of some rows as they lie in memory, and the elements of the rows before each.
  #eachView(storage: CpuStorage, first: number, rows: number, visit: (view: HostArray, at: number) => void): void {
    const { dtype, rowBytes, cols, addresses } = storage;
    const View = arrayTypes[dtype] as new (memory: SharedArrayBuffer, address: number, length: number) => HostArray;
    eachRun(storage, first, rows, (shard, row, from, to) => {
      const address = (addresses[shard] ?? 0) + row * rowBytes;
      visit(new View(this.#memory.memory.buffer, address, (to - from) * cols), from * cols);
    });
  }
}

function integerOption(name: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new DeviceError({
    where: "createCpuDevice",
    what: `${name} is wrong`,
    expected: `an integer from ${least} to ${most}`,
    got: String(value),
  });
}
