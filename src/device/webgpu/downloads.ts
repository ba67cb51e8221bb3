/** Reading back: a copy into a mappable buffer is recorded at once, so later work may overwrite the source while the host waits. */
import { bufferUsage, mapRead } from "./constants.ts";
import type { GpuBuffer } from "./kernel.ts";
import type { Recorder } from "./recorder.ts";
import { sizeClass } from "./buffer-pool.ts";

/** Mappable buffers kept for the next reads, of one size class. */
const keptEach = 8;

export class Downloads {
  readonly #device: GPUDevice;
  readonly #recorder: Recorder;
  readonly #free = new Map<number, GPUBuffer[]>();

  constructor(device: GPUDevice, recorder: Recorder) {
    this.#device = device;
    this.#recorder = recorder;
  }

  /** `use` sees the bytes as they are after everything asked for before this call; the memory is valid during `use` only. */
  async read(buffer: GpuBuffer, at: number, bytes: number, use: (memory: ArrayBuffer) => void): Promise<void> {
    if (bytes === 0) return;
    const size = sizeClass(bytes);
    const staging =
      this.#free.get(size)?.pop() ??
      this.#device.createBuffer({ size, usage: bufferUsage.mapRead | bufferUsage.copyDst, label: "read-back" });
    this.#recorder.copy(buffer, at, { buffer: staging }, 0, bytes);
    // Reads asked for together travel in one submission.
    await Promise.resolve();
    this.#recorder.flush();
    await staging.mapAsync(mapRead, 0, bytes);
    use(staging.getMappedRange(0, bytes));
    staging.unmap();
    const list = this.#free.get(size);
    if (list === undefined) this.#free.set(size, [staging]);
    else if (list.length < keptEach) list.push(staging);
    else staging.destroy();
  }
}
