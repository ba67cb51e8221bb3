import { describe, expect, it } from "vitest";
import {
  check,
  device,
  expectSameBits,
  ids,
  INACTIVE,
  random,
  randomTensor,
  runOn,
  tensor,
  useDevices,
  zeros,
  type Values,
} from "../kernels/harness.ts";

useDevices();

/** table[ids[n]] += dy[n] in f32, one token after the other. */
function addInOrder(table: Values, tokens: Values, dy: Values): Float32Array {
  const out = Float32Array.from(table.values);
  tokens.values.forEach((id, n) => {
    if (id >= table.rows) return;
    for (let c = 0; c < table.cols; c++) out[id * table.cols + c]! += dy.values[n * table.cols + c]!;
  });
  return out;
}

describe("embedding_backward", () => {
  it("adds in token order, to the bit, where few ids come thousands of times, over blocks, shards and 1024 columns", async () => {
    for (const [n, vocabulary, c] of [
      [2500, 3, 5],
      [2500, 700, 8],
      [1025, 1, 12],
      [40, 9, 1040],
    ] as const) {
      const next = random(n + c);
      const tokens = ids(Array.from({ length: n }, () => Math.floor(next(0, vocabulary))));
      const dy = randomTensor(1, n, c),
        table = randomTensor(2, vocabulary + 2, c);
      const [got] = await check("embedding_backward", {}, [tokens, dy], [table], { tolerance: 1e-3 });
      expectSameBits(got!, addInOrder(table, tokens, dy), `${n} tokens of ${vocabulary} ids, ${c} columns`);
    }
  });

  it("adds nothing for an id outside the table", async () => {
    const table = randomTensor(2, 4, 6),
      tokens = ids([4, 1, INACTIVE, 1]),
      dy = randomTensor(1, 4, 6);
    const [got] = await runOn(device(), "embedding_backward", {}, [tokens, dy], [table]);
    expectSameBits(got!, addInOrder(table, tokens, dy), "dtable");
  });
});

describe("embedding and gather_rows", () => {
  it("find a row in whichever shard it lies, and give NaN beyond the last", async () => {
    const rows = 900,
      n = 700,
      next = random(9);
    const at = ids(Array.from({ length: n }, (_, i) => (i === 5 ? rows : i === 600 ? INACTIVE : Math.floor(next(0, rows)))));
    for (const dtype of ["f32", "f16", "bf16"] as const) {
      const table = randomTensor(3, rows, 13, dtype);
      const [y] = await check("embedding", {}, [at, table], [zeros(n, 13)], {
        tolerance: 0,
        compare: (_, i) => ![5, 600].includes(Math.floor(i / 13)),
      });
      for (const row of [5, 600]) expect([...y!.subarray(row * 13, (row + 1) * 13)].every(Number.isNaN)).toBe(true);
    }
    await check("gather_rows", {}, [randomTensor(4, rows, 13), at], [zeros(n, 13)], {
      tolerance: 0,
      compare: (_, i) => ![5, 600].includes(Math.floor(i / 13)),
    });
  });
});

describe("scatter_rows", () => {
  it("adds across shards and leaves all other rows to the bit", async () => {
    const indices = ids(Array.from({ length: 600 }, (_, i) => (i * 7) % 1201));
    await check("scatter_rows", {}, [randomTensor(1, 600, 3), indices], [randomTensor(2, 1201, 3)], { tolerance: 0 });
  });
});

describe("rms_norm", () => {
  it("gives a row or head the bits it has alone, at model widths", async () => {
    for (const [groups, c, dtype] of [
      [1, 896, "f32"],
      [1, 3584, "f16"],
      [1, 1537, "bf16"],
      [14, 64, "f32"],
      [3, 80, "f16"],
      [5, 128, "bf16"],
      [1, 9000, "f32"],
    ] as const) {
      const x = randomTensor(1, 37, groups * c),
        weight = randomTensor(2, 1, c, dtype, 0.5, 1.5);
      const [all, rstd] = await check("rms_norm", { groups, eps: 1e-6 }, [x, weight], [zeros(37, groups * c), zeros(37, groups)], {
        tolerance: 2e-6,
      });
      const row = tensor(1, groups * c, x.values.slice(36 * groups * c));
      const [one, oneRstd] = await runOn(
        device(),
        "rms_norm",
        { groups, eps: 1e-6 },
        [row, weight],
        [zeros(1, groups * c), zeros(1, groups)],
      );
      expectSameBits(one!, all!.slice(36 * groups * c), "y");
      expectSameBits(oneRstd!, rstd!.slice(36 * groups), "rstd");
    }
  });

  it("backward sums dweight in an order that shards do not change, and gives dx the same bits without it", async () => {
    for (const [n, groups, c] of [
      [1300, 1, 20],
      [2100, 2, 12],
      [600, 1, 1030],
      [900, 2, 7],
    ] as const) {
      const x = randomTensor(1, n, groups * c),
        dy = randomTensor(2, n, groups * c),
        weight = randomTensor(3, 1, c, "f32", 0.5, 1.5);
      const rstd = randomTensor(4, n, groups, "f32", 1, 2),
        outputs = [zeros(n, groups * c), randomTensor(5, 1, c)] as const;
      const [dx] = await check("rms_norm_backward", { groups }, [x, weight, rstd, dy], outputs, { tolerance: 2e-4 });
      const [alone] = await runOn(device(), "rms_norm_backward", { groups }, [x, weight, rstd, dy], [outputs[0], null]);
      expectSameBits(alone!, dx!, "dx");
    }
  });
});

describe("rope", () => {
  it("writes nothing at an inactive token or beyond the table", async () => {
    const [n, heads, d] = [600, 2, 16],
      table = randomTensor(1, 50, d),
      before = randomTensor(2, n, heads * d);
    const positions = ids(Array.from({ length: n }, (_, i) => (i % 3 === 0 ? INACTIVE : i % 50)));
    await check("rope", { heads, inverse: 0 }, [randomTensor(3, n, heads * d), positions, table], [before], { tolerance: 1e-6 });
    const [got] = await runOn(
      device(),
      "rope",
      { heads, inverse: 0 },
      [randomTensor(3, 1, heads * d), ids([50]), table],
      [zeros(1, heads * d)],
    );
    expectSameBits(got!, new Float32Array(heads * d), "y");
  });
});
