/** What opening an engine takes, and gives. */
import type { z } from "zod";
import type { Device } from "../device/device.ts";
import type { Generator } from "../generate/types.ts";
import type { StoppingCodec } from "../generate/stop-automaton.ts";
import type { Decoder } from "../nn/decoder.ts";
import type { ChatTemplate } from "../text/chat-template.ts";
import type { TextCodec } from "../text/prompt.ts";
import type { ScoreRules } from "../util/normalise-answer.ts";
import type { Noise } from "./curriculum.ts";
import type { NoiseUnit } from "./settings.ts";
import type { Engine, Simulator } from "./search-engine.ts";

/** One file each, one line each in `engines.ts`. */
export interface EngineKind<Settings> {
  readonly name: string;
  /** The section of the configuration that holds its settings. */
  readonly section: "simulator" | "bm25" | "dense" | "http" | "mcp";
  readonly schema: z.ZodType<Settings>;
  /** Whether these settings need `EngineContext.local`, or `EngineContext.embedding`. */
  runsHere?(settings: Settings): boolean;
  /** Of one that does: what can be wrong before models are loaded. @throws as `open` */
  check?(settings: Settings, context: EngineContext): Promise<void>;
  /** What its answers depend on, the same wherever it is opened: what searches are known again by in a recording. */
  identity(settings: Settings, context: IdentityContext): Promise<unknown>;
  /** @throws ConfigError naming the setting that is wrong; FileError, DataError, ServerError where the engine cannot be had. */
  open(settings: Settings, context: EngineContext): Promise<OpenedEngine>;
}

/** What engines are given besides their settings. */
export interface EngineContext {
  readonly seed: number;
  /** How noise rises over the run, for simulators. */
  readonly noise: Noise;
  /** What of a simulator's set is drawn to be useful or noisy; the set unless given. */
  readonly unit?: NoiseUnit | undefined;
  /** How the run compares answers; as usual unless given. */
  readonly rules?: ScoreRules | undefined;
  /** File of passages, `data.corpus`. */
  readonly corpus: string | null;
  /** The model in this process. */
  readonly local?: LocalModel;
  /** What embeddings are made and searched on. */
  readonly embedding?: EmbeddingParts;
  /** Texts of a set of prompts. */
  readonly promptSet: (name: string) => { readonly simulator: string };
  /** Milliseconds of a steady clock, for counts only. */
  readonly now: () => number;
  /** Told what a person should know, such as retries. */
  readonly say: (text: string) => void;
  /** Fires when the program is to stop: an engine that takes its time to open is given up. */
  readonly signal?: AbortSignal | undefined;
  /** Shows how far an engine is that takes its time to open; nothing is shown where it is left out. */
  readonly progress?: ((of: { readonly label: string; readonly total: number; readonly unit: string }) => EngineProgress) | undefined;
}

export interface EngineProgress {
  update(done: number, fields?: Readonly<Record<string, string | number>>): void;
  finish(): void;
}

/** The device of this process and, where one of its models makes the embeddings, that model. */
export interface EmbeddingParts {
  readonly device: Device;
  readonly model: EmbeddingModel | null;
}

export interface EmbeddingModel {
  /** What the user calls it. */
  readonly source: string;
  readonly folder: string;
  readonly decoder: Decoder;
  readonly tokenizer: TextCodec & { readonly ending: readonly number[]; readonly eosIds: readonly number[] };
}

/** What an engine's answers depend on besides its settings. */
export interface IdentityContext extends Pick<EngineContext, "seed" | "noise" | "unit" | "corpus" | "promptSet"> {
  /** Type of the weights of models in this process that are only read. */
  readonly modelDtype: string;
  /** SHA-256 of a file. */
  readonly hashFile: (file: string) => Promise<string>;
  /** Where a path of the settings lies: in them, files of this package have its place left out. */
  readonly pathHere: (path: string) => string;
}

/** A model that a simulator runs on. */
export interface LocalModel {
  readonly generator: Generator;
  /** Its name in the generator. */
  readonly model: string;
  readonly adapter?: string | undefined;
  readonly tokenizer: TextCodec & StoppingCodec;
  readonly chatTemplate: ChatTemplate | null;
  /** Columns of its logits. */
  readonly vocabulary: number;
}

/** Makes simulators over one model that differ in noise: the curriculum's unless given. */
export type Simulate = (noise?: Noise) => Simulator;

export interface OpenedEngine {
  readonly engine: Engine;
  /** Of simulators. */
  readonly simulate?: Simulate;
  /** What was asked since the last call: values of a step, which depend on others as times do. */
  takeCounts?(): Readonly<Record<string, number>>;
}
