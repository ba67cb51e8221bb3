/** `--device auto|webgpu|cpu`: what is taken, and the reason that the first line of a program gives. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { chooseDevice, type Choice } from "../../src/device/choose.ts";
import { thisMachine } from "../../src/device/gpu-memory.ts";
import { probeAdapters, type Probe } from "../../src/device/probe.ts";
import { adapter, emptyProbe, h200 } from "../helpers/adapters.ts";

const llvmpipe = adapter({ name: "llvmpipe", fullName: "llvmpipe (LLVM 19, 256 bits)", software: true, vendor: "mesa" });
/** What `auto` takes where these adapters are found. */
const auto = (adapter: string | null, probe: Probe): Promise<Choice> =>
  chooseDevice({ kind: "auto", adapter }, { ...thisMachine, adapters: () => Promise.resolve(probe) });
const probeOf = (...adapters: (typeof h200)[]) => ({ ...emptyProbe, adapters });

describe("auto", async () => {
  it("takes the first hardware adapter, by its name, past software ones", async () => {
    expect(await auto(null, probeOf(llvmpipe, h200))).toEqual({
      device: "webgpu",
      adapter: "NVIDIA H200",
      why: "auto: the only hardware adapter",
    });
    const two = await auto(null, probeOf(h200, adapter({ fullName: "AMD Radeon" })));
    expect(two.why).toBe("auto: the first of 2 hardware adapters; device.adapter=NAME takes another");
    expect((await auto(null, probeOf({ ...h200, count: 8 }))).why).toBe("auto: the first of 8 hardware adapters");
  });

  it("takes the one that device.adapter names", async () => {
    const choice = await auto("Radeon", probeOf(h200, adapter({ fullName: "AMD Radeon" })));
    expect(choice).toMatchObject({ device: "webgpu", adapter: "AMD Radeon" });
  });

  it("takes only what device.backend reaches, and says what it did not find there", async () => {
    const both = probeOf(adapter({ fullName: "RTX 4090", backend: "d3d12" }), adapter({ fullName: "GeForce RTX 4090", backend: "vulkan" }));
    const through = (backend: "vulkan" | "opengl") =>
      chooseDevice({ kind: "auto", adapter: null, backend }, { ...thisMachine, adapters: () => Promise.resolve(both) });
    expect(await through("vulkan")).toMatchObject({ device: "webgpu", adapter: "GeForce RTX 4090" });
    expect(await through("opengl")).toEqual({
      device: "cpu",
      why: "auto: no adapter is reached through opengl; there are d3d12, vulkan; zerosearch doctor says more",
    });
  });

  it("takes the CPU rather than a software adapter, and says so", async () => {
    const { device, why } = await auto(null, probeOf(llvmpipe));
    expect([device, why]).toEqual([
      "cpu",
      "auto: llvmpipe (LLVM 19, 256 bits) is a software adapter, taken only where --device webgpu asks for it",
    ]);
  });

  it("takes the CPU where there is no adapter, none of the name, or a driver that crashes", async () => {
    expect(await auto(null, emptyProbe)).toEqual({
      device: "cpu",
      why: "auto: no GPU adapter was found; zerosearch doctor says more",
    });
    expect((await auto("Radeon", probeOf(h200))).why).toBe("auto: no adapter's name contains Radeon; there is NVIDIA H200");
    const crash = { ...emptyProbe, failure: "listing the adapters crashed (SIGSEGV) at NVIDIA H200" };
    expect((await auto(null, crash)).why).toMatch(/^auto: listing the adapters crashed \(SIGSEGV\)/);
  });
});

describe("webgpu and cpu", () => {
  it("are taken without a look at the adapters", async () => {
    const blind = { ...thisMachine, adapters: () => expect.fail("adapters are looked at") };
    expect(await chooseDevice({ kind: "cpu", adapter: "x" }, blind)).toEqual({ device: "cpu", why: "as asked" });
    expect(await chooseDevice({ kind: "webgpu", adapter: null }, blind)).toEqual({ device: "webgpu", why: "as asked" });
    expect(await chooseDevice({ kind: "webgpu", adapter: "L4" }, blind)).toEqual({
      device: "webgpu",
      adapter: "L4",
      why: "as asked, adapter L4",
    });
    const vulkan = { kind: "webgpu", adapter: null, backend: "vulkan" } as const;
    expect((await chooseDevice(vulkan, blind)).why).toBe("as asked, through vulkan");
    expect((await chooseDevice({ ...vulkan, adapter: "L4" }, blind)).why).toBe("as asked, adapter L4 through vulkan");
    expect((await chooseDevice({ ...vulkan, kind: "cpu" }, blind)).why).toBe("as asked");
  });
});

describe("looking at the adapters", () => {
  const folder = mkdtempSync(join(tmpdir(), "zerosearch-probe-"));
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  /** A program that stands for Node with a driver in it. */
  const program = (name: string, text: string): string => {
    const path = join(folder, name);
    writeFileSync(path, `#!/bin/sh\n${text}\n`);
    chmodSync(path, 0o755);
    return path;
  };

  it("finds none where no driver is named, and does not fail", async () => {
    const { adapters, failure } = await probeAdapters({
      env: { ...process.env, VK_DRIVER_FILES: "/nowhere.json", VK_ICD_FILENAMES: "/nowhere.json" },
    });
    if (process.platform === "linux") expect(adapters).toEqual([]);
    expect(failure).toBeNull();
  });

  it.skipIf(process.platform === "win32")(
    "outlives a driver that crashes, one that hangs, and a program that cannot be started",
    async () => {
      const crashes = program("crashes", `echo '{"asking":"Bad GPU"}'; kill -SEGV $$`);
      expect((await probeAdapters({ command: [crashes] })).failure).toBe("listing the adapters crashed (SIGSEGV) at Bad GPU");
      const hangs = program("hangs", "exec sleep 60");
      expect((await probeAdapters({ command: [hangs], timeout: 200 })).failure).toBe("listing the adapters had not ended after 0.2 s");
      expect((await probeAdapters({ command: [join(folder, "absent")] })).failure).toMatch(/could not be started \(spawn .* ENOENT\)/);
    },
  );

  it.skipIf(process.platform === "win32")("keeps the adapters that were described before a crash, and what was said", async () => {
    const row = {
      adapter: {
        backend: "vulkan",
        name: "Good GPU",
        count: 1,
        info: { device: "good", description: "d", vendor: "v", architecture: "a" },
        features: ["subgroups"],
        limits: {},
      },
    };
    const half = program("half", `echo '${JSON.stringify(row)}'; echo 'Warning: odd' >&2; echo '    at somewhere' >&2; kill -ABRT $$`);
    const probe = await probeAdapters({ command: [half] });
    expect(probe.adapters.map(({ fullName }) => fullName)).toEqual(["Good GPU"]);
    expect(probe.failure).toContain("crashed (SIGABRT)");
    expect(probe.messages).toEqual(["Warning: odd"]);
  });
});
