import { describe, expect, it } from "vitest";
import { LossScaler, lossScalerFor } from "../../src/optim/loss-scaler.ts";

describe("the loss scale", () => {
  it("starts at 2^16, in f16 only", () => {
    expect(lossScalerFor({ precision: "f32" })).toBeNull();
    expect(lossScalerFor({ precision: "f16" })?.state()).toEqual({ scale: 65536, good: 0, skipped: 0 });
  });

  it("halves at each overflow and doubles after 2000 good steps in a row", () => {
    const scaler = new LossScaler();
    expect([scaler.settle(false), scaler.settle(false)]).toEqual([true, true]);
    expect(scaler.state()).toEqual({ scale: 16384, good: 0, skipped: 2 });
    for (let step = 0; step < 1999; step++) expect(scaler.settle(true)).toBe(false);
    expect(scaler.scale).toBe(16384);
    scaler.settle(true);
    expect(scaler.state()).toEqual({ scale: 32768, good: 0, skipped: 2 });
    scaler.settle(true);
    scaler.settle(false);
    expect(scaler.state()).toEqual({ scale: 16384, good: 0, skipped: 3 });
  });

  it("stays between 1 and 2^24, and at 1 an overflow is not its fault", () => {
    const scaler = new LossScaler({ scale: 2, growAfter: 1 });
    expect([scaler.settle(false), scaler.settle(false), scaler.scale, scaler.skipped]).toEqual([true, false, 1, 2]);
    for (let step = 0; step < 40; step++) scaler.settle(true);
    expect(scaler.scale).toBe(2 ** 24);
  });

  it("goes on from its state as if nothing had happened, and refuses what is none", () => {
    const straight = new LossScaler({ growAfter: 3 });
    const before = new LossScaler({ growAfter: 3 });
    const ends = [true, false, true, true, true, false, true, true];
    for (const finite of ends) straight.settle(finite);
    for (const finite of ends.slice(0, 4)) before.settle(finite);
    const after = new LossScaler({ growAfter: 3 });
    after.resume(JSON.parse(JSON.stringify(before.state())) as ReturnType<LossScaler["state"]>);
    for (const finite of ends.slice(4)) after.settle(finite);
    expect(after.state()).toEqual(straight.state());
    for (const bad of [{ scale: 3 }, { scale: 0.5 }, { scale: 2 ** 25 }, { scale: NaN }, { good: -1 }, { skipped: 0.5 }])
      expect(() => {
        after.resume({ ...straight.state(), ...bad });
      }).toThrow(/LossScaler: wrong state; expected a scale that is a power of two/);
  });
});
