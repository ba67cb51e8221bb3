/**
 * Trains a byte-level BPE tokenizer and writes it as Hugging Face tokenizer.json.
 *
 * Words are counted to a power below 1, so that rare words (names) earn merges too, and merging works on an index from pairs to the words that hold them: a merge
 * touches only those words. Ties are broken by token ids, so the same texts give the same file.
 */
import { ConfigError } from "../util/errors.ts";
import { byteAlphabet } from "./token-bytes.ts";

/** Which texts become one word: an optional space, an optional "<" or "</", letters; single digits (after an optional space); runs of other signs up to the next "<"; white space. */
const wordPattern = " ?(?:<\\/?)?\\p{L}+| ?\\p{N}| ?[^\\s\\p{L}\\p{N}<]+| ?<\\/?|\\s+";

/** What a trained tokenizer.json holds; loads with `@huggingface/tokenizers` and with the Rust and Python ones. */
export type TokenizerJson = ReturnType<typeof tokenizerJson>;

/** Options of `trainBpe`. */
export interface TrainBpeOptions {
  /** Total number of tokens, the special ones and the 256 bytes included. */
  readonly vocabSize: number;
  /** Tokens that no text yields but their own literal string; they get ids 0, 1, ... */
  readonly specialTokens: readonly string[];
  /** Word counts are raised to this power; 1 is ordinary BPE. */
  readonly countPower?: number;
}

interface Word {
  symbols: number[];
  readonly count: number;
}

/** Counts the words of all texts. */
function countWords(texts: Iterable<string>, pattern: RegExp): Map<string, number> {
  const counts = new Map<string, number>();
  for (const text of texts) for (const [word] of text.matchAll(pattern)) counts.set(word, (counts.get(word) ?? 0) + 1);
  return counts;
}

const pairBase = 1 << 20;

/** Pair counts with, for each pair, the words it may stand in. */
class PairIndex {
  private readonly counts = new Map<number, number>();
  private readonly holders = new Map<number, Set<number>>();

  /** Adds (or, with a negative sign, removes) all pairs of a word. */
  add(word: Word, wordIndex: number, sign: 1 | -1): void {
    for (let i = 0; i + 1 < word.symbols.length; i++) {
      const pair = (word.symbols[i] as number) * pairBase + (word.symbols[i + 1] as number);
      const count = (this.counts.get(pair) ?? 0) + sign * word.count;
      this.counts.set(pair, count);
      if (sign === 1) this.holders.set(pair, (this.holders.get(pair) ?? new Set()).add(wordIndex));
    }
  }

  /** The commonest pair; ties go to the lower ids. Undefined when nothing is left to merge. */
  best(): number | undefined {
    let best: number | undefined;
    let bestCount = 1e-6;
    for (const [pair, count] of this.counts) {
      if (count > bestCount + 1e-9 || (best !== undefined && Math.abs(count - bestCount) <= 1e-9 && pair < best)) {
        best = pair;
        bestCount = count;
      }
    }
    return best;
  }

  /** Takes a pair out and returns the words that may hold it. */
  take(pair: number): number[] {
    const words = [...(this.holders.get(pair) ?? [])];
    this.holders.delete(pair);
    this.counts.delete(pair);
    return words;
  }
}

function mergeWord(symbols: readonly number[], left: number, right: number, merged: number): number[] {
  const out: number[] = [];
  for (let i = 0; i < symbols.length; i++) {
    if (symbols[i] === left && symbols[i + 1] === right) {
      out.push(merged);
      i++;
    } else out.push(symbols[i] as number);
  }
  return out;
}

/**
 * Trains on texts.
 * @throws ConfigError when the vocabulary has no room for special tokens and bytes, or the texts do not hold enough pairs to fill it
 */
export function trainBpe(texts: Iterable<string>, options: TrainBpeOptions): TokenizerJson {
  const { vocabSize, specialTokens, countPower = 0.75 } = options;
  const firstMerge = specialTokens.length + 256;
  if (vocabSize < firstMerge)
    throw new ConfigError({
      where: "trainBpe",
      what: "vocabSize too small",
      expected: `${firstMerge} or more (special tokens and 256 bytes)`,
      got: String(vocabSize),
    });
  const tokens = [...specialTokens, ...byteAlphabet];
  const encoder = new TextEncoder();
  const words: Word[] = [];
  for (const [word, count] of [...countWords(texts, new RegExp(wordPattern, "gu"))].sort((a, b) => (a[0] < b[0] ? -1 : 1))) {
    words.push({ symbols: [...encoder.encode(word)].map((byte) => byte + specialTokens.length), count: count ** countPower });
  }
  const index = new PairIndex();
  words.forEach((word, i) => index.add(word, i, 1));
  const merges: [string, string][] = [];
  const known = new Set(tokens);
  while (tokens.length < vocabSize) {
    const pair = index.best();
    if (pair === undefined)
      throw new ConfigError({
        where: "trainBpe",
        what: "the texts have too few pairs",
        expected: `${vocabSize} tokens`,
        got: String(tokens.length),
        hint: "Give more text or a smaller vocabSize.",
      });
    const left = Math.floor(pair / pairBase);
    const right = pair % pairBase;
    const merged = (tokens[left] as string) + (tokens[right] as string);
    const holders = index.take(pair);
    if (known.has(merged)) continue;
    known.add(merged);
    merges.push([tokens[left] as string, tokens[right] as string]);
    for (const i of holders) {
      const word = words[i] as Word;
      index.add(word, i, -1);
      word.symbols = mergeWord(word.symbols, left, right, tokens.length);
      index.add(word, i, 1);
    }
    index.take(pair);
    tokens.push(merged);
  }
  return tokenizerJson(tokens, merges, specialTokens);
}

function tokenizerJson(tokens: readonly string[], merges: [string, string][], specialTokens: readonly string[]) {
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false };
  const plain = { single_word: false, lstrip: false, rstrip: false, normalized: false };
  const split = { type: "Split", pattern: { Regex: wordPattern }, behavior: "Isolated", invert: false };
  const vocab: Readonly<Record<string, number>> = Object.fromEntries(tokens.map((token, id) => [token, id]));
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: specialTokens.map((content, id) => ({ id, content, ...plain, special: true })),
    normalizer: null,
    pre_tokenizer: { type: "Sequence", pretokenizers: [split, byteLevel] },
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      vocab,
      merges,
    },
  };
}

/**
 * An encoder that gives the ids of `encode(text)` for tokenizers of `trainBpe`: each word is encoded once and remembered, since in generated
 * text the same words come again and again.
 * @param encode - the tokenizer's own, without added special tokens
 */
export function cachedEncoder(encode: (text: string) => readonly number[]): (text: string) => number[] {
  const pieces = new RegExp(wordPattern, "gu");
  const cache = new Map<string, readonly number[]>();
  return (text) => {
    const ids: number[] = [];
    for (const [piece] of text.matchAll(pieces)) {
      let encoded = cache.get(piece);
      if (encoded === undefined) {
        encoded = encode(piece);
        cache.set(piece, encoded);
      }
      for (const id of encoded) ids.push(id);
    }
    return ids;
  };
}
