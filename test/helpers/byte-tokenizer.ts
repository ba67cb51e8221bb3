/** A tokenizer whose ids are bytes, and which ends every text with `<|endoftext|>` (256), as that of Qwen3-Embedding does. */
import type { TokenizerJson } from "../../src/text/tokenizer.ts";

/** The byte alphabet of GPT-2: printable bytes are themselves, the others come after 255. */
function alphabet(): string[] {
  let next = 256;
  const plain = (byte: number): boolean => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(plain(byte) ? byte : next++));
}

export function byteTokenizerJson({ ending = true }: { readonly ending?: boolean } = {}): TokenizerJson {
  const end = "<|endoftext|>";
  const json = {
    version: "1.0",
    added_tokens: [{ id: 256, content: end, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }],
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false },
    post_processor: ending
      ? {
          type: "TemplateProcessing",
          single: [{ Sequence: { id: "A", type_id: 0 } }, { SpecialToken: { id: end, type_id: 0 } }],
          pair: [{ Sequence: { id: "A", type_id: 0 } }, { Sequence: { id: "B", type_id: 1 } }],
          special_tokens: { [end]: { id: end, ids: [256], tokens: [end] } },
        }
      : null,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: "BPE", vocab: Object.fromEntries(alphabet().map((letter, byte) => [letter, byte])), merges: [] },
  };
  return json;
}
