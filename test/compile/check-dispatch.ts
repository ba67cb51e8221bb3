/** Whether a dispatch fits the WGSL file it runs: its buffers, its parameters and its prologue. */
import type { Dispatch } from "../../src/device/webgpu/kernel.ts";
import { expandWgsl } from "../../src/device/webgpu/wgsl-text.ts";

export interface WgslFile {
  readonly text: string;
  /** Per binding: whether the kernel writes it. */
  readonly writes: readonly boolean[];
  /** Words of Params by type, in order; null where it has fields of other types. */
  readonly params: { readonly uints: number; readonly floats: number } | null;
}

export const bindingLine = /^@group\(0\) @binding\((\d)\) var<storage, (read|read_write)> [a-z][a-z0-9_]*: array<.+>;/;

export function withoutComments(text: string): string {
  return text.replace(/\/\/.*$/gm, "");
}

export function parseFile(source: string): WgslFile {
  const text = withoutComments(source);
  const writes: boolean[] = [];
  for (const line of text.split("\n")) {
    const found = bindingLine.exec(line);
    if (found !== null) writes[Number(found[1])] = found[2] === "read_write";
  }
  const body = /struct Params\s*\{([^}]*)\}/.exec(text)?.[1] ?? "";
  const types = body
    .split(",")
    .map((field) => field.split(":")[1]?.trim())
    .filter((type) => type !== undefined);
  const uints = types.filter((type) => type === "u32").length;
  const floats = types.filter((type) => type === "f32").length;
  const sorted = types.every((type, i) => (i < uints ? type === "u32" : type === "f32"));
  return { text, writes, params: sorted && uints + floats === types.length ? { uints, floats } : null };
}

/** A file and what it includes. */
export function withIncluded(stem: string, sources: ReadonlyMap<string, string>): string[] {
  const inner = [...(sources.get(stem) ?? "").matchAll(/^#include (\S+)/gm)];
  return [...new Set([stem, ...inner.flatMap(([, other]) => withIncluded(other!, sources))])];
}

const parsed = new Map<string, WgslFile>();

/** What a dispatch's module binds, and its parameters. */
function moduleOf({ kernel, constants = {} }: Dispatch, sources: ReadonlyMap<string, string>): WgslFile {
  const key = JSON.stringify([kernel, constants]);
  const known = parsed.get(key);
  if (known !== undefined) return known;
  const lines = expandWgsl(kernel, sources, constants).map(({ text }) => text);
  const made = parseFile(lines.join("\n"));
  parsed.set(key, made);
  return made;
}

/** What is wrong with a dispatch on an adapter that binds `most` buffers, in words. */
export function dispatchFaults(dispatch: Dispatch, sources: ReadonlyMap<string, string>, most: number): string[] {
  const { kernel, buffers, uints = [], floats = [], grid, constants = {}, aliases = {} } = dispatch;
  const file = moduleOf(dispatch, sources);
  const written = withIncluded(kernel, sources).map((stem) => withoutComments(sources.get(stem) ?? ""));
  const faults: string[] = [];
  if (buffers.length !== file.writes.length) faults.push(`${buffers.length} buffers for ${file.writes.length} bindings`);
  if (buffers.length > most) faults.push(`more than ${most} buffers`);
  for (const [i, { id }] of buffers.entries())
    for (let j = 0; j < i; j++)
      if (buffers[j]!.id === id && (file.writes[i] === true || file.writes[j] === true))
        faults.push(`bindings ${j} and ${i} are one buffer, which is written`);
  if (file.params !== null && (uints.length !== file.params.uints || floats.length !== file.params.floats))
    faults.push(`${uints.length} u32 and ${floats.length} f32 for Params of ${file.params.uints} and ${file.params.floats}`);
  if (uints.length + floats.length > 60) faults.push("more than 60 words");
  if (grid.some((n) => !Number.isInteger(n) || n > 65535)) faults.push("a grid of more than 65535 workgroups in one dimension");
  for (const [i, word] of uints.entries()) if (!Number.isInteger(word) || word < 0 || word > 0xffffffff) faults.push(`u32 ${i} is ${word}`);
  for (const name of [...Object.keys(constants), ...Object.keys(aliases)])
    if (!written.some((text) => new RegExp(`\\b${name}\\b`).test(text))) faults.push(`the file does not use ${name}`);
  return faults;
}
