/** The programs of this package and how they are started: `npx zerosearch <command>`, `node train.js` for `train`. */
import { readFileSync } from "node:fs";
import { nearest } from "../util/nearest.ts";
import { untilIdle } from "./program.ts";
import { tellEnd, watchOutput } from "./stops.ts";

export interface Command {
  readonly name: string;
  /** One line of the overview. */
  readonly summary: string;
  /** The program is loaded only when it is called. */
  load(): Promise<{ main(argv: readonly string[]): Promise<void> }>;
}

export const commands: readonly Command[] = [
  { name: "train", summary: "Trains a policy to search (also: node train.js).", load: () => import("./train.ts") },
  {
    name: "quickstart",
    summary: "Builds or measures the quickstart's world, tokenizer and models.",
    load: () => import("./quickstart.ts"),
  },
  {
    name: "init",
    summary: "Writes a configuration and data files for questions of your own.",
    load: () => import("./init.ts"),
  },
  { name: "ask", summary: "Answers a question of yours with the policy that was trained last.", load: () => import("./ask.ts") },
  { name: "runs", summary: "Lists the runs, compares them, removes one.", load: () => import("./runs.ts") },
  { name: "explain", summary: "Says why a run diverged: which rollout, token and tensor.", load: () => import("./explain.ts") },
  {
    name: "collect",
    summary: "Collects searches with a real engine, judges them, and writes examples for a simulator.",
    load: () => import("./collect.ts"),
  },
  {
    name: "sft",
    summary: "Fine-tunes a model on conversations or pairs of texts: a simulator, or where a policy starts.",
    load: () => import("./sft.ts"),
  },
  { name: "simulator", summary: "Reports what a simulator is worth, beside a real engine.", load: () => import("./simulator.ts") },
  { name: "evaluate", summary: "Judges a policy on test questions with a real search engine.", load: () => import("./evaluate.ts") },
  { name: "table", summary: "Joins what runs and evaluations judged into one table.", load: () => import("./table.ts") },
  { name: "rescore", summary: "Scores what a run or an evaluation stored by another metric.", load: () => import("./rescore.ts") },
  {
    name: "reproduce",
    summary: "Runs a run's receipt again and says whether every step is the same.",
    load: () => import("./reproduce.ts"),
  },
  {
    name: "retriever",
    summary: "Serves a search engine as Search-R1's retrieval server does.",
    load: () => import("./retriever.ts"),
  },
  { name: "index", summary: "Builds an index of a corpus on disk: BM25, or embeddings.", load: () => import("./index-corpus.ts") },
  { name: "download", summary: "Fetches a model from the Hub into the local cache.", load: () => import("./download.ts") },
  {
    name: "export",
    summary: "Writes a model in another type, sharded, or with a LoRA adapter merged into it.",
    load: () => import("./export.ts"),
  },
  { name: "doctor", summary: "Says what this machine offers and whether it computes right.", load: () => import("./doctor.ts") },
];

/** Runs the command that `argv` names with the arguments after it. What it throws is told, and makes the exit code 1. */
export async function run(argv: readonly string[]): Promise<void> {
  watchOutput();
  const [name = "--help", ...rest] = argv;
  if (name === "--help" || name === "-h" || name === "help") {
    process.stdout.write(overview());
    return;
  }
  // Also after a command: that is what `node train.js --version` comes to.
  if (name === "--version" || (rest.length === 1 && rest[0] === "--version")) {
    process.stdout.write(versionLine());
    return;
  }
  const command = commands.find((one) => one.name === name);
  if (command === undefined) {
    const guess = nearest(
      name,
      commands.map((one) => one.name),
    );
    process.stderr.write(
      `zerosearch: there is no command ${name}${guess === undefined ? "" : `; did you mean ${guess}?`}\n\n${overview()}`,
    );
    process.exitCode = 1;
    return;
  }
  try {
    const program = await command.load();
    await untilIdle(() => program.main(rest));
  } catch (error) {
    tellEnd(error);
  }
}

function overview(): string {
  const width = Math.max(...commands.map((command) => command.name.length));
  const rows = commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`);
  return `Usage: zerosearch <command> [options]\n\n${rows.join("\n")}\n\nzerosearch <command> --help says more; --version names this one.\n`;
}

function versionLine(): string {
  // src/commands/ and dist/commands/ lie equally deep
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { readonly version: string };
  return `zerosearch ${version}, Node ${process.version}, ${process.platform} ${process.arch}\n`;
}
