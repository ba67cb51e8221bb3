/**
 * Text to ids. Normaliser, pre-tokenizer and merges are those of `@huggingface/tokenizers` (measured against the Rust original on
 * 40,000 hostile texts for each of Qwen2.5, Qwen3, Llama 3 and a SentencePiece vocabulary: no difference). The rest is our own, since
 * the library looks for added tokens in the whole of a text and cannot be told that a part of it comes from outside.
 */
import * as library from "@huggingface/tokenizers";
import { ConfigError, RequestError } from "../util/errors.ts";
import { partsOf, type Prompt } from "./prompt.ts";
import type { AddedTokenJson, TokenizerJson } from "./token-bytes.ts";

/** What is used of the library; its own type files do not resolve under `nodenext`. */
interface LibraryTokenizer {
  readonly normalizer: ((text: string) => string) | null;
  readonly pre_tokenizer: ((text: string, options: { section_index: number }) => string[]) | null;
  readonly model: (words: readonly string[]) => string[];
  encode(text: string, options: { add_special_tokens: boolean }): { ids: (number | undefined)[] };
}
type LibraryClass = new (tokenizer: object, config: object) => LibraryTokenizer;
const LibraryTokenizer = library.Tokenizer as unknown as LibraryClass;

/** Words are remembered up to this length, and so many of them: text repeats itself. */
const longestWord = 64;
const mostWords = 1 << 17;

export class Encoder {
  readonly #where: string;
  readonly #json: TokenizerJson;
  readonly #inner: LibraryTokenizer;
  readonly #added: ReadonlyMap<string, AddedTokenJson>;
  /** Finds added tokens: the leftmost, and of those the longest. Null where there are none. */
  readonly #finder: RegExp | null;
  /** Ids that no spelling may give: those of special tokens, but for the one that stands for what cannot be spelled. */
  readonly #forbidden: ReadonlySet<number>;
  readonly #words = new Map<string, readonly number[]>();
  #frame: { readonly before: readonly number[]; readonly after: readonly number[] } | undefined;

  /** @throws ConfigError when the library cannot read the files. */
  constructor(json: TokenizerJson, config: object, where: string) {
    this.#where = where;
    this.#json = json;
    const added = json.added_tokens ?? [];
    // The library refuses absent keys, and reads absent lists.
    const whole = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null, ...json, added_tokens: added };
    try {
      this.#inner = new LibraryTokenizer(whole, config);
    } catch (cause) {
      const what = `the tokenizer cannot be read (${cause instanceof Error ? cause.message : String(cause)})`;
      throw new ConfigError({ where, what }, { cause });
    }
    this.#added = new Map(added.filter(({ content }) => content !== "").map((token) => [token.content, token]));
    const contents = [...this.#added.keys()].sort((a, b) => b.length - a.length);
    this.#finder = contents.length === 0 ? null : new RegExp(contents.map(escape).join("|"), "g");
    this.#forbidden = new Set(
      added.filter(({ special, content }) => special === true && content !== json.model.unk_token).map(({ id }) => id),
    );
  }

  /** What the post-processor puts before and after a text: a beginning-of-sequence id, for instance. */
  get frame(): { readonly before: readonly number[]; readonly after: readonly number[] } {
    if (this.#frame === undefined) {
      // Measured on the byte that every vocabulary can spell.
      const bare = this.#inner.encode("a", { add_special_tokens: false }).ids as number[];
      const framed = this.#inner.encode("a", { add_special_tokens: true }).ids as number[];
      let at = 0;
      while (at + bare.length < framed.length && !bare.every((id, i) => framed[at + i] === id)) at++;
      this.#frame = { before: framed.slice(0, at), after: framed.slice(at + bare.length) };
    }
    return this.#frame;
  }

  /**
   * Ids of a prompt: added tokens are read in our parts and only whole inside one; between them the text goes over the borders of
   * parts. @throws RequestError when the vocabulary cannot spell it.
   */
  encode(prompt: Prompt): number[] {
    const ids: number[] = [];
    let pending = "",
      sections = 0,
      trimNext = false;
    const flush = (): void => {
      if (pending !== "") this.#spell(pending, sections++, ids);
      pending = "";
    };
    for (const { text, foreign } of partsOf(prompt)) {
      let at = 0;
      for (const match of foreign || this.#finder === null ? [] : text.matchAll(this.#finder)) {
        const token = this.#added.get(match[0]) as AddedTokenJson;
        const before = text.slice(at, match.index);
        pending += trimNext ? before.trimStart() : before;
        if (token.lstrip === true) pending = pending.trimEnd();
        flush();
        ids.push(token.id);
        sections++;
        trimNext = token.rstrip === true;
        at = match.index + match[0].length;
      }
      const rest = text.slice(at);
      pending += trimNext ? rest.trimStart() : rest;
      if (pending !== "") trimNext = false;
    }
    flush();
    return ids;
  }

  /** The ids of letters; `section`: how many stretches and tokens came before it. */
  #spell(text: string, section: number, ids: number[]): void {
    const { normalizer, pre_tokenizer: split } = this.#inner;
    const normal = normalizer === null ? text : normalizer(text);
    if (normal === "") return;
    const unknown = this.#json.model.fuse_unk === true ? this.#base(this.#json.model.unk_token ?? "") : undefined;
    for (const word of split === null ? [normal] : split(normal, { section_index: section })) {
      for (const id of this.#word(word)) if (id !== unknown || unknown === undefined || ids.at(-1) !== id) ids.push(id);
    }
  }

  #word(word: string): readonly number[] {
    const known = this.#words.get(word);
    if (known !== undefined) return known;
    const ids = this.#letters(word);
    if (word.length <= longestWord) {
      if (this.#words.size >= mostWords) this.#words.clear();
      this.#words.set(word, ids);
    }
    return ids;
  }

  /**
   * Ids of one word of the pre-tokenizer. Where merges, or an entry of the whole word, give a special token, its letters are
   * spelled in two halves.
   */
  #letters(word: string): number[] {
    const tokens = this.#inner.model([word]);
    const { unk_token = null, byte_fallback = false } = this.#json.model;
    // The library leaves out what it cannot spell.
    if (unk_token === null && !byte_fallback && tokens.join("") !== word) throw this.#unspelled(word);
    return tokens.flatMap((token) => {
      const id = this.#base(token);
      if (id !== undefined && !this.#forbidden.has(id)) return [id];
      const characters = Array.from(token);
      if (characters.length < 2) throw this.#unspelled(word);
      const half = characters.length >> 1;
      return [...this.#letters(characters.slice(0, half).join("")), ...this.#letters(characters.slice(half).join(""))];
    });
  }

  #base(token: string): number | undefined {
    const { vocab } = this.#json.model;
    return Object.hasOwn(vocab, token) ? vocab[token] : undefined;
  }

  #unspelled(text: string): RequestError {
    return new RequestError({
      where: this.#where,
      what: `the vocabulary cannot spell ${JSON.stringify(text.slice(0, 60))}`,
      hint: "The tokenizer has neither byte tokens nor an unknown token.",
    });
  }
}

function escape(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
}
