/** Small trajectories for tests of `rl/`. */
import type { Scored, SearchRecord, SearchTrajectory } from "../../src/rl/trajectory.ts";

export interface TrajectorySpec {
  readonly ids: readonly number[];
  /** One character a token: "1" sampled, "0" given. */
  readonly mask: string;
  readonly logProbs?: readonly number[];
  readonly step?: number;
  readonly question?: number;
  readonly rollout?: number;
  readonly status?: SearchTrajectory["status"];
  readonly invalidActions?: number;
  readonly turns?: number;
  readonly searches?: readonly SearchRecord[];
  readonly temperature?: number;
}

export function trajectoryOf({
  ids,
  mask,
  logProbs,
  step = 1,
  question = 0,
  rollout = 0,
  status = "answered",
  invalidActions = 0,
  turns = 1,
  searches = [],
  temperature = 1,
}: TrajectorySpec): SearchTrajectory {
  const lossMask = Array.from(mask, Number);
  return {
    key: { step, question, rollout },
    question: { id: `q${question}`, question: "?", goldenAnswers: ["x"], dataSource: "test" },
    promptLength: lossMask.indexOf(1),
    ids,
    lossMask,
    logProbs: logProbs ?? lossMask.map((m) => -m),
    sampling: { temperature, topK: 0, topP: 1 },
    status,
    answer: status === "answered" ? "x" : null,
    searches,
    invalidActions,
    turns,
    text: "",
  };
}

export const scoredOf = (spec: TrajectorySpec, advantage: Scored["advantage"], reward = 0): Scored<SearchTrajectory> => ({
  trajectory: trajectoryOf(spec),
  reward,
  advantage,
});
