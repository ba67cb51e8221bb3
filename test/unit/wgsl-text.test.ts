import { describe, expect, it } from "vitest";
import { evaluate, expandWgsl } from "../../src/device/webgpu/wgsl-text.ts";

const expand = (text: string, constants = {}, more: Readonly<Record<string, string>> = {}) =>
  expandWgsl("main", new Map([["main", text], ...Object.entries(more)]), constants);
const texts = (...of: Parameters<typeof expand>) => expand(...of).map(({ text }) => text);

describe("expandWgsl", () => {
  it("repeats lines with a counter, in each other, and fills in values", () => {
    const text = "#repeat i N\n#repeat j i + 1\na${i}b${j * 2}\n#end\n#end\nend ${N}\n";
    expect(texts(text, { N: 2 })).toEqual(["a0b0", "a1b0", "a1b2", "end 2"]);
  });

  it("repeats nothing no times, and leaves out what a condition does", () => {
    expect(texts("#repeat i 0\nx\n#end\n#if N > 2 && !FLAG\nbig\n#else\nsmall\n#end\n", { N: 3, FLAG: true })).toEqual(["small"]);
    expect(texts("#if N > 2 && !FLAG\nbig\n#end\nrest", { N: 3, FLAG: false })).toEqual(["big", "rest"]);
    // what is left out may ask for what there is not
    expect(texts("#if N == 0\n${UNKNOWN}\n#end\n", { N: 1 })).toEqual([]);
  });

  it("knows the file's own constants, in whatever order they stand, but those that are no such expression only where they are asked for", () => {
    const text = "const A = (BM * BKQ + T - 1u) / T;\nconst BKQ: u32 = BK / 4u;\nconst F: f32 = 1.5;\n${A} ${select(A, 9u, BK == 16u)}\n";
    expect(texts(text, { BM: 5, BK: 16, T: 7 }).at(-1)).toBe("3 9");
    expect(() => texts("const F: f32 = 1.5;\n${F}\n")).toThrow(/kernels\/wgsl\/main.wgsl:2: F is unknown in F/);
  });

  it("includes a file once, and says of each line where it was written", () => {
    const lines = expand(
      "#include lib/a\n#include lib/b\n#include lib/a\nown\n",
      {},
      { "lib/a": "a1\na2\n", "lib/b": "#include lib/a\nb1\n" },
    );
    expect(lines).toEqual([
      { text: "a1", file: "lib/a", line: 1 },
      { text: "a2", file: "lib/a", line: 2 },
      { text: "b1", file: "lib/b", line: 2 },
      { text: "own", file: "main", line: 4 },
    ]);
  });

  it("includes a file as often as it is given words, which stand for names inside it, and knows the counters around it", () => {
    const lib = { "lib/store": "#repeat j 2\n${SUMS}_${j} += ${n};\n#end\n" };
    const text = "#repeat n 2\n#include lib/store SUMS=dk\n#end\n#include lib/store SUMS=dv\n";
    expect(() => texts(text, {}, lib)).toThrow(/lib\/store\.wgsl:2: n is unknown in n/);
    expect(texts(text, { n: 7 }, lib)).toEqual(["dk_0 += 0;", "dk_1 += 0;", "dk_0 += 1;", "dk_1 += 1;", "dv_0 += 7;", "dv_1 += 7;"]);
    expect(() => texts("#include lib/store SUMS\n", {}, lib)).toThrow(/main\.wgsl:1: SUMS is wrong; expected NAME=word/);
    expect(() => texts("#include lib/x N=a\n", {}, { "lib/x": "${N + 1}\n" })).toThrow(/lib\/x\.wgsl:1: N is a word in N \+ 1/);
  });

  it.each([
    ["x\n#repeat i 2\ny\n", /main\.wgsl:2: it has no #end/],
    ["#end\n", /main\.wgsl:1: #end stands alone or is unknown; expected #include, #repeat/],
    ["#unroll 3\n#end\n", /main\.wgsl:1: #unroll stands alone or is unknown/],
    ["#repeat 3\n#end\n", /main\.wgsl:1: #repeat is wrong; expected #repeat NAME COUNT/],
    ["#include lib/none\n", /main\.wgsl:1: kernels\/wgsl\/lib\/none\.wgsl was not loaded/],
    ["a ${1 + }\n", /main\.wgsl:1: a value is missing in 1 \+/],
    ["a ${f(1)}\n", /main\.wgsl:1: f is no function in f\(1\)/],
    ["a ${min(1, 2}\n", /main\.wgsl:1: \) is missing in min\(1, 2/],
    ["a ${1 2}\n", /main\.wgsl:1: 2 is too much in 1 2/],
    ["a ${1 % 0}\n", /main\.wgsl:1: there is no whole value in 1 % 0/],
  ])("says where %j is wrong", (text, complaint) => {
    expect(() => texts(text)).toThrow(complaint);
  });
});

describe("evaluate", () => {
  it("binds and rounds as WGSL does", () => {
    const names: Readonly<Record<string, number>> = { BM: 128, WM: 2 };
    const value = (expression: string) => evaluate(expression, (name) => names[name]!);
    expect(value("1 + 2 * 3 - 8 / 3")).toBe(5);
    expect(value("17u % 5u * 2u")).toBe(4);
    expect(value("(1 + 2) * 3")).toBe(9);
    expect(value("BM / WM / 16u")).toBe(4);
    expect(value("10 - 3 - 2")).toBe(5);
    expect(value("1 < 2 && 2 >= 2 || false")).toBe(1);
    expect(value("!true || 3 != 3")).toBe(0);
    expect(value("select(1u, 2u, BM > 64u) + min(4, 3) + max(5, 6)")).toBe(11);
  });
});
