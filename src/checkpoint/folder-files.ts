/**
 * What a model's folder holds beside its tensors: how weights are spread over files, the index of those files, the small files that
 * belong to a model, and config.json with another dtype.
 *
 * Source: `split_torch_state_dict_into_shards` of huggingface_hub; `save_pretrained` of transformers.
 */
import { copyFile, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { z } from "zod";
import { ConfigError, FileError, show } from "../util/errors.ts";
import { exists, makeFolder } from "./atomic.ts";
import { JsonScanner } from "./json-scanner.ts";
import { sourceBytes, writeSafetensors, type TensorSource } from "./safetensors-write.ts";
import type { FloatDtype } from "./save-tensors.ts";

/** Names of a model's files. */
export const CONFIG = "config.json";
export const WEIGHTS = "model.safetensors";
export const WEIGHTS_INDEX = "model.safetensors.index.json";
/** The weights of a LoRA adapter, as PEFT names them. */
export const ADAPTER_WEIGHTS = "adapter_model.safetensors";

/** torch's names, as config.json has them. */
export const torchDtype: Readonly<Record<FloatDtype, string>> = { f32: "float32", f16: "float16", bf16: "bfloat16" };

/** Bytes of the largest weight file: 5 GB, as transformers writes them. */
const MAX_SHARD_BYTES = 5e9;

/** One weight file: its name, and the tensors in it. */
export interface Shard<T> {
  readonly file: string;
  readonly tensors: readonly T[];
  readonly bytes: number;
}

/**
 * Spreads tensors over files in the order given, each file of at most `maxBytes` or of one larger tensor. One file is called
 * model.safetensors, several are numbered.
 * @throws ConfigError for a size that is not above 0
 */
export function planShards<T extends { readonly bytes: number }>(tensors: readonly T[], maxBytes: number = MAX_SHARD_BYTES): Shard<T>[] {
  if (!(maxBytes > 0))
    throw new ConfigError({ where: "maxShardBytes", what: "wrong size of shards", expected: "bytes above 0", got: String(maxBytes) });
  const parts: { tensors: T[]; bytes: number }[] = [];
  for (const tensor of tensors) {
    const last = parts.at(-1);
    if (last === undefined || last.bytes + tensor.bytes > maxBytes) parts.push({ tensors: [tensor], bytes: tensor.bytes });
    else {
      last.tensors.push(tensor);
      last.bytes += tensor.bytes;
    }
  }
  const five = (n: number): string => String(n).padStart(5, "0");
  return parts.map((part, i) => ({
    ...part,
    file: parts.length === 1 ? WEIGHTS : `model-${five(i + 1)}-of-${five(parts.length)}.safetensors`,
  }));
}

/** The text of model.safetensors.index.json for these files. */
export function shardIndex(shards: readonly Shard<{ readonly name: string }>[]): string {
  const places = shards.flatMap(({ file, tensors }) => tensors.map(({ name }) => [name, file] as const));
  places.sort(([a], [b]) => (a < b ? -1 : 1));
  const total = shards.reduce((sum, { bytes }) => sum + bytes, 0);
  return `${JSON.stringify({ metadata: { total_size: total }, weight_map: Object.fromEntries(places) }, null, 2)}\n`;
}

/** Writes tensors into a model's folder: `planShards`, and their index where they are several. @returns names of the weight files */
export async function writeShards(folder: string, tensors: readonly TensorSource[], maxBytes?: number): Promise<string[]> {
  const sized = tensors.map((tensor) => ({ ...tensor, bytes: sourceBytes(tensor) }));
  const shards = planShards(sized, maxBytes);
  for (const shard of shards) await writeSafetensors(join(folder, shard.file), shard.tensors);
  if (shards.length > 1) await writeFile(join(folder, WEIGHTS_INDEX), shardIndex(shards));
  return shards.map(({ file }) => file);
}

/** Files that go with a model whatever its weights are. */
const companions = new Set([
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "vocab.txt",
  "merges.txt",
  "tokenizer.model",
  "chat_template.jinja",
  "chat_template.json",
]);
/** Further chat templates by name, as transformers writes them. */
const TEMPLATES = "additional_chat_templates";
/** The licence of the weights stays with what is made from them. */
const legal = /^(LICEN[CS]E|NOTICE|USE_POLICY)([.-].*)?$/i;

/** Whether a file of a model's folder goes with the model unchanged: generation_config.json, tokenizer, chat templates, licence. */
export function isCompanion(name: string): boolean {
  return companions.has(name) || legal.test(name);
}

/** Whether an entry of a folder is one that a model's folder has, so that replacing the folder loses nothing else. */
export function belongsToModel(name: string): boolean {
  return isCompanion(name) || name === TEMPLATES || name === CONFIG || name === WEIGHTS_INDEX || /^model.*\.safetensors$/.test(name);
}

/**
 * Refuses a folder to be written that holds anything but what the writer puts there: replacing it would lose somebody's files. A missing
 * or empty folder is fine. `belongs` knows the writer's names, `what` says in words what may be replaced.
 * @throws FileError
 */
export async function refuseForeign(folder: string, belongs: (name: string) => boolean, what: string): Promise<void> {
  if (!(await exists(folder))) return;
  const refuse = (got: string): never => {
    const expected = `no such folder, an empty one, or ${what} and nothing else`;
    throw new FileError({ where: folder, what: "will not be replaced", expected, got });
  };
  if (!(await stat(folder)).isDirectory()) refuse("a file");
  const foreign = (await readdir(folder)).filter((name) => !belongs(name)).sort();
  if (foreign.length > 0) refuse(foreign.slice(0, 4).join(", ") + (foreign.length > 4 ? ` and ${foreign.length - 4} more` : ""));
}

/** Copies the files that go with a model, byte for byte. @returns their names. */
export async function copyCompanions(from: string, to: string): Promise<string[]> {
  const copied = (await filesIn(from)).filter(isCompanion);
  if (await exists(join(from, TEMPLATES))) {
    await makeFolder(join(to, TEMPLATES));
    const templates = (await filesIn(join(from, TEMPLATES))).filter((name) => name.endsWith(".jinja"));
    copied.push(...templates.map((name) => `${TEMPLATES}/${name}`));
  }
  for (const name of copied) await copyFile(join(from, name), join(to, name));
  return copied;
}

/** Names of the files in a folder; links, as the Hub's cache has them, count as what they lead to. */
async function filesIn(folder: string): Promise<string[]> {
  const files: string[] = [];
  for (const name of (await readdir(folder)).sort()) if ((await stat(join(folder, name))).isFile()) files.push(name);
  return files;
}

/**
 * The text of a config.json that says another type of its weights, and nothing else differently: `torch_dtype`, or `dtype` as
 * transformers 5 has it; where neither is there, `torch_dtype` is added. `where` names the file in errors.
 * @throws FileError unless the text is a JSON object.
 */
export function configWithDtype(text: string, dtype: FloatDtype, where: string): string {
  const fields = fieldSpans(text, where);
  const value = JSON.stringify(torchDtype[dtype]);
  const present = ["torch_dtype", "dtype"].filter((key) => fields.has(key));
  return (present.length > 0 ? present : ["torch_dtype"]).reduce((changed, key) => withField(changed, key, value, where), text);
}

/**
 * A JSON object's text with one of its own fields set to `value`, itself JSON; every other byte stays.
 * @throws FileError unless the text is a JSON object.
 */
export function withField(text: string, key: string, value: string, where: string): string {
  const fields = fieldSpans(text, where);
  const span = fields.get(key);
  if (span !== undefined) return text.slice(0, span[0]) + value + text.slice(span[1]);
  const close = text.lastIndexOf("}");
  const before = text.slice(0, close).trimEnd();
  // as the fields before it are laid out: each on a line of its own, or all on one
  const indent = /\n([ \t]+)"/.exec(text)?.[1];
  const field = `${JSON.stringify(key)}: ${value}`;
  const comma = fields.size > 0 ? "," : "";
  return `${before}${comma}${indent === undefined ? `${comma && " "}${field}` : `\n${indent}${field}\n`}${text.slice(close)}`;
}

/**
 * Where the values of a JSON object's own fields stand: [start, end) in the text.
 * @throws FileError unless the text is a JSON object without a name twice
 */
export function fieldSpans(text: string, where: string): Map<string, readonly [number, number]> {
  const spans = new Map<string, readonly [number, number]>();
  const scanner = new JsonScanner(text, where, "the file");
  scanner.object((name) => {
    const start = scanner.at;
    scanner.skip();
    spans.set(name, [start, scanner.at]);
  });
  scanner.end();
  return spans;
}

/** The text of a file that should be there; `expected` says what it would hold. @throws FileError */
export async function readText(path: string, expected: string, hint?: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new FileError({ where: path, what: "cannot be read", expected, got: codeOf(cause), hint }, { cause });
  }
}

/**
 * What a JSON file says, as its schema has it; `what` names what it should be.
 * @throws FileError where it is missing, not JSON, or something else
 */
export async function readJson<T>(path: string, schema: z.ZodType<T>, what: string, hint?: string): Promise<T> {
  const text = await readText(path, what, hint);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new FileError({ where: path, what: `is not JSON: ${(cause as Error).message}`, expected: what, hint }, { cause });
  }
  const parsed = schema.safeParse(value, { reportInput: true });
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const place = issue === undefined || issue.path.length === 0 ? "" : `, at ${issue.path.join(".")}`;
  const got = issue?.input === undefined ? undefined : show(issue.input);
  throw new FileError({ where: path, what: `is not ${what}${place}: ${issue?.message ?? ""}`, got, hint });
}

/** The system's code of a failed call, for a message. */
export function codeOf(cause: unknown): string {
  return (cause as NodeJS.ErrnoException).code ?? String(cause);
}
