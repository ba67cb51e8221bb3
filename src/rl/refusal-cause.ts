/** What came first in a refused update, and a sentence on it. */
import type { TrajectoryKey } from "../generate/types.ts";
import type { Found, MeasuredRollout, MeasuredToken, RefusalCause, RefusedUpdate } from "./refused-update.ts";
import type { TensorFault, TensorLook, TensorNorm } from "./tensor-faults.ts";
import type { Scored } from "./trajectory.ts";

/** What a forward gives for a token, in its order. */
const forwardNumbers = ["logProb", "entropy", "value"] as const;
/** What the update was given for it. */
const givenNumbers = ["oldLogProb", "referenceLogProb", "advantage", "oldValue", "return", "weight"] as const;
/** e^(logProb - oldLogProb), and k3 to the reference; the loss holds both exponents within ±20. */
const derivedNumbers = ["ratio", "k3"] as const;
/** Of the loss, with respect to what the forward gave. */
const lossNumbers = ["logProbGradient", "entropyGradient", "valueGradient"] as const;
const allNumbers = [...forwardNumbers, ...givenNumbers, ...derivedNumbers, ...lossNumbers] as const;

export type TokenNumber = (typeof allNumbers)[number];

/** The numbers of a token that the update has: those of the critic only with one, and so on. */
export type TokenNumbers = Readonly<Partial<Record<TokenNumber, number>>>;

const isNumber = (value: number | undefined): boolean => value === undefined || Number.isFinite(Math.fround(value));

/** Names of its numbers that are none in f32. */
export function notFiniteOf({ numbers }: MeasuredToken): TokenNumber[] {
  return allNumbers.filter((name) => !isNumber(numbers[name]));
}

/** What stands first in the order forward, given, loss: a token, and the number that is none; null where all of them are fine. */
export function firstFault(
  measured: readonly MeasuredRollout[],
): { readonly cause: RefusalCause; readonly row: Scored; readonly token: MeasuredToken; readonly name: TokenNumber } | null {
  const tokens = measured.flatMap(({ row, tokens: own }) => own.map((token) => ({ row, token })));
  const find = (names: readonly TokenNumber[], among = tokens) => {
    for (const { row, token } of among) {
      const name = names.find((one) => !isNumber(token.numbers[one]));
      if (name !== undefined) return { row, token, name };
    }
    return null;
  };
  const forward = find(forwardNumbers);
  if (forward !== null) return { cause: "forward", ...forward };
  // A number that is none does no harm where the loss passes no gradient.
  const harmed = tokens.filter(({ token }) => lossNumbers.some((name) => !isNumber(token.numbers[name])));
  const given = find(givenNumbers, harmed);
  if (given !== null) return { cause: "given", ...given };
  const loss = find(lossNumbers, harmed);
  return loss === null ? null : { cause: "loss", ...loss };
}

/** Whether a forward number of any token is none. */
export function forwardFails(measured: readonly MeasuredRollout[]): boolean {
  return firstFault(measured)?.cause === "forward";
}

/** Whether all that the loss was made of and gave is finite. */
export function tokensAreFine(measured: readonly MeasuredRollout[]): boolean {
  return firstFault(measured) === null;
}

/** How steep the loss is at a token. */
function slope({ numbers }: MeasuredToken): number {
  return Math.max(Math.abs(numbers.logProbGradient ?? 0), Math.abs(numbers.valueGradient ?? 0));
}

/** Tokens, those where the loss is steepest first. */
export function steepest(tokens: readonly MeasuredToken[]): MeasuredToken[] {
  return [...tokens].sort((a, b) => slope(b) - slope(a));
}

/** Where the loss of a rollout is steepest. */
export function steepness({ tokens }: MeasuredRollout): number {
  return tokens.reduce((top, token) => Math.max(top, slope(token)), 0);
}

const largestShown = 8;

/** The largest norms. */
export function largestOf({ norms }: TensorLook): TensorNorm[] {
  return [...norms].sort((a, b) => b.norm - a.norm).slice(0, largestShown);
}

/** Of all that are finite, together. */
export function normOf({ norms }: TensorLook): number {
  return Math.hypot(...norms.map(({ norm }) => norm));
}

/** As people say them. */
const words: Readonly<Record<TokenNumber, string>> = {
  logProb: "log-probability",
  entropy: "entropy",
  value: "value",
  oldLogProb: "log-probability at sampling",
  referenceLogProb: "log-probability under the reference policy",
  advantage: "advantage",
  oldValue: "value that its return was computed with",
  return: "return",
  weight: "weight in the loss",
  ratio: "ratio",
  k3: "KL to the reference (k3)",
  logProbGradient: "gradient of the loss by its log-probability",
  entropyGradient: "gradient of the loss by its entropy",
  valueGradient: "gradient of the loss by its value",
};

/** Beyond this norm a sum of squares is no number in f32. */
const largestNorm = Math.sqrt(3.4028234663852886e38);

/** What came first, and a sentence on it. */
export function causeOf({ measured, weights, gradients, blamed, decode, lossScale }: Found): Pick<RefusedUpdate, "cause" | "summary"> {
  const [weight] = weights.faults;
  if (weight !== undefined) {
    const where = measured.length === 0 ? null : firstFault(measured);
    const met = where?.cause === "forward" ? `; it is met first at ${tokenWords(where.row, where.token, decode)}` : "";
    const more = weights.faults.length > 1 ? `, and ${weights.faults.length - 1} more tensors do` : "";
    return { cause: "weights", summary: `the weight ${faultWords(weight)}${more}: the damage was there before this update${met}` };
  }
  const first = firstFault(measured);
  if (first !== null) {
    const { cause, row, token, name } = first;
    const number = `the ${words[name]} of ${tokenWords(row, token, decode)} is ${String(Math.fround(token.numbers[name] as number))}`;
    const why =
      cause === "forward"
        ? `all weights are finite, and so the forward pass overflowed, ${token.hiddenFinite ? "after the hidden state that predicts it" : "before or in the hidden state that predicts it"}`
        : cause === "given"
          ? "the update was given this number; what the forward pass gave is finite"
          : "the forward pass and all that the loss was given are finite, and so the loss overflowed";
    return { cause, summary: `${number}: ${why}` };
  }
  const [gradient] = gradients.faults;
  if (gradient !== undefined) {
    const [one] = blamed ?? [];
    const whose =
      blamed === null
        ? ""
        : one === undefined
          ? "; no rollout alone gives it"
          : `; ${rolloutWords(one)} gives it alone${blamed.size > 1 ? `, and ${blamed.size - 1} or more others do` : ""}`;
    const summary = `the loss of every token is finite, and on the way back from the head the first gradient that is not is that of ${faultWords(gradient)}${whose}`;
    return { cause: "gradients", summary };
  }
  const norm = normOf(gradients);
  const [largest] = largestOf(gradients);
  const [top] = [...measured].sort((a, b) => steepness(b) - steepness(a));
  const [token] = steepest(top?.tokens ?? []);
  const steep = top === undefined || token === undefined ? "" : `; the loss is steepest at ${tokenWords(top.row, token, decode)}`;
  if (largest !== undefined && norm * lossScale > largestNorm)
    return {
      cause: "norm",
      summary: `every gradient is finite, but their norm, ${short(norm)}, has a square that is not; the largest is that of ${largest.name}, ${short(largest.norm)}${steep}`,
    };
  return {
    cause: "nothing",
    summary: "computed again, everything is finite: the device may have computed wrongly (npx zerosearch doctor)",
  };
}

function short(value: number): string {
  return String(Number(value.toPrecision(4)));
}

function faultWords({ name, shape, notFinite, at, value }: TensorFault): string {
  const size = shape.reduce((product, dimension) => product * dimension, 1);
  return `${name}, where ${notFinite} of ${size} numbers are none, the first at [${at.join(", ")}], ${String(value)}`;
}

function rolloutWords({ trajectory: { key } }: Scored): string {
  return `rollout ${keyText(key)}`;
}

function tokenWords(row: Scored, { position }: MeasuredToken, decode: Found["decode"]): string {
  const id = row.trajectory.ids[position] as number;
  const text = decode === undefined ? `id ${id}` : JSON.stringify(decode([id]));
  return `token ${position} (${text}) of ${rolloutWords(row)}`;
}

/** step/question/rollout */
export function keyText({ step, question, rollout }: TrajectoryKey): string {
  return `${step}/${question}/${rollout}`;
}
