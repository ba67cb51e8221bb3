/**
 * Matrix products by the system's OpenBLAS, called through koffi on views of the kernels' memory. Faster than WebAssembly, whose vectors
 * are 128 bits wide; but the order of its sums depends on the shape, so that a row's result depends on what else is in the batch.
 */
import { existsSync } from "node:fs";
import { DeviceError } from "../../util/errors.ts";
import type { KernelDims, KernelName } from "../kernels.ts";
import type { CpuMemory } from "./memory.ts";
import type { CpuStorage } from "./storage.ts";

/** A checked call, and what a library needs to run it. */
export interface BlasCall {
  readonly memory: CpuMemory;
  readonly kernel: KernelName;
  readonly dims: Readonly<Record<string, number>>;
  readonly inputs: readonly (CpuStorage | null)[];
  readonly outputs: readonly (CpuStorage | null)[];
  /** Runs one of our kernels, by its number in kernels/wasm/index.ts, on inputs then outputs. */
  readonly execute: (id: number, dims: readonly number[], storages: readonly (CpuStorage | null)[]) => void;
}

export interface Blas {
  /** Library, version and processor kind. */
  readonly name: string;
  /** Runs the call if it is one for the library; false if our kernels shall. */
  run(call: BlasCall): boolean;
}

const ROW_MAJOR = 101,
  PLAIN = 111,
  TRANSPOSED = 112;
/** Below this many rows our kernels, with their cached panels, are faster. */
const FEW_ROWS = 8;
/** Rows of logits that exist at once, and their most bytes. */
const LOGIT_ROWS = 512,
  LOGIT_BYTES = 64 * 2 ** 20;
/** kernels/wasm/logits.ts */
const REDUCE_LOGITS = 60,
  LOGITS_GRADIENT = 61;

// Where packages put it. A bare name is looked up by the dynamic linker.
const candidates: Readonly<Partial<Record<NodeJS.Platform, readonly string[]>>> = {
  linux: [
    "/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0",
    "/usr/lib/aarch64-linux-gnu/openblas-pthread/libopenblas.so.0",
    "/usr/lib/x86_64-linux-gnu/libopenblas.so.0",
    "/usr/lib/aarch64-linux-gnu/libopenblas.so.0",
    "/usr/lib64/libopenblasp.so.0",
    "/usr/lib64/libopenblas.so.0",
    "/usr/lib/libopenblas.so.0",
    "/usr/lib/libopenblas.so",
    "libopenblas.so.0",
    "libopenblas.so",
  ],
  darwin: ["/opt/homebrew/opt/openblas/lib/libopenblas.dylib", "/usr/local/opt/openblas/lib/libopenblas.dylib", "libopenblas.dylib"],
  win32: ["libopenblas.dll", "openblas.dll"],
};

/** cblas_sgemm: order, transA, transB, M, N, K, alpha, a, lda, b, ldb, beta, c, ldc. */
type Sgemm = (...values: readonly (number | Float32Array)[]) => void;

/** Some rows of f32, and whether the product takes them transposed. */
interface Operand {
  readonly rows: Float32Array;
  readonly cols: number;
  readonly transposed: boolean;
}

/** @throws DeviceError if koffi or the library cannot be loaded: says what to install. */
export async function openBlas(threads: number): Promise<Blas> {
  const hint =
    process.platform === "darwin"
      ? "Install it with: brew install openblas"
      : process.platform === "linux"
        ? "Install it with: apt-get install libopenblas0-pthread (Debian, Ubuntu), or dnf install openblas-threads (Fedora)."
        : "Put libopenblas.dll on the PATH.";
  const paths = (candidates[process.platform] ?? []).filter((path) => !path.startsWith("/") || existsSync(path));
  // its idle threads otherwise keep a core busy for tens of milliseconds, which our own kernels then miss; 2^16 cycles
  process.env["OPENBLAS_THREAD_TIMEOUT"] ??= "16";
  const { default: koffi } = await import("koffi");
  const failures: string[] = [];
  for (const path of paths) {
    try {
      const library = koffi.load(path);
      const setThreads = library.func("void openblas_set_num_threads(int n)") as unknown as (n: number) => void;
      const config = (library.func("const char* openblas_get_config()") as unknown as () => string)();
      const sgemm = library.func(
        "void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, void* a, int lda, void* b, int ldb, float beta, void* c, int ldc)",
      ) as unknown as Sgemm;
      setThreads(threads);
      return new OpenBlas(config.split(" ").slice(0, 2).join(" "), sgemm);
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
  }
  throw new DeviceError({
    where: "device.blas=openblas",
    what: `OpenBLAS cannot be loaded${failures.length === 0 ? "" : ` (${failures.join("; ")})`}`,
    hint,
  });
}

/** Takes the memory that OpenBLAS would take, and computes nothing. */
export function dryBlas(): Blas {
  return new OpenBlas("OpenBLAS", null);
}

class OpenBlas implements Blas {
  readonly name: string;
  readonly #sgemm: Sgemm | null;

  constructor(name: string, sgemm: Sgemm | null) {
    this.name = name;
    this.#sgemm = sgemm;
  }

  run(call: BlasCall): boolean {
    if (call.kernel === "matmul") return this.#matmul(call);
    if (call.kernel === "log_prob") return this.#logProb(call);
    if (call.kernel === "log_prob_backward") return this.#logProbBackward(call);
    return false;
  }

  #matmul({ memory, dims, inputs, outputs }: BlasCall): boolean {
    const [a, b, bias] = inputs,
      [c] = outputs;
    const { M, N, K, transA, transB, accumulate } = dims as KernelDims<"matmul">;
    if (!a || !b || !c || M < FEW_ROWS || (bias && accumulate !== 0) || !isPlain(a, b, c, bias)) return false;
    const out = rowsOf(memory, c);
    if (bias) fillRows(out, rowsOf(memory, bias));
    const [left, right] = [operand(rowsOf(memory, a), a.cols, transA !== 0), operand(rowsOf(memory, b), b.cols, transB !== 0)];
    this.#product(M, N, K, left, right, bias || accumulate !== 0 ? 1 : 0, out);
    return true;
  }

  /** c[M, N] = (or += where beta is 1) a[M, K] b[K, N]. */
  #product(M: number, N: number, K: number, a: Operand, b: Operand, beta: 0 | 1, c: Float32Array): void {
    const [transA, transB] = [a, b].map(({ transposed }) => (transposed ? TRANSPOSED : PLAIN)) as [number, number];
    this.#sgemm?.(ROW_MAJOR, transA, transB, M, N, K, 1, a.rows, a.cols, b.rows, b.cols, beta, c, N);
  }

  #logProb({ memory, dims, inputs, outputs, execute }: BlasCall): boolean {
    const [hidden, weight, targets] = inputs;
    if (!hidden || !weight || !targets || !isPlain(hidden, weight)) return false;
    const C = hidden.cols;
    eachLogits(memory, hidden.rows, weight.rows, (logits, row) => {
      const { rows, cols: V } = logits;
      const part = operand(rowsOf(memory, hidden, row, rows), C);
      this.#product(rows, V, C, part, operand(rowsOf(memory, weight), C, true), 0, rowsOf(memory, logits));
      execute(REDUCE_LOGITS, [dims["temperature"] ?? 1, row], [logits, targets, ...outputs]);
    });
    return true;
  }

  #logProbBackward({ memory, dims, inputs, outputs, execute }: BlasCall): boolean {
    const [hidden, weight, ...rest] = inputs,
      [dhidden, dweight] = outputs;
    if (!hidden || !weight || !dhidden || !dweight || !isPlain(hidden, weight, dhidden, dweight)) return false;
    const C = hidden.cols;
    eachLogits(memory, hidden.rows, weight.rows, (logits, row) => {
      const { rows, cols: V } = logits;
      // views are made anew for each product, since `execute` may grow the memory
      const part = (): Operand => operand(rowsOf(memory, hidden, row, rows), C);
      this.#product(rows, V, C, part(), operand(rowsOf(memory, weight), C, true), 0, rowsOf(memory, logits));
      execute(LOGITS_GRADIENT, [dims["temperature"] ?? 1, row], [...rest, logits]);
      const ofLogits = rowsOf(memory, logits);
      this.#product(rows, C, V, operand(ofLogits, V), operand(rowsOf(memory, weight), C), 0, rowsOf(memory, dhidden, row, rows));
      this.#product(V, C, rows, operand(ofLogits, V, true), part(), 1, rowsOf(memory, dweight));
    });
    return true;
  }
}

function operand(rows: Float32Array, cols: number, transposed = false): Operand {
  return { rows, cols, transposed };
}

/** Whether all are f32 in one piece. */
function isPlain(...storages: readonly (CpuStorage | null | undefined)[]): boolean {
  return storages.every((storage) => !storage || (storage.dtype === "f32" && storage.shards === 1));
}

/** Some rows as the library sees them, none in memory that only counts; not to be kept across an allocation. */
function rowsOf(memory: CpuMemory, storage: CpuStorage, row = 0, rows = storage.rows): Float32Array {
  if (memory.hollow) return new Float32Array(0);
  return new Float32Array(memory.memory.buffer, (storage.addresses[0] ?? 0) + row * storage.rowBytes, rows * storage.cols);
}

/** Visits blocks of [R, V] room for the logits of rows `row`.. */
function eachLogits(memory: CpuMemory, N: number, V: number, visit: (logits: CpuStorage, row: number) => void): void {
  const most = Math.max(16, Math.min(LOGIT_ROWS, Math.floor(LOGIT_BYTES / (V * 4))));
  for (let row = 0; row < N; row += most) {
    const logits = memory.allocate(
      { rows: Math.min(most, N - row), cols: V, dtype: "f32", usage: "activation", label: "logits" },
      Infinity,
    );
    try {
      visit(logits, row);
    } finally {
      memory.release(logits);
    }
  }
}

/** Every row of `out` becomes `row`, by doubling what is there. */
function fillRows(out: Float32Array, row: Float32Array): void {
  out.set(row);
  for (let done = row.length; done < out.length; done *= 2) out.copyWithin(done, 0, Math.min(done, out.length - done));
}
