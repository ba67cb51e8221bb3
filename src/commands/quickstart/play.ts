/** Plays scripted scenarios through the methods themselves, so that what a policy is given between its turns is what a run gives it. */
import type { AgentContext, Method } from "../../agent/methods/method.ts";
import type { PromptSettings } from "../../agent/prompts.ts";
import type { Config } from "../../config/index.ts";
import type { Scenario } from "../../data/quickstart/format-script.ts";
import {
  EOS_CODE,
  FIRST_STOP_CODE,
  type Generated,
  type GenerateRequest,
  type Generator,
  type GeneratorCounts,
  type OpenOptions,
  type Sequence,
} from "../../generate/types.ts";
import { compileStopsOnce } from "../../generate/stop-automaton.ts";
import type { SearchTrajectory } from "../../rl/trajectory.ts";
import type { SearchEngine } from "../../search/search-engine.ts";
import { ours } from "../../text/prompt.ts";
import type { Tokenizer } from "../../text/tokenizer.ts";
import { DataError } from "../../util/errors.ts";

/** What a scenario is played with. */
export interface Stage {
  readonly method: Method;
  readonly config: Config;
  readonly tokenizer: Tokenizer;
  readonly vocabulary: number;
  /** The longest sequence of the model. */
  readonly positions: number;
  readonly prompts: PromptSettings;
}

/** The same for all scenarios of a stage: compiling stops takes a while. */
export function stopsOf({ tokenizer, vocabulary }: Pick<Stage, "tokenizer" | "vocabulary">): AgentContext["stops"] {
  return compileStopsOnce(tokenizer, vocabulary);
}

/**
 * The rollout that a policy makes which speaks as scripted; null where it does not fit: a turn is too long, or the context is full.
 * @throws DataError where the method asks for more or less than the script says
 */
export async function play(scenario: Scenario, stage: Stage, stops: AgentContext["stops"]): Promise<SearchTrajectory | null> {
  const { method, config, tokenizer, prompts } = stage;
  const { maxTurns, maxNewTokens, maxObservationTokens, maxContextTokens } = config.rollout;
  const isShort = (text: string): boolean => tokenizer.encodePrompt([ours(text)]).length <= maxNewTokens;
  if (![...scenario.turns, ...scenario.readings].every(isShort)) return null;
  const script = new ScriptedPolicy(scenario, stage);
  const trajectory = await method.run(
    { id: "scripted", question: scenario.question, goldenAnswers: [scenario.answer], dataSource: "quickstart" },
    {
      generator: script,
      tokenizer,
      stops,
      prompts,
      engine: engineOf(scenario),
      key: { step: 0, question: 0, rollout: 0 },
      settings: {
        model: "policy",
        maxTurns,
        maxNewTokens,
        maxObservationTokens,
        maxContextTokens,
        seed: config.seed,
        purpose: "policySample",
        sampling: { temperature: 0, topK: 0, topP: 1 },
      },
    },
  );
  if (trajectory.status === "length") return null;
  script.finish();
  return trajectory;
}

function engineOf({ results }: Scenario): SearchEngine {
  let next = 0;
  return {
    name: "scripted",
    search: () => Promise.resolve({ documents: results[next++] ?? [], kind: "real" }),
    close: () => Promise.resolve(),
  };
}

/** A generator whose model says what is scripted: a sequence of the first turn speaks for the policy, later ones for its second passes. */
class ScriptedPolicy implements Generator {
  readonly #turns: string[];
  readonly #readings: string[];
  readonly #stage: Stage;
  readonly #question: string;

  constructor({ turns, readings, question }: Scenario, stage: Stage) {
    this.#turns = [...turns];
    this.#readings = [...readings];
    this.#stage = stage;
    this.#question = question;
  }

  open({ prompt, turn = 0 }: OpenOptions): Sequence {
    const { positions } = this.#stage;
    const ids = [...prompt];
    return {
      ids,
      get room() {
        return positions - ids.length;
      },
      append: (more) => void ids.push(...more),
      generate: (request) => Promise.resolve(this.#say(turn === 0 ? this.#turns.shift() : this.#readings.shift(), ids, request)),
      close: () => undefined,
    };
  }

  takeCounts(): ReadonlyMap<string, GeneratorCounts> {
    return new Map();
  }

  /** Nothing is left to say. */
  finish(): void {
    if (this.#turns.length > 0) throw this.#fault("the rollout ended early", this.#turns.join(" | "));
  }

  #say(text: string | undefined, ids: number[], { stop, maxNewTokens }: GenerateRequest): Generated {
    if (text === undefined) throw this.#fault("the method asks for a turn more", "nothing");
    const said = this.#stage.tokenizer.encodePrompt([ours(text)]);
    if (said.length > maxNewTokens) {
      // The context is full.
      const cut = said.slice(0, maxNewTokens);
      ids.push(...cut);
      return { ids: cut, logProbs: cut.map(() => 0), reason: "length", stopIndex: -1 };
    }
    let state = stop.start;
    for (const [i, id] of said.entries()) {
      state = stop.transitions[state * stop.vocabulary + id] as number;
      const code = stop.accepts[state] as number;
      if (code === 0 && i < said.length - 1) continue;
      if (code < FIRST_STOP_CODE || i < said.length - 1) throw this.#fault("a turn does not end where it stops", text);
      ids.push(...said);
      const [reason, stopIndex] = code === EOS_CODE ? (["eos", -1] as const) : (["stop", code - FIRST_STOP_CODE] as const);
      return { ids: said, logProbs: said.map(() => 0), reason, stopIndex };
    }
    throw this.#fault("a turn is empty", text);
  }

  #fault(what: string, got: string): DataError {
    return new DataError({ where: `scripted rollout of "${this.#question}" by ${this.#stage.method.name}`, what, got });
  }
}
