/** The peer TensorFlow.js: f32 matrix products on its WebGPU backend, and on @tensorflow/tfjs-node-gpu (CUDA) where a user installed it. */
import type { Peer, Prepared } from "../bench.js";
import { browserGlobals, peerModule } from "./modules.js";

interface Tensor {
  data(): Promise<Float32Array>;
  dispose(): void;
}
interface TensorFlow {
  setBackend(name: string): Promise<boolean>;
  ready(): Promise<void>;
  backend(): { readonly device?: GPUDevice; endComputePassEncoder?(): void; submitQueue?(): void };
  randomUniform(shape: number[], low: number, high: number): Tensor;
  matMul(a: Tensor, b: Tensor, transposeA: boolean, transposeB: boolean): Tensor;
  slice(x: Tensor, begin: number[], size: number[]): Tensor;
  readonly version_core?: string;
  readonly version?: { readonly "tfjs-core"?: string };
}

/** `n` x `n` products, b transposed. */
export function tfjsPeers(
  { backend, adapter }: { readonly backend: string | null; readonly adapter: string | null },
  n: number,
  say: (missing: string) => void,
): Peer[] {
  return [
    {
      name: "tfjs-backend-webgpu",
      async open() {
        await browserGlobals(backend, adapter);
        const tf = await peerModule<TensorFlow>("@tensorflow/tfjs-core");
        // The backend registers itself with the core that it finds.
        const registered = tf === null ? null : await peerModule("@tensorflow/tfjs-backend-webgpu");
        if (tf === null || registered === null) {
          say(
            "tfjs-backend-webgpu (npm i @tensorflow/tfjs-core @tensorflow/tfjs-backend-webgpu @tensorflow/tfjs-backend-cpu, anywhere; BENCH_PEER_MODULES names the folder)",
          );
          return null;
        }
        if (!(await tf.setBackend("webgpu"))) {
          say("tfjs-backend-webgpu (it does not start here)");
          return null;
        }
        return products(tf, n, "tfjs-backend-webgpu", async () => {
          const backend = tf.backend();
          backend.endComputePassEncoder?.();
          backend.submitQueue?.();
          await backend.device?.queue.onSubmittedWorkDone();
        });
      },
    },
    {
      name: "tfjs-node-gpu",
      async open() {
        let tf: (TensorFlow & { readonly default?: TensorFlow }) | null;
        try {
          tf = await peerModule("@tensorflow/tfjs-node-gpu");
        } catch (error) {
          say(`tfjs-node-gpu (installed, but: ${String(error).split("\n")[0] ?? ""})`);
          return null;
        }
        if (tf === null) {
          say("tfjs-node-gpu (not installed; its binaries need CUDA 11.2 and Node below 22)");
          return null;
        }
        return products(tf.default ?? tf, n, "tfjs-node-gpu", null);
      },
    },
  ];
}

async function products(tf: TensorFlow, n: number, name: string, wait: (() => Promise<void>) | null): Promise<Prepared> {
  await tf.ready();
  const [a, b] = [tf.randomUniform([n, n], -1, 1), tf.randomUniform([n, n], -1, 1)];
  return {
    description: `${name} ${tf.version_core ?? tf.version?.["tfjs-core"] ?? ""}, f32`,
    async run(count) {
      const start = performance.now();
      for (let i = 0; i < count; i++) {
        const c = tf.matMul(a, b, false, true);
        // Without a queue to wait for, one number of the last product is.
        if (wait === null && i === count - 1) {
          const corner = tf.slice(c, [0, 0], [1, 1]);
          await corner.data();
          corner.dispose();
        }
        c.dispose();
      }
      await wait?.();
      return { seconds: (performance.now() - start) / 1000 };
    },
    close() {
      a.dispose();
      b.dispose();
    },
  };
}
