/** What a training run holds: data only. Its logs are `Journal`, its saved states `States`. */
import { join } from "node:path";
import type { AgentContext, Method } from "../agent/methods/method.ts";
import type { Config } from "../config/index.ts";
import type { QuestionSampler } from "../data/question-sampler.ts";
import type { MemoryReport } from "../device/device.ts";
import type { GeneratorCounts } from "../generate/types.ts";
import type { PhaseClock } from "../log/phase-clock.ts";
import type { LearningRateSchedule } from "../optim/schedule.ts";
import type { KlWeight } from "../rl/kl.ts";
import type { Metrics } from "../rl/metrics.ts";
import type { Question, Scored, SearchTrajectory, Unpaid } from "../rl/trajectory.ts";
import type { UpdateStats } from "../rl/update-stats.ts";
import type { Engine } from "../search/search-engine.ts";
import { engineShape, type Engines } from "../setup/open-engines.ts";
import type { LearnerParts } from "../setup/open-learner.ts";
import { methodShape } from "../setup/open-method.ts";
import type { Model } from "../setup/open-model.ts";
import type { OpenedPolicy } from "../setup/open-policy.ts";
import { hasName, type Shape } from "../setup/user-module.ts";
import type { InputHashes } from "./inputs.ts";
import { rewardShape, type Reward } from "./reward.ts";
import type { RunData } from "./run-data.ts";

/** What a step is made with; one's own in place of what the configuration names. */
export interface StepParts {
  /** How the policy answers: `rollout.method`. */
  readonly method: Method;
  /** What answers its queries: `search.engine`. */
  readonly engine: Engine;
  /** What an answer is paid: `reward.kind`. */
  readonly reward: Reward;
}

export interface Run extends StepParts, LearnerParts, Pick<OpenedPolicy, "device" | "policy" | "reference" | "generator"> {
  /** Resolved, with every Hub id at the commit that is used. */
  readonly config: Config;
  /** Null where no simulator runs in this process. */
  readonly simulatorModel: Model | null;
  /** What a critic of its own stands on. */
  readonly criticModel: Model | null;
  /** Those that the configuration names. */
  readonly engines: Engines;
  readonly context: AgentContext;
  readonly schedule: LearningRateSchedule;
  readonly criticSchedule: LearningRateSchedule;
  /** Of KL in the reward, `algorithm.klCoef` at the start. */
  readonly klWeight: KlWeight;
  /** On all learning rates: 1, and half of it after each return to an earlier state (`guard.action=rollback`). */
  readonly rate: { factor: number };
  readonly data: RunData;
  readonly questions: QuestionSampler<Question>;
  readonly clock: PhaseClock;
  /** Fires when the run is to stop: rollouts under way are given up; an update, its validation and a save are finished. */
  readonly signal: AbortSignal;
  /** `buildId` of this program. */
  readonly build: string;
  readonly inputs: InputHashes;
}

/** What a step needs of a run. */
export type StepRun = Omit<Run, "simulatorModel" | "criticModel" | "lossScaler" | "data" | "build" | "inputs">;

/** What one step made. */
export interface StepResult {
  readonly step: number;
  readonly scored: readonly Scored<SearchTrajectory>[];
  /** Those whose reward failed: nothing was learnt from them. */
  readonly unpaid: readonly Unpaid<SearchTrajectory>[];
  readonly updates: readonly UpdateStats[];
  readonly metrics: Metrics;
  readonly costs: StepCosts;
  /** Names of what it was made with. */
  readonly made: Readonly<Record<keyof StepParts, string>>;
}

/** What a step took. */
export interface StepCosts {
  /** Seconds by phase. */
  readonly times: Readonly<Record<string, number>>;
  /** What the generator did, by model. */
  readonly counts: ReadonlyMap<string, GeneratorCounts>;
  readonly memory: MemoryReport;
  /** What was asked of engines outside. */
  readonly engines: Readonly<Record<string, number>>;
}

const withName = ({ what, fits }: Shape): Shape => ({ what, fits: (value) => fits(value) && hasName(value) });

/** What a program may give of its own. */
export const partShapes: Readonly<Record<keyof StepParts, Shape>> = {
  method: withName(methodShape),
  engine: withName(engineShape),
  reward: rewardShape,
};

/** The names of what steps are made with. */
export function madeOf({ method, engine, reward }: StepParts): StepResult["made"] {
  return { method: method.name, engine: engine.name, reward: reward.name };
}

/** What the step that ends here took: to be asked before anything else is computed. */
export function stepCosts({ clock, generator, device, engines }: Pick<Run, "clock" | "generator" | "device" | "engines">): StepCosts {
  return { times: clock.take(), counts: generator.takeCounts(), memory: device.memory(), engines: engines.takeCounts() };
}

/** Folder of a run's logs. */
export function logFolder({ output, name }: Config): string {
  return join(output.runs, name);
}

/** Folder of a run's saved states. */
export function statesFolder({ output, name }: Config): string {
  return join(output.checkpoints, name);
}
