/** NaN into new storages, so that a test sees what nothing wrote. */
import type { PooledBuffer } from "./buffer-pool.ts";
import { bufferUsage } from "./constants.ts";
import type { Recorder } from "./recorder.ts";

const size = 1 << 18;
const word = 0x7fff7fff; // NaN as f32, f16 and bf16

export class Poison {
  readonly #recorder: Pick<Recorder, "copy">;
  readonly #source: PooledBuffer;

  constructor(gpu: GPUDevice, recorder: Pick<Recorder, "copy">) {
    const buffer = gpu.createBuffer({ size, usage: bufferUsage.copySrc | bufferUsage.copyDst, label: "poison" });
    gpu.queue.writeBuffer(buffer, 0, new Uint32Array(size / 4).fill(word));
    this.#recorder = recorder;
    this.#source = { buffer, id: 0, bytes: size, offset: 0, bound: size, usedIn: -1, captures: 0, free: false };
  }

  fill(buffer: PooledBuffer, bytes: number): void {
    for (let at = 0; at < bytes; at += size) this.#recorder.copy(this.#source, 0, buffer, at, Math.min(size, bytes - at));
  }
}
