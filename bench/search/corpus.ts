/** Corpora of any size, made from a real one: titles and sentences of its passages, put together anew. The same for the same input. */
import { createWriteStream } from "node:fs";
import { once } from "node:events";
import { readPassages } from "#inside/search/passages.js";
import { philox, streamKey } from "#inside/util/philox.js";

/** Writes `size` passages as JSON Lines. Words are as frequent as in the source; there are no others than there, and no passage means anything. */
export async function recombine(source: string, size: number, target: string): Promise<void> {
  const titles: string[] = [];
  const sentences: string[] = [];
  const lengths: number[] = [];
  for await (const { title = "", text } of readPassages(source)) {
    const own = text.split(/(?<=[.!?])\s+/);
    titles.push(title);
    sentences.push(...own);
    lengths.push(own.length);
  }
  const key = streamKey(1, "data");
  const pick = <T>(from: readonly T[], word: number): T => from[Math.floor((word * from.length) / 2 ** 32)] as T;
  const out = createWriteStream(target);
  for (let i = 0; i < size; i++) {
    const [first, second] = philox(key, [i, 0, 0, 0]);
    const count = pick(lengths, first);
    const text: string[] = [];
    for (let j = 0; j < count; j += 4)
      for (const word of philox(key, [i, j + 1, 0, 0]).slice(0, count - j)) text.push(pick(sentences, word));
    const row = JSON.stringify({ id: String(i), title: pick(titles, second), text: text.join(" ") });
    if (!out.write(`${row}\n`)) await once(out, "drain");
  }
  out.end();
  await once(out, "finish");
}
