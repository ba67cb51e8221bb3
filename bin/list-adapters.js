#!/usr/bin/env node
// Prints the adapters that Dawn finds, one JSON line each, and `{"done":true}` at the end. A process of its own, since a driver that
// crashes takes its process with it: src/device/probe.ts starts it and reads its lines. Arguments: flags for Dawn.

/** What `create` returned must not be collected: Dawn then corrupts memory. */
const instances = [];

/** A name that no adapter has: asked for it, Dawn lists those there are. */
const noName = "adapter=\u0001";

/** Dawn names the adapters of one way to the GPU only: of these, where the system's own is not the only one. */
const ways = process.platform === "win32" ? [["backend=d3d12"], ["backend=vulkan"]] : [[]];

/**
 * @param {string[]} flags
 * @param {(row: object) => void} tell
 */
async function listAdapters(flags, tell) {
  const { create } = await import("webgpu");
  const request = (more) => {
    const gpu = create([...flags, ...more]);
    instances.push(gpu);
    return gpu.requestAdapter({ powerPreference: "high-performance" });
  };
  const named = [];
  for (const way of ways) {
    const list = await request([...way, noName]).then(
      () => "",
      (error) => String(error?.message ?? error),
    );
    named.push(...[...list.matchAll(/backend: '(.*?)', name: '(.*)'/g)].map(([, backend, name]) => ({ backend, name })));
  }
  tell({ named });
  const seen = new Set();
  for (const { backend, name } of named) {
    // adapters of one name cannot be told apart: the first is described
    const key = `${backend} ${name}`;
    if (seen.has(key)) continue;
    seen.add(key);
    const count = named.filter((one) => one.backend === backend && one.name === name).length;
    tell({ asking: name });
    try {
      const adapter = await request([`backend=${backend}`, `adapter=${name}`]);
      if (adapter !== null) tell({ adapter: { backend, name, count, ...describe(adapter) } });
    } catch (error) {
      tell({ unusable: { backend, name, why: String(error?.message ?? error).split("\n")[0] } });
    }
  }
  tell({ done: true });
}

/** The parts of a GPUAdapter that are data. */
function describe({ info, features, limits }) {
  const numbers = {};
  for (const name in limits) if (["number", "bigint"].includes(typeof limits[name])) numbers[name] = Number(limits[name]);
  const { vendor, architecture, device, description, subgroupMinSize, subgroupMaxSize, isFallbackAdapter } = info;
  const subgroupMatrixConfigs = Array.from(info.subgroupMatrixConfigs ?? [], (one) => ({
    componentType: one.componentType,
    resultComponentType: one.resultComponentType,
    M: one.M,
    N: one.N,
    K: one.K,
  }));
  return {
    info: { vendor, architecture, device, description, subgroupMinSize, subgroupMaxSize, isFallbackAdapter, subgroupMatrixConfigs },
    features: [...features].map(String),
    limits: numbers,
  };
}

const tell = (row) => process.stdout.write(`${JSON.stringify(row)}\n`);
await listAdapters(process.argv.slice(2), tell).catch((error) => tell({ failure: String(error?.message ?? error).split("\n")[0] }));
