/** Garbage in a kernel's workgroup memory before it starts, so that a test sees what it reads and has not written. */

const declaration = /^var<workgroup> (\w+): (.+?);/gm;
const index = /@builtin\(local_invocation_index\) (\w+): u32/;
const start = /fn main\([^{]*\{/;

/** The WGSL with a first statement that fills all workgroup memory, NaN where it is of floats. Lines keep their numbers. */
export function scrambled(code: string): string {
  const lane = index.exec(code)?.[1];
  if (lane === undefined) return code;
  const garbage = `(0x7fc0dea0u | (${lane} & 15u))`; // no constant: WGSL refuses those that are NaN
  const fills = Array.from(code.matchAll(declaration), ([, name = "", type = ""]) => {
    const [, element, count] = /^array<(.+), (.+)>$/.exec(type) ?? [];
    const place = element === undefined ? name : `${name}[scramble_at]`;
    const fill = assignment(place, element ?? type, garbage);
    return element === undefined ? fill : `for (var scramble_at = ${lane}; scramble_at < ${count}; scramble_at += 32u) { ${fill} }`;
  });
  if (fills.length === 0) return code;
  return code.replace(start, (head) => `${head} if (${lane} < 32u) { ${fills.join(" ")} } workgroupBarrier();`);
}

function assignment(place: string, type: string, bits: string): string {
  if (type === "atomic<u32>") return `atomicStore(&${place}, ${bits});`;
  if (type.includes("f32")) return `${place} = ${type}(bitcast<f32>(${bits}));`;
  return `${place} = ${type}(${bits});`;
}
