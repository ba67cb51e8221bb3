/** The memory's rate: this project's copy kernel against the platform's own buffer copy. */
import { empty, keep } from "zerosearch";
import type { Bench } from "../bench.js";
import { preparedOn, timed, type World } from "./world.js";
import { RandomRows } from "./weights.js";

const cols = 4096;
const copySrc = 4;
const copyDst = 8;
const storage = 128;

export function copyBenches(world: World): Bench[] {
  const MiB = world.sized(16, 1024);
  const rows = (MiB * 2 ** 20) / (4 * cols);
  const bytes = MiB * 2 ** 20;
  const work = { bytes: 2 * bytes, bytesFormula: "2 x size: read and written" };
  const common = { unit: "GB/s", amount: (2 * bytes) / 1e9, work };
  return [
    {
      ...common,
      name: "copy/buffer",
      yardstick: "copy",
      note: `copyBufferToBuffer of ${MiB} MiB`,
      peers: world.torchPeers("copy", { bytes }),
      async open() {
        const { device, raw } = await world.gpu();
        const buffers = [0, 1].map((i) => raw.createBuffer({ size: bytes, usage: storage | copySrc | copyDst, label: `copy ${i}` }));
        const [from, to] = buffers as [GPUBuffer, GPUBuffer];
        return preparedOn(device, {
          async run(count) {
            const start = performance.now();
            for (let i = 0; i < count; i++) {
              const encoder = raw.createCommandEncoder();
              encoder.copyBufferToBuffer(from, 0, to, 0, bytes);
              raw.queue.submit([encoder.finish()]);
            }
            await raw.queue.onSubmittedWorkDone();
            return { seconds: (performance.now() - start) / 1000 };
          },
          close() {
            from.destroy();
            to.destroy();
          },
        });
      },
    },
    {
      ...common,
      name: "copy/wgsl",
      note: `the kernel "copy", f32 to f32, ${MiB} MiB; goal: 0.85 of copy/buffer`,
      async open() {
        const { device } = await world.gpu();
        const [x, y] = [0, 1].map((i) => keep(empty(device, [rows, cols], { label: `copy ${i}` }))) as [
          ReturnType<typeof empty>,
          ReturnType<typeof empty>,
        ];
        const random = new RandomRows(device);
        random.fill(x, 1);
        random.dispose();
        return preparedOn(device, {
          run: (count) =>
            timed(device, count, () => {
              device.run("copy", { fromRow: 0, toRow: 0, rows }, [x.storage], [y.storage]);
            }),
          close() {
            x.dispose();
            y.dispose();
          },
        });
      },
    },
  ];
}
