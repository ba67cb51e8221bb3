/**
 * Embeddings by an encoder with ONNX files (E5), which the optional package `@huggingface/transformers` runs on the CPU. One text at a time: in a padded
 * batch an embedding's last bits depend on its neighbours.
 */
import { stat } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import { promptText } from "../../text/prompt.ts";
import { ConfigError, DataError, show } from "../../util/errors.ts";
import { cutText, putText, unitVector, type Embedder, type EmbedderAbout, type Embeddings, type TextKind } from "./embedder.ts";

/** What is used of the package. */
interface TransformersPackage {
  readonly env: { localModelPath: string; allowRemoteModels: boolean };
  readonly pipeline: (
    task: "feature-extraction",
    model: string,
    options: { readonly dtype: string; readonly device: string },
  ) => Promise<Extractor>;
}

interface TensorOf<T> {
  readonly data: ArrayLike<T>;
  readonly dims: readonly number[];
}

interface Extractor {
  readonly tokenizer: {
    (text: string, options: { readonly truncation: boolean; readonly max_length: number }): { readonly input_ids: TensorOf<bigint> };
    readonly model_max_length?: number;
    encode(text: string): ArrayLike<number>;
  };
  readonly model: (inputs: object) => Promise<Readonly<Record<string, TensorOf<number> | undefined>>>;
  dispose(): Promise<unknown>;
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
    const { env, pipeline } = await loadTransformers();
    const isFolder = (await stat(encoder).catch(() => null))?.isDirectory() === true;
    const before = { ...env };
    try {
      // The package finds folders by a place and a name.
      if (isFolder) Object.assign(env, { localModelPath: `${dirname(resolve(encoder))}/`, allowRemoteModels: false });
      const extract = await pipeline("feature-extraction", isFolder ? basename(resolve(encoder)) : encoder, { dtype, device: "cpu" });
      return new EncoderEmbedder(options, extract, Math.min(options.about.maxTokens, extract.tokenizer.model_max_length ?? Infinity));
    } catch (cause) {
      throw new ConfigError(
        {
          where: `dense.encoder=${encoder}`,
          what: `@huggingface/transformers cannot open it: ${firstLine(cause)}`,
          expected: "a folder or Hub id with onnx/model.onnx (of the type dense.encoderDtype), config.json and tokenizer.json",
        },
        { cause },
      );
    } finally {
      env.localModelPath = before.localModelPath;
      env.allowRemoteModels = before.allowRemoteModels;
    }
  }

  async embed(texts: readonly string[], kind: TextKind, signal?: AbortSignal): Promise<Embeddings> {
    const { about, instruction } = this.#options;
    const { tokenizer } = this.#extract;
    const vectors: Float32Array[] = [];
    let [tokens, truncated] = [0, 0];
    for (const text of texts) {
      signal?.throwIfAborted();
      const read = cutText(text, CHARACTERS * this.#most);
      const put = promptText(putText(about.form, instruction, kind, read));
      const inputs = tokenizer(put, { truncation: true, max_length: this.#most });
      const length = inputs.input_ids.dims.at(-1) ?? 0;
      tokens += length;
      if (read.length < text.length || (length === this.#most && tokenizer.encode(put).length > length)) truncated++;
      vectors.push(this.#pooled(await this.#extract.model(inputs), length));
    }
    return { vectors, truncated, tokens };
  }

  takeCounts(): Readonly<Record<string, number>> {
    return {};
  }

  async close(): Promise<void> {
    await this.#extract.dispose();
  }

  /** Of the states of all tokens, [1, T, C], their mean or the first: one text has no padding. */
  #pooled(outputs: Awaited<ReturnType<Extractor["model"]>>, length: number): Float32Array {
    const { encoder, pooling, about } = this.#options;
    const states = outputs["last_hidden_state"] ?? outputs["token_embeddings"];
    const [one, tokens, width = 0] = states?.dims ?? [];
    if (states === undefined || one !== 1 || tokens !== length || states.data.length !== length * width)
      throw new DataError({
        where: encoder,
        what: "has no states of its tokens",
        expected: `last_hidden_state [1, ${length}, width]`,
        got: show(states?.dims),
      });
    const sum = new Float64Array(width);
    const taken = pooling === "cls" ? 1 : length;
    for (let i = 0; i < taken * width; i++) sum[i % width]! += states.data[i] as number;
    // Their mean has the same direction.
    return unitVector(sum, about.dimensions, encoder);
  }
}

/** @throws ConfigError where it is not installed, with the command that installs it */
export async function loadTransformers(): Promise<TransformersPackage> {
  // In a variable, so that the compiler does not look for it.
  const name = "@huggingface/transformers";
  try {
    return (await import(name)) as TransformersPackage;
  } catch (cause) {
    // In the words of Node, or of a bundler. A package of its own that is missing has another name.
    const missing = /(Cannot find (package|module)|Could not resolve) ['"]@huggingface\/transformers['"]/.test(firstLine(cause));
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
