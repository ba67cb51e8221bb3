/** The first stage of `zerosearch collect`: questions are searched for, and every rollout is kept as it ends. */
import { join } from "node:path";
import { zerosearch } from "../../agent/dialects/zerosearch.ts";
import { rolloutAll } from "../../agent/rollout-all.ts";
import type { Config } from "../../config/index.ts";
import { JsonLines } from "../../log/json-lines.ts";
import { Progress, steadyClock } from "../../log/progress.ts";
import { scoreAnswer, scoredAnswer } from "../../rl/reward.ts";
import type { Question } from "../../rl/trajectory.ts";
import { openChat, tokensOf } from "../../search/open-chat.ts";
import { BudgetError } from "../../search/prices.ts";
import type { Engine, SearchEngine } from "../../search/search-engine.ts";
import { Closing } from "../../setup/closing.ts";
import { Engines } from "../../setup/open-engines.ts";
import { promptSettings, scoreRules, trainingContext } from "../../setup/open-agents.ts";
import { checkMethodFits, openMethod } from "../../setup/open-method.ts";
import { openEmbeddingParts } from "../../setup/open-embedder.ts";
import { openPolicy, type OpenedPolicy } from "../../setup/open-policy.ts";
import { prepareDevice } from "../../setup/prepare-device.ts";
import { loadModule } from "../../setup/user-module.ts";
import { askAll, keptQuestion, searchOf, type Asker, type AskTask } from "../../simulator/ask.ts";
import { chatAsker, queriesAsker } from "../../simulator/askers.ts";
import type { CollectedRollout } from "../../simulator/collected.ts";
import { ConfigError } from "../../util/errors.ts";
import { sameCommand, say } from "../program.ts";
import { noteWork } from "./spent.ts";
import { paidLog } from "../../setup/paid-log.ts";
import { workFiles } from "./work.ts";

/** Questions that are under way at a time where nobody else bounds them. */
const atOnce = 64;

export interface SearchStage {
  readonly work: string;
  /** With their numbers in the file. */
  readonly questions: readonly { readonly question: Question; readonly index: number }[];
  readonly done: readonly CollectedRollout[];
  readonly signal: AbortSignal;
}

/** Searches for what is not done yet. @returns the rollouts that were made; fewer than asked for where the budget is spent */
export async function searchAll(given: Config, { work, questions, done, signal }: SearchStage): Promise<CollectedRollout[]> {
  const config = recorded(given, join(work, workFiles.searches));
  const finished = new Set(done.map(({ index, rollout }) => `${index}/${rollout}`));
  const all = questions.flatMap((one) => Array.from({ length: config.collect.rollouts }, (_, rollout): AskTask => ({ ...one, rollout })));
  const tasks = all.filter(({ index, rollout }) => !finished.has(`${index}/${rollout}`));
  if (tasks.length === 0) return [];
  const made: CollectedRollout[] = [];
  const closing = new Closing();
  const from = steadyClock();
  await closing.after(async () => {
    const engines = await Engines.open(config, [config.evaluation.engine], closing, {
      signal,
      budgetHint: "The same command goes on with a larger search.budget; what was searched for is kept.",
    });
    engines.keepPaid(join(work, paidLog));
    const spending = new Spending();
    const opened = await openParts(config, engines, closing, signal);
    const engine = spending.over(engines.get(config.evaluation.engine));
    const log = closing.add(new JsonLines<CollectedRollout>(join(work, workFiles.rollouts), sameCommand), (one) => one.close());
    const ask = await openAsker(config, opened, { engine, isSpent: () => spending.message !== null, tasks });
    const progress = new Progress({
      label: "searching",
      total: all.length,
      from: all.length - tasks.length,
      unit: "rollouts",
      plainInterval: 15_000,
    });
    let searches = 0;
    const onFinished = (one: CollectedRollout): void => {
      // One that would have searched on is no rollout.
      if (spending.cutShort(one)) return;
      made.push(one);
      log.append([one]);
      searches += one.searches.length;
      progress.update(all.length - tasks.length + made.length, { searches });
    };
    try {
      await ask.run(onFinished, signal);
    } finally {
      progress.finish();
      if (spending.message !== null) say(`${spending.message}: going on with what there is.`);
      if (made.length > 0) log.sync();
      noteWork(work, { seconds: (steadyClock() - from) / 1000, counts: { ...engines.takeCounts(), ...ask.takeCounts() } });
    }
  });
  return made;
}

/** Engines outside are asked once for a query, whatever stops the program in the middle of a rollout: each search is kept as it is answered. */
function recorded(config: Config, file: string): Config {
  const { search, evaluation } = config;
  const isHere = evaluation.engine === "bm25" || evaluation.engine === "dense";
  if (isHere || search.record !== null || search.replay !== null) return config;
  return { ...config, search: { ...search, record: file, replay: file } };
}

/** Lets what is paid for come to its end when the budget is spent: a search that would exceed it finds nothing, and its rollout is not kept. */
class Spending {
  /** Why there are no more searches; null while there are. */
  message: string | null = null;
  readonly #cut = new Set<string>();

  over(engine: Engine): Engine {
    if ("simulate" in engine) return engine;
    const search: SearchEngine["search"] = (request) =>
      engine.search(request).catch((error: unknown) => {
        if (!(error instanceof BudgetError)) throw error;
        [this.message = ""] = error.message.split("\n");
        this.#cut.add(`${request.key.question}/${request.key.rollout}`);
        return { documents: [], kind: "real" };
      });
    return { name: engine.name, search, close: () => engine.close() };
  }

  cutShort({ index, rollout }: Pick<CollectedRollout, "index" | "rollout">): boolean {
    return this.#cut.has(`${index}/${rollout}`);
  }
}

/** The policy, where one in this process searches, and what the engine needs of this process. */
async function openParts(config: Config, engines: Engines, closing: Closing, signal: AbortSignal): Promise<OpenedPolicy | null> {
  const embeds = config.evaluation.engine === "dense";
  if (config.collect.policy === "model") {
    const opened = await openPolicy(config, { embeds, closing });
    await engines.add(config, opened, closing, signal);
    return opened;
  }
  if (!embeds) return null;
  const { config: found, ...parts } = await openEmbeddingParts(config, closing);
  await engines.add(found, parts, closing, signal);
  return null;
}

interface OpenedAsker {
  run(onFinished: (one: CollectedRollout) => void, signal: AbortSignal): Promise<void>;
  takeCounts(): Readonly<Record<string, number>>;
}

interface AskerNeeds {
  readonly engine: Engine;
  readonly isSpent: () => boolean;
  readonly tasks: readonly AskTask[];
}

async function openAsker(config: Config, opened: OpenedPolicy | null, needs: AskerNeeds): Promise<OpenedAsker> {
  const { policy } = config.collect;
  if (opened !== null) return openModelAsker(config, opened, needs);
  if (policy === "endpoint") return openChatAsker(config, needs);
  const asker = policy === "queries" ? queriesAsker : await loadModule<Asker>(policy, "collect.policy", askerShape);
  return asking(config, needs, asker, policy === "queries" ? "collect.policy=queries" : `collect.policy=${policy}`);
}

const askerShape = {
  what: "an async function of (question, search), which calls search(query) and returns an answer, or null",
  fits: (value: unknown) => typeof value === "function",
};

/** By the method of `rollout.method`, sampled as in training. */
async function openModelAsker(config: Config, opened: OpenedPolicy, { engine, tasks }: AskerNeeds): Promise<OpenedAsker> {
  const method = await openMethod(config.rollout.method);
  if (method.searches === false)
    throw new ConfigError({
      where: "rollout.method",
      what: "never searches",
      expected: "zerosearch, or another method that does",
      got: method.name,
    });
  const context = trainingContext(config, opened.generator, opened.policy, engine);
  await checkMethodFits(
    method,
    tasks.map(({ question }) => question),
    context,
    opened.policy.maxPositions,
  );
  await prepareDevice(opened.device, config, opened, { trains: false });
  const keyed = tasks.map(({ question, index, rollout }) => ({ question, key: { step: 0, question: index, rollout } }));
  return {
    async run(onFinished, signal) {
      await rolloutAll(keyed, method, context, {
        signal,
        onFinished: (trajectory) => {
          const { key, question, answer, searches } = trajectory;
          const { f1 } = scoreAnswer(scoredAnswer(trajectory), question.goldenAnswers, context.rules);
          const kept = { question: keptQuestion(question), answer, f1, searches: searches.map(searchOf) };
          onFinished({ index: key.question, rollout: key.rollout, ...kept });
        },
      });
    },
    takeCounts: () => ({}),
  };
}

async function openChatAsker(config: Config, needs: AskerNeeds): Promise<OpenedAsker> {
  const { collect, rollout, seed } = config;
  const { maxNewTokens, endpoint } = collect;
  const method = await openMethod(rollout.method);
  if (["ra-agent", "search-o1", "tools"].includes(rollout.method) || method.searches === false)
    throw new ConfigError({
      where: "rollout.method",
      what: "cannot search for collect.policy=endpoint, which takes turns of one search or an answer",
      expected: "zerosearch, search-r1, or a module",
      got: method.name,
    });
  const client = await openChat("collect", { ...collect, endpoint: endpoint ?? [] }, { now: steadyClock, say });
  const { temperature, topP, maxTurns, maxObservationTokens } = rollout;
  const asker = chatAsker({
    ...{ client, seed, maxTurns, maxNewTokens, temperature, topP },
    dialect: method.dialect ?? zerosearch,
    prompts: promptSettings(config, { chatTemplate: null }),
    maxCharacters: 4 * maxObservationTokens,
  });
  return {
    ...asking(config, needs, asker, "collect.policy=endpoint", collect.endpointConcurrency),
    takeCounts: () => tokensOf(client, "policy"),
  };
}

function asking(config: Config, { engine, tasks, isSpent }: AskerNeeds, asker: Asker, name: string, concurrency = atOnce): OpenedAsker {
  const { search, rollout } = config;
  const settings = { maxObservationTokens: rollout.maxObservationTokens };
  const context = { engine, rules: scoreRules(config), onSearchFailure: search.onFailure, settings };
  return {
    run: (onFinished, signal) =>
      askAll(tasks, { ...context, asker, name, concurrency, tags: zerosearch.tags, signal, onFinished, isOver: isSpent }),
    takeCounts: () => ({}),
  };
}
