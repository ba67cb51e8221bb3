/** Which device a program takes, and why. */
import type { FoundAdapter, Probe } from "./probe.ts";

export interface Wish {
  readonly kind: "auto" | "webgpu" | "cpu";
  /** Part of an adapter's name; null takes any. */
  readonly adapter: string | null;
}

export type Choice = { readonly why: string } & (
  | { readonly device: "cpu" }
  /** `adapter` is part of a name, for Dawn; undefined takes its first. */
  | { readonly device: "webgpu"; readonly adapter: string | undefined }
);

/** A wish that needs no look at the adapters: what was asked for is taken, or it is an error. */
export function chooseAsked({ kind, adapter }: Wish): Choice | null {
  if (kind === "auto") return null;
  if (kind === "cpu") return { device: "cpu", why: "as asked" };
  return { device: "webgpu", adapter: adapter ?? undefined, why: adapter === null ? "as asked" : `as asked, adapter ${adapter}` };
}

/** `auto`: the first hardware adapter, else the CPU. A software adapter is slower than the CPU device, which is the same processor. */
export function chooseAuto({ adapter }: Pick<Wish, "adapter">, probe: Probe): Choice {
  const wanted = probe.adapters.filter(({ fullName }) => adapter === null || fullName.includes(adapter));
  const found = wanted.find(({ software }) => !software);
  if (found !== undefined) return { device: "webgpu", adapter: found.fullName, why: `auto: ${whyFound(found, wanted, adapter)}` };
  return { device: "cpu", why: `auto: ${whyNone(probe, adapter)}` };
}

function whyFound(found: FoundAdapter, wanted: readonly FoundAdapter[], adapter: string | null): string {
  const hardware = wanted.filter(({ software }) => !software);
  const all = hardware.reduce((sum, { count }) => sum + count, 0);
  const rule = adapter === null ? "" : ` named ${adapter}`;
  if (all === 1) return `the only hardware adapter${rule}`;
  return `the first of ${all} hardware adapters${rule}${found.count === all ? "" : `; device.adapter=NAME takes another`}`;
}

function whyNone({ adapters, unusable, failure }: Probe, adapter: string | null): string {
  const named = adapters.filter(({ fullName }) => adapter === null || fullName.includes(adapter));
  const more = "; zerosearch doctor says more";
  if (failure !== null) return `${failure}${more}`;
  const [software] = named;
  if (software !== undefined) return `${software.fullName} is a software adapter, taken only where --device webgpu asks for it`;
  const [other] = adapters;
  if (adapter !== null && other !== undefined) return `no adapter's name contains ${adapter}; there is ${other.fullName}`;
  const [refused] = unusable;
  if (refused !== undefined) return `${refused.fullName} cannot be used: ${refused.why}${more}`;
  return `no GPU adapter was found${more}`;
}
