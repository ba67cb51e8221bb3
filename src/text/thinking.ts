/**
 * The thoughts of models that think before they speak: blocks in the model's text, opened by the model or by its chat template. A server
 * that knows its model's tags gives them apart from the text; those are never read here.
 */
import { ours, partsOf, type Prompt, type TextCodec } from "./prompt.ts";

const names = ["think", "thinking", "thought", "seed:think"];
const openings = [...names.map((name) => `<${name}>`), "[THINK]"];
const closings = [...names.map((name) => `</${name}>`), "[/THINK]"];
const oneOf = (texts: readonly string[]): string => texts.map((text) => text.replaceAll(/[[\]]/g, "\\$&")).join("|");
const tag = new RegExp(oneOf([...openings, ...closings]), "g");
const openAtEnd = new RegExp(`(?:${oneOf(openings)})\\s*$`);

/** What is put before a text whose thought was opened elsewhere; alone, a thought that never ended. */
export const openedThought = openings[0] as string;

/**
 * A text without its thoughts; null where one never ends, since nobody knows then what is thought. A block that is only closed was opened
 * by the prompt: all before it is thought.
 */
export function withoutThoughts(text: string): string | null {
  let [said, at, thinks] = ["", 0, false];
  for (const { 0: found, index } of text.matchAll(tag)) {
    const opens = openings.includes(found);
    if (opens && thinks) continue;
    said = opens ? said + text.slice(at, index) : thinks ? said : "";
    thinks = opens;
    at = index + found.length;
  }
  return thinks ? null : said + text.slice(at);
}

/** Whether a prompt ends inside a thought that it opened itself, as the templates of DeepSeek-R1 and QwQ do. */
export function endsInThought(prompt: Prompt): boolean {
  const last = partsOf(prompt).at(-1);
  return last !== undefined && !last.foreign && openAtEnd.test(last.text);
}

/** Decodes a text without special tokens but with the tags of thoughts, which are special tokens in some vocabularies. */
export function thoughtDecoder(codec: TextCodec): (ids: readonly number[]) => string {
  const tags = new Map<number, string>();
  for (const text of [...openings, ...closings]) {
    const [id, ...more] = codec.encodePrompt([ours(text)]);
    if (id !== undefined && more.length === 0) tags.set(id, text);
  }
  return (ids) => {
    const options = { skipSpecialTokens: true, continuation: true };
    let [text, from] = ["", 0];
    ids.forEach((id, i) => {
      const own = tags.get(id);
      if (own === undefined) return;
      text += codec.decode(ids.slice(from, i), options) + own;
      from = i + 1;
    });
    return text + codec.decode(ids.slice(from), options);
  };
}

/** The text of an endpoint's message: its `content`; where that is empty, because the thought took all tokens, an opened thought. */
export function writtenIn(message: unknown): unknown {
  const { content, reasoning_content, reasoning } = (message ?? {}) as Readonly<Record<string, unknown>>;
  const thought = reasoning_content ?? reasoning;
  return (content ?? "") === "" && typeof thought === "string" && thought !== "" ? openedThought : content;
}
