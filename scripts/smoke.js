#!/usr/bin/env node
/**
 * `npm run smoke`: the quickstart in few steps, to see that everything works; further arguments are the trainer's.
 *
 * `npm run smoke -- --all`: one step or one question of everything there is: every algorithm and configuration (where its models, data or server are not
 * here, with the quickstart's in their place), every method, engine and command, read from their tables. One that is new must have its smoke
 * here, or it fails. Settings (`device.kind=webgpu`) go to all that take some. Exit code 1 where anything failed.
 */
import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { start } from "../bin/start.js";

const root = fileURLToPath(new URL("../", import.meta.url));
const configs = join(root, "configs");
/** Milliseconds that one program may take. */
const patience = 300_000;

const small = [
  "train.steps=1",
  "train.questionsPerStep=2",
  "train.groupSize=2",
  "train.updatesPerStep=1",
  "evaluation.questions=1",
  "evaluation.validationQuestions=1",
  "evaluation.baselines=false",
  "evaluation.robustness=false",
  "evaluation.bootstrapSamples=100",
];
/** In place of models, data and servers that are not here: the quickstart's, and sizes that they can hold. */
const quickstart = join(root, "checkpoints", "quickstart");
const tiny = [
  "device.kind=auto",
  "device.precision=f32", // the CPU has no other
  `model.policy=${join(quickstart, "policy")}`,
  `simulator.path=${join(quickstart, "simulator")}`,
  "simulator.endpoint=null",
  "simulator.maxNewTokens=64",
  `data.train=${join(quickstart, "world", "train.jsonl")}`,
  "data.validation=null",
  "data.test=null",
  "rollout.maxTurns=1",
  "rollout.maxNewTokens=32",
  "rollout.maxObservationTokens=110",
  "rollout.maxContextTokens=1024",
];
/** The run that the commands are tried on. */
const run = "smoked";
const policy = join(root, "checkpoints", "quickstart", "policy");
const oneQuestion = ["evaluate", "--config", join(configs, "quickstart.yaml"), ...small];
const mcpServer = [join(root, "examples", "mcp-server.js"), join(quickstart, "world", "corpus.jsonl")];

/** By name: the arguments of a program that asks the engine one question. */
const engineSmokes = {
  simulated: [...oneQuestion, "evaluation.engine=simulated"],
  bm25: [...oneQuestion, "evaluation.engine=bm25"],
  dense: [...oneQuestion, "evaluation.engine=dense", `dense.path=${policy}`],
  http: [...oneQuestion, "evaluation.engine=http"],
  mcp: [...oneQuestion, "evaluation.engine=mcp", `mcp.command=${process.execPath}`, `mcp.args=${JSON.stringify(mcpServer)}`],
};

/** By name: arguments after the command, or why it is left out. In this order. */
const commandSmokes = {
  train: { args: ["--config", join(configs, "smoke.yaml"), ...small, `name=${run}`] },
  evaluate: { args: ["--run", run, ...small] },
  rescore: { args: [run, "--metric", "em"] },
  table: { args: [run, "--when", "both", "--json", "table.json"], settings: false },
  ask: { args: ["--run", run, "What is the capital of France?", "--json"] },
  runs: { args: ["list", "--json"], settings: false },
  reproduce: { args: [join("runs", run, "receipt.json"), "--steps", "1"] },
  export: { args: ["--from", policy, "--to", "exported", "--dtype", "bf16"], settings: false },
  sft: {
    args: [`model.policy=${policy}`, `sft.data=${join(root, "examples", "tuning.jsonl")}`, "sft.tokensPerUpdate=64", "--to", "tuned"],
  },
  collect: {
    args: [
      ...["--config", join(configs, "quickstart.yaml"), "collect.questions=4", "collect.documents=3", "collect.validationShare=0"],
      ...["bm25.documents=12", "collect.sets=sorted", "simulator.prompt=quickstart", "--to", "examples.jsonl"],
    ],
  },
  simulator: { args: ["report", "--config", join(configs, "quickstart.yaml"), "--gap", "evaluation.questions=2"] },
  index: { args: [join(quickstart, "world", "corpus.jsonl"), "--to", "world.bm25"], settings: false },
  init: { args: ["mine", "--yes", "--model", policy], settings: false },
  quickstart: { args: ["measure", "--device", "cpu"], settings: false },
  doctor: { args: [], settings: false },
  download: { leftOut: "needs the network" },
  retriever: { leftOut: "serves until it is stopped" },
  explain: { leftOut: "needs a run that has diverged" },
};

/** @typedef {{ part: string, name: string, args?: string[], leftOut?: string, wrong?: string }} Smoke */

if (process.argv.includes("--all")) await smokeAll(process.argv.slice(2).filter((one) => one !== "--all"));
else await start("npm run smoke", ["train", "--config", join(relative(process.cwd(), configs), "smoke.yaml"), ...process.argv.slice(2)]);

async function smokeAll(settings) {
  const { formatTable } = await inside("log/table");
  const folder = mkdtempSync(join(tmpdir(), "zerosearch-smoke-"));
  const server = await retriever();
  const api = ["http.api=search-r1", `http.url=http://127.0.0.1:${server.address().port}`];
  engineSmokes.http.push(...api);
  const rows = [];
  const begun = performance.now();
  for (const smoke of [
    ...(await commands(settings)),
    ...(await presets(settings, api)),
    ...(await algorithms(settings)),
    ...(await methods(settings)),
    ...(await engines(settings)),
  ]) {
    const from = performance.now();
    const done = await tried(smoke, folder);
    rows.push({ ...smoke, ...done, seconds: (performance.now() - from) / 1000 });
    console.log(`${smoke.part} ${smoke.name}: ${done.result}`);
  }
  rmSync(folder, { recursive: true, force: true });
  server.close();
  const columns = ["part", "name", "result", "seconds", "why"];
  const shown = rows.map((row) => ({ ...row, seconds: row.args === undefined ? null : row.seconds.toFixed(1) }));
  console.log(
    `\n${formatTable(
      columns.map((title) => ({ title, value: (row) => row[title] })),
      shown,
    )}`,
  );
  const of = (result) => rows.filter((row) => row.result === result).length;
  const seconds = (performance.now() - begun) / 1000;
  console.log(`\n${of("ok")} ok, ${of("failed")} failed, ${of("left out")} left out, in ${seconds.toFixed(0)} s`);
  process.exitCode = of("failed") > 0 ? 1 : 0;
}

/** @returns {Promise<Smoke[]>} those without a smoke too */
async function commands(settings) {
  const { commands: table } = await inside("commands/index");
  const smokes = Object.entries(commandSmokes).map(([name, { args, leftOut, settings: takes = true }]) => ({
    part: "command",
    name,
    ...(args === undefined ? { leftOut } : { args: [name, ...args, ...(takes ? settings : [])] }),
  }));
  return completed(
    "command",
    table.map(({ name }) => name),
    smokes,
  );
}

/** @returns {Promise<Smoke[]>} */
async function presets(settings, api) {
  const { readYaml, resolveConfig } = await inside("config/index");
  const { keys, valueAt } = await inside("config/keys");
  const files = readdirSync(configs, { recursive: true, encoding: "utf8" }).filter(
    (file) => /\.yaml$/.test(file) && !/^(prompts|algorithms|engines)\b/.test(file),
  );
  return files.sort().map((file) => {
    const smoke = { part: "configuration", name: file };
    try {
      if (/^simulator-|-tune\.yaml$/.test(file)) {
        const data = `sft.data=${join(root, "examples", "tuning.jsonl")}`;
        const own = [`model.policy=${policy}`, data, "sft.tokensPerUpdate=64", "device.kind=auto", "--to", file.replace(/\W+/g, "-")];
        return { ...smoke, args: ["sft", "--config", join(configs, file), ...own, ...settings] };
      }
      const config = resolveConfig(readYaml(join(configs, file)));
      const models = keys.filter(({ model }) => model).map(({ key }) => valueAt(config, key));
      const isHere = config.simulator.endpoint === null && models.every((value) => value === null || existsSync(value));
      const name = file.replace(/\W+/g, "-");
      const there = config.search.engine === "http" ? api : [];
      const calls = config.rollout.method === "tools" ? [`model.chatTemplate=${join(configs, "prompts", "quickstart-chat.jinja")}`] : [];
      const own = [...small, ...(isHere ? [] : [...tiny, ...there, ...calls]), `name=${name}`];
      return { ...smoke, args: ["train", "--config", join(configs, file), ...own, ...settings] };
    } catch (error) {
      return { ...smoke, wrong: error.message.split("\n")[0] };
    }
  });
}

/** @returns {Promise<Smoke[]>} */
async function algorithms(settings) {
  const { presetNames } = await inside("rl/settings");
  const smoke = ["train", "--config", join(configs, "smoke.yaml"), ...small];
  return presetNames.map((name) => ({ part: "algorithm", name, args: [...smoke, `algorithm.name=${name}`, `name=${name}`, ...settings] }));
}

/** @returns {Promise<Smoke[]>} */
async function methods(settings) {
  const { methods: table } = await inside("agent/methods/index");
  return Object.keys(table).map((name) => {
    // Where the quickstart's policy speaks it by an adapter.
    const own = join(configs, "methods", `quickstart-${name}.yaml`);
    const asked = existsSync(own) ? ["evaluate", "--config", own, ...small] : oneQuestion;
    return { part: "method", name, args: [...asked, `rollout.method=${name}`, ...settings] };
  });
}

/** @returns {Promise<Smoke[]>} those without a smoke too */
async function engines(settings) {
  const { engines: table } = await inside("search/engines");
  const smokes = Object.entries(engineSmokes).map(([name, args]) => ({ part: "engine", name, args: [...args, ...settings] }));
  return completed("engine", Object.keys(table), smokes);
}

/** A server of Search-R1's protocol that always finds one document. */
async function retriever() {
  const server = createServer((request, response) => {
    request.resume().on("end", () => {
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ result: [[{ document: { contents: '"Kabul"\nThe capital of Afghanistan is Kabul.' }, score: 1 }]] }));
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  return server;
}

/** Adds what has no smoke, as a failure, and what is gone. */
function completed(part, names, smokes) {
  const without = names.filter((name) => !smokes.some((one) => one.name === name));
  return [
    ...smokes.map((smoke) =>
      names.includes(smoke.name) ? smoke : { part, name: smoke.name, wrong: "scripts/smoke.js has a smoke for it, but there is none" },
    ),
    ...without.map((name) => ({ part, name, wrong: "has no smoke: give it one in scripts/smoke.js" })),
  ];
}

async function tried({ args, leftOut, wrong }, folder) {
  if (wrong !== undefined) return { result: "failed", why: wrong };
  if (args === undefined) return { result: "left out", why: leftOut };
  const { code, signal, stderr } = await program(args, folder);
  if (code === 0) return { result: "ok", why: null };
  const said = stderr.split("\n").find((line) => line.trim() !== "") ?? "";
  const end = signal === null ? `exit code ${code}` : `ended by ${signal}, after ${patience / 1000} s at most`;
  return { result: "failed", why: `${end}: ${said}` };
}

function program(args, cwd) {
  return new Promise((resolve, reject) => {
    const words = [join(root, "bin", "zerosearch.js"), ...args];
    const child = spawn(process.execPath, words, { cwd, stdio: ["ignore", "ignore", "pipe"], timeout: patience, killSignal: "SIGKILL" });
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text) => (stderr += text));
    child.on("error", reject).on("close", (code, signal) => resolve({ code, signal, stderr }));
  });
}

function inside(name) {
  return import(new URL(`../dist/${name}.js`, import.meta.url).href);
}
