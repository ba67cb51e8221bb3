/**
 * Embeddings by an encoder with ONNX files (E5), which the optional package `@huggingface/transformers` runs on the CPU. One text at a time: in a padded
 * batch an embedding's last bits depend on its neighbours.
 */
import { promptText } from "../../text/prompt.ts";
import { ConfigError, DataError, show } from "../../util/errors.ts";
import { cutText, putText, unitVector, type Embedder, type EmbedderAbout, type Embeddings, type TextKind } from "./embedder.ts";

/** What is used of the package. */
interface TransformersPackage {
  readonly pipeline: (
    task: "feature-extraction",
    model: string,
    options: { readonly dtype: string; readonly device: string },
  ) => Promise<Extractor>;
}

interface Extractor {
  (
    text: string,
    options: { readonly pooling: string; readonly normalize: boolean },
  ): Promise<{
    readonly data: ArrayLike<number>;
    readonly dims: readonly number[];
  }>;
  readonly tokenizer?: {
    model_max_length?: number;
    encode?(text: string): ArrayLike<number>;
  };
  dispose?(): Promise<unknown>;
}

export interface EncoderEmbedderOptions {
  /** A folder, or a Hub id. */
  readonly encoder: string;
  readonly dtype: string;
  readonly pooling: "mean" | "cls";
  readonly about: EmbedderAbout;
  readonly instruction: string;
}

const CHARACTERS = 64;

export class EncoderEmbedder implements Embedder {
  readonly about: EmbedderAbout;
  readonly #options: EncoderEmbedderOptions;
  readonly #extract: Extractor;
  readonly #most: number;

  private constructor(options: EncoderEmbedderOptions, extract: Extractor, most: number) {
    this.about = options.about;
    this.#options = options;
    this.#extract = extract;
    this.#most = most;
  }

  /** @throws ConfigError where the package is not installed, or cannot load the model */
  static async open(options: EncoderEmbedderOptions): Promise<EncoderEmbedder> {
    const { encoder, dtype } = options;
    const { pipeline } = await loadTransformers();
    try {
      const extract = await pipeline("feature-extraction", encoder, { dtype, device: "cpu" });
      const { tokenizer } = extract;
      // Longer texts are cut by the package.
      const most = Math.min(options.about.maxTokens, tokenizer?.model_max_length ?? Infinity);
      if (tokenizer !== undefined) tokenizer.model_max_length = most;
      return new EncoderEmbedder(options, extract, most);
    } catch (cause) {
      throw new ConfigError(
        {
          where: `dense.encoder=${encoder}`,
          what: `@huggingface/transformers cannot open it: ${firstLine(cause)}`,
          expected: "a folder or Hub id with onnx/model.onnx (of the type dense.encoderDtype), config.json and tokenizer.json",
        },
        { cause },
      );
    }
  }

  async embed(texts: readonly string[], kind: TextKind, signal?: AbortSignal): Promise<Embeddings> {
    const { about, instruction, encoder, pooling } = this.#options;
    const vectors: Float32Array[] = [];
    let [tokens, truncated] = [0, 0];
    for (const text of texts) {
      signal?.throwIfAborted();
      const put = promptText(putText(about.form, instruction, kind, cutText(text, CHARACTERS * this.#most)));
      const length = this.#extract.tokenizer?.encode?.(put).length ?? 0;
      tokens += Math.min(length, this.#most);
      if (length > this.#most || put.length > CHARACTERS * this.#most) truncated++;
      const { data, dims } = await this.#extract(put, { pooling, normalize: false });
      if (dims.length !== 2 || dims[0] !== 1 || dims[1] !== data.length)
        throw new DataError({ where: encoder, what: "its output has another shape", expected: "[1, width]", got: show(dims) });
      vectors.push(unitVector(data, about.dimensions, encoder));
    }
    return { vectors, truncated, tokens };
  }

  takeCounts(): Readonly<Record<string, number>> {
    return {};
  }

  async close(): Promise<void> {
    await this.#extract.dispose?.();
  }
}

async function loadTransformers(): Promise<TransformersPackage> {
  // In a variable, so that the compiler does not look for it.
  const name = "@huggingface/transformers";
  try {
    return (await import(name)) as TransformersPackage;
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === "ERR_MODULE_NOT_FOUND" && firstLine(cause).includes(name);
    throw new ConfigError(
      {
        where: "dense.encoder",
        what: missing ? `the optional package ${name} is not installed` : `${name} cannot be loaded: ${firstLine(cause)}`,
        hint: `npm install ${name} (it brings onnxruntime, which downloads its libraries when it is installed). dense.path runs a decoder without it.`,
      },
      { cause },
    );
  }
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0] ?? "";
}
