/** The doctor on machines other than this one: what is missing is named, with the command that mends it. */
import { describe, expect, it } from "vitest";
import { adapterLines } from "../../src/commands/doctor.ts";
import { findingsOf, type Finding } from "../../src/commands/doctor/findings.ts";
import { findHardware, type System } from "../../src/commands/doctor/system.ts";
import { findVulkan } from "../../src/commands/doctor/vulkan-files.ts";
import { tiersOf } from "../../src/device/facts.ts";
import { adapter, emptyProbe, h200 } from "../helpers/adapters.ts";

const icd = (library: string): string =>
  JSON.stringify({ file_format_version: "1.0.0", ICD: { library_path: library, api_version: "1.3.0" } });
const loader = { "/usr/lib/x86_64-linux-gnu/libvulkan.so.1": "" };
const nvidiaModule = {
  "/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.82.07  Wed Aug 27 2025\nGCC version: 12\n",
};

/** A machine with these files: path to text. */
function machine(files: Readonly<Record<string, string>>, env: Readonly<Record<string, string>> = {}): System {
  const paths = Object.keys(files);
  return {
    platform: "linux",
    arch: "x64",
    env,
    home: "/home/someone",
    exists: (path) => paths.some((one) => one === path || one.startsWith(`${path}/`)),
    opens: (path) => files[path] !== "closed",
    list: (folder) => [
      ...new Set(paths.filter((path) => path.startsWith(`${folder}/`)).map((path) => path.slice(folder.length + 1).split("/")[0]!)),
    ],
    read: (path) => files[path] ?? null,
  };
}

function diagnose(system: System, probe = emptyProbe): Finding[] {
  return findingsOf({ system, hardware: findHardware(system), vulkan: findVulkan(system), probe });
}

describe("zerosearch doctor where no GPU can be used", () => {
  it("names the package of the Vulkan loader where there is none", () => {
    const [found, ...more] = diagnose(machine(nvidiaModule), {
      ...emptyProbe,
      messages: ["Warning: Couldn't load Vulkan: libvulkan.so.1: cannot open shared object file: No such file or directory"],
    });
    expect(more).toEqual([]);
    expect(found?.level).toBe("missing");
    expect(found?.what).toMatch(/no Vulkan loader, libvulkan.so.1 \(Couldn't load Vulkan: .*No such file/);
    expect(found?.mend).toMatch(/^apt-get install libvulkan1 \(Debian, Ubuntu\)/);
  });

  it("adds Mesa's drivers to it for an AMD GPU, and is calm where there is no GPU at all", () => {
    const amd = { "/sys/bus/pci/devices/0000:03:00.0/class": "0x030000\n", "/sys/bus/pci/devices/0000:03:00.0/vendor": "0x1002\n" };
    expect(diagnose(machine(amd))[0]?.mend).toContain("apt-get install libvulkan1 mesa-vulkan-drivers");
    expect(diagnose(machine({})).map(({ level }) => level)).toEqual(["note"]);
  });

  it("tells a container without the graphics part of NVIDIA's driver how to get it, and where it looked", () => {
    const [found] = diagnose(machine({ ...loader, ...nvidiaModule, "/.dockerenv": "" }));
    expect(found?.what).toContain("NVIDIA's driver 580.82.07 is loaded, but no Vulkan driver file names it (nvidia_icd.json; looked in ");
    for (const folder of ["/home/someone/.config/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/share/vulkan/icd.d"])
      expect(found?.what).toContain(folder);
    expect(found?.mend).toContain("-e NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics");
  });

  it("names the package of NVIDIA's libraries outside a container", () => {
    expect(diagnose(machine({ ...loader, ...nvidiaModule }))[0]?.mend).toMatch(/^apt-get install libnvidia-gl-580 /);
  });

  it("writes the driver file where the library is there and only the file is missing", () => {
    const library = { "/usr/lib/x86_64-linux-gnu/libGLX_nvidia.so.0": "" };
    const [found] = diagnose(machine({ ...loader, ...nvidiaModule, ...library, "/.dockerenv": "" }));
    expect(found?.mend).toMatch(/^mkdir -p \/etc\/vulkan\/icd.d && echo '.*libGLX_nvidia.so.0.*' >\/etc\/vulkan\/icd.d\/nvidia_icd.json$/);
  });

  it("points at a driver file that lies where the loader does not look", () => {
    const file = "/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json";
    const library = { "/etc/ld.so.cache": "ld.so-1.7\0x\0libGLX_nvidia.so.0\0/usr/local/nvidia/lib64/libGLX_nvidia.so.0\0" };
    const files = {
      ...loader,
      ...nvidiaModule,
      ...library,
      [file]: icd("libGLX_nvidia.so.0"),
      "/usr/local/nvidia/lib64/libGLX_nvidia.so.0": "",
    };
    expect(diagnose(machine(files))[0]?.mend).toBe(`export VK_DRIVER_FILES=${file}`);
  });

  it("says that a variable hides the driver files of the system", () => {
    const files = {
      ...loader,
      ...nvidiaModule,
      "/usr/share/vulkan/icd.d/nvidia_icd.json": icd("libGLX_nvidia.so.0"),
      "/usr/lib/x86_64-linux-gnu/libGLX_nvidia.so.0": "",
    };
    const [found] = diagnose(machine(files, { VK_DRIVER_FILES: "/opt/other.json" }));
    expect(found?.what).toContain("VK_DRIVER_FILES names /opt/other.json");
    expect(found?.mend).toBe("export VK_DRIVER_FILES=/usr/share/vulkan/icd.d/nvidia_icd.json");
  });

  it("finds a driver file whose library is not there", () => {
    const files = { ...loader, "/etc/vulkan/icd.d/radeon_icd.json": icd("/usr/lib/libvulkan_radeon.so") };
    const [found] = diagnose(machine(files));
    expect(found?.what).toBe("/etc/vulkan/icd.d/radeon_icd.json names /usr/lib/libvulkan_radeon.so, which is not there");
  });

  it("sees a device file that this user may not open", () => {
    const [found] = diagnose(machine({ ...loader, "/dev/dri/renderD128": "closed" }));
    expect([found?.what, found?.mend]).toEqual([
      "/dev/dri/renderD128: this user may not open it",
      "sudo usermod -aG render $USER, then log in again",
    ]);
  });

  it("quotes Dawn where a driver was refused, and blames a driver that crashed", () => {
    const intel = { "/sys/bus/pci/devices/0000:00:02.0/class": "0x030000", "/sys/bus/pci/devices/0000:00:02.0/vendor": "0x8086" };
    const messages = ["Warning: Vulkan shaderUniform*ArrayDynamicIndexing required."];
    const files = {
      ...loader,
      ...intel,
      "/usr/share/vulkan/icd.d/intel_icd.json": icd("/lib/libvulkan_intel.so"),
      "/lib/libvulkan_intel.so": "",
    };
    expect(diagnose(machine(files), { ...emptyProbe, messages })[0]?.what).toMatch(
      /an Intel GPU.*intel_icd.json\); Dawn says: Vulkan shaderUniform/,
    );
    const [crash] = diagnose(machine(loader), { ...emptyProbe, failure: "listing the adapters crashed (SIGSEGV) at NVIDIA H200" });
    expect(crash?.what).toContain("SIGSEGV");
    expect(crash?.mend).toContain("VK_DRIVER_FILES=");
  });
});

describe("zerosearch doctor on a GPU", () => {
  const probe = { ...emptyProbe, adapters: [h200] };
  const files = {
    ...loader,
    ...nvidiaModule,
    "/etc/vulkan/icd.d/nvidia_icd.json": icd("libGLX_nvidia.so.0"),
    "/usr/lib/x86_64-linux-gnu/libGLX_nvidia.so.0": "",
  };

  it("finds nothing missing, and says that f16 is forced by a switch on an NVIDIA driver below 615.71", () => {
    expect(diagnose(machine(files), probe)).toEqual([
      { level: "note", what: expect.stringMatching(/driver 580.82 is older than 615.71: f16 is switched on by force/), mend: null },
    ]);
    expect(diagnose(machine(files), { ...emptyProbe, adapters: [{ ...h200, driver: "NVIDIA: 615.71.1" }] })).toEqual([]);
  });

  it("asks for a newer driver where f16 stays hidden", () => {
    const old = { ...h200, features: h200.features.filter((name) => name !== "shader-f16") };
    const [found] = diagnose(machine(files), { ...emptyProbe, adapters: [old] });
    expect([found?.level, found?.mend]).toEqual(["missing", "Install NVIDIA's driver 615.71 or later."]);
  });

  it("says that identical GPUs cannot be told apart", () => {
    const found = diagnose(machine(files), { ...emptyProbe, adapters: [{ ...h200, count: 8 }] });
    expect(found[0]?.what).toContain("8 adapters are named NVIDIA H200 and cannot be told apart");
  });

  it("names the tiers of kernels and why one is left out", () => {
    expect(tiersOf(h200).map(({ used }) => used)).toEqual([
      "subgroups of 32",
      "shader-f16",
      "subgroup matrices 16x16x16, f16 x f16 -> f32",
    ]);
    const plain = adapter({ fullName: "plain", vendor: "", features: [], matrices: [] });
    expect(tiersOf(plain).map(({ used, why }) => [used, why])).toEqual([
      [null, "the adapter has no subgroups"],
      [null, "the adapter has no shader-f16"],
      [null, "the adapter has no subgroup matrices"],
    ]);
    const lines = adapterLines(h200);
    expect(lines[0]).toBe("NVIDIA H200 (hardware, vulkan)");
    expect(lines.join("\n")).toMatch(/binding 2\.0 GiB, buffer 2\.0 GiB, workgroup 48 KiB and 1024 invocations/);
  });
});
