/** How many embeddings a run searches: those of its index, or of its corpus. */
import { existsSync } from "node:fs";
import { enginesUsed, type Config } from "../config/index.ts";
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
 * Null where nobody searches them, or they are not here, which `note` is told.
 * @param config - with the files that are here
 * @throws FileError, DataError for an index or a corpus that is wrong
 */
export async function plannedPassages(config: Config, note: (text: string) => void): Promise<PlannedPassages | null> {
  const { dense, data } = config;
  if (!enginesUsed(config, "train").includes("dense")) return null;
  const file = dense.index ?? data.corpus;
  if (file === null || !existsSync(file)) {
    note(`${file ?? "data.corpus"} is not here: planned without the embeddings of its passages`);
    return null;
  }
  if (dense.index !== null) {
    const { passages, width } = await readDenseAbout(dense.index);
    return { passages, width };
  }
  const rows = readPassages(file);
  let passages = 0;
  while ((await rows.next()).done !== true) passages++;
  if (dense.dimensions > 0 || dense.path !== null) return { passages, width: dense.dimensions > 0 ? dense.dimensions : null };
  note(`how long the embeddings of ${dense.encoder ?? dense.endpointModel} are is not known: planned with ${usualWidth} numbers`);
  return { passages, width: usualWidth };
}
