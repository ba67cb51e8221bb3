/**
 * compat.noStops: what is kept of a turn that was sampled past its tags. The released code gives its engine no stop strings, and cuts afterwards.
 *
 * Source: ZeroSearch's code, `llm_agent/generation.py` 178.
 */
import { EOS_CODE, type Generated, type StopTable } from "../generate/types.ts";

/**
 * The turn up to the token in which the first stop string closes, which is kept whole as where a turn stops there. The first of `tables` whose
 * string occurs decides, wherever the others' do: with </search> before </answer>, an answer that a search follows is cut after the search.
 * @param tables - each of one stop string
 */
export function cutTurn(generated: Generated, tables: readonly StopTable[]): Generated {
  for (const [stopIndex, table] of tables.entries()) {
    const length = closedAt(generated.ids, table);
    if (length === null) continue;
    return { ids: generated.ids.slice(0, length), logProbs: generated.logProbs.slice(0, length), reason: "stop", stopIndex };
  }
  return generated;
}

/** Tokens up to the one in which a table's stop string closes. */
function closedAt(ids: readonly number[], { start, vocabulary, transitions, accepts }: StopTable): number | null {
  let state = start;
  for (const [i, id] of ids.entries()) {
    state = transitions[state * vocabulary + id] as number;
    const code = accepts[state] as number;
    if (code === EOS_CODE) return null;
    if (code !== 0) return i + 1;
  }
  return null;
}
