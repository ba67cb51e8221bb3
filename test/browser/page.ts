/** The page: the smoke set on the browser's own WebGPU. */
import { createWebGpuDevice } from "../../src/webgpu.ts";
import { smoke, type SmokeResult } from "./smoke.ts";

async function run(): Promise<SmokeResult> {
  const sources = new Map(Object.entries((await (await fetch("/wgsl.json")).json()) as Record<string, string>));
  const { gpu } = (globalThis as unknown as { readonly navigator: { readonly gpu: GPU } }).navigator;
  const device = await createWebGpuDevice({ gpu, sources, poison: true });
  try {
    return await smoke(device);
  } finally {
    await device.destroy();
  }
}

Object.assign(globalThis, { run });
