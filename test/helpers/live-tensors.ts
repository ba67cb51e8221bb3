/** Counts what lives on a device, for tests of leaks. */
import type { Device } from "../../src/device/device.ts";

export interface LiveTensors {
  readonly tensors: number;
  /** Of the elements, without padding. */
  readonly bytes: number;
}

const live = new WeakMap<Device, LiveTensors>();

/** From now on the device's storages are counted: each is a tensor's. */
export function countTensors<D extends Device>(device: D): D {
  live.set(device, { tensors: 0, bytes: 0 });
  const count = (tensors: number, bytes: number): void => {
    const before = liveTensors(device);
    live.set(device, { tensors: before.tensors + tensors, bytes: before.bytes + bytes });
  };
  const [allocate, release] = [device.allocate.bind(device), device.release.bind(device)];
  device.allocate = (...shape) => {
    const storage = allocate(...shape);
    count(1, storage.bytes);
    return storage;
  };
  device.release = (storage) => {
    release(storage);
    count(-1, -storage.bytes);
  };
  return device;
}

/** Tensors made on `device`, one of these tests', and not yet freed. */
export function liveTensors(device: Device): LiveTensors {
  return live.get(device)!;
}
