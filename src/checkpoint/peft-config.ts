/**
 * adapter_config.json as PEFT writes it. What would change the numbers and is not supported here is refused by name, never ignored; what
 * matters in training only is kept and has no effect.
 *
 * Source: `LoraConfig` of huggingface/peft (src/peft/tuners/lora/config.py), 0.12 to 0.20.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError, FileError } from "../util/errors.ts";
import { JsonScanner } from "./json-scanner.ts";

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
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw new FileError(
      {
        where: path,
        what: "cannot be read",
        expected: "the configuration of a LoRA adapter",
        got: (cause as NodeJS.ErrnoException).code ?? String(cause),
        hint: "an adapter is a folder with adapter_config.json and adapter_model.safetensors, as PEFT's save_pretrained writes it",
      },
      { cause },
    );
  }
  return parseAdapterConfig(text, path);
}

/** The configuration in the text of an adapter_config.json; `path` names it in errors. @throws as `readAdapterConfig` */
export function parseAdapterConfig(text: string, path: string): AdapterConfig {
  const scanner = new JsonScanner(text, path, "the file");
  const names: string[] = [];
  // A name that comes twice is an error here, and a silence in JSON.parse.
  scanner.object((name) => {
    names.push(name);
    scanner.skip();
  });
  scanner.end();
  const fields = JSON.parse(text) as Record<string, unknown>;
  const field = new Fields(path, fields);
  const type = fields["peft_type"];
  if (type !== "LORA") field.wrong("peft_type", '"LORA": of PEFT\'s methods only LoRA is supported', ConfigError);
  refuseUnsupported(path, fields, names);
  const layers = field.layers();
  const targets = field.modules("target_modules") ?? defaultTargets;
  if (typeof targets === "string" && layers !== null) field.wrong("layers_to_transform", "null where target_modules is a pattern");
  return {
    path,
    rank: field.count("r"),
    alpha: field.number("lora_alpha"),
    rankStabilised: field.flag("use_rslora"),
    targets,
    excluded: field.modules("exclude_modules") ?? [],
    layers,
    rankPattern: field.pattern("rank_pattern", (value) => Number.isInteger(value) && value > 0, "positive integers"),
    alphaPattern: field.pattern("alpha_pattern", Number.isFinite, "numbers"),
    baseModel: typeof fields["base_model_name_or_path"] === "string" ? fields["base_model_name_or_path"] : null,
    dropout: typeof fields["lora_dropout"] === "number" ? fields["lora_dropout"] : 0,
    fields,
  };
}

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
    what: `features that are not supported: ${used.map((name) => `${name} ${shorten(fields[name])}`).join(", ")}`,
    expected: "plain LoRA on the linear layers",
    hint: hints[used[0]!] ?? "merge the adapter with the program that made it, and use the merged model",
  });
}

function shorten(value: unknown): string {
  const text = value === undefined ? "nothing" : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** The fields of one file, read with checks. */
class Fields {
  private readonly path: string;
  private readonly fields: Readonly<Record<string, unknown>>;

  constructor(path: string, fields: Readonly<Record<string, unknown>>) {
    this.path = path;
    this.fields = fields;
  }

  wrong(name: string, expected: string, kind: typeof FileError | typeof ConfigError = FileError): never {
    const value = this.fields[name];
    throw new kind({ where: this.path, what: `${name} is ${value === undefined ? "missing" : "wrong"}`, expected, got: shorten(value) });
  }

  number(name: string): number {
    const value = this.fields[name];
    return typeof value === "number" && Number.isFinite(value) ? value : this.wrong(name, "a number");
  }

  count(name: string): number {
    const value = this.fields[name];
    return typeof value === "number" && Number.isInteger(value) && value > 0 ? value : this.wrong(name, "a positive integer");
  }

  flag(name: string): boolean {
    const value = this.fields[name] ?? false;
    return typeof value === "boolean" ? value : this.wrong(name, "true or false");
  }

  modules(name: string): ModuleChoice | null {
    const value = this.fields[name];
    if (value === undefined || value === null) return null;
    if (typeof value === "string" && value !== "") return value;
    if (Array.isArray(value) && value.every((one) => typeof one === "string")) return value;
    return this.wrong(name, "a list of names, or a pattern");
  }

  layers(): readonly number[] | null {
    const name = "layers_to_transform";
    const value = this.fields[name];
    if (value === undefined || value === null) return null;
    const list: unknown[] = Array.isArray(value) ? value : [value];
    if (!list.every((one) => typeof one === "number" && Number.isInteger(one) && one >= 0)) this.wrong(name, "numbers of layers, from 0");
    return list.length === 0 ? null : (list as number[]);
  }

  pattern(name: string, valid: (value: number) => boolean, expected: string): ReadonlyMap<string, number> {
    const value = this.fields[name] ?? {};
    if (typeof value !== "object" || Array.isArray(value)) this.wrong(name, `an object from patterns of names to ${expected}`);
    const entries = Object.entries(value);
    if (!entries.every(([, one]) => typeof one === "number" && valid(one)))
      this.wrong(name, `an object from patterns of names to ${expected}`);
    return new Map(entries as [string, number][]);
  }
}
