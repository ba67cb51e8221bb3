/** Small models, requests and a runner, shared by the tests of generation. */
import { existsSync, readFileSync } from "node:fs";
import { makeDevice } from "../../helpers/device.ts";
import type { Device } from "../../../src/device/device.ts";
import { BatchGenerator, type BatchGeneratorOptions } from "../../../src/generate/scheduler.ts";
import { compileStops } from "../../../src/generate/stop-automaton.ts";
import type { Generated, GenerateRequest, OpenOptions, StopTable } from "../../../src/generate/types.ts";
import { fromHuggingFace, type DecoderConfig } from "../../../src/nn/config.ts";
import { Decoder } from "../../../src/nn/decoder.ts";
import { philox } from "../../../src/util/philox.ts";

export function openDevice(threads = 1): Promise<Device> {
  // What nothing wrote is NaN, and would be seen.
  return makeDevice({ threads });
}

export const V = 72;

export function tinyConfig(changes: Record<string, unknown> = {}): DecoderConfig {
  return fromHuggingFace({
    architectures: ["LlamaForCausalLM"],
    hidden_size: 32,
    intermediate_size: 48,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: V,
    max_position_embeddings: 320,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    tie_word_embeddings: false,
    ...changes,
  });
}

export function tinyDecoder(device: Device, seed = 1, changes: Record<string, unknown> = {}): Decoder {
  return Decoder.initialise(tinyConfig(changes), device, seed);
}

/** Token i is one of eight letters, so that "ab" comes up every few dozen tokens; the last token ends a sequence. */
export const letterBytes = (id: number): Uint8Array => (id === V - 1 ? new Uint8Array(0) : Uint8Array.of(97 + (id % 8)));
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
export const stopTable = (...stops: string[]): StopTable =>
  compileStops({ stops: stops.map(bytes), eosIds: [V - 1], tokenBytes: letterBytes, vocabulary: V });
/** Nothing but the budget ends it. */
export const endless: StopTable = compileStops({ stops: [], eosIds: [], tokenBytes: letterBytes, vocabulary: V });

export const greedy = { temperature: 0, topK: 0, topP: 1 } as const;
export const plain = { temperature: 1, topK: 0, topP: 1 } as const;

/** Pseudo-random ids, the same for the same name. */
export function idsOf(name: number, length: number): number[] {
  return Array.from({ length }, (_, i) => philox([name, 7], [i, 0, 0, 0])[0] % V);
}

export interface Job {
  readonly open: OpenOptions;
  /** One request for each turn, with ids appended before all but the first. */
  readonly turns: readonly { readonly append: readonly number[]; readonly request: GenerateRequest }[];
}

const stops = [stopTable("ab"), stopTable("cab", "dd"), endless];

/** Requests of every kind: groups with one prompt, a long common head, prompts from 1 to 170 ids, two turns, all samplings and stops. */
export function jobs(count: number, model = "tiny"): Job[] {
  const head = idsOf(99, 100);
  return Array.from({ length: count }, (_, i) => {
    const question = Math.floor(i / 4);
    const prompt = question % 3 === 0 ? [...head, ...idsOf(question, 5 + (question % 70))] : idsOf(question, 1 + ((37 * question) % 170));
    const sampling = [plain, greedy, { temperature: 0.7, topK: 5, topP: 1 }, { temperature: 1.3, topK: 0, topP: 0.8 }][(i + question) % 4]!;
    const request = (turn: number): GenerateRequest => ({
      stop: stops[(i + turn) % 3]!,
      maxNewTokens: 3 + ((11 * i + 29 * turn) % 50),
      sampling,
    });
    return {
      open: { model, key: { step: 3, question, rollout: i % 4 }, seed: 42, purpose: "policySample", prompt },
      turns: [
        { append: [], request: request(0) },
        { append: idsOf(1000 + i, 1 + (i % 23)), request: request(1) },
      ],
    };
  });
}

/** Runs the turns of one job. */
export async function runJob(generator: BatchGenerator, job: Job): Promise<Generated[]> {
  const sequence = generator.open(job.open);
  const results: Generated[] = [];
  for (const { append, request } of job.turns) {
    if (append.length > 0) sequence.append(append);
    results.push(await sequence.generate(request));
  }
  sequence.close();
  return results;
}

/** Runs all jobs at once, in the order given, and returns their results in the order of `list`. */
export async function runAll(
  device: Device,
  decoder: Decoder,
  list: readonly Job[],
  options: Partial<BatchGeneratorOptions> = {},
  order = [...list.keys()],
): Promise<Generated[][]> {
  const generator = new BatchGenerator({ device, models: { tiny: { decoder } }, ...options });
  try {
    const results: Generated[][] = new Array<Generated[]>(list.length);
    await Promise.all(
      order.map(async (i) => {
        results[i] = await runJob(generator, list[i]!);
      }),
    );
    return results;
  } finally {
    await generator.dispose();
  }
}

const data = new URL("../../../../shared/data/", import.meta.url);
export const dataPresent = existsSync(data);

export function goldenJson<T>(path: string): T {
  return JSON.parse(readFileSync(new URL(path, data), "utf8")) as T;
}

/** The f32 tensors of a safetensors file of the shared data, by name. */
export function loadStories(device: Device): Decoder {
  const config = fromHuggingFace(goldenJson("models/stories260K-hf/config.json"));
  const decoder = new Decoder(config, device);
  const file = readFileSync(new URL("models/stories260K-hf/model.safetensors", data));
  const headerLength = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, 8 + headerLength).toString("utf8")) as Record<
    string,
    { dtype: string; data_offsets: [number, number] }
  >;
  for (const [name, parameter] of decoder.parameters()) {
    const [from, to] = header[name]!.data_offsets;
    const raw = file.subarray(8 + headerLength + from, 8 + headerLength + to);
    parameter.write(new Float32Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.byteLength)));
  }
  return decoder;
}
