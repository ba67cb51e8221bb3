/** MaxScore against scoring every passage. */
import { describe, expect, it } from "vitest";
import { bestShare, k1, lengthNorm, type Lengths, type Postings } from "../../src/search/bm25/postings.ts";
import { rank, termWeight, type Ranked } from "../../src/search/bm25/rank.ts";
import { philox, streamKey } from "../../src/util/philox.ts";

const key = streamKey(3, "data");
const drawn = (i: number, j: number): number => (philox(key, [i, j, 0, 0])[0] ?? 0) / 2 ** 32;

/** Lists that hold each passage with this probability; counts of 1 to 5. */
function listOf(size: number, share: number, seed: number, lengths: Lengths): Postings {
  const docs = Uint32Array.from({ length: size }, (_, doc) => doc).filter((doc) => drawn(doc, seed) < share);
  const counts = docs.map((doc) => 1 + Math.floor(5 * drawn(doc, seed + 1) ** 4));
  return { docs, counts, best: bestShare(docs, counts, lengths) };
}

function everyScore(lists: readonly Postings[], lengths: Lengths, most: number): Ranked[] {
  const size = lengths.each.length;
  const scores = new Float64Array(size);
  for (const { docs, counts } of lists)
    for (const [i, doc] of docs.entries()) {
      const count = counts[i] ?? 0;
      scores[doc] = (scores[doc] ?? 0) + termWeight(docs.length, size) * ((count * (k1 + 1)) / (count + lengthNorm(lengths, doc)));
    }
  const found = [...scores.entries()].filter(([, score]) => score > 0).map(([doc, score]) => ({ doc, score }));
  return found.sort((one, other) => other.score - one.score || one.doc - other.doc).slice(0, most);
}

describe("the best passages", () => {
  it.each([50, 4096, 30_000])("are those of scoring every one of %i, bit for bit, ties in corpus order", (size) => {
    // Few lengths and counts: many ties. One passage is longer than the table of lengths.
    const each = Uint32Array.from({ length: size }, (_, doc) => (doc === 7 ? 5000 : 20 + 10 * Math.floor(4 * drawn(doc, 900))));
    const lengths: Lengths = { each, average: each.reduce((sum, one) => sum + one, 0) / size };
    const shares = [0.9, 0.6, 0.3, 0.1, 0.02, 0.002, 0];
    const lists = shares.map((share, i) => listOf(size, share, 10 * i + 10, lengths));
    for (const terms of [[0], [4], [0, 1], [5, 4, 3, 2, 1, 0], [0, 3, 3, 5], [2, 6, 4], [6], [1, 2], []]) {
      const asked = terms.map((term) => lists[term] as Postings);
      for (const most of [1, 5, 100])
        expect(rank(asked, lengths, most), `${String(terms)}, ${most}`).toEqual(everyScore(asked, lengths, most));
    }
  });
});
