/**
 * adapter_config.json as PEFT writes it, and which linear layers it means, with which rank and scale, by PEFT's own rules of matching names.
 * What would change the numbers and is not supported here is refused by name, never ignored; what matters in training only is kept and has no
 * effect.
 *
 * Source: `LoraConfig` of huggingface/peft (src/peft/tuners/lora/config.py), 0.12 to 0.20; `check_target_module_exists`,
 * `_maybe_include_all_linear_layers` (src/peft/tuners/tuners_utils.py) and `get_pattern_key` (src/peft/utils/other.py).
 */
import { join } from "node:path";
import { runInNewContext } from "node:vm";
import { z } from "zod";
import { linearNames, type LinearName } from "../nn/block.ts";
import type { DecoderConfig } from "../nn/config.ts";
import type { AdapterOptions } from "../nn/decoder.ts";
import { ConfigError, FileError, show } from "../util/errors.ts";
import { fieldSpans, readText } from "./folder-files.ts";

export const ADAPTER_CONFIG = "adapter_config.json";

/** Names of modules, or a regular expression over whole names of modules. */
export type ModuleChoice = readonly string[] | string;

export interface AdapterConfig {
  /** The file, for errors. */
  readonly path: string;
  /** r */
  readonly rank: number;
  /** lora_alpha */
  readonly alpha: number;
  /** use_rslora: the product is scaled by alpha / sqrt(rank) instead of alpha / rank (arXiv 2312.03732). */
  readonly rankStabilised: boolean;
  /** target_modules. "all-linear" is all linear layers but the head. */
  readonly targets: ModuleChoice;
  /** exclude_modules */
  readonly excluded: ModuleChoice;
  /** layers_to_transform; null is all. */
  readonly layers: readonly number[] | null;
  /** rank_pattern: ranks of modules that differ, by regular expressions over the ends of their names; the first that fits decides. */
  readonly rankPattern: ReadonlyMap<string, number>;
  /** alpha_pattern, likewise. */
  readonly alphaPattern: ReadonlyMap<string, number>;
  /** base_model_name_or_path */
  readonly baseModel: string | null;
  /** lora_dropout: of training; nothing here applies it. */
  readonly dropout: number;
  /** The file's fields as they stand, those above included. */
  readonly fields: Readonly<Record<string, unknown>>;
}

/**
 * The configuration of the adapter in a folder.
 * @throws FileError when it is missing, not JSON, or a field is malformed.
 * @throws ConfigError naming every feature in it that is not supported.
 */
export async function readAdapterConfig(folder: string): Promise<AdapterConfig> {
  const path = join(folder, ADAPTER_CONFIG);
  const hint = "an adapter is a folder with adapter_config.json and adapter_model.safetensors, as PEFT's save_pretrained writes it";
  return parseAdapterConfig(await readText(path, "the configuration of a LoRA adapter", hint), path);
}

/** The configuration in the text of an adapter_config.json; `path` names it in errors. @throws as `readAdapterConfig` */
export function parseAdapterConfig(text: string, path: string): AdapterConfig {
  // A name that comes twice is an error here, and a silence in JSON.parse.
  const names = [...fieldSpans(text, path).keys()];
  const fields = JSON.parse(text) as Record<string, unknown>;
  const wrong = (name: string, expected: string, kind: typeof FileError | typeof ConfigError = FileError): never => {
    const value = fields[name];
    throw new kind({ where: path, what: `${name} is ${value === undefined ? "missing" : "wrong"}`, expected, got: show(value) });
  };
  const read = <T>(name: string, schema: z.ZodType<T>, expected: string): T => {
    const parsed = schema.safeParse(fields[name]);
    return parsed.success ? parsed.data : wrong(name, expected);
  };
  const pattern = (name: string, value: z.ZodNumber, values: string): ReadonlyMap<string, number> =>
    new Map(Object.entries(read(name, z.record(z.string(), value).nullish(), `an object from patterns of names to ${values}`) ?? {}));
  if (fields["peft_type"] !== "LORA") wrong("peft_type", '"LORA": of PEFT\'s methods only LoRA is supported', ConfigError);
  refuseUnsupported(path, fields, names);
  const layers = [read("layers_to_transform", numbersOfLayers, "numbers of layers, from 0") ?? []].flat();
  const targets = read("target_modules", moduleChoice, "a list of names, or a pattern") ?? defaultTargets;
  if (typeof targets === "string" && layers.length > 0) wrong("layers_to_transform", "null where target_modules is a pattern");
  return {
    path,
    rank: read("r", z.int().positive(), "a positive integer"),
    alpha: read("lora_alpha", z.number(), "a number"),
    rankStabilised: read("use_rslora", z.boolean().nullish(), "true or false") ?? false,
    targets,
    excluded: read("exclude_modules", moduleChoice, "a list of names, or a pattern") ?? [],
    layers: layers.length > 0 ? layers : null,
    rankPattern: pattern("rank_pattern", z.int().positive(), "positive integers"),
    alphaPattern: pattern("alpha_pattern", z.number(), "numbers"),
    baseModel: typeof fields["base_model_name_or_path"] === "string" ? fields["base_model_name_or_path"] : null,
    dropout: typeof fields["lora_dropout"] === "number" ? fields["lora_dropout"] : 0,
    fields,
  };
}

const moduleChoice = z.union([z.string().min(1), z.array(z.string())]).nullish();
const numbersOfLayers = z.union([z.int().min(0), z.array(z.int().min(0))]).nullish();

/** PEFT's own choice for Llama, Qwen2 and Qwen3 where target_modules is null. */
const defaultTargets = ["q_proj", "v_proj"];

/** Fields read into `AdapterConfig`, and fields whose value has no say in what the adapter computes. */
const known = new Set([
  ...["peft_type", "r", "lora_alpha", "use_rslora", "target_modules", "exclude_modules", "layers_to_transform"],
  ...["rank_pattern", "alpha_pattern", "base_model_name_or_path", "lora_dropout"],
  ...["task_type", "inference_mode", "revision", "auto_mapping", "peft_version", "runtime_config"],
  // of the start of training; what it did to the base is told by init_lora_weights
  ...["loftq_config", "eva_config", "corda_config", "lora_ga_config", "ensure_weight_tying"],
  // meaningless where the feature they belong to is off
  ...["megatron_core", "qalora_group_size"],
  "unsloth_fixed",
]);

/** Ways of drawing first numbers that leave the base model as it is. Others start from a changed base, which a folder of an adapter lacks. */
const plainStarts = new Set<unknown>([undefined, null, true, false, "gaussian", "eva", "orthogonal", "mica"]);

/** Fields that may stand at one harmless value only. Any other field is harmless where it is empty. */
const harmless: Readonly<Record<string, (value: unknown) => boolean>> = {
  bias: (value) => isEmpty(value) || value === "none",
  layers_pattern: (value) => isEmpty(value) || value === "layers" || (Array.isArray(value) && value.every((one) => one === "layers")),
  init_lora_weights: (value) => plainStarts.has(value),
};

const hints: Readonly<Record<string, string>> = {
  init_lora_weights:
    "this start changes the base model: save the adapter with PEFT's path_initial_model_for_weight_conversion, which makes it a plain one",
  modules_to_save: "it replaces whole layers besides: merge the adapter with PEFT and use the merged model",
};

/** Null, false, zero, and empty text, list or object: what PEFT writes for features that are off. */
function isEmpty(value: unknown): boolean {
  if (typeof value === "object" && value !== null) return Object.keys(value).length === 0;
  return value === undefined || value === null || value === false || value === 0 || value === "";
}

function refuseUnsupported(path: string, fields: Readonly<Record<string, unknown>>, names: readonly string[]): void {
  const used = names.filter((name) => !known.has(name) && !(harmless[name] ?? isEmpty)(fields[name]));
  if (used.length === 0) return;
  throw new ConfigError({
    where: path,
    what: `features that are not supported: ${used.map((name) => `${name} ${show(fields[name])}`).join(", ")}`,
    expected: "plain LoRA on the linear layers",
    hint: hints[used[0]!] ?? "merge the adapter with the program that made it, and use the merged model",
  });
}

/** One linear layer with a pair of matrices: a [rank, in], b [out, rank], y += scale (x a^T) b^T. */
export interface AdapterPair {
  readonly target: LinearName;
  /** The layer's name in the base model's files: `model.layers.0.self_attn.q_proj`. */
  readonly module: string;
  readonly rank: number;
  readonly scale: number;
}

/** Milliseconds that the patterns of one file may take: some never end. */
const PATTERN_TIME = 1000;
/** Modules that PEFT could adapt and the decoder cannot. */
const otherModules = ["model.embed_tokens", "lm_head"];

/**
 * The pairs of an adapter in a model of this configuration, in the order of the forward pass.
 * @throws ConfigError when it means no layer of this model, or one that cannot have an adapter, or a pattern cannot be read.
 */
export function adapterPairs(config: AdapterConfig, model: DecoderConfig): AdapterPair[] {
  const places = Array.from({ length: model.layers }, (_, layer) =>
    linearNames.map((target) => ({ layer, target, module: `model.layers.${layer}.${target}` })),
  ).flat();
  const { path, layers, rank, alpha } = config;
  const wanted = chosen(path, "target_modules", config.targets, [...places.map(({ module }) => module), ...otherModules]);
  for (const module of chosen(path, "exclude_modules", config.excluded, [...wanted])) wanted.delete(module);
  const other = otherModules.filter((module) => wanted.has(module));
  if (other.length > 0)
    throw new ConfigError({
      where: path,
      what: `target_modules means ${other.join(" and ")}, which cannot have an adapter here`,
      expected: "linear layers of the blocks only",
      hint: "merge the adapter with PEFT, and use the merged model",
    });
  const found = places.filter(({ layer, module }) => wanted.has(module) && (layers === null || layers.includes(layer)));
  if (found.length === 0)
    throw new ConfigError({
      where: path,
      what: "target_modules and layers_to_transform mean no linear layer of this model",
      expected: `some of ${linearNames.map((name) => name.split(".")[1]).join(", ")} in layers 0 to ${model.layers - 1}`,
      got: JSON.stringify(config.targets) + (layers === null ? "" : ` in layers ${layers.join(", ")}`),
    });
  const modules = found.map(({ module }) => module);
  const ranks = firstOf(path, "rank_pattern", config.rankPattern, modules);
  const alphas = firstOf(path, "alpha_pattern", config.alphaPattern, modules);
  return found.map((place) => {
    const r = ranks.get(place.module) ?? rank;
    return { ...place, rank: r, scale: (alphas.get(place.module) ?? alpha) / (config.rankStabilised ? Math.sqrt(r) : r) };
  });
}

/** What `Decoder.addAdapter` is told to make room for these pairs; their numbers are to be written. */
export function addedAs({ rank, alpha }: AdapterConfig, pairs: readonly AdapterPair[]): AdapterOptions {
  const byModule = new Map(pairs.map((pair) => [pair.module, pair]));
  return {
    rank,
    alpha,
    targets: linearNames.filter((target) => pairs.some((pair) => pair.target === target)),
    pair: (layer, target) => byModule.get(`model.layers.${layer}.${target}`) ?? null,
  };
}

/** The modules that a choice means: by exact name, by the end of the name after a dot, or by a pattern over the whole name. */
function chosen(path: string, field: string, choice: ModuleChoice, modules: readonly string[]): Set<string> {
  if (typeof choice !== "string") return new Set(modules.filter((name) => choice.some((one) => name === one || name.endsWith(`.${one}`))));
  if (choice.toLowerCase() === "all-linear") return new Set(modules.filter((name) => !otherModules.includes(name)));
  const [pattern] = compile(path, field, [choice], (source) => `^(?:${source})$`);
  return new Set(firstMatches(path, field, [pattern!], modules).flatMap((index, i) => (index === 0 ? [modules[i]!] : [])));
}

/** The value of the first pattern that fits the end of a module's name, for those that any fits. */
function firstOf(path: string, field: string, values: ReadonlyMap<string, number>, modules: readonly string[]): Map<string, number> {
  if (values.size === 0) return new Map();
  const patterns = compile(path, field, [...values.keys()], (source) => `^(?:.*\\.)?(?:${source})$`);
  const list = [...values.values()];
  return new Map(
    firstMatches(path, field, patterns, modules).flatMap((index, i) => (index < 0 ? [] : [[modules[i]!, list[index]!] as const])),
  );
}

/** Regular expressions as Python's `re` reads them. What the two languages read differently is rewritten or refused. */
function compile(path: string, field: string, sources: readonly string[], whole: (source: string) => string): RegExp[] {
  return sources.map((source) => {
    try {
      if (/\[\^?\]/.test(source)) throw new SyntaxError("a set that begins with ]");
      const ignoreCase = /^\(\?i\)/.test(source);
      const rewritten = source
        .replace(/^\(\?i\)/, "")
        .replaceAll("(?P<", "(?<")
        .replaceAll(/\(\?P=(\w+)\)/g, "\\k<$1>")
        .replaceAll(/\{,(\d+)\}/g, "{0,$1}")
        .replaceAll(/\\(.)/gs, (escape, letter: string) => (letter === "A" ? "^" : letter === "Z" ? "$" : escape));
      return new RegExp(whole(rewritten), ignoreCase ? "i" : "");
    } catch (cause) {
      const what = `${field} has a pattern that cannot be read: ${(cause as Error).message}`;
      const expected = "a regular expression that Python and JavaScript read alike";
      throw new ConfigError({ where: path, what, expected, got: JSON.stringify(source) }, { cause });
    }
  });
}

/** For each name the index of the first pattern that it fits, or -1. In a context of its own, since only there it can be stopped. */
function firstMatches(path: string, field: string, patterns: readonly RegExp[], names: readonly string[]): number[] {
  try {
    const found: unknown = runInNewContext(
      "names.map((name) => patterns.findIndex((pattern) => pattern.test(name)))",
      { names, patterns },
      { timeout: PATTERN_TIME },
    );
    return [...(found as number[])];
  } catch (cause) {
    throw new ConfigError(
      { where: path, what: `the patterns of ${field} do not come to an end`, expected: `an answer within ${PATTERN_TIME / 1000} s` },
      { cause },
    );
  }
}
