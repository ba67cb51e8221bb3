/** Loading a model from the disk's cache onto a device; peer: Node's own read of the same file into memory. */
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createDevice, Decoder, fromHuggingFace, loadDecoder, saveModelFolder, type Device, type DecoderConfig } from "zerosearch";
import type { Bench, Peer } from "./bench.js";

type FloatDtype = "f32" | "f16" | "bf16";

/** From which type in the file to which on the device. */
const conversions: readonly (readonly [FloatDtype, FloatDtype])[] = [
  ["bf16", "f32"],
  ["bf16", "bf16"],
  ["f32", "f32"],
];

export interface LoadSetting {
  /** A device for one load; on the CPU one with memory that nobody has touched, as a program has it that starts. */
  readonly open: () => Promise<{ readonly device: Device; close(): Promise<void> | void }>;
  readonly sizes: "small" | "full";
  readonly peers: boolean;
}

export function loadBenches(setting: LoadSetting): Bench[] {
  const model = setting.sizes === "full" ? "135M" : "135M-reduced";
  const config = shape135M(setting.sizes);
  return conversions.map(([from, to]) => {
    const file = new ModelFile(config, from);
    return {
      name: `load/${model}/${from}-${to}`,
      unit: "GB/s",
      amount: file.bytes / 1e9,
      note: `loadDecoder, ${from} in the file, ${to} on the device; the rate is the file's, in the system's cache`,
      peers: setting.peers ? [nodeRead(file)] : [],
      async open() {
        const folder = await file.make();
        let description = "";
        const once = async (): Promise<number> => {
          const { device, close } = await setting.open();
          ({ description } = device);
          const start = performance.now();
          const decoder = await loadDecoder(folder, device, { dtype: to, maxPositions: 64 });
          const seconds = (performance.now() - start) / 1000;
          decoder.dispose();
          await close();
          return seconds;
        };
        await once();
        return { description, most: 1, run: async () => ({ seconds: await once() }), close: () => file.remove() };
      },
    };
  });
}

/** Node's `readFile`: all bytes of the file in one buffer of its own. */
function nodeRead(file: ModelFile): Peer {
  return {
    name: "readFile",
    open: async () => {
      const path = join(await file.make(), "model.safetensors");
      return {
        description: `Node ${process.version} readFile`,
        most: 1,
        async run() {
          const start = performance.now();
          const { length } = await readFile(path);
          const seconds = (performance.now() - start) / 1000;
          if (length !== (await stat(path)).size) throw new Error("the file was not read whole");
          return { seconds };
        },
        close: () => file.remove(),
      };
    },
  };
}

/** A model's folder for as long as somebody uses it. */
class ModelFile {
  /** Of the elements. */
  readonly bytes: number;
  private readonly config: DecoderConfig;
  private readonly dtype: FloatDtype;
  private made: Promise<string> | null = null;
  private users = 0;

  constructor(config: DecoderConfig, dtype: FloatDtype) {
    this.config = config;
    this.dtype = dtype;
    const { width: C, mlpWidth: F, layers: L, heads: H, kvHeads: K, headDim: D, vocabulary: V } = config;
    const count = V * C + L * (2 * C + 2 * C * H * D + 2 * C * K * D + 3 * C * F) + C;
    this.bytes = count * (dtype === "f32" ? 4 : 2);
  }

  async make(): Promise<string> {
    this.users += 1;
    this.made ??= this.write();
    return this.made;
  }

  async remove(): Promise<void> {
    this.users -= 1;
    if (this.users > 0 || this.made === null) return;
    const folder = await this.made;
    this.made = null;
    await rm(folder, { recursive: true, force: true });
  }

  private async write(): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), "zerosearch-load-"));
    const device = await createDevice({ device: "cpu" });
    const decoder = Decoder.initialise(this.config, device, 1, { maxPositions: 64 });
    await saveModelFolder(decoder, folder, { dtype: this.dtype });
    await device.destroy();
    return folder;
  }
}

/** Source: config.json of HuggingFaceTB/SmolLM2-135M. */
export function shape135M(sizes: "small" | "full"): DecoderConfig {
  const small = sizes === "small";
  return fromHuggingFace(
    {
      architectures: ["LlamaForCausalLM"],
      hidden_size: 576,
      intermediate_size: 1536,
      num_hidden_layers: small ? 3 : 30,
      num_attention_heads: 9,
      num_key_value_heads: 3,
      vocab_size: small ? 4096 : 49152,
      max_position_embeddings: 8192,
      rms_norm_eps: 1e-5,
      rope_theta: 1e5,
      tie_word_embeddings: true,
    },
    "bench load",
  );
}
