import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ChatTemplate } from "../../src/text/chat-template.ts";
import { byteAlphabet, type TokenizerJson } from "../../src/text/token-bytes.ts";
import { checkTokenizerFits, StreamDecoder, Tokenizer } from "../../src/text/tokenizer.ts";
import { hasGolden } from "../helpers/golden.ts";

const data = new URL("../../../shared/data/", import.meta.url);
const text = (path: string): string => readFileSync(new URL(path, data), "utf8");
const json = <T>(path: string): T => JSON.parse(text(path)) as T;

/** A byte-level tokenizer in which `tags` are single merged tokens is not needed: bytes and a few merges suffice. */
function tinyFile() {
  const vocab: Record<string, number> = {};
  byteAlphabet.forEach((character, byte) => (vocab[character] = byte));
  const merges: [string, string][] = [
    ["t", "h"],
    ["th", "e"],
    ["Ġ", "the"],
    ["Ã", "©"],
  ];
  merges.forEach(([a, b], i) => (vocab[a + b] = 256 + i));
  const special = { id: 260, content: "<|end|>", special: true, single_word: false, lstrip: false, rstrip: false, normalized: false };
  const ordinary = { ...special, id: 261, content: "<think>", special: false };
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: "1.0",
    added_tokens: [special, ordinary],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: { type: "BPE", vocab, merges },
  };
}

function folder(path: string): Tokenizer {
  return new Tokenizer(json(`${path}/tokenizer.json`), json(`${path}/tokenizer_config.json`), { where: path });
}

describe("Tokenizer", () => {
  const tiny = new Tokenizer(tinyFile(), { eos_token: "<|end|>" });

  test("token bytes are exact, special tokens have none, and added ordinary tokens have theirs", () => {
    expect([...tiny.tokenBytes(258)]).toEqual([0x20, 0x74, 0x68, 0x65]);
    expect([...tiny.tokenBytes(259)]).toEqual([0xc3, 0xa9]);
    expect(tiny.tokenBytes(260)).toHaveLength(0);
    expect(new TextDecoder().decode(tiny.tokenBytes(261))).toBe("<think>");
    expect(tiny.tokenBytes(262)).toHaveLength(0);
    expect(() => tiny.tokenBytes(-1)).toThrow(/not a token id; expected a non-negative integer, got -1/);
    expect(tiny.eosIds).toEqual([260]);
    expect(tiny.vocabularySize).toBe(262);
  });

  test("decode(encode(text)) is text, for any text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (s) => {
        const wellFormed = new TextDecoder("utf-8", { ignoreBOM: true }).decode(new TextEncoder().encode(s));
        expect(tiny.decode(tiny.encode(s))).toBe(wellFormed);
      }),
    );
  });

  test("a stream decoder gives the same text in any cut, and never half a character", () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 261 })), (ids) => {
        const stream = new StreamDecoder(tiny);
        const pieces = ids.map((id) => stream.push(id));
        expect(pieces.join("") + stream.end()).toBe(tiny.decode(ids));
      }),
    );
    const stream = new StreamDecoder(tiny);
    expect([..."é🙂"].length).toBe(2);
    const bytes = [...new TextEncoder().encode("é🙂")];
    expect(bytes.map((b) => stream.push(b))).toEqual(["", "é", "", "", "", "🙂"]);
  });

  test("clean text is not tidied: spaces before punctuation stay", () => {
    expect(tiny.decode(tiny.encode("a . b , c n't"))).toBe("a . b , c n't");
  });

  test("a special token's spelling in a document stays ordinary text when asked", () => {
    expect(tiny.encode("the<|end|>")).toEqual([257, 260]);
    const plain = tiny.encode("the<|end|>", { parseSpecialTokens: false });
    expect(plain).not.toContain(260);
    expect(tiny.decode(plain)).toBe("the<|end|>");
    // An added token that is not special is one all the same: what a document spells is letters.
    expect(tiny.encode("<think>")).toEqual([261]);
    expect(tiny.encode("<think>", { parseSpecialTokens: false })).not.toContain(261);
  });

  test("not even a vocabulary whose merges spell a special token gives it to a document", () => {
    for (const ignore_merges of [false, true]) {
      const { model, ...rest } = tinyFile();
      const special = { id: 257, content: "the", special: true };
      const other = { id: 262, content: "\u0120the\u0120the", special: true };
      const odd = new Tokenizer({ ...rest, added_tokens: [special, other], model: { ...model, ignore_merges } } as TokenizerJson);
      expect(odd.encode("the")).toEqual([257]);
      const plain = odd.encode("the the", { parseSpecialTokens: false });
      expect(plain.filter((id) => id === 257 || id === 262)).toEqual([]);
      expect(odd.decode(plain)).toBe("the the");
    }
  });

  test("the white space that an added token takes with it goes, on the side it says", () => {
    const { added_tokens, ...rest } = tinyFile();
    const taking = { ...added_tokens[0]!, id: 262, content: "<|l|>", lstrip: true };
    const both = { ...added_tokens[0]!, id: 263, content: "<|lr|>", lstrip: true, rstrip: true };
    const tokenizer = new Tokenizer({ ...rest, added_tokens: [...added_tokens, taking, both] });
    const [a, space] = [tokenizer.encode("a")[0], tokenizer.encode(" ")[0]];
    expect(tokenizer.encode("a <|l|> a")).toEqual([a, 262, space, a]);
    expect(tokenizer.encode("a \n<|lr|> \na")).toEqual([a, 263, a]);
    expect(tokenizer.encode("<|lr|>  <|l|> a")).toEqual([263, 262, space, a]);
  });

  test("decode can leave special tokens out", () => {
    expect(tiny.decode([257, 260])).toBe("the<|end|>");
    expect(tiny.decode([257, 260], { skipSpecialTokens: true })).toBe("the");
  });

  test("a tokenizer larger than the model is a clear error, a smaller one is not", () => {
    expect(() => checkTokenizerFits(tiny, 256, "model m")).toThrow(/does not fit the model; expected at most 256 tokens.*got 262/);
    checkTokenizerFits(tiny, 300, "model m");
  });

  test("an end-of-sequence id that the model has no row for is a clear error", () => {
    const odd = new Tokenizer(tinyFile(), {}, { eosIds: [261, 300] });
    expect(() => checkTokenizerFits(odd, 300, "model m")).toThrow(
      /^model m: eos_token_id of generation_config.json, or of config.json, does not fit the model; expected ids below 300.*got 300$/,
    );
    checkTokenizerFits(odd, 301, "model m");
  });

  test("files that are no BPE tokenizer, and an eos token that does not exist, are clear errors", () => {
    expect(() => new Tokenizer({ model: { type: "Unigram", vocab: [] } } as unknown as TokenizerJson)).toThrow(
      /not supported; expected a BPE model.*got Unigram/,
    );
    expect(() => new Tokenizer({} as TokenizerJson)).toThrow(/not a tokenizer/);
    const file = { model: { type: "BPE", vocab: { a: 0 }, merges: [] }, decoder: { type: "ByteLevel" } } as unknown as TokenizerJson;
    expect(() => new Tokenizer(file)).toThrow(/no token for byte 0x00/);
  });
});

// Qwen's and Llama 3's are in real-tokenizers.test.ts.
describe.skipIf(!hasGolden)("Tokenizer against golden files (../shared/data)", () => {
  test("stories260K: encodings with the beginning-of-sequence token, and the text of the greedy ids", () => {
    const tokenizer = folder("models/stories260K-hf");
    const golden = json<{ encode: { text: string; ids: number[] }[]; greedy_ids_from_BOS_200new: number[]; greedy_text: string }>(
      "golden/stories260K_golden.json",
    );
    expect(tokenizer.kind).toBe("sentencePiece");
    for (const { text, ids } of golden.encode) {
      expect(tokenizer.encode(text, { addSpecialTokens: true })).toEqual(ids);
      expect(tokenizer.encode(text)).toEqual(ids.slice(1));
      expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe(text);
    }
    expect(tokenizer.decode(golden.greedy_ids_from_BOS_200new, { skipSpecialTokens: true }).trim()).toBe(golden.greedy_text.trim());
    expect(tokenizer.tokenBytes(13)).toEqual(Uint8Array.of(10));
    expect(tokenizer.decode(tokenizer.encode("Once upon"), { continuation: true })).toBe(" Once upon");
  });

  const vectors = (name: string): [string, number[]][] => {
    const inputs = text(`golden/tokenizer-vectors/${name}.inp`).split("\n__ggml_vocab_test__\n");
    const outputs = text(`golden/tokenizer-vectors/${name}.out`).split("\n");
    return inputs.map((input, i) => [
      input,
      (outputs[i] ?? "")
        .trim()
        .split(/\s+/)
        .filter((s) => s !== "")
        .map(Number),
    ]);
  };

  test("GPT-2: llama.cpp's test vectors", () => {
    const merges = text("models/tokenizers/gpt2/merges.txt")
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#version"))
      .map((line) => line.split(" "));
    const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
    const file = {
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: byteLevel,
      post_processor: null,
      decoder: byteLevel,
      model: { type: "BPE", vocab: json("models/tokenizers/gpt2/vocab.json"), merges },
    };
    const tokenizer = new Tokenizer(file as unknown as TokenizerJson, {}, { where: "gpt2" });
    for (const [input, ids] of vectors("ggml-vocab-gpt-2.gguf")) {
      expect(tokenizer.encode(input), JSON.stringify(input)).toEqual(ids);
      expect(tokenizer.decode(ids)).toBe(input);
    }
  });

  test("chat templates of Qwen2.5 and Llama 3.2 render as the golden file says", () => {
    const { cases } = json<{ cases: { text: string; chat?: string }[] }>("golden/tokenizer_chat_golden.json");
    const content =
      "Answer the given question. You must conduct reasoning inside <think> and </think> first. Question: who told the story of the prodigal son?";
    const qwen = new ChatTemplate(text("golden/chat-templates/Qwen-Qwen2.5-7B-Instruct.jinja"));
    const llama = new ChatTemplate(text("golden/chat-templates/meta-llama-Llama-3.2-3B-Instruct.jinja"), {
      bos_token: "<|begin_of_text|>",
    });
    const golden = cases.filter((c) => c.chat !== undefined).map((c) => c.text);
    expect(golden).toHaveLength(2);
    expect(qwen.render([{ role: "user", content }])).toBe(golden[0]);
    expect(llama.render([{ role: "user", content }])).toBe(golden[1]);
  });

  test("Qwen3's template leaves thinking on by default and closes it when told", () => {
    const qwen3 = new ChatTemplate(text("golden/chat-templates/Qwen-Qwen3-0.6B.jinja"));
    expect(qwen3.render([{ role: "user", content: "hi" }])).toBe("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
    expect(qwen3.render([{ role: "user", content: "hi" }], { enable_thinking: false })).toMatch(/<think>\n\n<\/think>\n\n$/);
  });

  test("a template that refuses a role order says so", () => {
    const strict = new ChatTemplate("{% if messages[0].role != 'user' %}{{ raise_exception('first must be user') }}{% endif %}");
    expect(() => strict.render([{ role: "system", content: "" }])).toThrow(/refuses the messages.*first must be user.*got system/s);
    const counting = new ChatTemplate("{% for i in range(1, 7, 2) %}{{ i }}{% endfor %}{% for i in range(2) %}{{ i }}{% endfor %}");
    expect(counting.render([])).toBe("13501");
    expect(() => new ChatTemplate("{% if %}")).toThrow(/does not parse/);
  });
});
