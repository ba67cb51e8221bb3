/** An encoder in ONNX that looks tokens up in a table: what `@huggingface/transformers` makes of texts with it can be worked out by hand. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

type Field = readonly [number, number | string | Uint8Array];

/** Protocol buffers: whole numbers as varints, all else with its length. */
function message(...fields: readonly Field[]): Uint8Array {
  const parts = fields.flatMap(([number, value]) => {
    if (typeof value === "number") return [varint(number << 3), varint(value)];
    const bytes = typeof value === "string" ? Buffer.from(value) : value;
    return [varint((number << 3) | 2), varint(bytes.length), bytes];
  });
  return Buffer.concat(parts);
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    bytes.push(rest > 127 ? (rest % 128) | 128 : rest);
    if (rest <= 127) return Uint8Array.from(bytes);
  }
}

/** ValueInfoProto: a tensor of type 1 (float) or 7 (int64) with named dimensions, or fixed ones. */
function value(name: string, type: number, ...dimensions: readonly (string | number)[]): Uint8Array {
  const shape = message(...dimensions.map((one): Field => [1, message(typeof one === "string" ? [2, one] : [1, one])]));
  return message([1, name], [2, message([1, message([1, type], [2, shape])])]);
}

export const words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "query", "passage", ":", "river", "mountain", "city"];
export const encoderWidth = 4;

/** The row of a word. */
export function rowOf(word: string): number[] {
  const id = Math.max(1, words.indexOf(word));
  return Array.from({ length: encoderWidth }, (_, c) => Math.sin(1 + 3 * id + 7 * c));
}

/** A model folder: onnx/model.onnx, config.json, tokenizer.json, tokenizer_config.json. Texts stand between [CLS] and [SEP]. */
export function writeTinyEncoder(folder: string): void {
  const table = Buffer.from(Float32Array.from(words.flatMap(rowOf)).buffer);
  const graph = message(
    [1, message([1, "table"], [1, "input_ids"], [2, "last_hidden_state"], [4, "Gather"])],
    [2, "lookup"],
    [5, message([1, words.length], [1, encoderWidth], [2, 1], [8, "table"], [9, table])],
    [11, value("input_ids", 7, "batch", "tokens")],
    [11, value("attention_mask", 7, "batch", "tokens")],
    [12, value("last_hidden_state", 1, "batch", "tokens", encoderWidth)],
  );
  mkdirSync(join(folder, "onnx"), { recursive: true });
  writeFileSync(join(folder, "onnx", "model.onnx"), message([1, 8], [7, graph], [8, message([2, 13])]));
  const json = (name: string, content: unknown): void => writeFileSync(join(folder, name), JSON.stringify(content));
  json("config.json", { model_type: "bert", hidden_size: encoderWidth, vocab_size: words.length, max_position_embeddings: 16 });
  json("tokenizer_config.json", {
    tokenizer_class: "BertTokenizer",
    model_max_length: 16,
    pad_token: "[PAD]",
    cls_token: "[CLS]",
    sep_token: "[SEP]",
    unk_token: "[UNK]",
  });
  const special = (id: number) => ({
    id,
    content: words[id],
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  json("tokenizer.json", {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [0, 1, 2, 3].map(special),
    normalizer: { type: "BertNormalizer", clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true },
    pre_tokenizer: { type: "BertPreTokenizer" },
    post_processor: {
      type: "TemplateProcessing",
      single: [
        { SpecialToken: { id: "[CLS]", type_id: 0 } },
        { Sequence: { id: "A", type_id: 0 } },
        { SpecialToken: { id: "[SEP]", type_id: 0 } },
      ],
      pair: [{ Sequence: { id: "A", type_id: 0 } }, { Sequence: { id: "B", type_id: 1 } }],
      special_tokens: { "[CLS]": { id: "[CLS]", ids: [2], tokens: ["[CLS]"] }, "[SEP]": { id: "[SEP]", ids: [3], tokens: ["[SEP]"] } },
    },
    decoder: { type: "WordPiece", prefix: "##", cleanup: true },
    model: {
      type: "WordPiece",
      unk_token: "[UNK]",
      continuing_subword_prefix: "##",
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(words.map((word, id) => [word, id])),
    },
  });
}
