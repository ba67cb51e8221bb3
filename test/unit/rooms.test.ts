/** The house plan (docs/architecture.md) as data: which room may import which, and what it may touch. */
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { describe, expect, it } from "vitest";

interface Room {
  /** Rooms whose values and types it may import, besides itself, `util` and the types every room may name. */
  readonly imports: readonly string[];
  /** May also run in a browser: no `node:` module, no `process`, no `Buffer`. */
  readonly browser?: true;
  /** Globals that only this room and others that name them may touch. */
  readonly touches?: readonly string[];
}

const all = [
  "agent",
  "checkpoint",
  "commands",
  "config",
  "data",
  "device",
  "evaluation",
  "generate",
  "hub",
  "log",
  "nn",
  "ops",
  "optim",
  "plan",
  "rl",
  "run",
  "search",
  "serve",
  "setup",
  "sft",
  "simulator",
  "tensor",
  "text",
  "train",
  "index",
];
const clock = ["Date.now", "performance.now", "new Date"];

/** The device's contract is a room of its own: `src/device/device.ts`, `kernels.ts`, the checks of calls and rows against it, and what storages have in common. */
const rooms: Readonly<Record<string, Room>> = {
  util: { imports: [], browser: true },
  contract: { imports: [], browser: true },
  /** The clock: of two machine codes with the same bits, the faster. */
  "device/cpu": { imports: ["contract"], touches: ["WebAssembly", "performance.now"] },
  /** The clock: of tiers and tiles, the faster. */
  "device/webgpu": { imports: ["contract"], browser: true, touches: ["navigator", "performance.now"] },
  /** Opens the device that was asked for. */
  device: { imports: ["contract", "device/cpu", "device/webgpu"] },
  tensor: { imports: ["contract"], browser: true },
  ops: { imports: ["tensor", "contract"], browser: true },
  nn: { imports: ["ops", "tensor"], browser: true },
  optim: { imports: ["ops", "tensor"], browser: true },
  rl: { imports: ["nn", "ops", "tensor"], browser: true },
  generate: { imports: ["nn", "ops", "tensor"], browser: true },
  text: { imports: [], browser: true },
  /** Embeddings are made and searched on the tensor engine. */
  search: { imports: ["data", "generate", "nn", "ops", "tensor", "text"], touches: ["fetch"] },
  agent: { imports: ["search", "generate", "text"], browser: true },
  /** Methods, engines and question sets in, rows and judged records out: nothing of a run. */
  evaluation: { imports: ["agent", "search", "data", "log"] },
  /** Making a simulator and judging one: searches, labels and examples in, files and tables out. */
  simulator: { imports: ["agent", "evaluation", "search", "data", "log", "generate", "text"] },
  config: { imports: ["agent", "device"] },
  data: { imports: ["text"] },
  log: { imports: ["text"], touches: clock },
  /** Supervised fine-tuning. */
  sft: { imports: ["nn", "optim", "ops", "tensor", "text"], browser: true },
  checkpoint: { imports: ["nn", "optim", "tensor"] },
  /** The Hub's cache and its downloads. */
  hub: { imports: ["checkpoint"], touches: ["fetch"] },
  /** Opens what a configuration names: device, models, engines. */
  setup: {
    imports: [
      "agent",
      "checkpoint",
      "config",
      "contract",
      "data",
      "device",
      "generate",
      "hub",
      "log",
      "nn",
      "optim",
      "rl",
      "search",
      "tensor",
      "text",
    ],
  },
  /** A training run: what it holds, its logs, its states. */
  run: {
    imports: [
      "agent",
      "checkpoint",
      "config",
      "contract",
      "data",
      "device",
      "evaluation",
      "generate",
      "hub",
      "log",
      "nn",
      "optim",
      "rl",
      "search",
      "setup",
      "sft",
      "tensor",
      "text",
    ],
  },
  /** Memory and time of a run, planned by its own program on a device that counts. */
  plan: {
    imports: [
      "agent",
      "checkpoint",
      "config",
      "contract",
      "data",
      "device",
      "generate",
      "hub",
      "log",
      "nn",
      "rl",
      "run",
      "search",
      "setup",
      "sft",
      "tensor",
      "text",
    ],
  },
  /** The HTTP doors. */
  serve: { imports: ["search"] },
  commands: { imports: [...all, "contract"], touches: clock },
  train: { imports: [...all, "contract"], touches: clock },
  index: { imports: [...all, "contract", "device/cpu", "engine"] },
  /** What both entries export. */
  engine: { imports: ["contract", "device/webgpu", "tensor", "ops", "nn", "optim", "sft", "generate"], browser: true },
  /** The entry for browsers. */
  webgpu: { imports: ["device/webgpu", "engine"], browser: true },
};

/** Files whose types any room may name. */
const commonTypes = [
  "src/rl/trajectory.ts",
  "src/generate/types.ts",
  "src/tensor/tensor.ts",
  "src/tensor/dtype.ts",
  "src/device/device.ts",
  "src/device/kernels.ts",
];
/** Pure functions of answers and trajectories that any room may call, and what the configuration says of search engines. */
const commonValues = [
  "src/rl/reward.ts",
  "src/rl/reward-terms.ts",
  "src/rl/metrics.ts",
  "src/rl/settings.ts",
  "src/search/settings.ts",
  "src/simulator/settings.ts",
];
/** What nobody touches unless the table says so. */
const guarded = ["fetch", "Math.random", "WebAssembly", "navigator", ...clock];

const root = fileURLToPath(new URL("../../", import.meta.url));
const files = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".ts"))
  .map((name) => read(`src/${name.replaceAll("\\", "/")}`));

interface Import {
  readonly from: string;
  readonly typeOnly: boolean;
}

interface SourceFile {
  readonly path: string;
  readonly room: string;
  readonly imports: readonly Import[];
  readonly touches: readonly string[];
}

function roomOf(path: string): string {
  const inside = path.slice("src/".length);
  if (/^device\/(device|kernels|check-call|host-rows|kernel-shapes|sharded-storage)\.ts$/.test(inside)) return "contract";
  const device = /^device\/(cpu|webgpu)\//.exec(inside)?.[1];
  if (device !== undefined) return `device/${device}`;
  return inside.includes("/") ? (inside.split("/")[0] ?? "") : inside.replace(/\.ts$/, "");
}

function read(path: string): SourceFile {
  const tree = ts.createSourceFile(path, readFileSync(join(root, path), "utf8"), ts.ScriptTarget.Latest, true);
  const imports: Import[] = [];
  const touches = new Set<string>();
  const resolve = (from: string) => (from.startsWith(".") ? posix.join(dirname(path), from) : from);
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) && ts.isStringLiteral(node.moduleSpecifier)) {
      const bindings = node.importClause?.namedBindings;
      const namedTypes =
        bindings !== undefined &&
        ts.isNamedImports(bindings) &&
        node.importClause?.name === undefined &&
        bindings.elements.every((one) => one.isTypeOnly);
      imports.push({
        from: resolve(node.moduleSpecifier.text),
        typeOnly: node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword || namedTypes,
      });
    } else if (ts.isExportDeclaration(node) && node.moduleSpecifier !== undefined && ts.isStringLiteral(node.moduleSpecifier)) {
      imports.push({ from: resolve(node.moduleSpecifier.text), typeOnly: node.isTypeOnly });
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      const [from] = node.arguments;
      if (from !== undefined && ts.isStringLiteral(from)) imports.push({ from: resolve(from.text), typeOnly: false });
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument) && ts.isStringLiteral(node.argument.literal)) {
      imports.push({ from: resolve(node.argument.literal.text), typeOnly: true });
    } else if (ts.isPropertyAccessExpression(node) && ts.isIdentifier(node.expression)) {
      touches.add(`${node.expression.text}.${node.name.text}`);
      touches.add(node.expression.text);
    } else if (ts.isCallExpression(node) && ts.isIdentifier(node.expression)) touches.add(node.expression.text);
    else if (ts.isNewExpression(node) && ts.isIdentifier(node.expression)) touches.add(`new ${node.expression.text}`);
    ts.forEachChild(node, visit);
  };
  visit(tree);
  return { path, room: roomOf(path), imports, touches: [...touches] };
}

describe("src/", () => {
  it("has only rooms that the plan knows", () => {
    expect(files.filter((file) => rooms[file.room] === undefined).map((file) => file.path)).toEqual([]);
  });

  it("imports downwards only", () => {
    const upward = files.flatMap((file) =>
      file.imports
        .filter(({ from }) => from.startsWith("src/"))
        .filter(({ from, typeOnly }) => {
          const target = roomOf(from);
          const allowed = target === file.room || target === "util" || rooms[file.room]?.imports.includes(target);
          return !(allowed === true || commonValues.includes(from) || (typeOnly && commonTypes.includes(from)));
        })
        .map(({ from }) => `${file.path} imports ${from}`),
    );
    expect(upward).toEqual([]);
  });

  it("has no rooms that import each other", () => {
    const order: string[] = [];
    const visit = (room: string, above: readonly string[]): void => {
      expect(above, `a circle: ${[...above, room].join(" -> ")}`).not.toContain(room);
      if (order.includes(room)) return;
      for (const below of rooms[room]?.imports ?? []) if (!["commands", "train", "index"].includes(room)) visit(below, [...above, room]);
      order.push(room);
    };
    for (const room of Object.keys(rooms)) visit(room, []);
  });

  it("has no files that import each other's values", () => {
    const values = new Map(
      files.map((file) => [file.path, file.imports.filter((one) => !one.typeOnly && one.from.startsWith("src/")).map((one) => one.from)]),
    );
    const done = new Set<string>();
    const circles: string[] = [];
    const visit = (path: string, above: readonly string[]): void => {
      if (above.includes(path)) circles.push([...above.slice(above.indexOf(path)), path].join(" -> "));
      if (done.has(path) || above.includes(path)) return;
      for (const below of values.get(path) ?? []) visit(below, [...above, path]);
      done.add(path);
    };
    for (const path of values.keys()) visit(path, []);
    expect(circles).toEqual([]);
  });

  it("keeps Node out of the rooms that also run in a browser", () => {
    const touching = files
      .filter((file) => rooms[file.room]?.browser === true)
      .flatMap((file) =>
        [
          ...file.imports.filter(({ from }) => from.startsWith("node:")).map(({ from }) => from),
          ...file.touches.filter((name) => name === "process" || name === "Buffer"),
        ].map((name) => `${file.path} touches ${name}`),
      );
    expect(touching).toEqual([]);
  });

  it("needs no package and no Node for the browser's entry, src/webgpu.ts", () => {
    const byPath = new Map(files.map((file) => [file.path, file]));
    const reached = new Set(["src/webgpu.ts"]);
    const outside: string[] = [];
    for (const path of reached) {
      for (const { from, typeOnly } of byPath.get(path)?.imports ?? []) {
        if (typeOnly) continue;
        if (from.startsWith("src/")) reached.add(from);
        else outside.push(`${path} imports ${from}`);
      }
    }
    expect(outside).toEqual([]);
    expect(reached.size).toBeGreaterThan(50);
  });

  it("touches the network, the clock, chance, WASM memory and the GPU only in their rooms", () => {
    const touching = files.flatMap((file) =>
      file.touches
        .filter((name) => guarded.includes(name) && rooms[file.room]?.touches?.includes(name) !== true)
        .map((name) => `${file.path} touches ${name}`),
    );
    expect(touching).toEqual([]);
  });

  it("is imported by nothing from the programs down: train.ts and commands/ are ends", () => {
    const importers = files.flatMap((file) =>
      file.imports
        .filter(
          ({ from }) =>
            from.startsWith("src/") && ["commands", "train"].includes(roomOf(from)) && !["commands", "train", "index"].includes(file.room),
        )
        .map(() => file.path),
    );
    expect(importers).toEqual([]);
  });
});
