/** An index in memory. */
import { DataError } from "../../util/errors.ts";
import type { Passage } from "../passages.ts";
import { Inverter } from "./inverter.ts";
import { bestShare, type Lengths, type Postings } from "./postings.ts";
import { noPostings, type IndexSource } from "./source.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** Passages that are split at once. */
const BATCH = 500;

/** @throws DataError for no passages, and what their iteration throws. */
export async function indexInMemory(passages: Iterable<Passage> | AsyncIterable<Passage>, tokenizer: Tokenizer): Promise<IndexSource> {
  const inverter = new Inverter(tokenizer);
  const kept: Passage[] = [];
  let pending: Passage[] = [];
  for await (const passage of passages) {
    kept.push(passage);
    if (pending.push(passage) < BATCH) continue;
    await inverter.add(pending);
    pending = [];
  }
  await inverter.add(pending);
  if (kept.length === 0) throw new DataError({ where: "bm25", what: "the corpus is empty", expected: "at least one passage", got: "none" });
  const { terms, starts, docs, counts, lengths: each } = inverter.take();
  const lengths: Lengths = { each, average: averageOf(each) };
  const numbers = new Map(terms.map((term, i) => [term, i]));
  const listOf = (term: string): Postings => {
    const number = numbers.get(term);
    if (number === undefined) return noPostings;
    const [from, to] = [starts[number] as number, starts[number + 1] as number];
    const list = { docs: docs.subarray(from, to), counts: counts.subarray(from, to) };
    return { ...list, best: bestShare(list.docs, list.counts, lengths) };
  };
  // Shares are computed once for each term that is asked for.
  const lists = new Map<string, Postings>();
  const list = (term: string): Postings => {
    let found = lists.get(term);
    if (found === undefined) {
      found = listOf(term);
      if (found !== noPostings) lists.set(term, found);
    }
    return found;
  };
  let byId: ReadonlyMap<string, number> | null = null;
  return {
    lengths,
    counts: (asked) => Promise.resolve(asked.map((term) => list(term).docs.length)),
    lists: (asked) => Promise.resolve(asked.map(list)),
    passages: (asked) => Promise.resolve(asked.map((doc) => kept[doc] as Passage)),
    numberOf: (id) => {
      byId ??= new Map(kept.map((passage, number) => [passage.id, number]));
      return Promise.resolve(byId.get(id) ?? null);
    },
    close: () => undefined,
  };
}

/** Terms of a passage on average. */
export function averageOf(lengths: Uint32Array): number {
  return lengths.reduce((sum, one) => sum + one, 0) / lengths.length;
}
