/** The pool of worker threads: each runs `serve` of the kernels on the shared memory until told to stop. */
import { Worker } from "node:worker_threads";
import { DeviceError } from "../../util/errors.ts";
import { bindSource, type NativeCode } from "./native/executable.ts";

/** Words of the control block (kernels/wasm/index.ts), as indices of 32-bit words. */
const SEQUENCE = 1,
  DONE = 32,
  STOP = 64,
  FAILED = 65;
const MESSAGE_BYTE = 320,
  MESSAGE_BYTES = 192;
export const CONTROL_BYTES = 512;

// A worker sleeps inside WASM, deaf to messages, so a failure travels through the control block.
const workerSource = `
const { workerData, parentPort } = require("node:worker_threads");
const { module, memory, control, scratch, block, spin, threads, native } = workerData;
const fail = (error) => {
  const text = new TextEncoder().encode(String(error && error.message || error)).subarray(0, ${MESSAGE_BYTES - 1});
  const bytes = new Uint8Array(memory.buffer, control + ${MESSAGE_BYTE}, ${MESSAGE_BYTES});
  bytes.fill(0);
  bytes.set(text);
  const words = new Int32Array(memory.buffer, control, ${CONTROL_BYTES / 4});
  Atomics.store(words, ${FAILED}, 1);
  Atomics.notify(words, ${DONE});
};
function bindNative() {${bindSource}}
try {
  const instance = new WebAssembly.Instance(module, { env: { memory, ...bindNative(), abort() { throw new Error("abort"); } } });
  instance.exports.useThreads(threads);
  if (native !== null) instance.exports.useNative(block);
  parentPort.postMessage("ready");
  instance.exports.serve(control, scratch, spin);
} catch (error) {
  fail(error);
}
`;

/** What each worker is told. */
interface WorkerOptions {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly control: number;
  readonly spin: number;
  /** All of them, the calling one too. */
  readonly threads: number;
  readonly native: NativeCode | null;
}

/** Memory of one worker: its private scratch, and its call block for machine code. */
export interface WorkerPlace {
  readonly scratch: number;
  readonly block: number;
}

export class ThreadPool {
  readonly size: number;
  readonly #workers: readonly Worker[];
  readonly #words: Int32Array;
  readonly #message: Uint8Array;

  private constructor({ memory, control }: WorkerOptions, workers: readonly Worker[]) {
    this.size = workers.length;
    this.#workers = workers;
    this.#words = new Int32Array(memory.buffer, control, CONTROL_BYTES / 4);
    this.#message = new Uint8Array(memory.buffer, control + MESSAGE_BYTE, MESSAGE_BYTES);
  }

  /** One worker for each of the places. Resolves when all are ready; they never keep the process alive. */
  static async start(options: WorkerOptions, places: readonly WorkerPlace[]): Promise<ThreadPool> {
    const workers = places.map((place) => {
      const workerData = { ...options, ...place };
      return new Worker(workerSource, { eval: true, name: "zerosearch-cpu", execArgv: [], env: {}, workerData });
    });
    const pool = new ThreadPool(options, workers);
    const ready = (worker: Worker): Promise<void> =>
      new Promise((resolve, reject) => {
        worker.once("message", () => resolve());
        worker.once("error", reject);
        worker.once("exit", () => reject(new Error(pool.failure())));
      });
    try {
      await Promise.all(workers.map(ready));
    } catch (cause) {
      await pool.stop();
      throw new DeviceError(
        { where: "cpu device", what: "a worker thread could not start", got: cause instanceof Error ? cause.message : String(cause) },
        { cause },
      );
    }
    for (const worker of workers) {
      worker.unref();
      // the failure itself is reported through the control block
      worker.on("error", () => Atomics.store(pool.#words, FAILED, 1));
    }
    return pool;
  }

  /** Why a worker failed; undefined if none did. */
  failure(): string | undefined {
    if (Atomics.load(this.#words, FAILED) === 0) return undefined;
    const bytes = this.#message.slice();
    const end = bytes.indexOf(0);
    return new TextDecoder().decode(bytes.subarray(0, end < 0 ? bytes.length : end)) || "a worker thread ended";
  }

  async stop(): Promise<void> {
    Atomics.store(this.#words, STOP, 1);
    Atomics.add(this.#words, SEQUENCE, 1);
    Atomics.notify(this.#words, SEQUENCE);
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}
