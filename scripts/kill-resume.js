#!/usr/bin/env node
/**
 * Proves that a run killed at any moment and resumed is the run that was never killed: `node scripts/kill-resume.js --kills 20`, with
 * further arguments for the trainer (`--config FILE`, `key=value`). Runs are killed by SIGKILL, half of them while a state is being
 * saved, the others at any moment; the final weights, the optimiser, the logs and the evaluation must be the same bits.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import seedrandom from "seedrandom";

const trainer = fileURLToPath(new URL("../train.js", import.meta.url));
const TEMPORARY = ".tmp-";

/** @type {typeof import("./kill-resume.js").killAndResume} */
export async function killAndResume({ args, kills: wanted, folder, seed = 1, say = () => {} }) {
  const random = seedrandom(`kill-resume/${seed}`);
  const output = [`output.runs=${join(folder, "runs")}`, `output.checkpoints=${join(folder, "checkpoints")}`];
  const begin = (name) => [...args, ...output, `name=${name}`];
  const goOn = (name) => ["--resume", name, ...output];

  const started = performance.now();
  await toTheEnd(begin("whole"));
  const wholeTime = performance.now() - started;
  say(`A run that is left alone takes ${(wholeTime / 1000).toFixed(1)} s.`);

  const kills = [];
  for (let run = 1; kills.length < wanted; run++) {
    const name = `killed-${run}`;
    const configured = () => existsSync(join(folder, "runs", name, "config.yaml"));
    for (;;) {
      if (kills.length === wanted) {
        await toTheEnd(configured() ? goOn(name) : begin(name));
        break;
      }
      // Killed between making its folder and writing its configuration: what a user sees as a run that never began.
      if (!configured()) rmSync(join(folder, "runs", name), { recursive: true, force: true });
      const states = join(folder, "checkpoints", name);
      const aim = random() < 0.5 ? "saving" : "any moment";
      const moment =
        aim === "saving" ? whenSaving(states, Math.floor(random() * 3), random() * 40) : after(wholeTime * (0.05 + 0.5 * random()));
      const begun = performance.now();
      const { killed, stderr } = await runUntil(configured() ? goOn(name) : begin(name), moment);
      if (!killed) {
        if (stderr !== "") throw new Error(`${name} failed:\n${stderr}`);
        break;
      }
      const kill = {
        run: name,
        aim,
        after: Math.round(performance.now() - begun),
        unfinished: unfinished(states),
        step: Math.max(0, ...savedSteps(states)),
      };
      kills.push(kill);
      say(
        `kill ${kills.length}: ${name}, ${aim}, after ${kill.after} ms; saved up to step ${kill.step}${kill.unfinished.length > 0 ? `, half written: ${kill.unfinished.join(", ")}` : ""}`,
      );
    }
    compareRuns(folder, "whole", name);
    say(`${name} ended in the same bits.`);
  }
  return kills;
}

/** @type {typeof import("./kill-resume.js").compareRuns} */
export function compareRuns(folder, name, other) {
  const differ = (what) => {
    throw new Error(`${name} and ${other} differ in ${what}`);
  };
  const inFolder = (run, ...path) => join(folder, ...path.slice(0, 1), run, ...path.slice(1));
  const [steps, otherSteps] = [name, other].map((run) => savedSteps(inFolder(run, "checkpoints")));
  const last = Math.max(...steps);
  if (last !== Math.max(...otherSteps)) differ("their last step");
  const compareFile = (...path) => {
    const [left, right] = [name, other].map((run) => readFileSync(inFolder(run, "checkpoints", ...path)));
    if (!left.equals(right)) differ(path.join("/"));
  };
  // All weights, or an adapter.
  const weights = readdirSync(inFolder(name, "checkpoints", "policy")).filter((file) => file.endsWith(".safetensors"));
  if (weights.length === 0) differ("policy/: it has no weights");
  for (const file of weights) compareFile(stepName(last), "policy", file);
  // With a critic there is more: its head, its own weights and their moments.
  const more = readdirSync(inFolder(name, "checkpoints", stepName(last)), { recursive: true, encoding: "utf8" });
  for (const file of more.filter((one) => /^(critic|optimizer).*\.safetensors$/.test(one))) compareFile(stepName(last), file);
  // A run without test questions has no evaluation.
  const text = (run, file) => (existsSync(inFolder(run, "runs", file)) ? readFileSync(inFolder(run, "runs", file), "utf8") : "");
  for (const file of ["metrics.jsonl", "rollouts.jsonl", "judged.jsonl"]) {
    const rows = (run) => text(run, file).split("\n").map(withoutTimes);
    const [left, right] = [rows(name), rows(other)];
    const row = left.findIndex((text, i) => text !== right[i]);
    if (row >= 0 || left.length !== right.length) differ(`${file}, row ${row + 1}:\n${left[row]}\n${right[row]}`);
  }
  if (text(name, "evaluation.json") !== text(other, "evaluation.json")) differ("evaluation.json");
  for (const file of weights) compareFile("policy", file);
  for (const run of [name, other]) {
    const numbers = readFileSync(inFolder(run, "runs", "metrics.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((row) => JSON.parse(row).step);
    if (numbers.some((step, i) => step !== i + 1)) differ(`the steps of ${run}: ${numbers.join(", ")}`);
  }
}

function withoutTimes(row) {
  if (row === "") return row;
  return JSON.stringify(Object.fromEntries(Object.entries(JSON.parse(row)).filter(([key]) => !key.startsWith("time/"))));
}

async function toTheEnd(args) {
  const { code, stderr } = await runUntil(args, () => false);
  if (code !== 0) throw new Error(`node train.js ${args.join(" ")} ended with ${code}:\n${stderr}`);
}

/** Runs the trainer, asking every few milliseconds whether to kill it. */
function runUntil(args, now) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [trainer, ...args], { stdio: ["ignore", "ignore", "pipe"] });
    let stderr = "";
    child.stderr.on("data", (data) => (stderr += data));
    const watch = setInterval(() => {
      if (!now()) return;
      clearInterval(watch);
      child.kill("SIGKILL");
    }, 2);
    child.on("error", reject);
    child.on("close", (code, signal) => {
      clearInterval(watch);
      resolve({ code, killed: signal === "SIGKILL", stderr });
    });
  });
}

function after(milliseconds) {
  const from = performance.now();
  return () => performance.now() - from >= milliseconds;
}

/** `delay` ms into a save, after letting `skip` others pass. */
function whenSaving(states, skip, delay) {
  // What the kill before left behind is no save that begins.
  const seen = new Set(unfinished(states));
  const first = seen.size;
  let since = Infinity;
  return () => {
    for (const name of unfinished(states)) {
      if (seen.has(name)) continue;
      seen.add(name);
      if (seen.size === first + skip + 1) since = performance.now();
    }
    return performance.now() - since >= delay;
  };
}

function unfinished(states) {
  return existsSync(states) ? readdirSync(states).filter((name) => name.startsWith(TEMPORARY)) : [];
}

function savedSteps(states) {
  const names = existsSync(states) ? readdirSync(states) : [];
  return names.filter((name) => name.startsWith("step-")).map((name) => Number(name.slice("step-".length)));
}

function stepName(step) {
  return `step-${String(step).padStart(6, "0")}`;
}

if (process.argv[1] !== undefined && fileURLToPath(import.meta.url) === process.argv[1]) {
  const argv = process.argv.slice(2);
  const taken = (name, otherwise) => {
    const at = argv.indexOf(name);
    return at < 0 ? otherwise : argv.splice(at, 2)[1];
  };
  const kills = Number(taken("--kills", "20"));
  const seed = Number(taken("--seed", "1"));
  const folder = mkdtempSync(join(tmpdir(), "zerosearch-kill-"));
  const short = [
    "train.steps=6",
    "train.questionsPerStep=4",
    "train.groupSize=4",
    "train.saveEvery=1",
    "train.validateEvery=2",
    "evaluation.questions=8",
    "evaluation.validationQuestions=6",
    "evaluation.baselines=false",
  ];
  const done = await killAndResume({ args: [...short, ...argv], kills, seed, folder, say: (line) => console.log(line) });
  rmSync(folder, { recursive: true, force: true });
  console.log(
    `${done.length} kills, ${done.filter(({ unfinished: files }) => files.length > 0).length} of them while something was half written: same weights, same logs, each step once.`,
  );
}
