/** One layer of the decoder: attention and MLP, each behind a norm and added to the residual stream. */
import { add } from "../ops/add.ts";
import { rmsNorm } from "../ops/rms-norm.ts";
import { rope } from "../ops/rope.ts";
import { swiglu } from "../ops/swiglu.ts";
import type { Parameter, Tensor } from "../tensor/tensor.ts";
import type { DecoderConfig } from "./config.ts";
import { forwardAll, Linear } from "./linear.ts";

/** Names of the linear layers of a block, as in Hugging Face checkpoints. */
export const linearNames = [
  "self_attn.q_proj",
  "self_attn.k_proj",
  "self_attn.v_proj",
  "self_attn.o_proj",
  "mlp.gate_proj",
  "mlp.up_proj",
  "mlp.down_proj",
] as const;
export type LinearName = (typeof linearNames)[number];

/** q [N, H*D], k and v [N, K*D] (turned by RoPE) -> [N, H*D]: attention in training, or against a cache. */
export type Attend = (q: Tensor, k: Tensor, v: Tensor) => Tensor;

export class DecoderBlock {
  readonly config: DecoderConfig;
  readonly linears: ReadonlyMap<LinearName, Linear>;
  readonly #inputNorm: Parameter;
  readonly #postAttentionNorm: Parameter;
  readonly #qNorm: Parameter | null;
  readonly #kNorm: Parameter | null;

  /** `parameter` gives a parameter of this layer by the rest of its name, or null where the architecture has none. */
  constructor(config: DecoderConfig, parameter: (name: string) => Parameter | null) {
    const required = (name: string): Parameter => parameter(name)!;
    this.config = config;
    this.linears = new Map(linearNames.map((name) => [name, new Linear(required(`${name}.weight`), parameter(`${name}.bias`))]));
    this.#inputNorm = required("input_layernorm.weight");
    this.#postAttentionNorm = required("post_attention_layernorm.weight");
    this.#qNorm = parameter("self_attn.q_norm.weight");
    this.#kNorm = parameter("self_attn.k_norm.weight");
  }

  /** Whether a forward with this adapter uses anything that wants a gradient. */
  learns(adapter?: string): boolean {
    const norms = [this.#inputNorm, this.#postAttentionNorm, this.#qNorm, this.#kNorm];
    const pairs = [...this.linears.values()].flatMap((place) => {
      const pair = adapter === undefined ? undefined : place.adapters.get(adapter);
      return [place.weight, place.bias, pair?.a, pair?.b];
    });
    return [...norms, ...pairs].some((parameter) => parameter?.requiresGrad === true);
  }

  /** x [N, C], positions [N] u32, table: `ropeTable` -> [N, C]. */
  forward(x: Tensor, positions: Tensor, table: Tensor, attend: Attend, adapter?: string): Tensor {
    const { heads, kvHeads, normEps } = this.config;
    const project = (input: Tensor, ...names: readonly LinearName[]): Tensor[] =>
      forwardAll(
        input,
        names.map((name) => this.linears.get(name)!),
        adapter,
      );
    const a = rmsNorm(x, this.#inputNorm, normEps);
    const [queries, keys, v] = project(a, "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj") as [Tensor, Tensor, Tensor];
    const q = this.#qNorm === null ? queries : rmsNorm(queries, this.#qNorm, normEps, heads);
    const k = this.#kNorm === null ? keys : rmsNorm(keys, this.#kNorm, normEps, kvHeads);
    const mixed = attend(rope(q, positions, table, heads), rope(k, positions, table, kvHeads), v);
    const h = add(x, project(mixed, "self_attn.o_proj")[0]!);
    const b = rmsNorm(h, this.#postAttentionNorm, normEps);
    const [gate, up] = project(b, "mlp.gate_proj", "mlp.up_proj") as [Tensor, Tensor];
    return add(h, project(swiglu(gate, up), "mlp.down_proj")[0]!);
  }
}
