/** What a plan knows of the passages that are searched: whether their index is there, and how many embeddings a run holds. */
import { existsSync } from "node:fs";
import { enginesUsed, type Config, type Purpose } from "../config/index.ts";
import { indexedCorpus } from "../search/bm25/file-index.ts";
import { readDenseAbout } from "../search/dense/file-index.ts";
import { readPassages } from "../search/passages.ts";

export interface PlannedPassages {
  readonly passages: number;
  /** Numbers of an embedding; null: as many as the model's states have. */
  readonly width: number | null;
}

/** Of an endpoint or an encoder that was not asked. */
const usualWidth = 1024;

/**
 * People plan before they have a corpus, but an index is named once it is made.
 * @throws FileError where an index that would be searched is missing or wrong, as the program itself does
 */
export async function checkIndexes(config: Config, purpose: Purpose): Promise<void> {
  const used = enginesUsed(config, purpose);
  const { bm25, dense } = config;
  if (used.includes("bm25") && bm25.index !== null) await indexedCorpus(bm25.index);
  if (used.includes("dense") && dense.index !== null) await readDenseAbout(dense.index);
}

/**
 * Null where nobody searches them, or they are not here, which `note` is told.
 * @param config - with the files that are here
 * @throws FileError, DataError for an index or a corpus that is wrong
 */
export async function plannedPassages(config: Config, note: (text: string) => void): Promise<PlannedPassages | null> {
  const { dense, data } = config;
  if (!enginesUsed(config, "train").includes("dense")) return null;
  if (dense.index !== null) {
    const { passages, width } = await readDenseAbout(dense.index);
    return { passages, width };
  }
  if (data.corpus === null || !existsSync(data.corpus)) {
    note(`${data.corpus ?? "data.corpus"} is not here: planned without the embeddings of its passages`);
    return null;
  }
  const rows = readPassages(data.corpus);
  let passages = 0;
  while ((await rows.next()).done !== true) passages++;
  if (dense.dimensions > 0 || dense.path !== null) return { passages, width: dense.dimensions > 0 ? dense.dimensions : null };
  note(`how long the embeddings of ${dense.encoder ?? dense.endpointModel} are is not known: planned with ${usualWidth} numbers`);
  return { passages, width: usualWidth };
}
