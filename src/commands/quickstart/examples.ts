/** Streams of fine-tuning examples for the phases of the quickstart. */
import type { InventedSource } from "../../data/quickstart/invented.ts";
import type { Segment } from "../../data/quickstart/policy-options.ts";
import { PolicyScript } from "../../data/quickstart/scripted-policy.ts";
import { SimulatorScript } from "../../data/quickstart/scripted-simulator.ts";
import type { Example } from "../../sft/fine-tune.ts";
import type { Phase } from "./recipe.ts";

/** Each piece is encoded on its own, as it will be at run time; the end of sequence is learnt after the last. */
export function exampleOf(segments: readonly Segment[], encode: (text: string) => readonly number[], eosId: number): Example {
  const ids: number[] = [],
    weights: number[] = [];
  for (const { text, weight } of segments) {
    for (const id of encode(text)) {
      ids.push(id);
      weights.push(weight);
    }
  }
  ids.push(eosId);
  weights.push(1);
  return { ids, weights };
}

/** The endless stream of a phase: a function of seed and phase only. `share()` tells how much of the phase is done, 0 to 1. */
export function* phaseExamples(
  phase: Phase,
  source: InventedSource,
  seed: number,
  encode: (text: string) => readonly number[],
  eosId: number,
  share: () => number,
): Generator<Example, never> {
  const purpose = `${seed}/${phase.name}`;
  if (phase.data.kind === "simulator") {
    const script = new SimulatorScript(source, purpose, phase.data.options);
    for (;;) yield exampleOf(script.next(), encode, eosId);
  }
  const { options, singleHopFirst } = phase.data;
  const script = new PolicyScript(source, purpose, options);
  for (;;) yield exampleOf(share() < singleHopFirst ? script.next(1) : script.next(), encode, eosId);
}
