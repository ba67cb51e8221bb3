/** The peer OpenBLAS: the system's library, called through koffi on ordinary arrays. No dependency: where it is missing, that is said. */
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import type { Peer, Prepared } from "../bench.js";
import type { Product } from "../gpu/gemm.js";
import { randomNumbers } from "../gpu/weights.js";

const rowMajor = 101,
  plain = 111,
  transposed = 112;

// Where packages put it. A bare name is looked up by the dynamic linker.
const candidates: Readonly<Partial<Record<NodeJS.Platform, readonly string[]>>> = {
  linux: [
    "/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0",
    "/usr/lib/aarch64-linux-gnu/openblas-pthread/libopenblas.so.0",
    "/usr/lib64/libopenblasp.so.0",
    "libopenblas.so.0",
    "libopenblas.so",
  ],
  darwin: ["/opt/homebrew/opt/openblas/lib/libopenblas.dylib", "/usr/local/opt/openblas/lib/libopenblas.dylib", "libopenblas.dylib"],
  win32: ["libopenblas.dll", "openblas.dll"],
};

/** cblas_sgemm: order, transA, transB, M, N, K, alpha, a, lda, b, ldb, beta, c, ldc. */
type Sgemm = (...values: readonly (number | Float32Array)[]) => void;

interface Library {
  readonly name: string;
  readonly sgemm: Sgemm;
  /** For all products that follow. */
  readonly setThreads: (count: number) => void;
}

/** @throws Error that says what to install. */
async function load(): Promise<Library> {
  // Its idle threads otherwise keep a core busy for tens of milliseconds, which whoever is measured next then misses; 2^16 cycles.
  process.env["OPENBLAS_THREAD_TIMEOUT"] ??= "16";
  const paths = (candidates[process.platform] ?? []).filter((path) => !path.startsWith("/") || existsSync(path));
  const { default: koffi } = await import("koffi");
  for (const path of paths) {
    try {
      const library = koffi.load(path);
      const text = (name: string): string => (library.func(`const char* ${name}()`) as unknown as () => string)();
      return {
        name: `${text("openblas_get_config").split(" ").slice(0, 2).join(" ")} (${text("openblas_get_corename")})`,
        setThreads: library.func("void openblas_set_num_threads(int n)") as unknown as Library["setThreads"],
        sgemm: library.func(
          "void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, void* a, int lda, void* b, int ldb, float beta, void* c, int ldc)",
        ) as unknown as Sgemm,
      };
    } catch {
      // the next one
    }
  }
  throw new Error("not found; Debian: apt-get install libopenblas0-pthread");
}

/** Lets the library choose its kernels for this processor, in this process and in those that it starts: some machines pin older ones. */
export function forgetCoreType(): void {
  for (const name of ["OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"]) Reflect.deleteProperty(process.env, name);
}

let loaded: Library | null = null;

/** One product in f32 at the library's best thread count; `say` is told where it is missing. */
export function openBlasPeer(product: Product, say: (missing: string) => void): Peer {
  return {
    name: "OpenBLAS",
    async open() {
      try {
        loaded ??= await load();
      } catch (error) {
        say(`OpenBLAS (${(error as Error).message})`);
        return null;
      }
      return prepare(product, loaded);
    },
  };
}

function prepare({ form, M, N, K }: Product, { name, sgemm, setThreads }: Library): Prepared {
  const [a, b, c] = [randomNumbers(M * K, 1, 1), randomNumbers(K * N, 1, 2), new Float32Array(M * N)];
  const [transA, lda] = form === "tn" ? [transposed, M] : [plain, K];
  const [transB, ldb] = form === "nt" ? [transposed, K] : [plain, N];
  const seconds = (threads: number, count: number): number => {
    setThreads(threads);
    const start = performance.now();
    for (let i = 0; i < count; i++) sgemm(rowMajor, transA, transB, M, N, K, 1, a, lda, b, ldb, 0, c, N);
    return (performance.now() - start) / 1000;
  };
  const cores = availableParallelism();
  let best = { threads: 1, seconds: Infinity };
  for (let threads = 1; threads <= cores; threads = threads * 2 > cores && threads < cores ? cores : threads * 2) {
    seconds(threads, 1);
    const count = Math.max(1, Math.min(1000, Math.round(0.05 / Math.max(1e-6, seconds(threads, 1)))));
    const taken = Math.min(seconds(threads, count), seconds(threads, count)) / count;
    if (taken < best.seconds) best = { threads, seconds: taken };
  }
  const { threads } = best;
  return {
    description: `${name}, ${threads} thread${threads > 1 ? "s" : ""}`,
    run: async (count) => ({ seconds: seconds(threads, count) }),
    close() {},
  };
}
