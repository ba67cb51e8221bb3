import { describe, expect, it } from "vitest";
import { policyLoss, policyLossStats, type PolicyLossOptions } from "../../../src/ops/policy-loss.ts";
import { backward } from "../../../src/tensor/backward.ts";
import { withTape } from "../../../src/tensor/tape.ts";
import { fromHost, type Tensor } from "../../../src/tensor/tensor.ts";
import { useDevice } from "../../helpers/device.ts";

interface Token {
  readonly advantage: number;
  readonly ratio?: number;
  /** Probability under the policy; old is that over `ratio`. */
  readonly p?: number;
  readonly reference?: number;
  readonly entropy?: number;
  readonly mask?: number;
}

describe("policy loss", () => {
  const cpu = useDevice();
  const defaults: PolicyLossOptions = { clipLow: 0.2, clipHigh: 0.2, scale: 1 };

  async function run(tokens: readonly Token[], options: Partial<PolicyLossOptions> = {}) {
    const device = cpu();
    const vector = (values: number[]): Tensor => fromHost(device, values, [tokens.length]);
    const p = tokens.map((token) => token.p ?? 0.3);
    const logProb = vector(p.map(Math.log));
    const entropy = vector(tokens.map((token) => token.entropy ?? 0));
    logProb.requiresGrad = entropy.requiresGrad = true;
    const { tape, value } = withTape(() =>
      policyLoss(
        {
          logProb,
          entropy,
          oldLogProb: vector(tokens.map(({ ratio = 1 }, i) => Math.log((p[i] as number) / ratio))),
          referenceLogProb: tokens.some(({ reference }) => reference !== undefined)
            ? vector(tokens.map(({ reference = 1 }) => Math.log(reference)))
            : null,
          advantage: vector(tokens.map(({ advantage }) => advantage)),
          weight: vector(tokens.map(({ mask = 1 }) => mask)),
        },
        { ...defaults, ...options },
      ),
    );
    backward(tape, value);
    const raw = await value.readFloats();
    const stats = Object.fromEntries(policyLossStats.map((name, i) => [name, raw[i] as number])) as Record<
      (typeof policyLossStats)[number],
      number
    >;
    return {
      stats,
      dLogProb: [...(await (logProb.grad as Tensor).readFloats())],
      dEntropy: entropy.grad === null ? null : [...(await entropy.grad.readFloats())],
    };
  }

  it.each([
    [1, 1.5, -1.2, 0],
    [1, 0.5, -0.5, -0.5],
    [-1, 1.5, 1.5, 1.5],
    [-1, 0.5, 0.8, 0],
    [-1, 5, 5, 5],
    [1, 5, -1.2, 0],
    [1, 1, -1, -1],
    [-0.25, 1, 0.25, 0.25],
  ])("of advantage %d at ratio %d is %d, with slope %d", async (advantage, ratio, loss, slope) => {
    const { stats, dLogProb } = await run([{ advantage, ratio }]);
    expect(stats.loss).toBeCloseTo(loss, 5);
    expect(dLogProb[0]).toBeCloseTo(slope, 5);
    expect(stats.clippedLow + stats.clippedHigh).toBe(slope === 0 ? 1 : 0);
  });

  it("has bounds of its own on each side", async () => {
    const { stats } = await run(
      [
        { advantage: 1, ratio: 1.25 },
        { advantage: 1, ratio: 1.5 },
        { advantage: -1, ratio: 0.7 },
      ],
      { clipHigh: 0.28, clipLow: 0.2 },
    );
    expect(stats.loss).toBeCloseTo(-1.25 - 1.28 + 0.8, 5);
    expect([stats.clippedLow, stats.clippedHigh]).toEqual([1, 1]);
  });

  it("adds k3 to the reference, whose gradient is 1 - reference / policy", async () => {
    const { stats, dLogProb } = await run([{ advantage: 0, p: 0.3, reference: 0.2 }], { klCoef: 1 });
    expect(stats.k3).toBeCloseTo(0.07213177, 6);
    expect(stats.loss).toBeCloseTo(0.07213177, 6);
    expect(dLogProb[0]).toBeCloseTo(1 / 3, 6);
    // A small step against the gradient lowers the divergence: the sign of the released code would raise it.
    const after = await run([{ advantage: 0, p: Math.exp(Math.log(0.3) - 0.1 * (dLogProb[0] as number)), reference: 0.2 }], { klCoef: 1 });
    expect(after.stats.k3).toBeLessThan(stats.k3);
  });

  it("subtracts the entropy bonus", async () => {
    const { stats, dEntropy } = await run(
      [
        { advantage: 0, entropy: 0.94753697 },
        { advantage: 0, entropy: 1 },
      ],
      { entropyCoef: 0.5, scale: 0.5 },
    );
    expect(stats.loss).toBeCloseTo(-0.25 * 1.94753697, 6);
    expect(dEntropy).toEqual([-0.25, -0.25]);
    expect(stats.entropy).toBeCloseTo(1.94753697, 6);
  });

  it("is the token mean of the golden rows, whatever their lengths", async () => {
    // L = [[1, 2], [3, 3, 3, 3]] at ratio 1: 15 / 6 tokens
    const { stats } = await run(
      [1, 2, 3, 3, 3, 3].map((loss) => ({ advantage: -loss })),
      { scale: 1 / 6 },
    );
    expect(stats.loss).toBeCloseTo(2.5, 6);
    expect(stats.tokens).toBe(6);
  });

  it("lets masked tokens have no say, NaN or not", async () => {
    const seen = [
      { advantage: 1, ratio: 1.1, reference: 0.5, entropy: 1 },
      { advantage: -1, ratio: 0.9, reference: 0.4, entropy: 2 },
    ];
    const masked = (value: number): Token => ({
      advantage: value,
      p: Number.isNaN(value) ? NaN : 0.5,
      ratio: value,
      reference: value,
      entropy: value,
      mask: 0,
    });
    const options = { klCoef: 0.1, entropyCoef: 0.1, scale: 0.5 };
    const clean = await run([seen[0] as Token, masked(1), seen[1] as Token], options);
    const dirty = await run([seen[0] as Token, masked(NaN), seen[1] as Token], options);
    expect(dirty).toEqual(clean);
    expect(clean.dLogProb[1]).toBe(0);
    expect(clean.stats.tokens).toBe(2);
  });

  it("reports k1 of old to new and the largest difference", async () => {
    const { stats } = await run([
      { advantage: 1, ratio: 2 },
      { advantage: 1, ratio: 0.25 },
    ]);
    expect(stats.k1).toBeCloseTo(-Math.log(2) + Math.log(4), 5);
    expect(stats.logProbDifferenceMax).toBeCloseTo(Math.log(4), 5);
  });

  it("stays finite when policy and sampler or reference are far apart", async () => {
    const { stats, dLogProb } = await run([{ advantage: 1, p: 1e-30, ratio: 1e-28, reference: 1 }], { klCoef: 0.001 });
    expect(Object.values(stats).every(Number.isFinite)).toBe(true);
    expect(dLogProb.every(Number.isFinite)).toBe(true);
  });
});
