/** Kernels that are asked for again and again on the same tensors, so that a device that can keep what it recorded need not be told each time. */
import type { Device, Replay } from "../device/device.ts";

export class RepeatedWork {
  private readonly device: Device;
  private times = 0;
  private replay: Replay | null = null;

  constructor(device: Device) {
    this.device = device;
  }

  /** Asks for the kernels of `work`: the same each time, on the same tensors, until `forget`. The second time it is captured. */
  run(work: () => void): void {
    this.times++;
    if (this.replay !== null) this.replay.run();
    else if (this.times === 1 || this.device.capture === undefined) work();
    else this.replay = this.device.capture(work);
  }

  /** The tensors of the work have changed, or it will not be wanted for a while. Gives back what a capture held. */
  forget(): void {
    this.replay?.dispose();
    this.replay = null;
    this.times = 0;
  }
}
