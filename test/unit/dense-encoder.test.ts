/** Embeddings by an encoder through the optional package @huggingface/transformers, where it is installed. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { DenseSearch } from "../../src/search/dense.ts";
import { EncoderEmbedder, type EncoderEmbedderOptions } from "../../src/search/dense/encoder-embedder.ts";
import { engines } from "../../src/search/engines.ts";
import { messageOf } from "../helpers/message-of.ts";
import { rowOf, writeTinyEncoder } from "../helpers/tiny-encoder.ts";
import { ReferenceDevice } from "../reference/device.ts";

const name: string = "@huggingface/transformers";
const installed = await import(name).then(
  () => true,
  () => false,
);

describe.skipIf(!installed)("an encoder (needs @huggingface/transformers)", () => {
  const folder = mkdtempSync(join(tmpdir(), "zerosearch encoder "));
  afterAll(() => rmSync(folder, { recursive: true }));
  const encoder = join(folder, "tiny");
  writeTinyEncoder(encoder);
  const open = (pooling: "mean" | "cls", maxTokens = 12): Promise<EncoderEmbedder> => {
    const about: EncoderEmbedderOptions["about"] = {
      model: encoder,
      sha256: "0".repeat(64),
      pooling,
      form: "e5",
      maxTokens,
      dimensions: 0,
    };
    return EncoderEmbedder.open({ encoder, dtype: "fp32", pooling, about, instruction: "" });
  };
  /** Mean of the words' rows, of length 1. */
  const meanOf = (...words: string[]): number[] => {
    const mean = rowOf("").map((_, c) => words.reduce((sum, word) => sum + rowOf(word)[c]! / words.length, 0));
    return mean.map((one) => one / Math.hypot(...mean));
  };
  const expectNear = (vector: Float32Array | undefined, expected: readonly number[]): void =>
    expected.forEach((one, c) => expect(vector?.[c]).toBeCloseTo(one, 5));

  it("takes the mean of all tokens behind `query: ` and `passage: `, or the first token", async () => {
    const mean = await open("mean");
    const { vectors, tokens, truncated } = await mean.embed(["River city", "mountain"], "query");
    expectNear(vectors[0], meanOf("[CLS]", "query", ":", "river", "city", "[SEP]"));
    expectNear(vectors[1], meanOf("[CLS]", "query", ":", "mountain", "[SEP]"));
    expect({ tokens, truncated }).toEqual({ tokens: 11, truncated: 0 });
    expectNear((await mean.embed(["city"], "passage")).vectors[0], meanOf("[CLS]", "passage", ":", "city", "[SEP]"));
    // The same bits, whoever is embedded with it.
    expect((await mean.embed(["mountain"], "query")).vectors[0]).toEqual(vectors[1]);
    await mean.close();
    const cls = await open("cls");
    expectNear((await cls.embed(["city"], "passage")).vectors[0], meanOf("[CLS]"));
    await cls.close();
  });

  it("cuts what is longer than dense.maxTokens, and says so", async () => {
    const short = await open("mean", 6);
    const { vectors, truncated, tokens } = await short.embed(["river ".repeat(50)], "query");
    expect({ truncated, tokens }).toEqual({ truncated: 1, tokens: 6 });
    const cut = [meanOf("[CLS]", "query", ":", "river", "river", "[SEP]"), meanOf("[CLS]", "query", ":", "river", "river", "river")];
    expect(cut.some((one) => one.every((value, c) => Math.abs(value - vectors[0]![c]!) < 1e-5))).toBe(true);
    await short.close();
  });

  it("is searched as any other, and refused by name where it is none", async () => {
    const corpus = join(folder, "corpus.jsonl");
    writeFileSync(corpus, ["river", "mountain city", "city"].map((text, id) => JSON.stringify({ id, text })).join("\n"));
    const context = {
      ...{
        seed: 1,
        noise: { start: 0, end: 0, steps: 1 },
        corpus,
        promptSet: () => ({ simulator: "" }),
        now: () => 0,
        say: () => undefined,
      },
      embedding: { device: new ReferenceDevice(), model: null },
    };
    const settings = engines.dense.schema.parse({ encoder, documents: 1 });
    const { engine } = await engines.dense.open(settings, context);
    const scores = [["river"], ["mountain", "city"], ["city"]].map((words) => {
      const [passage, query] = [meanOf("[CLS]", "passage", ":", ...words, "[SEP]"), meanOf("[CLS]", "query", ":", "city", "[SEP]")];
      return passage.reduce((sum, value, c) => sum + value * query[c]!, 0);
    });
    const [hit] = await (engine as DenseSearch).find("city");
    expect(hit?.id).toBe(String(scores.indexOf(Math.max(...scores))));
    expect(hit?.score).toBeCloseTo(Math.max(...scores), 5);
    await engine.close();
    const none = engines.dense.open({ ...settings, encoder: folder }, context);
    expect(await messageOf(none)).toMatch(
      /dense\.encoder=.*: @huggingface\/transformers cannot open it: .*; expected a folder or Hub id with onnx\/model\.onnx/,
    );
  });
});
