import { defineConfig } from "vitest/config";

// Tests by need: `unit` needs nothing, `device` computes on every device present, `e2e` runs whole programs.
export default defineConfig({
  test: {
    projects: [
      { test: { name: "unit", include: ["test/unit/**/*.test.ts"], testTimeout: 20_000 } },
      {
        test: {
          name: "device",
          include: ["test/{device,ops,nn,optim,rl,generate,agent,data}/**/*.test.ts"],
          // One device per process, and one process at a time: a device takes all cores.
          pool: "forks",
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: "e2e",
          include: ["test/e2e/**/*.test.ts"],
          pool: "forks",
          fileParallelism: false,
          testTimeout: 600_000,
          hookTimeout: 600_000,
        },
      },
    ],
  },
});
