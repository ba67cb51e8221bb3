/** The search engines of a configuration, each opened once. */
import { existsSync } from "node:fs";
import { hashFile } from "../checkpoint/run-state.ts";
import { pathHere, portable, type Config } from "../config/index.ts";
import { promptSet } from "../data/prompt-set.ts";
import { Progress, steadyClock, type TextStream } from "../log/progress.ts";
import { AdaptiveNoise, noiseAt, type Noise, type NoiseSchedule } from "../search/curriculum.ts";
import type { EngineContext, EngineKind, OpenedEngine, Simulate } from "../search/engine-kind.ts";
import { engineKind } from "../search/engines.ts";
import { Budget, isPaid, priceOf, type Price } from "../search/prices.ts";
import { Recording } from "../search/recording.ts";
import type { Engine, SearchEngine, Simulator } from "../search/search-engine.ts";
import { withValue } from "../config/keys.ts";
import type { Closing } from "./closing.ts";
import { curriculum, scoreRules, simulatorName } from "./open-agents.ts";
import type { OpenedPolicy } from "./open-policy.ts";
import { simulatorVariants } from "./evaluated-engines.ts";
import { notePaid, readPaid } from "./paid-log.ts";
import { prepareEmbedder } from "./prepare-device.ts";
import { checkShape, hasFunctions, loadModule, named, type Shape } from "./user-module.ts";
import { ConfigError, ZeroSearchError } from "../util/errors.ts";
import { callOwn } from "../util/own-code.ts";

/** Between two lines of progress where there is no terminal: milliseconds. */
const INTERVAL = 10_000;

/** What engines run on that need a model, or a device, of this process. */
export type EngineParts = Pick<OpenedPolicy, "device" | "embedder"> & Partial<Pick<OpenedPolicy, "generator" | "simulator">>;

export interface OpenEnginesOptions {
  readonly stream?: TextStream;
  readonly signal?: AbortSignal | undefined;
  /** What can be done where `search.budget` ends; as of a run unless given. */
  readonly budgetHint?: string;
}

export class Engines {
  /** Where engines tell what a person should know. */
  say: (text: string) => void;
  readonly #opened = new Map<string, OpenedEngine>();
  /** Named by the configuration, and not used. */
  readonly #idle = new Map<string, Engine>();
  /** Those that `add` opens. */
  #waiting: readonly string[] = [];
  readonly #stream: TextStream;
  #recording: Recording | null = null;
  #signal: AbortSignal | undefined;
  #budget: Budget | null = null;
  #budgetHint: string | undefined;
  #paidFile: string | null = null;
  /** Of the engines that are paid from it. */
  readonly #prices = new Map<string, Price>();
  #noise: NoiseSchedule | AdaptiveNoise = { start: 0, end: 0, steps: 1 };

  /** @internal None is open yet. */
  constructor(stream: TextStream = process.stdout) {
    this.#stream = stream;
    this.say = (text) => void stream.write(`${text}\n`);
  }

  /**
   * @internal Opens those that are used (`enginesUsed`), but for engines that run on a model of this process, or its device, which `add` opens and whose files and
   * keys are looked at: what is wrong is told before gigabytes are loaded. `closing` closes them.
   * @throws as `EngineKind.open`, `loadModule` and `Recording.open`
   */
  static async open(
    config: Config,
    used: readonly string[],
    closing: Closing,
    { stream = process.stdout, signal, budgetHint }: OpenEnginesOptions = {},
  ): Promise<Engines> {
    const opened = new Engines(stream);
    opened.#signal = signal;
    opened.#budgetHint = budgetHint;
    opened.#noise = curriculum(config);
    const { record, replay } = config.search;
    opened.#recording = await Recording.open({ record, replay, now: steadyClock });
    if (opened.#recording !== null) closing.add(opened.#recording, (one) => one.close());
    for (const name of [config.search.engine ?? "none", config.evaluation.engine])
      if (!used.includes(name)) opened.#idle.set(name, idleEngine(name));
    opened.#waiting = used.filter((name) => runsHere(config, name));
    for (const name of opened.#waiting) await engineKind(name)?.check?.(config[sectionOf(name)], opened.#context(config));
    for (const name of used) if (!opened.#waiting.includes(name)) await opened.#open(config, name, closing);
    return opened;
  }

  /** @internal Opens the engines that run on a model of this process, or its device. @throws the signal's reason, too */
  async add(
    config: Config,
    { device, embedder, generator, simulator = null }: EngineParts,
    closing: Closing,
    signal?: AbortSignal,
  ): Promise<void> {
    for (const name of this.#waiting) {
      if (name === "dense") {
        if (embedder !== null) await prepareEmbedder(device, config, embedder, this.#stream);
        // The folder, where it was found.
        const found = embedder === null ? config : withValue(config, "dense.path", embedder.folder);
        await this.#open(found, name, closing, { embedding: { device, model: embedder }, signal });
      } else if (generator !== undefined && simulator !== null) {
        const { tokenizer, chatTemplate, adapter, decoder } = simulator;
        const { vocabulary } = decoder.config;
        await this.#open(config, name, closing, {
          local: { generator, model: simulatorName, adapter, tokenizer, chatTemplate, vocabulary },
        });
      }
    }
    this.#waiting = [];
  }

  /**
   * The engine of that name, or the simulator at one end of its noise (`simulated:useful`); where nothing searches with it, one that nobody may ask.
   * @throws ConfigError where it is not open.
   */
  get(name: string): Engine {
    const opened = this.#opened.get(name)?.engine ?? this.#variant(name) ?? this.#idle.get(name);
    if (opened !== undefined) return opened;
    const expected = [...this.#opened.keys()].join(", ") || "none";
    throw new ConfigError({ where: "engines.get", what: "that engine is not open", expected, got: name });
  }

  #variant(name: string): Engine | undefined {
    const noise = simulatorVariants[name];
    const { simulate } = this;
    if (noise === undefined || simulate === null) return undefined;
    const simulator = simulate(noise);
    return {
      name,
      simulate: (request) => simulator.simulate(request),
      noiseProbability: (step) => simulator.noiseProbability(step),
      close: () => simulator.close(),
    };
  }

  /** An engine that a program gives, which records and is recorded as those of the configuration. */
  given(engine: Engine, { search }: Config): Engine {
    return this.#recording?.over(engine, { name: engine.name, settings: search.settings }) ?? engine;
  }

  /**
   * Notes paid searches in a file, a line each, and goes on after those that are in it. `before` are searches of programs that kept no such file, by engine.
   */
  keepPaid(file: string, before: Readonly<Record<string, number>> = {}): void {
    if (!existsSync(file)) for (const [name, count] of Object.entries(before)) for (let i = 0; i < count; i++) notePaid(file, name);
    this.#paidFile = file;
    const paid = readPaid(file, { givenUp: true });
    for (const [name, price] of this.#prices) this.#budget?.resume(paid[name] ?? 0, price);
  }

  /** The level of noise where it answers to the policy; null where it does not. */
  get adaptiveNoise(): AdaptiveNoise | null {
    return this.#noise instanceof AdaptiveNoise ? this.#noise : null;
  }

  /** Null where no simulator is used. */
  get simulate(): Simulate | null {
    return this.#opened.get("simulated")?.simulate ?? null;
  }

  /** What was asked of them since the last call: values of a step. They depend on others, as times do. */
  takeCounts(): Readonly<Record<string, number>> {
    const counts = [...this.#opened.values()].map((one) => one.takeCounts?.() ?? {});
    const { recorded, replayed } = this.#recording?.takeCounts() ?? {};
    const ofRecording = recorded === undefined ? {} : { search_recorded: recorded, search_replayed: replayed };
    return Object.assign({}, ...counts, ofRecording) as Record<string, number>;
  }

  #context(config: Config): EngineContext {
    return {
      seed: config.seed,
      noise: this.#noise,
      unit: config.curriculum.unit,
      rules: scoreRules(config),
      corpus: config.data.corpus,
      promptSet,
      now: steadyClock,
      say: (text) => this.say(text),
      signal: this.#signal,
      progress: (of) => new Progress({ ...of, plainInterval: INTERVAL, stream: this.#stream }),
    };
  }

  async #open(config: Config, name: string, closing: Closing, here?: Pick<EngineContext, "local" | "embedding" | "signal">): Promise<void> {
    const context = { ...this.#context(config), ...here };
    const recording = this.#recording;
    // What answers from a file need not be there, nor its key; a module of the user's alone can say what it is.
    const absent = recording?.stands === true && engineKind(name) !== undefined && here === undefined;
    const raw = absent ? null : await openNamed(config, name, context);
    const close = (one: Engine): Promise<void> => callOwn(`search engine ${one.name}`, () => one.close(), { what: "does not close" });
    // A server of its own is ended too where what follows is refused.
    let kept: Engine | null = raw?.engine ?? null;
    closing.add(raw, () => (kept === null ? undefined : close(kept)));
    const live = raw === null ? null : await this.#paid(config, name, raw);
    const opened = recording === null ? (live as OpenedEngine) : await recordedEngine(recording, config, name, live, this.#noise);
    this.#opened.set(name, opened);
    kept = opened.engine;
  }

  /** Noted, where the engine is one that is paid, and paid from `search.budget`, where there is one. */
  async #paid(config: Config, name: string, opened: OpenedEngine): Promise<OpenedEngine> {
    const { budget } = config.search;
    if (!isPaid(name) || !("search" in opened.engine)) return opened;
    const { engine } = opened;
    const search: SearchEngine["search"] = async (request) => {
      try {
        const result = await engine.search(request);
        if (this.#paidFile !== null) notePaid(this.#paidFile, name);
        return result;
      } catch (error) {
        // It may have been sent.
        if (this.#paidFile !== null && request.signal?.aborted === true) notePaid(this.#paidFile, name, { givenUp: true });
        throw error;
      }
    };
    const noted: SearchEngine = { name: engine.name, search, close: () => engine.close() };
    if (budget === null) return { ...opened, engine: noted };
    const fault = (what: string, expected: string, got: string, hint?: string): ConfigError =>
      new ConfigError({ where: "search.budget", what: `cannot be kept: ${what}`, expected, got, hint });
    const price = priceOf(config, name);
    if (price === null && name === "mcp") throw fault("nothing says what a search by mcp costs", "mcp.price, of 1,000 searches", "0");
    if (price === null)
      throw fault(
        `nothing says what a search by ${String(config.http.api)} costs`,
        "price: { perThousand: 8, currency: USD, page: ... } in the file of http.api",
        "none",
        "A copy of the file with a price in it will do: http.api=./my-engine.yaml.",
      );
    const [other] = this.#prices.values();
    if (other !== undefined && other.currency !== price.currency)
      throw fault("two engines are paid in different currencies", "one currency", `${other.currency} and ${price.currency}`);
    // With nothing recorded the first search would exceed it: that is told before models are loaded.
    if (price.perThousand / 1000 > budget && (await this.#recording?.holdsSearches()) !== true)
      throw new ConfigError({
        where: `search.budget=${budget}`,
        what: `is less than one search by ${engine.name} costs`,
        expected: `${price.perThousand / 1000} ${price.currency} or more, or null for no limit`,
        got: String(budget),
        hint: "Nothing is paid for searches that a recording answers (search.replay=FILE).",
      });
    this.#prices.set(name, price);
    this.#budget ??= new Budget(budget, this.#budgetHint);
    return { ...opened, engine: this.#budget.over(noted, price) };
  }
}

/** An engine over a recording; null as `live` is one that is not there. */
async function recordedEngine(
  recording: Recording,
  config: Config,
  name: string,
  live: OpenedEngine | null,
  noise: Noise,
): Promise<OpenedEngine> {
  // The same wherever the package is installed; files are read where they are.
  const { search, ...sections } = portable(config);
  const { seed, data, model } = config;
  const { unit } = config.curriculum;
  const kind = engineKind(name);
  const settings =
    kind === undefined
      ? { settings: search.settings, module: await hashFile(name) }
      : await kind.identity(sections[kind.section], {
          ...{ seed, noise, unit, corpus: data.corpus, modelDtype: model.dtype },
          ...{ promptSet, hashFile, pathHere },
        });
  if (live !== null && live.simulate === undefined) return { ...live, engine: recording.over(live.engine, { name, settings }) };
  if (name !== "simulated") return { engine: recording.instead({ name, settings }, null) };
  const simulate: Simulate = (asked = noise) => {
    const identity = { name, settings: { ...(settings as object), noise: asked } };
    const made =
      live?.simulate === undefined
        ? recording.instead(identity, (step) => noiseAt(step, asked))
        : recording.over(live.simulate(asked), identity);
    return made as Simulator;
  };
  return { ...live, engine: simulate(), simulate };
}

export function idleEngine(name: string): Engine {
  const search = (): Promise<never> =>
    Promise.reject(new ZeroSearchError({ where: `search engine ${name}`, what: "is not open, as nothing should search with it" }));
  return { name, search, close: () => Promise.resolve() };
}

/** Whether an engine needs a model, or a device, of this process. */
function runsHere(config: Config, name: string): boolean {
  const kind = engineKind(name);
  return kind?.runsHere?.(config[kind.section]) === true;
}

function sectionOf(name: string): EngineKind<unknown>["section"] {
  return engineKind(name)?.section ?? "simulator";
}

export const engineShape: Shape = {
  what: "an engine: { name, search, close }, or { name, simulate, noiseProbability, close }",
  fits: (value) => hasFunctions(value, "search", "close") || hasFunctions(value, "simulate", "noiseProbability", "close"),
};

/** An engine of the table, or a module's. */
async function openNamed(config: Config, name: string, context: EngineContext): Promise<OpenedEngine> {
  const known = engineKind(name);
  if (known !== undefined) return known.open(config[known.section], context);
  const key = name === config.search.engine ? "search.engine" : "evaluation.engine";
  const exported = await loadModule<Engine | UserEngine>(name, key, {
    what: `${engineShape.what}; or a function of (settings, context) that returns one or a promise of one`,
    fits: (value) => typeof value === "function" || engineShape.fits(value),
  });
  if (typeof exported !== "function") return { engine: exported };
  const where = `${key}=${name}`;
  const opened = await callOwn(where, () => exported(config.search.settings, context), { what: "does not open" });
  checkShape(where, opened, engineShape, "its function returns no engine");
  return { engine: named(where, opened as Engine, name) };
}

/** What a module of the user's own may export instead of an engine. */
type UserEngine = (settings: Config["search"]["settings"], context: EngineContext) => unknown;
