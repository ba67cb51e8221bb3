import { describe, expect, it } from "vitest";
import { dynamicMap, momentTables, placeLines, tableShape } from "../../src/optim/dynamic-map.ts";
import { dynamicNumbers } from "../reference/adamw-kernels.ts";

const kinds = ["signed", "unsigned"] as const;

describe.each(kinds)("the %s map", (kind) => {
  const map = dynamicMap(kind);
  const numbers = map.filter((x) => x >= 0);

  it("has 256 different numbers, rising, with 0 and 1 among them", () => {
    expect(map.length).toBe(256);
    for (let i = 1; i < 256; i++) expect(map[i]).toBeGreaterThan(map[i - 1]!);
    expect(map.includes(0)).toBe(true);
    expect(map[255]).toBe(1);
  });

  it("has the numbers that the bits of the codes say: sign, zeros, a one, a fraction", () => {
    const fromBits = dynamicNumbers(kind === "signed");
    for (let i = 0; i < 256; i++) expect(Math.abs(map[i]! - fromBits[i]!)).toBeLessThanOrEqual(1e-15 * Math.abs(fromBits[i]!));
  });

  it("is twice as dense in each decade as in the one below", () => {
    const within = (decade: number): number => numbers.filter((x) => x > 10 ** (decade - 1) && x < 10 ** decade).length;
    const top = kind === "signed" ? 64 : 128;
    expect([0, -1, -2, -3, -4, -5, -6].map(within)).toEqual([1, 2, 4, 8, 16, 32, 64].map((part) => top / part));
  });

  it("finds the place of each number, and of what lies between two, by f32 lines", () => {
    const table = momentTables().subarray(512 + 32 * kinds.indexOf(kind));
    const place = (x: number): number => {
      const at = (line: number): number => Math.fround(Math.fround(table[2 * line]! * Math.fround(x)) + table[2 * line + 1]!);
      return Math.max(at(15), Math.min(...Array.from({ length: 15 }, (_, line) => at(line))));
    };
    for (let i = 0; i + 1 < numbers.length; i++)
      for (const share of [0, 0.25, 0.9]) {
        const x = numbers[i]! + share * (numbers[i + 1]! - numbers[i]!);
        expect(Math.abs(place(x) - (i + share)), `place of ${x}`).toBeLessThan(6e-5);
      }
    expect(Math.abs(place(1) - (numbers.length - 1))).toBeLessThan(6e-5);
    expect(placeLines(map).lines.length).toBeLessThanOrEqual(15);
  });
});

describe("the signed map", () => {
  it("has the negative of each of its numbers but 1, 0 in the middle, and the numbers worked out by hand", () => {
    const map = dynamicMap("signed");
    expect(map[127]).toBe(0);
    for (let i = 1; i <= 127; i++) expect(map[127 - i]).toBe(-map[127 + i]!);
    expect(map[0]).toBeCloseTo(-(0.1 + (0.9 * 63.5) / 64), 12);
    // the least, of one part: the middle of [0.1, 1] millionths; then the two of the next decade, a quarter and three quarters into it
    expect([map[128]! * 1e7, map[129]! * 1e6, map[130]! * 1e6].map((x) => x.toFixed(9))).toEqual([
      "5.500000000",
      "3.250000000",
      "7.750000000",
    ]);
    expect(map.some((x) => Math.abs(x - 0.10703125) < 1e-12)).toBe(true);
  });
});

describe("the unsigned map", () => {
  it("has the numbers worked out by hand", () => {
    const map = dynamicMap("unsigned");
    expect([map[1]! * 1e7, map[2]! * 1e7].map((x) => x.toFixed(9))).toEqual(["3.250000000", "7.750000000"]);
    // below 0.1 lie 0 and 2 + 4 + ... + 64 = 126 numbers; the largest and the next ones are middles of 64 and 128 parts
    expect(map[126]).toBeCloseTo(0.1 * (0.1 + (0.9 * 63.5) / 64), 15);
    expect(map[127]).toBeCloseTo(0.1 + (0.9 * 0.5) / 128, 15);
    expect(map[254]).toBeCloseTo(0.1 + (0.9 * 127.5) / 128, 12);
  });
});

describe("the tables of both", () => {
  it("are three rows: the numbers of each, and the lines", () => {
    const table = momentTables();
    expect(table.length).toBe(tableShape[0] * tableShape[1]);
    expect(Array.from(table.subarray(0, 256))).toEqual(Array.from(dynamicMap("signed"), Math.fround));
    expect(Array.from(table.subarray(256, 512))).toEqual(Array.from(dynamicMap("unsigned"), Math.fround));
    expect(table.every(Number.isFinite)).toBe(true);
  });
});
