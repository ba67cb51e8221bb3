/** A server with OpenAI's /embeddings on this machine: what it makes of a text depends on the text alone. */
import { createHash } from "node:crypto";
import { openSearchServer, type Answer, type AskedOf, type SearchServer } from "./search-server.ts";

export const width = 8;

/** Numbers from -1 to 1 that belong to a text, exact in f32. */
export function numbersOf(text: string): number[] {
  const bytes = createHash("sha256").update(text).digest();
  return Array.from({ length: width }, (_, i) => (bytes[i]! - 128) / 128 || 0.5);
}

/** The same of length 1. */
export function vectorOf(text: string): number[] {
  const numbers = numbersOf(text);
  const length = Math.hypot(...numbers);
  return numbers.map((value) => value / length);
}

interface Body {
  readonly model: string;
  readonly input: readonly string[];
  readonly encoding_format: string;
}

export const bodyOf = ({ text }: AskedOf): Body => JSON.parse(text) as Body;

/** A right reply to a request. */
export function embedded(asked: AskedOf): { data: Record<string, unknown>[]; [field: string]: unknown } {
  const { model, input, encoding_format } = bodyOf(asked);
  const data = input.map((text, index) => {
    const numbers = numbersOf(text);
    const embedding = encoding_format === "base64" ? Buffer.from(Float32Array.from(numbers).buffer).toString("base64") : numbers;
    return { object: "embedding", index, embedding };
  });
  const tokens = input.reduce((sum, text) => sum + text.length, 0);
  return { object: "list", data, model, usage: { prompt_tokens: tokens, total_tokens: tokens } };
}

/** `answer` where it gives one, else the right one. */
export function openEmbeddingsServer(answer: (asked: AskedOf, index: number) => Answer | null = () => null): Promise<SearchServer> {
  return openSearchServer((asked, index) => answer(asked, index) ?? { json: embedded(asked) });
}
