/** What the simulator must do for the loop to teach the right thing, measured on questions about held-out countries. */
import type { Generator, StopTable } from "../../generate/types.ts";
import { heldOutCases, type SimulatorCase } from "../../data/quickstart/simulator-cases.ts";
import { simulatorPrompt } from "../../data/quickstart/prompts.ts";
import type { World } from "../../data/quickstart/world.ts";
import { containsAny } from "../../data/quickstart/words.ts";
import { keepDocuments } from "../../search/simulated.ts";
import type { TextCodec } from "../../text/prompt.ts";

export interface SimulatorMeasure {
  readonly name: string;
  /** What the quickstart asks for: a share from below or above. */
  readonly atLeast?: number;
  readonly atMost?: number;
  readonly n: number;
  /** Measured share, 0 to 1. */
  readonly share: number;
}

export interface MeasureOptions {
  readonly generator: Generator;
  readonly model: string;
  readonly tokenizer: TextCodec;
  readonly stop: StopTable;
  readonly temperature: number;
  readonly maxNewTokens: number;
  readonly seed: number;
  readonly perGroup?: number;
}

interface Judged extends SimulatorCase {
  readonly documents: string;
}

/** Three lines `Doc 1: ...` to `Doc 3: ...`, none empty. */
export function wellFormed(documents: string): boolean {
  return /^Doc 1: \S[^\n]*\nDoc 2: \S[^\n]*\nDoc 3: \S[^\n]*$/.test(documents);
}

/** Asks the simulator all held-out cases in one batch and judges its documents by the facts. */
export async function measureSimulator(world: World, options: MeasureOptions): Promise<SimulatorMeasure[]> {
  const { generator, model, tokenizer, stop, seed, temperature, maxNewTokens } = options;
  const cases = heldOutCases(world, `${seed}/simulator-measure`, options.perGroup);
  const judged = await Promise.all(
    cases.map(async (one, index): Promise<Judged> => {
      const prompt = simulatorPrompt({ question: one.question, answer: one.golds[0] as string, query: one.query, useful: one.useful });
      const sequence = generator.open({
        model,
        key: { step: 0, question: index, rollout: 0 },
        seed,
        purpose: "simulatorSample",
        prompt: tokenizer.encodePrompt(prompt),
      });
      try {
        const { ids } = await sequence.generate({ stop, maxNewTokens, sampling: { temperature, topK: 0, topP: 1 } });
        return { ...one, documents: keepDocuments(tokenizer.decode(ids, { skipSpecialTokens: true, continuation: true }), 3) };
      } finally {
        sequence.close();
      }
    }),
  );
  const measure = (
    name: string,
    bound: { atLeast: number } | { atMost: number },
    from: readonly Judged[],
    test: (one: Judged) => boolean,
  ): SimulatorMeasure => ({ name, ...bound, n: from.length, share: from.filter(test).length / Math.max(1, from.length) });
  const of = (kind: SimulatorCase["kind"], useful: boolean, split?: SimulatorCase["split"]): Judged[] =>
    judged.filter((one) => one.kind === kind && one.useful === useful && (split === undefined || one.split === split));
  const known = of("bridge", true, "train");
  const hasAsked = (one: Judged): boolean => containsAny(one.documents, one.asked);
  const hasGold = (one: Judged): boolean => containsAny(one.documents, one.golds);
  return [
    measure("useful sets, query asks for the gold answer: hold it", { atLeast: 0.9 }, of("last", true), hasGold),
    measure("noisy sets, query asks for the gold answer: hold it", { atMost: 0.1 }, of("last", false), hasGold),
    measure("useful sets, first of two hops, training countries: hold that hop's answer", { atLeast: 0.8 }, known, hasAsked),
    measure("useful sets, first of two hops: hold the final answer", { atMost: 0.2 }, of("bridge", true), hasGold),
    measure("useful sets, query asks for something else: hold the gold answer", { atMost: 0.25 }, of("sloppy", true), hasGold),
    measure("well formed", { atLeast: 0.98 }, judged, (one) => wellFormed(one.documents)),
  ];
}
