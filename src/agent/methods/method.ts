/** What every way of answering is: one question in, one trajectory out. */
import type { Generator, SamplingSettings, StopTable, TrajectoryKey } from "../../generate/types.ts";
import type { Question, SearchTrajectory } from "../../rl/trajectory.ts";
import type { SearchEngine } from "../../search/search-engine.ts";
import type { TextCodec } from "../../text/text-codec.ts";
import type { Purpose } from "../../util/philox.ts";
import type { PromptStyle } from "../protocol.ts";

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
}

/** All that rollouts share. */
export interface AgentContext {
  readonly generator: Generator;
  readonly tokenizer: TextCodec;
  /** Ends a turn at the texts `turnStops`, in their order, and at the end-of-sequence ids. */
  readonly stop: StopTable;
  readonly style: PromptStyle;
  readonly engine: SearchEngine;
  readonly settings: AgentSettings;
}

/** One rollout's own part. */
export interface MethodContext extends AgentContext {
  readonly key: TrajectoryKey;
  /** Fires when the rollout is no longer wanted: it closes its sequence and rejects. */
  readonly signal?: AbortSignal;
}

export interface Method {
  readonly name: string;
  /** @throws whatever the engine or the generator throws: a failed search is never turned into text. */
  run(question: Question, context: MethodContext): Promise<SearchTrajectory>;
}
