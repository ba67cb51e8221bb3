/** Embeddings by a decoder and exact search among them, on a device: against float64, and against a decoder written in numpy. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { loadDecoder } from "../../src/checkpoint/load-model.ts";
import type { Device, Dtype } from "../../src/device/device.ts";
import { fromHuggingFace } from "../../src/nn/config.ts";
import { engines } from "../../src/search/engines.ts";
import type { DenseSearch } from "../../src/search/dense.ts";
import { type DenseHit } from "../../src/search/dense.ts";
import { buildDenseIndex } from "../../src/search/dense/build.ts";
import { DecoderEmbedder } from "../../src/search/dense/decoder-embedder.ts";
import type { EmbedderAbout } from "../../src/search/dense/embedder.ts";
import { PassageMatrix } from "../../src/search/dense/matrix.ts";
import type { EmbeddingModel } from "../../src/search/engine-kind.ts";
import { openEmbedder } from "../../src/search/open-dense.ts";
import { openModel } from "../../src/setup/open-model.ts";
import { toElements, toFloats } from "../../src/tensor/dtype.ts";
import { Tokenizer } from "../../src/text/tokenizer.ts";
import { byteTokenizerJson } from "../helpers/byte-tokenizer.ts";
import { randomValues } from "../helpers/check-op.ts";
import { deviceVariants, testDevice, useDevice } from "../helpers/device.ts";
import { liveTensors } from "../helpers/live-tensors.ts";
import { messageOf } from "../helpers/message-of.ts";
import { tinyDecoder, tinyWeights } from "../helpers/tiny-model.ts";
import { referenceLogits } from "../reference/decoder.ts";

const config = fromHuggingFace({
  architectures: ["Qwen3ForCausalLM"],
  hidden_size: 24,
  intermediate_size: 37,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  vocab_size: 263,
  max_position_embeddings: 512,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: true,
});
const tokenizer = new Tokenizer(byteTokenizerJson(), {}, { eosIds: [256] });
const instruction = "Find what answers the query";
const about: EmbedderAbout = { model: "tiny", sha256: "0".repeat(64), pooling: "last", form: "instruct", maxTokens: 200, dimensions: 0 };

const texts = Array.from(
  { length: 40 },
  (_, i) => `Passage ${i} of ${"rivers mountains cities".slice(0, 3 + ((i * 7) % 20))} ${"é".repeat(i % 5)}`,
);
const queries = ["rivers", "what is passage 7?", "Städte", "x".repeat(300)];

const modelOn = (device: Device): EmbeddingModel => ({ source: "tiny", folder: "", decoder: tinyDecoder(config, device), tokenizer });
const embedderOf = (model: EmbeddingModel, more: Partial<EmbedderAbout> = {}, batchTokens = 8192): DecoderEmbedder =>
  new DecoderEmbedder({ model, about: { ...about, ...more }, instruction, batchTokens });

/** The state of the last token in float64, of length 1: a head that is the identity gives states as logits. */
function reference(ids: readonly number[], dimensions = config.width): Float64Array {
  const C = config.width;
  const weights = new Map([...tinyWeights(config)].map(([name, values]) => [name, Float64Array.from(values)]));
  weights.set(
    "lm_head.weight",
    Float64Array.from({ length: C * C }, (_, i) => (i % (C + 1) === 0 ? 1 : 0)),
  );
  const state = referenceLogits({ ...config, tiedEmbeddings: false }, weights, ids)
    .at(-1)!
    .slice(0, dimensions);
  const length = Math.hypot(...state);
  return state.map((value) => value / length);
}

const bytes = (text: string): number[] => [...Buffer.from(text)];

function farthest(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  return Math.max(...Array.from(a, (value, i) => Math.abs(value - b[i]!)));
}

describe.each(deviceVariants)("embeddings on $name", ({ options }) => {
  const device = useDevice(options);

  it("are the last token's state of length 1, as in float64: queries behind their instruction, passages as they are", async () => {
    const model = modelOn(device());
    const embedder = embedderOf(model);
    const passages = await embedder.embed(texts.slice(0, 6), "passage");
    expect(passages).toMatchObject({ truncated: 0, tokens: texts.slice(0, 6).reduce((sum, text) => sum + bytes(text).length + 1, 0) });
    passages.vectors.forEach((vector, i) => expect(farthest(vector, reference([...bytes(texts[i]!), 256]))).toBeLessThan(3e-6));
    const [asked] = (await embedder.embed(["rivers"], "query")).vectors;
    expect(farthest(asked!, reference([...bytes(`Instruct: ${instruction}\nQuery:rivers`), 256]))).toBeLessThan(3e-6);
    const [bare] = (await embedderOf(model, { form: "bare" }).embed(["rivers"], "query")).vectors;
    expect(farthest(bare!, reference([...bytes("rivers"), 256]))).toBeLessThan(3e-6);
    const [prefixed] = (await embedderOf(model, { form: "e5" }).embed(["rivers"], "passage")).vectors;
    expect(farthest(prefixed!, reference([...bytes("passage: rivers"), 256]))).toBeLessThan(3e-6);
    const [short] = (await embedderOf(model, { dimensions: 8 }).embed(["rivers"], "passage")).vectors;
    expect(farthest(short!, reference([...bytes("rivers"), 256], 8))).toBeLessThan(3e-6);
    model.decoder.dispose();
  });

  it("have the same bits alone, in every batch and in every order", async () => {
    const model = modelOn(device());
    const together = (await embedderOf(model).embed(texts, "passage")).vectors;
    for (const batchTokens of [1, 70, 333])
      expect((await embedderOf(model, {}, batchTokens).embed(texts, "passage")).vectors).toEqual(together);
    const backwards = (await embedderOf(model, {}, 100).embed([...texts].reverse(), "passage")).vectors;
    expect([...backwards].reverse()).toEqual(together);
    const alone = await Promise.all(texts.map((text) => embedderOf(model).embed([text], "passage")));
    expect(alone.map(({ vectors }) => vectors[0])).toEqual(together);
    model.decoder.dispose();
  });

  it("of texts that are too long keep the instruction, the beginning and the token at the end, and are counted", async () => {
    const model = modelOn(device());
    const embedder = embedderOf(model, { maxTokens: 60 });
    const long = "y".repeat(100_000);
    const { vectors, truncated, tokens } = await embedder.embed([long, "short"], "query");
    expect({ truncated, tokens }).toEqual({ truncated: 1, tokens: 60 + bytes(`Instruct: ${instruction}\nQuery:short`).length + 1 });
    const ids = bytes(`Instruct: ${instruction}\nQuery:${"y".repeat(60)}`).slice(0, 59);
    expect(farthest(vectors[0]!, reference([...ids, 256]))).toBeLessThan(3e-6);
    // What looks like a token of the model's own is letters.
    const spelled = (await embedder.embed(["<|endoftext|>"], "passage")).vectors[0]!;
    expect(farthest(spelled, reference([...bytes("<|endoftext|>"), 256]))).toBeLessThan(3e-6);
    model.decoder.dispose();
  });

  it("of a model whose weights are broken are an error, and leave nothing on the device", async () => {
    const model = modelOn(device());
    model.decoder.parameters().get("model.norm.weight")!.write(new Float32Array(config.width).fill(NaN));
    const before = liveTensors(device());
    expect(await messageOf(embedderOf(model).embed(["a"], "passage"))).toContain(
      "tiny: an embedding is no vector; expected finite numbers",
    );
    expect(liveTensors(device())).toEqual(before);
    model.decoder.dispose();
  });

  it.each<Dtype>(["f32", "f16", "bf16"])(
    "are searched exactly, in blocks of %s: the best of float64 in its order, of equal ones the first",
    async (dtype) => {
      const [P, C, Q, most] = [301, 20, 9, 7];
      const matrix = new PassageMatrix({ device: device(), passages: P, dimensions: C, dtype, block: 64 });
      // Some passages are the same.
      const given = Float32Array.from(randomValues(P * C, 5));
      for (const [to, from] of [
        [200, 3],
        [64, 3],
        [300, 299],
      ] as const)
        given.copyWithin(to * C, from * C, (from + 1) * C);
      const raw = toElements(given, dtype) as Float32Array | Uint16Array;
      matrix.write(raw.subarray(0, 100 * C), 0);
      matrix.write(raw.subarray(100 * C), 100);
      const values = toFloats(raw, dtype);
      const asked = Array.from({ length: Q }, (_, q) => Float32Array.from(q === 0 ? values.slice(3 * C, 4 * C) : randomValues(C, 90 + q)));
      const found = await matrix.search(asked, most);
      found.forEach((hits, q) => {
        const scores = Array.from({ length: P }, (_, p) => asked[q]!.reduce((sum, x, c) => sum + x * values[p * C + c]!, 0));
        const order = scores
          .map((_, p) => p)
          .sort((a, b) => scores[b]! - scores[a]! || a - b)
          .slice(0, most);
        expect(hits.map(({ row }) => row)).toEqual(order);
        hits.forEach(({ row, score }) => expect(Math.abs(score - scores[row]!)).toBeLessThan(1e-5));
      });
      expect(found[0]!.slice(0, 3).map(({ row }) => row)).toEqual([3, 64, 200]);
      // The same bits whoever is searched with it, and of however many the best are asked for.
      for (const [q, query] of asked.entries()) expect(await matrix.search([query], 3)).toEqual([found[q]!.slice(0, 3)]);
      const many = await matrix.search(
        Array.from({ length: 130 }, (_, i) => asked[i % Q]!),
        most,
      );
      many.forEach((hits, i) => expect(hits).toEqual(found[i % Q]));
      const before = liveTensors(device()).tensors;
      matrix.dispose();
      expect(liveTensors(device()).tensors).toBe(before - 5);
    },
  );
});

describe("the engine dense", () => {
  const device = useDevice();
  const folder = mkdtempSync(join(tmpdir(), "zerosearch dense "));
  afterAll(() => rmSync(folder, { recursive: true }));
  const corpus = join(folder, "corpus.jsonl");
  writeFileSync(corpus, texts.map((text, i) => JSON.stringify({ id: `p${i}`, text, ...(i % 2 === 0 ? { title: "T" } : {}) })).join("\n"));
  const settings = engines.dense.schema.parse({ path: "tiny", maxTokens: 100, instruction });
  const context = {
    seed: 1,
    noise: { start: 0, end: 0, steps: 1 },
    corpus,
    promptSet: () => ({ simulator: "" }),
    now: () => 0,
    say: () => undefined,
  };
  const open = async (): Promise<{ engine: DenseSearch; model: EmbeddingModel }> => {
    const model = modelOn(device());
    const { engine } = await engines.dense.open(settings, { ...context, embedding: { device: device(), model } });
    return { engine: engine as DenseSearch, model };
  };

  it("finds the passages of largest inner product, title and all, the same for 300 that ask at once as one after the other", async () => {
    const before = liveTensors(device());
    const { engine, model } = await open();
    expect(engine.size).toBe(40);
    const alone: DenseHit[][] = [];
    for (const query of queries) alone.push(await engine.find(query));
    const passages = texts.map((text, i) => reference([...bytes(i % 2 === 0 ? `"T"\n${text}` : text), 256]));
    alone.forEach((hits, q) => {
      const asked = reference([...bytes(`Instruct: ${instruction}\nQuery:${queries[q]!}`).slice(0, 99), 256]);
      const scores = passages.map((passage) => passage.reduce((sum, value, c) => sum + value * asked[c]!, 0));
      hits.forEach(({ id, score, text, title }, place) => {
        const row = Number(id.slice(1));
        expect(Math.abs(score - scores[row]!)).toBeLessThan(1e-5);
        expect(score).toBeGreaterThanOrEqual([...scores].sort((a, b) => b - a)[place]! - 1e-5);
        expect({ text, title }).toEqual({ text: texts[row], title: row % 2 === 0 ? "T" : undefined });
      });
      expect(hits).toHaveLength(5);
    });
    expect(engine.takeCounts()).toEqual({ dense_queries: 4, dense_batches: 4, dense_truncated: 1 });
    const many = await Promise.all(Array.from({ length: 300 }, (_, i) => engine.find(queries[i % queries.length]!, 1 + (i % 5))));
    many.forEach((hits, i) => expect(hits).toEqual(alone[i % queries.length]!.slice(0, 1 + (i % 5))));
    expect(engine.takeCounts()).toEqual({ dense_queries: 300, dense_batches: 5, dense_truncated: 75 });
    await engine.close();
    model.decoder.dispose();
    expect(liveTensors(device())).toEqual(before);
  });

  it("takes hostile queries: nothing is found by nothing, 100 kB and control characters are searched", async () => {
    const { engine, model } = await open();
    expect(await Promise.all(["", "  ", "\u0000\u0007", "\ud800"].map((query) => engine.find(query)))).toEqual([[], [], [], []]);
    const huge = "what ".repeat(20_000);
    expect(await engine.find(huge)).toEqual(await engine.find(huge.slice(0, 1000)));
    expect(await engine.find("a\u0000\u001b[31m b")).toEqual(await engine.find("a [31m b"));
    expect(await engine.find("<|endoftext|>")).toHaveLength(5);
    expect(await engine.find("a", 100)).toHaveLength(40);
    expect(await messageOf(engine.find("a", 0))).toContain("dense.documents: wrong number of documents");
    await engine.close();
    model.decoder.dispose();
  });

  it("gives up a search that nobody wants any more, and refuses one when it is closed", async () => {
    const { engine, model } = await open();
    const gone = new AbortController();
    const [first, second] = [engine.find("a", 1, gone.signal), engine.find("b", 1)];
    gone.abort(new Error("no longer"));
    expect(await messageOf(first)).toBe("no longer");
    expect(await second).toHaveLength(1);
    expect(await messageOf(engine.find("a", 1, gone.signal))).toBe("no longer");
    const [left, closing] = [engine.find("c"), engine.close()];
    expect(await messageOf(left)).toBe("dense: the engine is closed");
    await closing;
    expect(await messageOf(engine.find("a"))).toBe("dense: the engine is closed");
    model.decoder.dispose();
  });

  it("searches an index that was made with weights of another type, and says so", async () => {
    const said: string[] = [];
    const denseOf = async (dtype: Dtype, index: string | null) => {
      const model = { ...modelOn(device()), decoder: tinyDecoder(config, device(), { dtype }) };
      const here = { ...context, say: (text: string) => void said.push(text), embedding: { device: device(), model } };
      return { model, here, settings: { ...settings, index } };
    };
    const file = join(folder, "made-with-f32");
    const { here, settings: made, model } = await denseOf("f32", null);
    const embedder = await openEmbedder(made, here);
    await buildDenseIndex({ corpus, source: "corpus.jsonl", file, embedder, instruction, dtype: "f32" });
    model.decoder.dispose();
    for (const dtype of ["f32", "f16"] as const) {
      const parts = await denseOf(dtype, file);
      const { engine } = await engines.dense.open(parts.settings, parts.here);
      expect((await (engine as DenseSearch).find("rivers")).length).toBe(5);
      await engine.close();
      parts.model.decoder.dispose();
    }
    expect(said).toEqual([
      `dense: ${file} was made with weights of f32, and queries are embedded with f16: scores differ in their last digits; model.dtype=f32 makes them alike`,
    ]);
  });

  it("has nothing to search without a corpus, and says which row of one is wrong", async () => {
    const embedding = { device: device(), model: modelOn(device()) };
    expect(await messageOf(engines.dense.open(settings, { ...context, corpus: null, embedding }))).toContain("data.corpus: is missing");
    const wrong = join(folder, "wrong.jsonl");
    for (const [rows, message] of [
      [[{ id: 1, text: "a" }, { id: 2 }], /wrong\.jsonl:2.*wrong passage text/],
      [
        [
          { id: 1, text: "a" },
          { id: "1", text: "b" },
        ],
        /wrong\.jsonl:2.*\b1\b/,
      ],
      [[], /the corpus is empty|wrong\.jsonl/],
    ] as const) {
      writeFileSync(wrong, rows.map((row) => JSON.stringify(row)).join("\n"));
      expect(await messageOf(engines.dense.open(settings, { ...context, corpus: wrong, embedding }))).toMatch(message);
    }
    embedding.model.decoder.dispose();
  });
});

const hasNumpy = spawnSync("python3", ["-c", "import numpy"]).status === 0;
if (!hasNumpy && process.env["REQUIRE_PYTHON"] === "1") throw new Error("python3 with numpy is missing, and REQUIRE_PYTHON=1 asks for it");

describe.skipIf(!hasNumpy)(
  "an embedding model's folder, without a head and without `model.` in its names (needs python3 with numpy)",
  () => {
    const device = useDevice();
    const folder = mkdtempSync(join(tmpdir(), "zerosearch-dense-numpy-"));
    afterAll(() => rmSync(folder, { recursive: true }));
    const script = fileURLToPath(new URL("../reference/oracle.py", import.meta.url));

    it.each([
      ["qwen3", "BF16", ""],
      ["qwen2", "F32", "--shards"],
    ])("gives numpy's embeddings, and finds what numpy finds: %s in %s %s", async (kind, dtype, layout) => {
      const place = join(folder, kind);
      const asked = { passages: texts, queries, instruction, maxTokens: 120, most: 6 };
      const args = [script, kind, dtype, place, "--embed", ...layout.split(" ").filter((one) => one !== "")];
      execFileSync("python3", args, { input: JSON.stringify(asked) });
      const expected = JSON.parse(readFileSync(join(place, "expected.json"), "utf8")) as {
        readonly passages: number[][];
        readonly queries: number[][];
        readonly rows: number[][];
        readonly scores: number[][];
      };
      const model = join(place, "model");
      writeFileSync(join(model, "tokenizer.json"), JSON.stringify(byteTokenizerJson()));
      const decoder = await loadDecoder(model, device(), {
        dtype: testDevice === "cpu" && dtype === "BF16" ? "bf16" : "f32",
        headless: true,
      });
      const embedder = new DecoderEmbedder({
        model: { source: kind, folder: model, decoder, tokenizer },
        about: { ...about, maxTokens: asked.maxTokens },
        instruction,
        batchTokens: 500,
      });
      const [passages, vectors] = [await embedder.embed(texts, "passage"), await embedder.embed(queries, "query")];
      passages.vectors.forEach((vector, i) => expect(farthest(vector, expected.passages[i]!)).toBeLessThan(2e-6));
      vectors.vectors.forEach((vector, i) => expect(farthest(vector, expected.queries[i]!)).toBeLessThan(2e-6));
      const matrix = new PassageMatrix({ device: device(), passages: texts.length, dimensions: decoder.config.width, dtype: "f32" });
      passages.vectors.forEach((vector, i) => matrix.write(vector, i));
      const found = await matrix.search(vectors.vectors, asked.most);
      found.forEach((hits, q) => {
        expect(hits.map(({ row }) => row)).toEqual(expected.rows[q]);
        expect(
          farthest(
            hits.map(({ score }) => score),
            expected.scores[q]!,
          ),
        ).toBeLessThan(2e-6);
      });
      matrix.dispose();
      decoder.dispose();
      // With a head that is missing it is no model that writes.
      if (kind === "qwen3")
        expect(await messageOf(openModel(model, device(), { dtype: "f32", maxPositions: 64, trainable: false }))).toContain(
          "lm_head.weight",
        );
    });
  },
);
