/** The tag that an answer stands in. */

/** The text in the last closed answer tag, whoever wrote it; undefined for none. */
export function lastAnswer(text: string): string | undefined {
  return [...text.matchAll(/<answer>(.*?)<\/answer>/gs)].at(-1)?.[1]?.trim();
}
