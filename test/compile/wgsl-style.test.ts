/** What every file of kernels/wgsl/ looks like: the device parses the binding lines, and people read the rest. */
import { describe, expect, it } from "vitest";
import { loadWgsl } from "../../src/device/dawn.ts";
import { expandWgsl } from "../../src/device/webgpu/wgsl-text.ts";
import { bindingLine, parseFile, withoutComments } from "./check-dispatch.ts";

const sources = await loadWgsl();
const uniformLine = (storages: number): string => `@group(0) @binding(${storages}) var<uniform> p: Params;`;
const reserved = /^(wg|t|i|_)$/;

/** Of files that say more than the prologue's types: a specialisation to look at. */
const matrices = { TILE_M: 16, TILE_N: 16, TILE_K: 16, SG: 32 };
const examples: Readonly<Record<string, Readonly<Record<string, number | boolean>>>> = {
  attention_backward_key_matrix: { ...matrices, ROLLED: false, BM: 64, WN: 2, D: 64 },
  attention_backward_query_matrix: { ...matrices, ROLLED: false, BM: 64, WN: 1, D: 64 },
  attention_matrix: { ...matrices, ROLLED: false, BM: 64, WN: 1, D: 64, PAGED: true, KV_DTYPE: 1, SPLIT: false },
  log_prob_backward: { PACKED: true },
  matmul: { TM: 2, BM: 8, BN: 64, BK: 16, TRANS_A: true, TRANS_B: true, SPLIT: true },
  matmul_matrix: {
    ...{ MEMBERS: 2, BIAS: true, SPLIT: false, A_F32: true, TRANS_A: false, TRANS_B: true, BUFFERS: 2 },
    ...{ BM: 64, BN: 64, BK: 32, WM: 2, WN: 2, ...matrices },
  },
  matmul_sum: { MEMBERS: 3 },
};
const kernels = [...sources].filter(([stem]) => !stem.startsWith("lib/"));

describe.each(kernels)("kernels/wgsl/ %s", (stem, text) => {
  const lines = text.split("\n");

  it("opens with a comment that says what it computes, its shapes and how it is dispatched", () => {
    const header = lines.slice(
      0,
      lines.findIndex((line) => !line.startsWith("//")),
    );
    expect(header.indexOf("//"), "a line between the formula and the facts").toBeGreaterThan(0);
    for (const word of ["Shapes", "Dispatch"])
      expect(
        header.some((line) => line.startsWith(`// ${word} `)),
        word,
      ).toBe(true);
  });

  it("has bindings in the form that the device reads, numbered from 0, the parameters behind them, and parameters of u32 before f32", () => {
    const expanded = expandWgsl(stem, sources, examples[stem]).map((line) => line.text);
    const groups = expanded.filter((line) => line.includes("@group("));
    const storages = groups.filter((line) => bindingLine.test(line));
    expect(groups.filter((line) => !storages.includes(line) && !line.startsWith(uniformLine(storages.length)))).toEqual([]);
    expect(storages.map((line) => bindingLine.exec(line)![1])).toEqual(storages.map((_, i) => String(i)));
    expect(storages.length).toBeLessThanOrEqual(8);
    const { params } = parseFile(expanded.join("\n"));
    expect(params, "struct Params has fields of other types, or f32 before u32").not.toBeNull();
    expect(expanded.includes(uniformLine(storages.length)) || params!.uints + params!.floats === 0).toBe(true);
  });

  it("is named as its caller names it", () => {
    expect(stem).toMatch(/^[a-z0-9_]+$/);
  });
});

describe.each([...sources])("kernels/wgsl/ %s", (stem, text) => {
  const lines = text.split("\n");
  const code = withoutComments(text);

  it("opens with a comment, and what is shared defines nothing that a kernel binds", () => {
    expect(lines[0]).toMatch(/^\/\/ \w/);
    if (stem.startsWith("lib/")) expect(code).not.toMatch(/@group|@compute|@workgroup_size/);
  });

  it("is specialised by the prologue alone", () => {
    for (const word of ["override", "enable", "requires"]) expect(code).not.toMatch(new RegExp(`^\\s*(@id\\(\\d+\\)\\s*)?${word}\\b`, "m"));
  });

  it("names functions, variables and parameters in snake_case", () => {
    const names = [...code.matchAll(/\b(?:fn|let|var(?:<[a-z]+>)?)\s+([A-Za-z_]\w*)/g)].map(([, name]) => name!);
    // a single capital is a shape letter
    expect(names.filter((name) => !/^[a-z_][a-z0-9_]*$/.test(name) && !/^[A-Z]\d?$/.test(name) && !reserved.test(name))).toEqual([]);
  });

  it("has no subgroup arithmetic beside subgroup matrices, which crashes a driver", () => {
    if (code.includes("subgroup_matrix"))
      expect(code).not.toMatch(
        /\bsubgroup(Add|Mul|Max|Min|And|Or|Xor|Shuffle\w*|Broadcast\w*|Exclusive\w*|Inclusive\w*|Ballot|All|Any|Elect)\b/,
      );
  });

  it("has no tabs, no trailing blanks, a line feed at its end, and is short enough to be read", () => {
    expect(text).not.toMatch(/\t|[ ]+$/m);
    expect(text.endsWith("\n") && !text.endsWith("\n\n")).toBe(true);
    expect(lines.length).toBeLessThanOrEqual(400);
    expect(stem).toMatch(/^(lib\/)?[a-z0-9_]+$/);
  });
});
