/**
 * The exact bytes that each token of a vocabulary stands for. Stop tags, partial UTF-8 and the text of a trajectory are all
 * computed on bytes, so that no token is ever cut or decoded on its own.
 *
 * Two families are read: byte-level BPE (GPT-2, Qwen, Llama 3), where each character of a token names one byte, and
 * SentencePiece-style BPE with byte fallback (Llama 2, TinyLlama), where "▁" is a space and `<0x0A>` is one byte.
 */
import { ConfigError } from "../util/errors.ts";

/** The parts of a parsed `tokenizer.json` that say what tokens mean. */
export interface TokenizerJson {
  readonly model: {
    readonly type?: string | null;
    readonly vocab: Readonly<Record<string, number>>;
    readonly unk_token?: string | null;
    readonly byte_fallback?: boolean;
    readonly fuse_unk?: boolean;
  };
  readonly added_tokens?: readonly AddedTokenJson[] | null;
  readonly normalizer?: Step | null;
  readonly pre_tokenizer?: Step | null;
  readonly decoder?: Step | null;
}

export interface AddedTokenJson {
  readonly id: number;
  readonly content: string;
  readonly special?: boolean;
  /** Whether it takes the white space on its left, or right, with it. */
  readonly lstrip?: boolean;
  readonly rstrip?: boolean;
}

export interface Step {
  readonly type: string;
  readonly [field: string]: unknown;
}

type Encoder = InstanceType<typeof TextEncoder>;
export type VocabularyKind = "byteLevel" | "sentencePiece";

export interface TokenBytes {
  readonly kind: VocabularyKind;
  /** One more than the largest id. */
  readonly size: number;
  /** Bytes of token id: `bytes[starts[id] .. starts[id + 1])`. Special tokens and unused ids have none. */
  readonly bytes: Uint8Array;
  readonly starts: Uint32Array;
  /** Content of each special token. */
  readonly specials: ReadonlyMap<number, string>;
  /** Whether decoding drops one space at the very start of a text, as SentencePiece does. */
  readonly stripsFirstSpace: boolean;
}

/** GPT-2's alphabet: the character that stands for each byte. Printable bytes stand for themselves, the others follow from U+0100. */
export const byteAlphabet: readonly string[] = (() => {
  const printable = (b: number): boolean => (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
  let next = 0x100;
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(printable(b) ? b : next++));
})();

/** Steps of a kind, also inside sequences. */
export function stepsOf(step: Step | null | undefined): Step[] {
  if (!step) return [];
  const inner = step["decoders"] ?? step["pretokenizers"] ?? step["normalizers"] ?? step["processors"];
  return Array.isArray(inner) ? inner.flatMap((s: Step) => stepsOf(s)) : [step];
}

/** @throws ConfigError for a vocabulary of another family, or a byte-level one that cannot spell every byte. */
export function readTokenBytes(json: TokenizerJson, where: string): TokenBytes {
  const kind = vocabularyKind(json, where);
  const added = json.added_tokens ?? [];
  const addedById = new Map(added.map((token) => [token.id, token]));
  const specials = new Map(added.filter((token) => token.special === true).map((token) => [token.id, token.content]));

  const tokens: (string | undefined)[] = [];
  for (const [token, id] of Object.entries(json.model.vocab)) tokens[id] = token;
  for (const { id, content } of added) tokens[id] = content;
  const size = tokens.length;

  const byteOf = new Map(byteAlphabet.map((character, byte) => [character, byte]));
  const encoder = new TextEncoder();
  const parts: Uint8Array[] = new Array<Uint8Array>(size);
  const starts = new Uint32Array(size + 1);
  const none = new Uint8Array(0);
  for (let id = 0; id < size; id++) {
    const token = tokens[id];
    let bytes = none;
    if (token !== undefined && !specials.has(id) && !(token === json.model.unk_token && kind === "sentencePiece")) {
      if (addedById.has(id)) bytes = encoder.encode(token);
      else bytes = kind === "byteLevel" ? byteLevelBytes(token, byteOf, encoder) : pieceBytes(token, encoder);
    }
    parts[id] = bytes;
    starts[id + 1] = starts[id]! + bytes.length;
  }
  const bytes = new Uint8Array(starts[size]!);
  for (let id = 0; id < size; id++) bytes.set(parts[id]!, starts[id]);
  return { kind, size, bytes, starts, specials, stripsFirstSpace: stripsFirstSpace(json) };
}

function vocabularyKind(json: TokenizerJson, where: string): VocabularyKind {
  const { type, vocab } = json.model;
  if ((type !== undefined && type !== null && type !== "BPE") || vocab === null || typeof vocab !== "object" || Array.isArray(vocab)) {
    throw new ConfigError({
      where,
      what: "this kind of tokenizer is not supported",
      expected: "a BPE model (byte-level or SentencePiece-style)",
      got: String(type),
    });
  }
  const steps = [...stepsOf(json.decoder), ...stepsOf(json.pre_tokenizer)].map((step) => step.type);
  if (steps.includes("ByteLevel")) {
    const absent = byteAlphabet.findIndex((character) => !Object.hasOwn(vocab, character));
    if (absent >= 0) {
      throw new ConfigError({
        where,
        what: `the byte-level vocabulary has no token for byte 0x${absent.toString(16).padStart(2, "0")}`,
        hint: "Text with this byte would be dropped in silence. Train the tokenizer with all 256 bytes in its alphabet.",
      });
    }
    return "byteLevel";
  }
  const spaces = [...stepsOf(json.decoder), ...stepsOf(json.normalizer), ...stepsOf(json.pre_tokenizer)];
  if (
    steps.includes("ByteFallback") ||
    steps.includes("Metaspace") ||
    spaces.some((step) => step.type === "Replace" && step["content"] === "▁")
  )
    return "sentencePiece";
  throw new ConfigError({
    where,
    what: "cannot tell what the tokens stand for",
    expected: "a ByteLevel, ByteFallback or Metaspace step",
    got: steps.join(", ") || "none",
  });
}

function byteLevelBytes(token: string, byteOf: ReadonlyMap<string, number>, encoder: Encoder): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = byteOf.get(token[i]!);
    if (byte === undefined) return encoder.encode(token); // a plain-text entry, such as a marker that was put into the vocabulary
    bytes[i] = byte;
  }
  return bytes;
}

function pieceBytes(token: string, encoder: Encoder): Uint8Array<ArrayBuffer> {
  const match = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
  if (match) return Uint8Array.of(parseInt(match[1]!, 16));
  return encoder.encode(token.replaceAll("▁", " "));
}

function stripsFirstSpace(json: TokenizerJson): boolean {
  return stepsOf(json.decoder).some(
    (step) => (step.type === "Strip" && step["content"] === " " && Number(step["start"]) > 0) || step.type === "Metaspace",
  );
}
