import { defineConfig } from "vitest/config";

// One device per process, and one process at a time: a device takes all cores.
const device = {
  include: ["test/{device,ops,nn,optim}/**/*.test.ts"],
  pool: "forks" as const,
  fileParallelism: false,
  testTimeout: 120_000,
  hookTimeout: 120_000,
};

// Tests by need: `unit` needs nothing, `compile` compiles every WGSL kernel on Dawn's null backend, which needs no adapter; `device` computes
// on the CPU, `webgpu` runs the same files on an adapter, `e2e` runs whole programs and a page in a browser.
export default defineConfig({
  test: {
    projects: [
      { test: { name: "unit", include: ["test/unit/**/*.test.ts"], testTimeout: 20_000 } },
      { test: { name: "compile", include: ["test/compile/**/*.test.ts"], pool: "forks", testTimeout: 300_000, hookTimeout: 300_000 } },
      { test: { ...device, name: "device", env: { TEST_DEVICE: "cpu" }, exclude: ["test/device/webgpu/**"] } },
      {
        test: {
          ...device,
          name: "webgpu",
          env: { TEST_DEVICE: "webgpu" },
          exclude: ["test/device/{cpu-device,cpu-capture,native}.test.ts"],
          // skips all where there is no adapter
          runner: "test/helpers/webgpu-runner.ts",
        },
      },
      {
        test: {
          name: "e2e",
          include: ["test/{e2e,browser}/**/*.test.ts"],
          pool: "forks",
          // Most of it is starting programs, which one core does; more than two at a time would wait for each other.
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
          globalSetup: "test/helpers/build.ts",
          testTimeout: 600_000,
          hookTimeout: 600_000,
        },
      },
    ],
  },
});
