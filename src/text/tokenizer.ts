/**
 * Text to token ids and back, for the tokenizers of Hugging Face model folders. The files are read elsewhere and given parsed.
 *
 * Encoding is that of `@huggingface/tokenizers`, by part of a prompt (`encoder.ts`). Decoding is our own, on exact bytes: the library
 * tidies spaces by default, drops a space at the start of every piece it decodes, and cannot decode half a character.
 */
import { ConfigError, RequestError } from "../util/errors.ts";
import { Encoder } from "./encoder.ts";
import { foreign, ours, type Prompt, type PromptEncoding } from "./prompt.ts";
import { readTokenBytes, type TokenBytes, type TokenizerJson, type VocabularyKind } from "./token-bytes.ts";

export type { TokenizerJson } from "./token-bytes.ts";

/** The parts of a parsed `tokenizer_config.json` that are used. */
export interface TokenizerConfigJson {
  readonly eos_token?: SpecialTokenJson | null;
  readonly bos_token?: SpecialTokenJson | null;
  readonly pad_token?: SpecialTokenJson | null;
  readonly chat_template?: string | readonly { readonly name: string; readonly template: string }[] | null;
  readonly [field: string]: unknown;
}
export type SpecialTokenJson = string | { readonly content: string };

export interface EncodeOptions {
  /** Adds what the post-processor adds, a beginning-of-sequence token for instance. Default false: prompts spell theirs out. */
  readonly addSpecialTokens?: boolean;
  /**
   * Whether `<|im_end|>` in the text becomes that token (default, right for what we wrote) or stays letters (right for what comes
   * from outside, which must not be able to end a turn). A text of both kinds is a `Prompt`.
   */
  readonly parseSpecialTokens?: boolean;
}

export interface DecodeOptions {
  /** Leaves special tokens out. Default false. */
  readonly skipSpecialTokens?: boolean;
  /** The ids go on from others: a space at their start is kept, whatever the vocabulary. Default false. */
  readonly continuation?: boolean;
}

export class Tokenizer {
  /** @internal */
  readonly kind: VocabularyKind;
  /** One more than the largest id. A model may have more rows than that, never fewer (`checkTokenizerFits`). */
  readonly vocabularySize: number;
  /** Ids that end a sequence: the config's `eos_token`, and those given besides (from `generation_config.json`). */
  readonly eosIds: readonly number[];
  readonly bosId: number | undefined;
  readonly padId: number | undefined;
  readonly config: TokenizerConfigJson;
  readonly where: string;
  readonly #json: TokenizerJson;
  readonly #table: TokenBytes;
  readonly #encoder: Encoder;

  /**
   * @param json parsed `tokenizer.json`, `config` parsed `tokenizer_config.json`
   * @param options where: what to call the tokenizer in messages; eosIds: further ids that end a sequence
   * @throws ConfigError when the files are not those of a BPE tokenizer, or name special tokens that do not exist.
   */
  constructor(
    json: TokenizerJson,
    config: TokenizerConfigJson = {},
    options: { readonly where?: string; readonly eosIds?: readonly number[] } = {},
  ) {
    this.where = options.where ?? "tokenizer.json";
    if (typeof json !== "object" || json === null || typeof json.model !== "object" || json.model === null) {
      throw new ConfigError({
        where: this.where,
        what: "not a tokenizer",
        expected: "the parsed tokenizer.json with a `model`",
        got: json === null ? "null" : typeof json,
      });
    }
    this.#json = json;
    this.config = config;
    this.#table = readTokenBytes(json, this.where);
    this.kind = this.#table.kind;
    this.vocabularySize = this.#table.size;
    this.#encoder = new Encoder(json, config, this.where);
    const eos = this.#specialId("eos_token");
    this.eosIds = [...new Set([...(eos === undefined ? [] : [eos]), ...(options.eosIds ?? [])])];
    this.bosId = this.#specialId("bos_token");
    this.padId = this.#specialId("pad_token");
  }

  /** The first id that ends a sequence. @throws ConfigError when there is none. */
  get eosId(): number {
    const id = this.eosIds[0];
    if (id === undefined)
      throw new ConfigError({
        where: this.where,
        what: "the tokenizer has no end-of-sequence token",
        hint: "Set eos_token in tokenizer_config.json.",
      });
    return id;
  }

  /** Ids of `text`. @throws RequestError when the vocabulary cannot spell it. */
  encode(text: string, options: EncodeOptions = {}): number[] {
    const { addSpecialTokens = false, parseSpecialTokens = true } = options;
    const ids = this.#encoder.encode([parseSpecialTokens ? ours(text) : foreign(text)]);
    if (!addSpecialTokens) return ids;
    const { before, after } = this.#encoder.frame;
    return [...before, ...ids, ...after];
  }

  /** Ids of a prompt, with the tokens that we wrote and none that came from outside. @throws RequestError when the vocabulary cannot spell it. */
  encodePrompt(prompt: Prompt, { begin = false }: PromptEncoding = {}): number[] {
    const ids = this.#encoder.encode(prompt);
    if (!begin) return ids;
    const { before } = this.#encoder.frame;
    return before.every((id, i) => ids[i] === id) ? ids : [...before, ...ids];
  }

  /** What the post-processor puts after a text: of embedding models the token whose state is the embedding. */
  get ending(): readonly number[] {
    return this.#encoder.frame.after;
  }

  /** Text of `ids`; bytes that are no UTF-8 become U+FFFD. */
  decode(ids: readonly number[], options: DecodeOptions = {}): string {
    const decoder = new StreamDecoder(this, options);
    return decoder.pushAll(ids) + decoder.end();
  }

  /**
   * The bytes one token stands for: a view, not to be written to. Special tokens have none, nor have unused ids and ids beyond the
   * vocabulary: a model may have more rows than there are tokens, and may sample them. @throws RequestError for what is no id.
   */
  readonly tokenBytes = (id: number): Uint8Array => {
    const { starts, bytes, size } = this.#table;
    if (!(Number.isInteger(id) && id >= 0))
      throw new RequestError({
        where: `${this.where}: tokenBytes`,
        what: "not a token id",
        expected: "a non-negative integer",
        got: String(id),
      });
    return id < size ? bytes.subarray(starts[id], starts[id + 1]) : bytes.subarray(0, 0);
  };

  /** The text of a special token, or undefined for an ordinary one. */
  specialText(id: number): string | undefined {
    return this.#table.specials.get(id);
  }

  /** Whether decoding a whole text drops one space at its start. */
  get stripsFirstSpace(): boolean {
    return this.#table.stripsFirstSpace;
  }

  /** The id of a token by its exact content: an added token, or an entry of the vocabulary in its own spelling. */
  tokenId(content: string): number | undefined {
    for (const token of this.#json.added_tokens ?? []) if (token.content === content) return token.id;
    return Object.hasOwn(this.#json.model.vocab, content) ? this.#json.model.vocab[content] : undefined;
  }

  /** The config's chat template, or undefined. */
  get chatTemplate(): string | undefined {
    const template = this.config.chat_template;
    if (template === null || template === undefined) return undefined;
    if (typeof template === "string") return template;
    return (template.find((t) => t.name === "default") ?? template[0])?.template;
  }

  #specialId(name: "eos_token" | "bos_token" | "pad_token"): number | undefined {
    const value = this.config[name];
    if (value === null || value === undefined) return undefined;
    const content = typeof value === "string" ? value : value.content;
    const id = this.tokenId(content);
    if (id === undefined) {
      throw new ConfigError({
        where: this.where,
        what: `${name} is not in the vocabulary`,
        got: JSON.stringify(content),
        hint: "tokenizer.json and tokenizer_config.json are not of one model.",
      });
    }
    return id;
  }
}

/** Decodes ids as they come: text is given out when its characters are whole. */
export class StreamDecoder {
  readonly #tokenizer: Tokenizer;
  readonly #skipSpecialTokens: boolean;
  #strip: boolean;
  #utf8 = newDecoder();

  constructor(tokenizer: Tokenizer, options: DecodeOptions = {}) {
    this.#tokenizer = tokenizer;
    this.#skipSpecialTokens = options.skipSpecialTokens ?? false;
    this.#strip = tokenizer.stripsFirstSpace && options.continuation !== true;
  }

  /** The text that `id` completes; bytes of a character that is not yet whole are kept back. */
  push(id: number): string {
    const special = this.#tokenizer.specialText(id);
    if (special !== undefined) {
      const kept = this.#utf8.decode();
      this.#utf8 = newDecoder();
      return kept + (this.#skipSpecialTokens ? "" : special);
    }
    const bytes = this.#tokenizer.tokenBytes(id);
    if (this.#strip && bytes.length > 0) {
      this.#strip = false;
      if (bytes[0] === 0x20) return this.#utf8.decode(bytes.subarray(1), { stream: true });
    }
    return this.#utf8.decode(bytes, { stream: true });
  }

  pushAll(ids: readonly number[]): string {
    let text = "";
    for (const id of ids) text += this.push(id);
    return text;
  }

  /** What is left: U+FFFD for bytes that never became a character. */
  end(): string {
    return this.#utf8.decode();
  }
}

function newDecoder(): InstanceType<typeof TextDecoder> {
  return new TextDecoder("utf-8", { ignoreBOM: true });
}

/**
 * A model must have a row for every token, and for every id that ends a sequence.
 * @param vocabSize rows of the model's embedding
 * @throws ConfigError when it has fewer.
 */
export function checkTokenizerFits(tokenizer: Tokenizer, vocabSize: number, model: string): void {
  if (tokenizer.vocabularySize > vocabSize) {
    throw new ConfigError({
      where: model,
      what: `the tokenizer ${tokenizer.where} does not fit the model`,
      expected: `at most ${vocabSize} tokens, the model's vocab_size`,
      got: String(tokenizer.vocabularySize),
      hint: "Use the tokenizer.json that came with the model, or train the model with this one.",
    });
  }
  const eos = tokenizer.eosIds.find((id) => id >= vocabSize);
  if (eos !== undefined)
    throw new ConfigError({
      where: model,
      what: "eos_token_id of generation_config.json, or of config.json, does not fit the model",
      expected: `ids below ${vocabSize}, the model's vocab_size`,
      got: String(eos),
    });
}
