/** `zerosearch export`: a model's folder anew, in another type, sharded, or with a LoRA adapter merged into it. */
import type { ArgumentSpec } from "../config/arguments.ts";
import type { ModelKind } from "../hub/find-model.ts";
import { exportModel } from "../checkpoint/merge.ts";
import { readAdapterConfig } from "../checkpoint/peft-config.ts";
import { formatCount, formatDuration, Progress } from "../log/progress.ts";
import { findShown } from "../setup/download-progress.ts";
import { formatBytes } from "../util/bytes.ts";
import { ConfigError } from "../util/errors.ts";
import { readArguments, say, untilInterrupted } from "./program.ts";

const dtypes = ["f32", "bf16", "f16"] as const;
const MIB = 1 << 20;

const spec: ArgumentSpec = {
  program: "zerosearch export",
  summary: "Writes a model's folder anew for transformers and vLLM: in another type, sharded, or with a LoRA adapter merged into it.",
  options: {
    from: { value: "MODEL", doc: "The model: a Hugging Face folder, or a Hub id such as Qwen/Qwen2.5-3B." },
    to: { value: "FOLDER", doc: "The new folder: absent, empty, or a model, which is replaced at the end. Nothing else is ever replaced." },
    adapter: { value: "FOLDER", doc: "A LoRA adapter as PEFT writes it, to be merged into the weights: a folder or Hub id." },
    dtype: {
      value: "TYPE",
      doc: "Type of the weights: f32, bf16 or f16; without it each keeps its own. A number that f16 cannot hold is an error.",
    },
    "shard-gb": { value: "N", doc: "Most gigabytes (1e9 bytes) in a file (5)." },
  },
};

export async function main(argv: readonly string[]): Promise<void> {
  const options = readArguments(argv, spec)?.options;
  if (options === undefined) return;
  const [from, to] = [needed(options, "from"), needed(options, "to")];
  const dtype = dtypeOf(options.get("dtype"));
  const maxShardBytes = shardBytes(options.get("shard-gb"));
  const given = options.get("adapter");
  await untilInterrupted(
    async (signal) => {
      const find = async (source: string, where: string, kind: ModelKind): Promise<string> =>
        (await findShown(source, { where, kind, signal })).folder;
      const base = await find(from, "--from", "model");
      const adapter = given === undefined ? undefined : await find(given, "--adapter", "adapter");
      if (adapter !== undefined) say(await adapterLine(adapter));
      const start = performance.now();
      let progress: Progress | null = null;
      const done = await exportModel({
        ...{ base, adapter, to, dtype, maxShardBytes },
        onProgress(bytes, total) {
          // A write that is broken off leaves nothing behind.
          signal.throwIfAborted();
          progress ??= new Progress({ label: "writing", total: Math.ceil(total / MIB), unit: "MiB", plainInterval: 5000 });
          progress.update(bytes === total ? Math.ceil(total / MIB) : Math.floor(bytes / MIB));
        },
      }).finally(() => progress?.finish());
      const [seconds, merged] = [
        (performance.now() - start) / 1000,
        done.merged === 0 ? "" : `, ${formatCount(done.merged)} of them merged`,
      ];
      const files = done.files.length === 1 ? done.files[0]! : `${done.files.length} files`;
      say(
        `${formatCount(done.tensors)} tensors${merged}: ${formatBytes(done.bytes)} of ${done.dtypes.join(" and ")} in ${files}, written to ${to} in ${formatDuration(seconds)}`,
      );
    },
    { leave: () => process.stderr.write("interrupted: nothing was written\n") },
  );
}

/** What is merged, and what of its file has no effect. */
async function adapterLine(folder: string): Promise<string> {
  const { rank, alpha, rankStabilised, baseModel, dropout } = await readAdapterConfig(folder);
  const scale = rankStabilised ? "alpha / sqrt(rank)" : "alpha / rank";
  const made = baseModel === null ? "" : `, made for ${baseModel}`;
  const training = dropout === 0 ? "" : `; its lora_dropout ${dropout} is for training and is not applied`;
  return `adapter ${folder}: rank ${rank}, alpha ${alpha}, scaled by ${scale}${made}${training}`;
}

function needed(options: ReadonlyMap<string, string>, name: string): string {
  const value = options.get(name);
  if (value === undefined || value === "")
    throw new ConfigError({ where: "zerosearch export", what: `--${name} is missing`, hint: "zerosearch export --from MODEL --to FOLDER" });
  return value;
}

function dtypeOf(value: string | undefined): (typeof dtypes)[number] | undefined {
  if (value === undefined) return undefined;
  const dtype = dtypes.find((one) => one === value);
  if (dtype === undefined) throw new ConfigError({ where: "--dtype", what: "wrong value", expected: dtypes.join(", "), got: value });
  return dtype;
}

function shardBytes(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const bytes = Number(value) * 1e9;
  if (value.trim() === "" || !(bytes > 0) || !Number.isFinite(bytes))
    throw new ConfigError({ where: "--shard-gb", what: "wrong value", expected: "a number above 0", got: value });
  return bytes;
}
