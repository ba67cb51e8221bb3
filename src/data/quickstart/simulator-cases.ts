/** Requests that judge a simulator: queries of every kind about countries it was not tuned on, and bridges of those it was. */
import { DataError } from "../../util/errors.ts";
import { hopAnswers, type Hop } from "./documents.ts";
import { makeRandom } from "../random.ts";
import { bridgeQuery, query, relationOf } from "./relations.ts";
import { sloppyQuery, type QueryKind } from "./scripted-simulator.ts";
import type { SplitName } from "./split.ts";
import type { QuickstartQuestion, World } from "./world.ts";

/** One request with all that is needed to judge the documents. */
export interface SimulatorCase {
  readonly kind: QueryKind;
  readonly useful: boolean;
  readonly split: SplitName;
  readonly question: string;
  readonly golds: readonly string[];
  readonly query: string;
  /** What the query itself asks for; empty when it asks for nothing definite. */
  readonly asked: readonly string[];
}

/**
 * Cases, in equal numbers of each group: last hop useful and noisy, sloppy (useful), bridges of held-out countries useful, all on `split`; bridges of training
 * countries useful and noisy.
 */
export function heldOutCases(world: World, purpose: string, perGroup = 160, split: SplitName = "test"): SimulatorCase[] {
  const random = makeRandom(purpose);
  const hopsOf = (question: QuickstartQuestion): { first?: Hop; last: Hop } => {
    const country = world.countries.get(question.metadata.country);
    if (country === undefined)
      throw new DataError({
        where: "quickstart cases",
        what: `question ${question.id} is about an unknown country`,
        got: question.metadata.country,
      });
    const { bridge } = question.metadata;
    const last: Hop = {
      kind: "fact",
      country,
      relation: relationOf(question.metadata.relation),
      value: question.golden_answers[0] as string,
    };
    return bridge === undefined
      ? { last }
      : { first: { kind: "bridge", country, relation: relationOf(bridge.relation), value: bridge.value }, last };
  };
  const draw = (side: SplitName, hops: readonly number[]): QuickstartQuestion[] =>
    random.shuffle(world.questions[side].filter((question) => hops.includes(question.metadata.hops))).slice(0, perGroup);
  const about = (
    question: QuickstartQuestion,
    last: Hop,
    rest: Pick<SimulatorCase, "kind" | "useful" | "query" | "asked">,
  ): SimulatorCase => ({
    split: question.metadata.split,
    question: question.question,
    golds: hopAnswers(last),
    ...rest,
  });
  const lastHop = (useful: boolean): SimulatorCase[] =>
    draw(split, [1, 2]).map((question) => {
      const { last } = hopsOf(question);
      const asked = query(last.relation, last.country.name, random.chance(0.8) ? 0 : 1);
      return about(question, last, { kind: "last", useful, query: asked, asked: hopAnswers(last) });
    });
  const bridges = (side: SplitName, useful: boolean): SimulatorCase[] =>
    draw(side, [2]).map((question) => {
      const { first, last } = hopsOf(question);
      const hop = first as Hop;
      return about(question, last, { kind: "bridge", useful, query: bridgeQuery(hop.relation, hop.value), asked: hopAnswers(hop) });
    });
  const sloppy = draw(split, [1, 2]).map((question): SimulatorCase => {
    const { last } = hopsOf(question);
    // Two-hop questions about countries it never met tell the simulator nothing about which country is meant: there only another relation is "something else".
    const pool = question.metadata.hops === 2 ? [] : random.chance(0.5) ? world.split[split] : world.training;
    const others = pool.filter((country) => country.id !== last.country.id);
    for (;;) {
      const made = sloppyQuery(last, others, random);
      const asked = made.country === undefined || made.relation === undefined ? [] : (made.country.facts[made.relation] ?? []);
      if (asked.some((value) => hopAnswers(last).includes(value))) continue;
      return about(question, last, { kind: "sloppy", useful: true, query: made.query, asked });
    }
  });
  return [...lastHop(true), ...lastHop(false), ...sloppy, ...bridges(split, true), ...bridges("train", true), ...bridges("train", false)];
}
