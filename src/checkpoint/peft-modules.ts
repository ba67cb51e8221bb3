/**
 * Which linear layers a PEFT configuration means, with which rank and scale, by PEFT's own rules of matching names.
 *
 * Source: `check_target_module_exists`, `_maybe_include_all_linear_layers` (src/peft/tuners/tuners_utils.py) and `get_pattern_key`
 * (src/peft/utils/other.py) of huggingface/peft.
 */
import { runInNewContext } from "node:vm";
import { linearNames, type LinearName } from "../nn/block.ts";
import type { DecoderConfig } from "../nn/config.ts";
import type { AdapterOptions } from "../nn/decoder.ts";
import { ConfigError } from "../util/errors.ts";
import type { AdapterConfig, ModuleChoice } from "./peft-config.ts";

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
      throw new ConfigError(
        {
          where: path,
          what: `${field} has a pattern that cannot be read: ${(cause as Error).message}`,
          expected: "a regular expression that Python and JavaScript read alike",
          got: JSON.stringify(source),
        },
        { cause },
      );
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
