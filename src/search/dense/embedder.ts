/** What makes vectors of texts (a decoder of this process, an encoder, a server), and how texts are put to it. */
import { foreign, ours, type PromptPart } from "../../text/prompt.ts";
import { DataError } from "../../util/errors.ts";
import { joinContents, type Passage } from "../passages.ts";
import type { DenseSettings } from "../settings.ts";

export type TextKind = "query" | "passage";

/** What embeddings of passages depend on: an index of others is refused. */
export interface EmbedderAbout {
  /** What the model is called. */
  readonly model: string;
  /** SHA-256 of its files; of one behind a server, or from a Hub, of its name. */
  readonly sha256: string;
  readonly pooling: "last" | "mean" | "cls" | "server";
  readonly form: TextForm;
  readonly maxTokens: number;
  /** Numbers kept; 0: all. */
  readonly dimensions: number;
  /** Type of the model's weights; undefined where nobody knows: of a server, and in indexes that do not say. */
  readonly weights?: string | undefined;
}

export interface Embeddings {
  /** One for each text, of length 1. */
  readonly vectors: readonly Float32Array[];
  /** Texts that were cut. */
  readonly truncated: number;
  /** That the model read, as far as it says. */
  readonly tokens: number;
}

export interface Embedder {
  readonly about: EmbedderAbout;
  /**
   * A text's embedding does not depend on the others, as far as the model is of this process.
   * @throws RequestError where a server finds fault with one of the texts, ServerError where it fails for good; DataError for what is no vector
   */
  embed(texts: readonly string[], kind: TextKind, signal?: AbortSignal): Promise<Embeddings>;
  /** What was asked of a server since the last call: values of a step. */
  takeCounts(): Readonly<Record<string, number>>;
  close(): Promise<void>;
}

/** How texts are put to a model. */
export type TextForm = Exclude<DenseSettings["form"], "auto">;

export function formOf({ form, encoder }: Pick<DenseSettings, "form" | "encoder">): TextForm {
  return form !== "auto" ? form : encoder === null ? "instruct" : "e5";
}

/**
 * Sources: the model cards of Qwen/Qwen3-Embedding-0.6B (no space after `Query:`; passages as they are) and intfloat/e5-base-v2.
 */
export function putText(form: TextForm, instruction: string, kind: TextKind, text: string): PromptPart[] {
  if (form === "e5") return [ours(`${kind}: `), foreign(text)];
  if (form === "instruct" && kind === "query") return [ours(`Instruct: ${instruction}\nQuery:`), foreign(text)];
  return [foreign(text)];
}

/** A passage as it is embedded: title and text as Search-R1's index has them. */
export function passageText(passage: Passage): string {
  return joinContents(passage);
}

/** The first `most` units of a text, no half character at the end. */
export function cutText(text: string, most: number): string {
  if (text.length <= most) return text;
  const end = text.charCodeAt(most - 1);
  return text.slice(0, end >= 0xd800 && end < 0xdc00 ? most - 1 : most);
}

/**
 * The first `dimensions` numbers (0: all) of length 1: divided by their length, in float64.
 * @throws DataError at `where` for numbers that are none, or all zero
 */
export function unitVector(values: ArrayLike<number>, dimensions: number, where: string): Float32Array {
  if (dimensions > values.length)
    throw new DataError({
      where: "dense.dimensions",
      what: `${where} makes embeddings that are shorter`,
      expected: `at most ${values.length}`,
      got: String(dimensions),
    });
  const kept = dimensions === 0 ? values.length : dimensions;
  let sum = 0;
  for (let i = 0; i < kept; i++) sum += (values[i] as number) ** 2;
  const length = Math.sqrt(sum);
  if (!Number.isFinite(length) || length === 0)
    throw new DataError({ where, what: "an embedding is no vector", expected: "finite numbers, not all 0", got: `length ${length}` });
  const unit = new Float32Array(kept);
  for (let i = 0; i < kept; i++) unit[i] = (values[i] as number) / length;
  return unit;
}
