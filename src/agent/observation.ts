/** Observations as ids: what comes from outside is cut to what one may take, its tags stay whole. */
import type { PromptPart, TextCodec } from "../text/prompt.ts";
import { ConfigError } from "../util/errors.ts";
import { neutralise, type Dialect } from "./dialects/dialect.ts";

/**
 * The ids of an observation, whose documents are neutralised here: at most `limit`, cut from the right but always closed, never inside a
 * character.
 * @throws ConfigError when the tags alone need more.
 */
export function observationIds(documents: string, dialect: Dialect, tokenizer: TextCodec, limit: number): number[] {
  return shownIds(neutralise(documents, dialect), (text) => dialect.observe(text), tokenizer, limit);
}

/** The same for any text that is neutralised, as `show` puts it: in one foreign part. @throws as `observationIds` */
export function shownIds(text: string, show: (text: string) => readonly PromptPart[], tokenizer: TextCodec, limit: number): number[] {
  const parts = show(text);
  const whole = tokenizer.encodePrompt(parts);
  if (whole.length <= limit) return whole;
  const end = parts.findIndex(({ foreign }) => foreign) + 1;
  const close = tokenizer.encodePrompt(parts.slice(end));
  const frame = frameOf(show, tokenizer);
  if (limit < frame)
    throw new ConfigError({
      where: "rollout.maxObservationTokens",
      what: "too few tokens for the tags of an observation",
      expected: `${frame} or more`,
      got: String(limit),
    });
  const open = tokenizer.encodePrompt(parts.slice(0, end));
  let length = limit - close.length;
  while (length > frame - close.length && tokenizer.decode(open.slice(0, length), { continuation: true }).endsWith("\ufffd")) length--;
  return [...open.slice(0, length), ...close];
}

/** Tokens of what stands around an observation's documents. */
export function frameOf(show: (text: string) => readonly PromptPart[], tokenizer: TextCodec): number {
  const parts = show("");
  const at = parts.findIndex(({ foreign }) => foreign);
  return tokenizer.encodePrompt(parts.slice(0, at)).length + tokenizer.encodePrompt(parts.slice(at + 1)).length;
}

/** The beginning of a text from outside, of at most so many tokens. */
export function cutToTokens(text: string, limit: number, tokenizer: TextCodec): string {
  const ids = tokenizer.encodePrompt(text);
  if (ids.length <= limit) return text;
  return tokenizer.decode(ids.slice(0, limit)).replace(/\ufffd+$/, "");
}
