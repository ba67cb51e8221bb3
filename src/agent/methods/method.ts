/** What every way of answering is: one question in, one trajectory out. */
import type { Generator, SamplingSettings, StopTable, TrajectoryKey } from "../../generate/types.ts";
import type { Question, SearchTrajectory } from "../../rl/trajectory.ts";
import type { Engine } from "../../search/search-engine.ts";
import type { TextCodec } from "../../text/prompt.ts";
import type { ScoreRules } from "../../util/normalise-answer.ts";
import type { Purpose } from "../../util/philox.ts";
import type { Dialect } from "../dialects/dialect.ts";
import type { PromptSettings } from "../prompts.ts";

export interface AgentSettings {
  /** The policy's name in the generator, and its LoRA adapter if it has one. */
  readonly model: string;
  readonly adapter?: string | undefined;
  /** Searches (or corrections) before the last generation. The paper: 5. */
  readonly maxTurns: number;
  /** Tokens the policy may sample in one turn. The paper: 500. */
  readonly maxNewTokens: number;
  /** Tokens of one observation, its tags included; more is cut from the right. The paper: 2048. */
  readonly maxObservationTokens: number;
  /** Tokens of a whole rollout, prompt included; the generator's context unless given. */
  readonly maxContextTokens?: number;
  readonly sampling: SamplingSettings;
  readonly seed: number;
  /** What the random numbers are for: `policySample` in training, `evaluation` otherwise. */
  readonly purpose: Purpose;
  /** Faults of the released code, each false unless given (docs/compat.md). */
  readonly faults?: {
    /** A turn is sampled past its stops, and cut afterwards. */
    readonly noStops?: boolean;
    /** lossMask is 0 on end-of-sequence tokens. */
    readonly dropEos?: boolean;
    /** A search in the last generation is made, and its result thrown away. */
    readonly lastSearch?: boolean;
  };
}

/** All that rollouts share. */
export interface AgentContext {
  readonly generator: Generator;
  readonly tokenizer: TextCodec;
  /** The table that ends a turn at these texts, in their order, and at the end-of-sequence ids (`compileStopsOnce`). */
  readonly stops: (texts: readonly string[]) => StopTable;
  readonly prompts: PromptSettings;
  readonly engine: Engine;
  readonly settings: AgentSettings;
  /** How answers are compared; `usualRules` unless given. */
  readonly rules?: ScoreRules;
  /** What a search does that fails for good: it throws, as it does unless given; shows no results; or ends its rollout with status "failed". */
  readonly onSearchFailure?: "end" | "void" | "leave-out";
  /** compat: rollouts are given a `lastAnswer`. False unless given. */
  readonly promptAnswers?: boolean;
}

/** One rollout's own part. */
export interface MethodContext extends AgentContext {
  readonly key: TrajectoryKey;
  /** Whose question and answers a simulator is told in a turn (from 0); the rollout's own unless given (compat.misalignedContext). */
  readonly toldQuestion?: (turn: number) => Promise<Question>;
  /** Fires when the rollout is no longer wanted: it closes its sequence and rejects. */
  readonly signal?: AbortSignal;
}

/** One file each in this folder, one line each in `index.ts`. */
export interface Method {
  readonly name: string;
  /** What it speaks: where given, its prompts are checked against the policy's context before a run begins. */
  readonly dialect?: Dialect;
  /** False where it never asks an engine. */
  readonly searches?: boolean;
  /** @throws whatever the engine or the generator throws: a failed search is turned into text only by `onSearchFailure`, and recorded. */
  run(question: Question, context: MethodContext): Promise<SearchTrajectory>;
}
