/**
 * A prompt remembers who wrote which part of it. What we wrote (an instruction, a chat template, a protocol tag) may hold tokens of
 * the tokenizer's own, such as `<|im_start|>`; what comes from outside (a question, a document, a query) is letters and nothing
 * else, whatever it spells, so that it cannot end a turn or open another.
 *
 * The parts are still one text: words and merges go over their borders, and a text from outside that spells nothing special has
 * exactly the ids that it would have if we had written it. So it is neither altered nor cut off from what stands around it.
 */

export interface PromptPart {
  readonly text: string;
  /** Whether it comes from outside. */
  readonly foreign: boolean;
}

/** A bare string is foreign. */
export type Prompt = string | readonly PromptPart[];

export interface PromptEncoding {
  /** Begins with what the tokenizer puts before a text, such as Llama 3's `<|begin_of_text|>`; once, if the prompt begins with it. Default false. */
  readonly begin?: boolean;
}

/** What the rooms of text ask of a tokenizer: the part of `Tokenizer` that they use. */
export interface TextCodec {
  /** Ids of a prompt: special tokens where our parts spell them, letters in what comes from outside. A bare string comes from outside. */
  encodePrompt(prompt: Prompt, options?: PromptEncoding): number[];
  decode(ids: readonly number[], options?: { readonly skipSpecialTokens?: boolean; readonly continuation?: boolean }): string;
}

export const ours = (text: string): PromptPart => ({ text, foreign: false });
export const foreign = (text: string): PromptPart => ({ text, foreign: true });

/** The parts of a prompt; neighbours of one kind joined, empty ones left out. */
export function partsOf(prompt: Prompt): PromptPart[] {
  const parts: PromptPart[] = [];
  for (const part of typeof prompt === "string" ? [foreign(prompt)] : prompt) {
    if (part.text === "") continue;
    const last = parts.at(-1);
    if (last?.foreign === part.foreign) parts[parts.length - 1] = { text: last.text + part.text, foreign: part.foreign };
    else parts.push(part);
  }
  return parts;
}

/** The whole text. */
export function promptText(prompt: Prompt): string {
  return typeof prompt === "string" ? prompt : prompt.map(({ text }) => text).join("");
}

/** Our template with values in its `{name}` placeholders; names without a value stay as they are, braces in a value mean nothing. */
export function fillPrompt(template: string, values: Readonly<Record<string, PromptPart>>): PromptPart[] {
  const parts: PromptPart[] = [];
  let at = 0;
  for (const { 0: whole, 1: name = "", index } of template.matchAll(/\{(\w+)\}/g)) {
    if (!Object.hasOwn(values, name)) continue;
    parts.push(ours(template.slice(at, index)), values[name] as PromptPart);
    at = index + whole.length;
  }
  return partsOf([...parts, ours(template.slice(at))]);
}
