/** Why a run diverged, for people: what came first, where, and what is done about it. */
import { formatTable } from "../log/table.ts";
import type { MetricRow } from "../log/rows.ts";
import { keyText, type TokenNumber } from "../rl/refusal-cause.ts";
import type { RefusalCause, RefusedUpdate, RolloutFault, Some, TokenFault } from "../rl/refused-update.ts";
import type { SavedDivergence } from "./diverged.ts";
import { resumeCommand } from "./leave.ts";
import type { Config } from "../config/index.ts";

/** Of each list of the dump, so many lines are shown; the file has more. */
const shown = { tokens: 12, rollouts: 8, microBatches: 8, tensors: 12, around: 3 };

/** Page on a dump. `config` is the run's. */
export function divergenceText(dump: SavedDivergence, config: Config): string {
  const { run, step, whose, update, updatesPerStep, learningRate, explained, metrics } = dump;
  const which = updatesPerStep > 1 ? `, update ${update} of ${updatesPerStep}` : "";
  const moved = update > 1 ? " Earlier updates of the step had moved the weights: the run goes on from its last saved state." : "";
  const head =
    `Run ${run} diverged in step ${step}${which}: the gradient norm of the ${whose} was not finite, with learning rate ${num(learningRate)}. ` +
    `The update was refused: weights and moments stayed as they were before it.${moved}`;
  const found =
    explained === null ? [`The cause could not be looked for: ${dump.unexplained ?? "nobody knows why"}`] : explainedText(explained);
  return [
    head,
    ...found,
    ...(metrics.length === 0
      ? ["It was the first step: there are no metrics before it."]
      : [titled("The last steps", metricsTable(metrics))]),
    titled(
      "What helps",
      advice(dump, config)
        .map((line) => `- ${line}`)
        .join("\n"),
    ),
  ].join("\n\n");
}

function explainedText(explained: RefusedUpdate): string[] {
  const { summary, tokens, rollouts, microBatches, weights, gradients, largest, norm } = explained;
  return [
    `What came first: ${summary}.`,
    ...table("Tokens", tokens, shown.tokens, tokenTable),
    ...tokens.shown.slice(0, shown.around).flatMap(around),
    ...table("Rollouts", rollouts, shown.rollouts, rolloutTable),
    ...(rollouts.shown.length === 0 && microBatches.shown.length < 2
      ? []
      : table("Loss by micro-batch", microBatches, shown.microBatches, lossTable)),
    ...table("Weights that are not finite", weights, shown.tensors, tensorTable),
    ...table("Gradients that are not finite, from the head down", gradients, shown.tensors, tensorTable),
    ...(largest.length === 0
      ? []
      : [
          titled(
            `The largest finite gradients; the norm of all of them is ${String(num(norm))}`,
            formatTable(
              [
                { title: "tensor", value: ({ name }) => name },
                { title: "norm", value: (one) => num(one.norm) },
              ],
              largest,
            ),
          ),
        ]),
  ];
}

function titled(title: string, text: string): string {
  return `${title}:\n${text}`;
}

/** Nothing where the list is empty. */
function table<T>(title: string, { shown: list, more }: Some<T>, most: number, make: (rows: readonly T[]) => string): string[] {
  if (list.length === 0) return [];
  const rest = more + Math.max(0, list.length - most);
  return [`${titled(title, make(list.slice(0, most)))}${rest === 0 ? "" : `\nand ${rest} more`}`];
}

/** Columns for numbers that some token has. */
const columns: readonly (readonly [TokenNumber, string])[] = [
  ["logProb", "log-prob"],
  ["oldLogProb", "old"],
  ["referenceLogProb", "reference"],
  ["entropy", "entropy"],
  ["ratio", "ratio"],
  ["k3", "k3"],
  ["advantage", "advantage"],
  ["value", "value"],
  ["return", "return"],
  ["logProbGradient", "d loss/d log-prob"],
  ["valueGradient", "d loss/d value"],
];

function tokenTable(rows: readonly TokenFault[]): string {
  return formatTable(
    [
      { title: "rollout", value: ({ rollout }) => keyText(rollout) },
      { title: "token", value: ({ position }) => position },
      { title: "id", value: ({ id }) => id },
      ...(rows.some(({ text }) => text !== undefined)
        ? [{ title: "text", value: ({ text }: TokenFault) => (text === undefined ? null : JSON.stringify(text)) }]
        : []),
      ...columns
        .filter(([name]) => rows.some(({ numbers }) => name in numbers))
        .map(([name, title]) => ({ title, value: ({ numbers }: TokenFault) => num(numbers[name]) })),
    ],
    rows,
  );
}

function around({ rollout, position, text, before, after }: TokenFault): string[] {
  if (text === undefined || before === undefined || after === undefined) return [];
  return [`Around token ${position} of rollout ${keyText(rollout)}:\n  ...${quoted(before)} [${quoted(text)}] ${quoted(after)}...`];
}

/** On one line. */
function quoted(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

function rolloutTable(rows: readonly RolloutFault[]): string {
  return formatTable(
    [
      { title: "rollout", value: ({ rollout }) => keyText(rollout) },
      { title: "reward", value: ({ reward }) => num(reward) },
      { title: "loss", value: ({ loss }) => num(loss) },
      { title: "micro-batch", value: ({ microBatch }) => microBatch },
      { title: "tokens not finite", value: ({ tokens, tokensNotFinite }) => `${tokensNotFinite} of ${tokens}` },
    ],
    rows,
  );
}

function lossTable(rows: RefusedUpdate["microBatches"]["shown"]): string {
  const numbered = rows.map((row, microBatch) => ({ ...row, microBatch }));
  return formatTable(
    [
      { title: "micro-batch", value: ({ microBatch }) => microBatch },
      { title: "rollouts", value: ({ rollouts }) => rollouts },
      { title: "loss", value: ({ loss }) => num(loss) },
    ],
    numbered,
  );
}

function tensorTable(rows: RefusedUpdate["weights"]["shown"]): string {
  return formatTable(
    [
      { title: "tensor", value: ({ name }) => name },
      { title: "shape", value: ({ shape }) => `[${shape.join(", ")}]` },
      { title: "not finite", value: ({ notFinite, shape }) => `${notFinite} of ${shape.reduce((product, size) => product * size, 1)}` },
      { title: "first", value: ({ at, value }) => `[${at.join(", ")}]: ${String(value)}` },
    ],
    rows,
  );
}

function metricsTable(rows: readonly MetricRow[]): string {
  const metric = (title: string, key: string) => ({ title, value: (row: MetricRow) => num(row[key]) });
  const critic = rows.some((row) => "critic/loss" in row);
  return formatTable(
    [
      { title: "step", value: ({ step }) => step },
      metric("reward", "reward/mean"),
      metric("entropy", "policy/entropy"),
      metric("KL to reference", "policy/kl_reference"),
      metric("KL old to new", "policy/kl_old_new"),
      metric("largest ratio", "policy/ratio_max"),
      metric("grad norm", "policy/grad_norm"),
      metric("loss", "policy/loss"),
      ...(critic ? [metric("critic loss", "critic/loss"), metric("its grad norm", "critic/grad_norm")] : []),
    ],
    rows,
  );
}

/** Four digits; numbers that are none stand in the dump as strings. */
function num(value: unknown): number | string | null {
  if (typeof value === "number") return Number.isFinite(value) ? Number(value.toPrecision(4)) : String(value);
  return typeof value === "string" ? value : null;
}

/** What people do about each cause. */
const remedies: Readonly<Record<RefusalCause, readonly string[]>> = {
  weights: [
    "The weights were damaged before this update: go on from an earlier state, or look at where they come from (a file, a device).",
  ],
  forward: ["The forward pass overflows: weights have grown too far. Go on from an earlier state, with a lower learning rate."],
  given: ["The loss was given a number that is none: look at the reward, and at the model that it comes from (reference policy, critic)."],
  loss: [
    "The loss of a token overflows: lower the coefficient that stands before it (algorithm.klCoef, algorithm.entropyCoef, critic.coef).",
  ],
  gradients: ["Gradients overflow on their way back though the loss does not: weights or loss are too large."],
  norm: [
    "Gradients are too large for their squares: lower algorithm.klCoef or what else makes the loss large, such as rewards far from 0 to 1.",
  ],
  nothing: ["Check the device: npx zerosearch doctor."],
};

function advice({ settings, explained, metrics, whose }: SavedDivergence, config: Config): string[] {
  const { algorithm, optimizer, critic, precision, dtype, cacheDtype } = settings;
  const half = [
    ...(precision === "f16" ? ["device.precision=f32"] : []),
    ...(dtype === "f16" ? ["model.dtype=f32"] : []),
    ...(cacheDtype === "f16" ? ["model.cacheDtype=f32"] : []),
  ];
  const [key, rate] =
    whose === "critic" ? ["critic.learningRate", critic.learningRate] : ["optimizer.learningRate", optimizer.learningRate];
  const entropies = metrics.map((row) => row["policy/entropy"]).filter((value) => typeof value === "number");
  const [first, last] = [entropies[0], entropies.at(-1)];
  const collapsed = first !== undefined && last !== undefined && last < first / 4;
  return [
    ...remedies[explained?.cause ?? "gradients"],
    ...(half.length > 0 ? [`f16 ends at 65504: ${half.join(" ")} has room.`] : []),
    `A lower learning rate: ${resumeCommand(config)} ${key}=${rate / 2}`,
    ...(optimizer.maxGradNorm === 0 ? ["Clip the gradients of the steps before: optimizer.maxGradNorm=1"] : []),
    ...(algorithm.klCoef > 1 ? [`algorithm.klCoef is ${algorithm.klCoef}; 0.001 is usual.`] : []),
    ...(algorithm.clipHigh > 1 || algorithm.loss === "reinforce"
      ? ["Hold the ratio of new to old probabilities: algorithm.loss=ppo_clip algorithm.clipHigh=0.2"]
      : []),
    ...(collapsed
      ? [`Entropy fell from ${String(num(first))} to ${String(num(last))} before it: a KL term (algorithm.klCoef) holds the policy.`]
      : []),
  ];
}
