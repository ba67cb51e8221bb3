/** The peer jax-js: f32 matrix products on its WebGPU backend. Its arrays move: `ref` keeps one that is used again. */
import type { Peer } from "../bench.js";
import { browserGlobals, peerModule } from "./modules.js";

interface JaxArray {
  readonly ref: JaxArray;
  dispose(): void;
  blockUntilReady(): Promise<JaxArray>;
}
interface Jax {
  init(...devices: string[]): Promise<string[]>;
  defaultDevice(device: string): string;
  readonly random: { key(seed: number): JaxArray; uniform(key: JaxArray, shape: number[]): JaxArray };
  readonly numpy: { matmul(a: JaxArray, b: JaxArray): JaxArray; transpose(x: JaxArray): JaxArray };
}

/** `n` x `n` products, b transposed. */
export function jaxPeer(
  { backend, adapter }: { readonly backend: string | null; readonly adapter: string | null },
  n: number,
  say: (missing: string) => void,
): Peer {
  return {
    name: "jax-js",
    async open() {
      await browserGlobals(backend, adapter);
      const jax = await peerModule<Jax>("@jax-js/jax");
      if (jax === null) {
        say("jax-js (npm i @jax-js/jax, anywhere; BENCH_PEER_MODULES names the folder)");
        return null;
      }
      if (!(await jax.init("webgpu")).includes("webgpu")) {
        say("jax-js (its webgpu backend does not start here)");
        return null;
      }
      jax.defaultDevice("webgpu");
      const { random, numpy } = jax;
      const a = await random.uniform(random.key(1), [n, n]).blockUntilReady();
      const b = await random.uniform(random.key(2), [n, n]).blockUntilReady();
      return {
        description: "jax-js, webgpu, f32",
        async run(count) {
          const start = performance.now();
          let last: JaxArray | null = null;
          for (let i = 0; i < count; i++) {
            last?.dispose();
            last = numpy.matmul(a.ref, numpy.transpose(b.ref));
            // Nothing is computed before somebody wants it.
            if (i === count - 1) await last.blockUntilReady();
            else void last.blockUntilReady();
          }
          last?.dispose();
          return { seconds: (performance.now() - start) / 1000 };
        },
        close() {
          a.dispose();
          b.dispose();
        },
      };
    },
  };
}
