/** docs/metrics.md names every metric, and none that does not exist. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { packageFolder } from "../../src/config/index.ts";

const page = readFileSync(join(packageFolder, "docs/metrics.md"), "utf8");
const rows = page.split("\n").filter((line) => line.startsWith("| `"));
const named = new Set(rows.flatMap((line) => [...(line.split("|")[1] ?? "").matchAll(/`([a-z]+\/\w+)`/g)].map(([, name]) => name!)));
/** Metrics as the code writes them: `"room/name"`. */
const code = readdirSync(join(packageFolder, "src"), { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".ts"))
  .map((name) => readFileSync(join(packageFolder, "src", name), "utf8"))
  .join("\n");
const rooms = "reward|sampling|rollout|search|simulator|curriculum|policy|train|critic|validation";
const written = new Set([...code.matchAll(new RegExp(`"((?:${rooms})/[a-z0-9_]+)"`, "g"))].map(([, name]) => name!));

it("names every metric that the code writes", () => {
  expect([...written].filter((name) => !named.has(name)).sort()).toEqual([]);
});

it("names none that it does not write", () => {
  const others = [...named].filter((name) => !/^(time|generate)\//.test(name) && !written.has(name));
  expect(others.sort()).toEqual([]);
});
