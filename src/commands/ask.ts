/** `zerosearch ask`: a question of the user's own, answered by a policy that was trained, with a real search engine. */
import { createInterface } from "node:readline";
import {
  enginesUsed,
  packagedConfig,
  readOverride,
  readYaml,
  resolveConfig,
  type ArgumentSpec,
  type Config,
  type Source,
} from "../config/index.ts";
import { namesPolicy, newestPolicy, policyOfRun, type FoundPolicy } from "../run/find-policy.ts";
import type { SearchEngine } from "../search/search-engine.ts";
import { Closing } from "../setup/closing.ts";
import { Engines } from "../setup/open-engines.ts";
import { locateData } from "../setup/locate-data.ts";
import { openMethod } from "../setup/open-method.ts";
import { openPolicy } from "../setup/open-policy.ts";
import { prepareDevice } from "../setup/prepare-device.ts";
import { ConfigError, RequestError } from "../util/errors.ts";
import { answer, type Asked, type Answering } from "./ask/answer.ts";
import { readArguments, untilInterrupted } from "./program.ts";

const spec: ArgumentSpec = {
  program: "zerosearch ask",
  summary:
    "Answers a question by the policy that was trained last (the best state of its run; without a run, the quickstart's policy as it starts) and the search engine that judged it. Without a question, answers each line of standard input.",
  words: ["[QUESTION ...]"],
  options: {
    run: { value: "NAME", doc: "Takes the policy of this run." },
    config: { value: "FILE", doc: "Takes the newest run of this configuration, or the policy that it names where it has none." },
    device: { value: "KIND", doc: "Short for device.kind=KIND." },
    json: { doc: "Prints one JSON object a question, on a line of its own; all else goes to stderr." },
  },
  settings: true,
};

export async function main(argv: readonly string[]): Promise<void> {
  const read = readArguments(argv, spec);
  if (read === null) return;
  const { options, settings, words } = read;
  const device = options.get("device");
  const overrides = [...settings, ...(device === undefined ? [] : [`device.kind=${device}`])].map(readOverride);
  const question = words.length === 0 ? undefined : words.join(" ").trim();
  if (question === "") throw noQuestion("is empty");
  const found = await findPolicy(options.get("run"), options.get("config"), overrides);
  await untilInterrupted((signal) => answerAll(found, question, { json: options.has("json"), signal }));
}

async function findPolicy(run: string | undefined, file: string | undefined, overrides: readonly Source[]): Promise<FoundPolicy> {
  const wish = { run, file, overrides, purpose: "ask" } as const;
  const named = await policyOfRun(wish);
  if (named !== null) return named;
  const config = resolveConfig([...readYaml(file ?? packagedConfig("quickstart")), ...overrides], "ask");
  const { policy } = config.model;
  if (namesPolicy(overrides)) return { config, text: policy, step: null };
  const newest = await newestPolicy(config.output.runs, wish, file === undefined ? undefined : config.name);
  const none = `${config.output.runs} holds no trained one${file === undefined ? "" : " of this configuration"}`;
  return newest ?? { config, text: `${policy} as it starts, since ${none}; node train.js makes one`, step: 0 };
}

/** Opens the policy and answers the question, or those that come on standard input. */
async function answerAll(found: FoundPolicy, question: string | undefined, { json, signal }: Omit<Answering, "write">): Promise<void> {
  // One rollout at a time: no memory for more, and no kernels.
  const one: Config = { ...found.config, train: { ...found.config.train, questionsPerStep: 1, groupSize: 1 } };
  const stream = json ? process.stderr : process.stdout;
  const { opened: config } = await locateData(one, { signal, stream });
  const { engine: kind } = config.evaluation;
  const passages = (kind === "bm25" ? config.bm25.index : kind === "dense" ? config.dense.index : null) ?? config.data.corpus;
  const closing = new Closing();
  try {
    const method = await openMethod(config.rollout.method);
    const { searches = true } = method;
    const asks = enginesUsed(config, "ask", searches);
    const engines = await Engines.open(config, asks, closing, {
      stream,
      signal,
      budgetHint: "Each call of ask has a budget of its own: ask again, or with a larger search.budget.",
    });
    const embeds = asks.includes("dense");
    // One that is there already is looked at before a model is loaded.
    if (!embeds) realEngine(engines, kind, searches);
    const opened = await openPolicy(config, { embeds, closing, stream });
    await engines.add(config, opened, closing, signal);
    const engine = realEngine(engines, kind, searches);
    await prepareDevice(opened.device, config, opened, { trains: false, stream });
    const searched = ["bm25", "dense"].includes(engine.name) && passages !== null ? `${engine.name} over ${passages}` : engine.name;
    const used = { policy: found.text, engine: searches ? searched : "none" };
    stream.write(`policy: ${used.policy} | engine: ${used.engine}\n`);
    const asked: Asked = { method, engine, context: opened.judging(engine), used };
    const answering: Answering = { json, signal, write: (text) => void process.stdout.write(text) };
    if (question !== undefined) await answer(question, 0, asked, answering);
    else await answerLines(asked, answering);
  } finally {
    await closing.close();
  }
}

/** Answers each line of standard input, asking for them on a terminal. A question that cannot be asked is said, and the next one taken. */
async function answerLines(asked: Asked, answering: Answering): Promise<void> {
  const { signal } = answering;
  const terminal = process.stdin.isTTY && process.stderr.isTTY;
  const lines = createInterface({ input: process.stdin, ...(terminal ? { output: process.stderr } : {}), prompt: "question   ", signal });
  // A terminal's Ctrl-C is the interface's while it reads.
  lines.on("SIGINT", () => process.kill(process.pid, "SIGINT"));
  let count = 0;
  if (terminal) lines.prompt();
  for await (const line of lines) {
    if (line.trim() !== "") {
      if (!terminal && !answering.json) answering.write(`${count === 0 ? "" : "\n"}question   ${line.trim()}\n`);
      try {
        await answer(line.trim(), count++, asked, answering);
      } catch (error) {
        if (!(error instanceof RequestError)) throw error;
        process.stderr.write(`${error.message}\n`);
        process.exitCode = 1;
      }
    }
    if (terminal) lines.prompt();
  }
  signal.throwIfAborted();
  if (terminal) process.stderr.write("\n");
  else if (count === 0) throw noQuestion("is missing, and so is one on standard input");
}

/** @throws ConfigError where it is a simulator */
function realEngine(engines: Engines, name: string, searches: boolean): SearchEngine {
  const engine = engines.get(name);
  if (!("simulate" in engine) && !(searches && engine.name === "simulated")) return engine;
  throw new ConfigError({
    where: "evaluation.engine",
    what: "is a simulator, which is told the right answer",
    expected: "a real engine, such as bm25 over data.corpus",
    got: engine.name,
  });
}

function noQuestion(what: string): ConfigError {
  return new ConfigError({ where: "the question", what, hint: 'zerosearch ask "What is the capital of France?"' });
}
