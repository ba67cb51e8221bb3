"""A decoder in numpy float64, which shares no line with src/: it writes a model folder as transformers does, a LoRA adapter as PEFT
does, and the logits that both must give.

    python3 oracle.py llama3|qwen2|qwen3 F32|F16|BF16 FOLDER [--shards] [--transformers5] [--yarn] [--embed]

FOLDER/model and FOLDER/adapter are what a user has; FOLDER/expected.json has ids, and the logits of the last three of them without and
with the adapter. With --yarn the model reads longer texts than it was made for: as Qwen's README says, or with every number that
YaRN has in `rope_scaling` beside the `rope_parameters` of transformers 5, which it replaces. With --embed the folder is that of an
embedding model: names have no `model.` before them, and there is no head; standard input is {passages, queries, instruction, maxTokens, most},
and expected.json the embeddings of both and what is found. A text's ids are its bytes, and 256 at its end.
"""

import json
import os
import struct
import sys

import numpy as np

kind, dtype, folder = sys.argv[1:4]
shards, newest, yarn, embed = ("--" + flag in sys.argv for flag in ("shards", "transformers5", "yarn", "embed"))
rng = np.random.default_rng({"llama3": 1, "qwen2": 2, "qwen3": 3}[kind])
C, F, H, K, L, V = 96, 160, 6, 2, 3, 263
D = {"llama3": 16, "qwen2": 16, "qwen3": 32}[kind]
eps, theta = 1e-5, {"llama3": 5e5, "qwen2": 1e6, "qwen3": 1e6}[kind]
tied = kind != "qwen3"
scaling = {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 64, "rope_type": "llama3"}

config = {
    "architectures": [{"llama3": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}[kind]],
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": [2, 3],
    "hidden_act": "silu",
    "hidden_size": C,
    "initializer_range": 0.02,
    "intermediate_size": F,
    "max_position_embeddings": 512,
    "model_type": {"llama3": "llama"}.get(kind, kind),
    "num_attention_heads": H,
    "num_hidden_layers": L,
    "num_key_value_heads": K,
    "rms_norm_eps": eps,
    "tie_word_embeddings": tied,
    "use_cache": True,
    "vocab_size": V,
}
if kind == "llama3":
    config |= {"attention_bias": False, "head_dim": D, "mlp_bias": False, "pretraining_tp": 1}
if kind == "qwen2":
    config |= {"max_window_layers": 3, "sliding_window": 131072, "use_mrope": False, "use_sliding_window": False}
if kind == "qwen3":
    config |= {"attention_bias": False, "head_dim": D, "max_window_layers": 3, "sliding_window": None, "use_sliding_window": False}
yarn_scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
if newest:
    yarn_scaling |= {"rope_theta": theta, "beta_fast": 6, "beta_slow": 0.25, "truncate": False, "mscale": 0.7, "mscale_all_dim": 1.5}
torch_dtype = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[dtype]
if newest:
    rope = {"rope_theta": theta} | (scaling if kind == "llama3" else {"rope_type": "default"})
    config |= {"dtype": torch_dtype, "layer_types": ["full_attention"] * L, "rope_parameters": rope, "transformers_version": "5.0.0"}
else:
    rope = {"rope_scaling": scaling if kind == "llama3" else None, "rope_theta": theta}
    config |= rope | {"torch_dtype": torch_dtype, "transformers_version": "4.46.0"}
if yarn:
    config["max_position_embeddings"] = 64
    config["rope_scaling"] = yarn_scaling
    if newest:
        config["rope_parameters"] = {"rope_type": "linear", "factor": 3.0, "rope_theta": 77.0}


def rounded(x):
    """The value after storage, in float64, and its bytes."""
    x = x.astype(np.float32)
    if dtype == "F32":
        return x.astype(np.float64), x.tobytes()
    if dtype == "F16":
        half = x.astype(np.float16)
        return half.astype(np.float64), half.tobytes()
    bits = x.view(np.uint32)
    half = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return (half.astype(np.uint32) << 16).view(np.float32).astype(np.float64), half.tobytes()


weights, raw = {}, {}


def matrix(name, rows, cols, deviation=None):
    weights[name], raw[name] = rounded(rng.normal(size=(rows, cols)) * (deviation or cols**-0.5))


def vector(name, size, mean, deviation):
    weights[name], raw[name] = rounded(mean + deviation * rng.normal(size=size))


projections = {
    "self_attn.q_proj": (H * D, C),
    "self_attn.k_proj": (K * D, C),
    "self_attn.v_proj": (K * D, C),
    "self_attn.o_proj": (C, H * D),
    "mlp.gate_proj": (F, C),
    "mlp.up_proj": (F, C),
    "mlp.down_proj": (C, F),
}
matrix("model.embed_tokens.weight", V, C, 0.5)
for layer in range(L):
    prefix = f"model.layers.{layer}."
    for name, shape in projections.items():
        matrix(f"{prefix}{name}.weight", *shape)
    if kind == "qwen2":
        for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
            vector(f"{prefix}{name}.bias", projections[name][0], 0, 0.3)
    if kind == "qwen3":
        vector(prefix + "self_attn.q_norm.weight", D, 1, 0.2)
        vector(prefix + "self_attn.k_norm.weight", D, 1, 0.2)
    vector(prefix + "input_layernorm.weight", C, 1, 0.2)
    vector(prefix + "post_attention_layernorm.weight", C, 1, 0.2)
vector("model.norm.weight", C, 1, 0.2)
if not tied:
    matrix("lm_head.weight", V, C)

rank, alpha, targets = 4, 12, ["q_proj", "v_proj", "down_proj"]
adapter = {}
for layer in range(L):
    for name, (rows, cols) in projections.items():
        if name.split(".")[1] in targets:
            prefix = f"base_model.model.model.layers.{layer}.{name}."
            adapter[prefix + "lora_A.weight"] = (rng.normal(size=(rank, cols)) * cols**-0.5).astype(np.float32)
            adapter[prefix + "lora_B.weight"] = (rng.normal(size=(rows, rank)) * 0.3).astype(np.float32)


def write_safetensors(path, tensors):
    """tensors: name -> (dtype, shape, bytes)"""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(tensors):
        kind_, shape, data = tensors[name]
        header[name] = {"dtype": kind_, "shape": list(shape), "data_offsets": [end, end + len(data)]}
        end += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in sorted(tensors):
            file.write(tensors[name][2])


def write_json(path, value):
    with open(path, "w") as file:
        json.dump(value, file, indent=2)


model, peft = os.path.join(folder, "model"), os.path.join(folder, "adapter")
os.makedirs(model)
os.makedirs(peft)
stored = {name: (dtype, weights[name].shape, raw[name]) for name in weights}
if embed:
    stored = {name.removeprefix("model."): entry for name, entry in stored.items() if name != "lm_head.weight"}
if shards:
    names, places = list(stored), {}
    for i, part in enumerate((names[:7], names[7:20], names[20:])):
        file = f"model-{i + 1:05}-of-00003.safetensors"
        write_safetensors(os.path.join(model, file), {name: stored[name] for name in part})
        places |= {name: file for name in part}
    index = {"metadata": {"total_size": sum(len(data) for data in raw.values())}, "weight_map": places}
    write_json(os.path.join(model, "model.safetensors.index.json"), index)
else:
    write_safetensors(os.path.join(model, "model.safetensors"), stored)
write_json(os.path.join(model, "config.json"), config)
write_safetensors(os.path.join(peft, "adapter_model.safetensors"), {name: ("F32", x.shape, x.tobytes()) for name, x in adapter.items()})
adapter_config = {
    "alpha_pattern": {},
    "auto_mapping": None,
    "base_model_name_or_path": "some/model",
    "bias": "none",
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": alpha,
    "lora_bias": False,
    "lora_dropout": 0.05,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "peft_type": "LORA",
    "r": rank,
    "rank_pattern": {},
    "revision": None,
    "target_modules": targets,
    "task_type": "CAUSAL_LM",
    "trainable_token_indices": None,
    "use_dora": False,
    "use_rslora": False,
}
write_json(os.path.join(peft, "adapter_config.json"), adapter_config)


def yarn_frequencies(plain):
    """Peng et al. 2023, 3.2, with borders between dimensions as in transformers; and what cosines and sines are multiplied by (3.4)."""
    factor, old = yarn_scaling["factor"], yarn_scaling["original_max_position_embeddings"]
    fast, slow = yarn_scaling.get("beta_fast", 32), yarn_scaling.get("beta_slow", 1)
    # The place, as a real number, at which plain[place] * old = 2 pi turns.
    place = [np.log(old / (2 * np.pi * turns)) / np.log(theta) * D / 2 for turns in (fast, slow)]
    if yarn_scaling.get("truncate", True):
        place = [np.floor(place[0]), np.ceil(place[1])]
    first, last = max(place[0], 0), min(place[1], D - 1)
    keep = np.array([1.0 if d <= first else 0.0 if d >= last else (last - d) / (last - first) for d in range(D // 2)])
    weights = [yarn_scaling.get(name) for name in ("mscale", "mscale_all_dim")]
    above, below = [0.1 * weight * np.log(factor) + 1 for weight in (weights if all(weights) else (1, 0))]
    return keep * plain + (1 - keep) * plain / factor, above / below


def frequencies():
    plain = theta ** (-np.arange(0, D, 2) / D)
    if yarn:
        return yarn_frequencies(plain)[0]
    if kind != "llama3":
        return plain
    low, high, old = scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["original_max_position_embeddings"]
    out = []
    for frequency in plain:
        wavelength = 2 * np.pi / frequency
        if wavelength < old / high:
            out.append(frequency)
        elif wavelength > old / low:
            out.append(frequency / scaling["factor"])
        else:
            smooth = (old / wavelength - low) / (high - low)
            out.append((1 - smooth) * frequency / scaling["factor"] + smooth * frequency)
    return np.array(out)


def norm(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def states(ids, adapted):
    def linear(x, layer, name):
        y = x @ weights[f"model.layers.{layer}.{name}.weight"].T
        if f"model.layers.{layer}.{name}.bias" in weights:
            y = y + weights[f"model.layers.{layer}.{name}.bias"]
        prefix = f"base_model.model.model.layers.{layer}.{name}."
        if adapted and prefix + "lora_A.weight" in adapter:
            a, b = (adapter[f"{prefix}lora_{side}.weight"].astype(np.float64) for side in "AB")
            y = y + alpha / rank * (x @ a.T) @ b.T
        return y

    N = len(ids)
    angles = np.concatenate([np.arange(N)[:, None] * frequencies()[None]] * 2, -1)[:, None]
    stretch = yarn_frequencies(np.ones(D // 2))[1] if yarn else 1
    causal = np.tril(np.ones((N, N), dtype=bool))

    def turn(x):
        half = np.concatenate([-x[..., D // 2 :], x[..., : D // 2]], -1)
        return stretch * (x * np.cos(angles) + half * np.sin(angles))

    x = weights["model.embed_tokens.weight"][ids]
    for layer in range(L):
        prefix = f"model.layers.{layer}."
        a = norm(x, weights[prefix + "input_layernorm.weight"])
        q = linear(a, layer, "self_attn.q_proj").reshape(N, H, D)
        k = linear(a, layer, "self_attn.k_proj").reshape(N, K, D)
        v = linear(a, layer, "self_attn.v_proj").reshape(N, K, D)
        if kind == "qwen3":
            q, k = norm(q, weights[prefix + "self_attn.q_norm.weight"]), norm(k, weights[prefix + "self_attn.k_norm.weight"])
        k, v = np.repeat(turn(k), H // K, 1), np.repeat(v, H // K, 1)
        scores = np.where(causal, np.einsum("ihd,jhd->hij", turn(q), k) / np.sqrt(D), -np.inf)
        share = np.exp(scores - scores.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        x = x + linear(np.einsum("hij,jhd->ihd", share, v).reshape(N, H * D), layer, "self_attn.o_proj")
        b = norm(x, weights[prefix + "post_attention_layernorm.weight"])
        gate = linear(b, layer, "mlp.gate_proj")
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(b, layer, "mlp.up_proj"), layer, "mlp.down_proj")
    return norm(x, weights["model.norm.weight"])


def logits(ids, adapted):
    return states(ids, adapted) @ weights["model.embed_tokens.weight" if tied else "lm_head.weight"].T


def embedding(text, most):
    ids = list(text.encode())[: most - 1] + [256]
    last = states(np.array(ids), False)[-1]
    return last / np.linalg.norm(last)


if embed:
    asked = json.load(sys.stdin)
    most, instruction = asked["maxTokens"], asked["instruction"]
    passages = np.array([embedding(text, most) for text in asked["passages"]])
    queries = np.array([embedding(f"Instruct: {instruction}\nQuery:{text}", most) for text in asked["queries"]])
    scores = queries @ passages.T
    rows = np.argsort(-scores, axis=1, kind="stable")[:, : asked["most"]]
    found = {"passages": passages.tolist(), "queries": queries.tolist(), "rows": rows.tolist()}
    found["scores"] = np.take_along_axis(scores, rows, 1).tolist()
    write_json(os.path.join(folder, "expected.json"), found)
    sys.exit()

ids = rng.integers(0, V, size=150)
expected = {"ids": ids.tolist(), "base": logits(ids, False)[-3:].tolist(), "adapted": logits(ids, True)[-3:].tolist()}
write_json(os.path.join(folder, "expected.json"), expected)
