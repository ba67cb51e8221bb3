"""The peer of rl/quickstart: one RL step in PyTorch on the CPU, doing the work of a step of ours that was written to a file.

Reads one command a line and answers one JSON line:
  threads T    use T threads
  step FILE    seconds of one step: rollouts turn by turn, then the update

As RL loops on Hugging Face's generate do it: turn by turn, all rollouts that still go on as one left-padded batch with a static cache,
prefilled anew with all that they hold, every row running until the longest has ended; then the simulator, the same way. How many tokens
each row samples is given; every token is drawn, only what is drawn does not decide when a row ends. Then GRPO's update over
right-padded micro-batches: sorted by length, so that little is padded; rollouts without advantage left out, logits only where a loss is,
the log-probabilities of sampling used as they are, as ours are. Weights are those that ours began with.
"""
import json
import os
import struct
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

SDPA = hasattr(F, "scaled_dot_product_attention")
NEVER = torch.finfo(torch.float32).min


def read_safetensors(path):
    """Name -> f32 tensor."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        raw = data[slice(*entry["data_offsets"])]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(raw, {"F32": "<f4", "F16": "<f2"}[entry["dtype"]]).astype(np.float32)
        tensors[name] = torch.from_numpy(values.reshape(entry["shape"]).copy())
    return tensors


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


def attend(q, k, v, mask):
    """q, k, v [B, H, T or S, D]; mask [B or 1, 1, T, S] is added to the scores."""
    if SDPA:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return torch.softmax(q @ k.transpose(2, 3) * q.shape[-1] ** -0.5 + mask, -1) @ v


def attend_causal(q, k, v):
    """Within right-padded sequences: what is padded comes last, and is seen by nothing that counts."""
    if SDPA:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return attend(q, k, v, torch.full((q.shape[2], q.shape[2]), NEVER).triu(1))


class Model:
    """Llama's decoder with a tied head."""

    def __init__(self, folder, trainable):
        config = json.load(open(os.path.join(folder, "config.json")))
        self.L, self.H, self.K = config["num_hidden_layers"], config["num_attention_heads"], config["num_key_value_heads"]
        self.D, self.eps = config["head_dim"], config["rms_norm_eps"]
        if self.K != self.H or not config["tie_word_embeddings"]:
            raise SystemExit("rl_step.py: expected the quickstart's shapes: as many key heads as heads, a tied head")
        self.weights = read_safetensors(os.path.join(folder, "model.safetensors"))
        for tensor in self.weights.values():
            tensor.requires_grad_(trainable)
        angle = torch.arange(2048).float()[:, None] * config["rope_theta"] ** (-torch.arange(0, self.D, 2).float() / self.D)
        angle = torch.cat((angle, angle), -1)
        self.cos, self.sin = angle.cos(), angle.sin()

    def norm(self, x, name):
        if hasattr(F, "rms_norm"):
            return F.rms_norm(x, x.shape[-1:], self.weights[name], self.eps)
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weights[name]

    def hidden(self, ids, positions, attention):
        """ids, positions [B, T] -> [B, T, C]; attention(layer, q, k, v) of [B, H, T, D]."""
        B, T = ids.shape
        w = self.weights
        x = F.embedding(ids, w["model.embed_tokens.weight"])
        cos, sin = self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1)
        for i in range(self.L):
            at = f"model.layers.{i}."
            h = self.norm(x, at + "input_layernorm.weight")
            q, k, v = (F.linear(h, w[f"{at}self_attn.{n}_proj.weight"]).view(B, T, self.H, self.D).transpose(1, 2) for n in "qkv")
            a = attention(i, rotate(q, cos, sin), rotate(k, cos, sin), v)
            x = x + F.linear(a.transpose(1, 2).reshape(B, T, -1), w[at + "self_attn.o_proj.weight"])
            h = self.norm(x, at + "post_attention_layernorm.weight")
            gate, up = (F.linear(h, w[f"{at}mlp.{n}_proj.weight"]) for n in ("gate", "up"))
            x = x + F.linear(F.silu(gate) * up, w[at + "mlp.down_proj.weight"])
        return self.norm(x, "model.norm.weight")

    def logits(self, hidden):
        return F.linear(hidden, self.weights["model.embed_tokens.weight"])


@torch.inference_mode()
def generate(model, prompts, steps, temperature):
    """Prompts (lists of ids) as one left-padded batch; every row samples `steps` tokens, with their log-probabilities."""
    B, P = len(prompts), max(map(len, prompts))
    ids = torch.zeros(B, P, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, P - len(prompt):] = torch.tensor(prompt)
    first = P - torch.tensor([len(prompt) for prompt in prompts])
    columns = torch.arange(P + steps)
    padding = torch.where(columns[None] < first[:, None], NEVER, 0.0)[:, None, None]
    causal = torch.full((P, P), NEVER).triu(1)
    caches = [[torch.empty(B, model.H, P + steps, model.D) for _ in range(2)] for _ in range(model.L)]

    def prefill(i, q, k, v):
        caches[i][0][:, :, :P], caches[i][1][:, :, :P] = k, v
        return attend(q, k, v, mask)

    mask = (padding[..., :P] + causal).clamp_min_(NEVER)
    hidden = model.hidden(ids, (torch.arange(P)[None] - first[:, None]).clamp_min_(0), prefill)[:, -1]
    for step in range(steps):
        logp = torch.log_softmax(model.logits(hidden) / temperature, -1)
        last = torch.multinomial(logp.exp(), 1)
        logp.gather(1, last)
        if step == steps - 1:
            break
        end = P + step + 1

        def decode(i, q, k, v):
            keys, values = caches[i]
            keys[:, :, end - 1:end], values[:, :, end - 1:end] = k, v
            return attend(q, keys[:, :, :end], values[:, :, :end], padding[..., :end])

        hidden = model.hidden(last, (end - 1 - first)[:, None], decode)[:, -1]


def runs(mask):
    """The turns of a rollout: (start, end) of each stretch of sampled tokens."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask, [0]))))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist()))


def split(rows, parts):
    return [rows[round(i * len(rows) / parts):round((i + 1) * len(rows) / parts)] for i in range(parts)]


def micro_batches(rows, most):
    """Consecutive, at most so many tokens each that are no padding."""
    batches, tokens = [], most + 1
    for row in rows:
        if tokens + row["forward"] > most:
            batches.append([])
            tokens = 0
        batches[-1].append(row)
        tokens += row["forward"]
    return batches


def update(policy, optimizer, rows, work):
    total = sum(row["sampled"] for row in rows)
    learning = sorted((row for row in rows if row["advantage"] != 0 and row["sampled"] > 0), key=lambda row: row["forward"])
    optimizer.zero_grad(set_to_none=True)
    for micro in micro_batches(learning, work["microBatchTokens"]):
        T = max(row["forward"] for row in micro)
        ids, mask = torch.zeros(len(micro), T + 1, dtype=torch.long), torch.zeros(len(micro), T, dtype=torch.bool)
        old, advantage = torch.zeros(len(micro), T), torch.tensor([row["advantage"] for row in micro])
        for i, row in enumerate(micro):
            n = row["forward"]
            ids[i, :n + 1] = row["ids"][:n + 1]
            mask[i, :n], old[i, :n] = row["mask"][1:n + 1], row["logProbs"][1:n + 1]
        hidden = policy.hidden(ids[:, :T], torch.arange(T)[None], lambda _, *qkv: attend_causal(*qkv))
        logits = policy.logits(hidden[mask]) / work["temperature"]
        logp = torch.log_softmax(logits, -1).gather(1, ids[:, 1:][mask][:, None])[:, 0]
        a = advantage[:, None].expand(-1, T)[mask]
        ratio = torch.exp(logp - old[mask])
        clipped = ratio.clamp(1 - work["clipLow"], 1 + work["clipHigh"])
        (-torch.minimum(ratio * a, clipped * a).sum() / total).backward()
    torch.nn.utils.clip_grad_norm_(policy.weights.values(), work["maxGradNorm"])
    optimizer.step()


def step(policy, optimizer, simulator, work):
    rows, turns = work["rollouts"], max(len(row["runs"]) for row in work["rollouts"])
    for turn in range(turns):
        going = [row for row in rows if len(row["runs"]) > turn]
        generate(
            policy,
            [row["ids_list"][:row["runs"][turn][0]] for row in going],
            max(end - start for start, end in (row["runs"][turn] for row in going)),
            work["temperature"],
        )
        asked = [search for search in work["searches"] if search["turn"] == turn]
        if asked:
            prompts = [[1] * search["prompt"] for search in asked]
            generate(simulator, prompts, max(search["tokens"] for search in asked), work["simulatorTemperature"])
    for part in split(rows, work["updates"]):
        update(policy, optimizer, part, work)


def read(path):
    work = json.load(open(path))
    for row in work["rollouts"]:
        mask = np.array(row["lossMask"])
        row.update(runs=runs(mask), sampled=int(mask.sum()), forward=int(np.flatnonzero(mask)[-1]) if mask.any() else 0)
        row.update(ids_list=row["ids"], ids=torch.tensor(row["ids"]), mask=torch.tensor(row["lossMask"], dtype=torch.bool))
        row.update(logProbs=torch.tensor(row["logProbs"]))
    return work


torch.manual_seed(0)
print(json.dumps({"torch": torch.__version__}), flush=True)
models = None
for line in sys.stdin:
    command, value = line.split(maxsplit=1)
    seconds = 0.0
    if command == "threads":
        torch.set_num_threads(int(value))
    elif command == "step":
        work = read(value.strip())
        if models is None:
            policy = Model(work["policy"], True)
            optimizer = torch.optim.AdamW(
                policy.weights.values(), lr=work["learningRate"], betas=(work["beta1"], work["beta2"]), weight_decay=0
            )
            models = policy, optimizer, Model(work["simulator"], False)
        for group in models[1].param_groups:
            group["lr"] = work["learningRate"]
        start = time.perf_counter()
        step(*models, work)
        seconds = time.perf_counter() - start
    else:
        raise SystemExit(f"unknown command {command}")
    print(json.dumps({"seconds": seconds}), flush=True)
