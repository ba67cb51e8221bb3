"""The peer `torch`: the shapes of the GPU benches in PyTorch, written by hand with SDPA; bf16 on CUDA, f32 on the CPU unless told.
On the CPU each is run with the thread count that is its best.

Reads one JSON object a line and answers with one, so that the bench can take turns with it:
  {"id", "op": "prepare", "kind", "variant", "numbers"}  -> {"description", "most"?}, or {"missing": why}
  {"id", "op": "run", "count"}                           -> {"seconds"} for `count` repetitions, waited for
  {"id", "op": "close"}                                  -> {}
Anything that goes wrong is answered with {"error": text}; the process goes on.
"""
import contextlib
import gc
import json
import os
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
HALF = torch.bfloat16 if CUDA else torch.float32
SDPA = hasattr(F, "scaled_dot_product_attention")


def has_grouped_sdpa():
    if not SDPA:
        return False
    try:
        q, k = torch.zeros(1, 2, 1, 8), torch.zeros(1, 1, 1, 8)
        F.scaled_dot_product_attention(q, k, k, enable_gqa=True)
        return True
    except TypeError:
        return False


GROUPED = has_grouped_sdpa()


def attend(q, k, v, causal, mask=None):
    """q [B, H, T, D], k and v [B, K, S, D] -> [B, H, T, D]."""
    groups = q.shape[1] // k.shape[1]
    if SDPA and (groups == 1 or GROUPED):
        more = {"enable_gqa": True} if groups > 1 else {}
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, **more)
    if groups > 1:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    if SDPA:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
    if causal:
        T = q.shape[2]
        mask = torch.ones(T, T, dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return torch.softmax(scores, -1) @ v


def attend_one(q, k, v, mask=None):
    """One query a sequence: q [B, H, 1, D], k and v [B, K, S, D]. The heads of a group stand as queries, so that the cache is not repeated."""
    B, H, _, D = q.shape
    K = k.shape[1]
    out = attend(q.view(B, K, H // K, D), k, v, False, mask)
    return out.reshape(B, H, 1, D)


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        if hasattr(F, "rms_norm"):
            return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), 1e-6)
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


class Block(nn.Module):
    def __init__(self, m):
        super().__init__()
        C, FF, H, K, D = m["C"], m["F"], m["H"], m["K"], m["D"]
        self.m = m
        self.norm1, self.norm2 = RmsNorm(C), RmsNorm(C)
        self.q, self.k, self.v = nn.Linear(C, H * D), nn.Linear(C, K * D), nn.Linear(C, K * D)
        self.o = nn.Linear(H * D, C, bias=False)
        self.gate, self.up = nn.Linear(C, FF, bias=False), nn.Linear(C, FF, bias=False)
        self.down = nn.Linear(FF, C, bias=False)

    def forward(self, x, cos, sin, attention):
        B, T, _ = x.shape
        H, K, D = self.m["H"], self.m["K"], self.m["D"]
        h = self.norm1(x)
        q = rotate(self.q(h).view(B, T, H, D).transpose(1, 2), cos, sin)
        k = rotate(self.k(h).view(B, T, K, D).transpose(1, 2), cos, sin)
        v = self.v(h).view(B, T, K, D).transpose(1, 2)
        x = x + self.o(attention(q, k, v).transpose(1, 2).reshape(B, T, H * D))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    """Qwen2's decoder with a tied head and random weights."""

    def __init__(self, m, dtype):
        super().__init__()
        self.m = m
        self.embedding = nn.Embedding(m["V"], m["C"])
        self.blocks = nn.ModuleList([Block(m) for _ in range(m["L"])])
        self.norm = RmsNorm(m["C"])
        frequency = 1e6 ** (-torch.arange(0, m["D"], 2).double() / m["D"])
        angle = torch.arange(4096).double()[:, None] * frequency[None]
        angle = torch.cat((angle, angle), -1)
        self.register_buffer("cos", angle.cos().float(), persistent=False)
        self.register_buffer("sin", angle.sin().float(), persistent=False)
        self.to(DEVICE)
        with torch.no_grad():
            for name, p in self.named_parameters():
                if p.dim() > 1:
                    p.normal_(0, 0.02 if "embedding" in name else p.shape[1] ** -0.5)
                elif name.endswith("bias"):
                    p.zero_()
        self.to(dtype)

    def hidden(self, ids, positions, attention, recompute=False):
        """ids [B, T], positions [T]; attention(layer) -> function of q, k, v."""
        x = self.embedding(ids)
        cos, sin = self.cos[positions].to(x.dtype), self.sin[positions].to(x.dtype)
        if torch.is_autocast_enabled() and CUDA:
            cos, sin = cos.to(HALF), sin.to(HALF)
        for i, block in enumerate(self.blocks):
            if recompute:
                x = checkpoint(block, x, cos, sin, attention(i), use_reentrant=False)
            else:
                x = block(x, cos, sin, attention(i))
        return self.norm(x)

    def logits(self, hidden):
        return hidden @ self.embedding.weight.t()


def build(m, dtype):
    """A model made on the device."""
    with contextlib.ExitStack() as stack:
        if CUDA:  # drawn where they will be used
            stack.enter_context(torch.device("cuda"))
        return Model(m, dtype)


def cache_of(m, batch, length, dtype):
    shape = (batch, m["K"], length, m["D"])
    return [(torch.randn(shape, device=DEVICE, dtype=dtype), torch.randn(shape, device=DEVICE, dtype=dtype)) for _ in range(m["L"])]


def draw(logits):
    """Sampling at temperature 1 by the exponential race, which does not wait for the host."""
    p = torch.softmax(logits.float(), -1)
    return torch.argmax(p / torch.empty_like(p).exponential_(1), -1, keepdim=True)


def wait():
    if CUDA:
        torch.cuda.synchronize()


def repeated(call):
    def run(count):
        wait()
        start = time.perf_counter()
        for _ in range(count):
            call()
        wait()
        return time.perf_counter() - start

    return run


def of(precision):
    return HALF if precision == "f16" else torch.float32


def gemm(n, variant):
    M, N, K, dtype = n["M"], n["N"], n["K"], of(n["precision"])
    form = n.get("form", "nt")
    a = torch.randn((K, M) if form == "tn" else (M, K), device=DEVICE).to(dtype)
    # Different weights in turn, so that a small one is not read from the cache.
    size = N * K * a.element_size()
    copies = 1 if form == "tn" or not CUDA else max(1, min(64, -(-(512 << 20) // size)))
    bs = [(torch.randn((N, K) if form == "nt" else (K, N), device=DEVICE) * K**-0.5).to(dtype) for _ in range(copies)]
    out = torch.empty(M, N, device=DEVICE, dtype=dtype)
    turn = [0]

    def call():
        b = bs[turn[0] % copies]
        turn[0] += 1
        torch.mm(a.t() if form == "tn" else a, b.t() if form == "nt" else b, out=out)

    return {"run": repeated(call), "what": str(dtype).replace("torch.", "")}


def copy(n, variant):
    a = torch.empty(n["bytes"] // 4, device=DEVICE, dtype=torch.float32).normal_()
    b = torch.empty_like(a)
    return {"run": repeated(lambda: b.copy_(a)), "what": "copy_"}


def attention(n, variant):
    B, T, H, K, D = n["B"], n["T"], n["heads"], n["kvHeads"], n["headDim"]
    make = lambda heads: torch.randn(B, heads, T, D, device=DEVICE, dtype=HALF, requires_grad=n["backward"])
    q, k, v = make(H), make(K), make(K)
    if not n["backward"]:
        def call():
            with torch.inference_mode():
                attend(q, k, v, True)
        return {"run": repeated(call), "what": "SDPA" if SDPA else "softmax(q k) v"}
    out = attend(q, k, v, True)
    dout = torch.randn_like(out)

    def back():
        torch.autograd.grad(out, (q, k, v), dout, retain_graph=True)

    return {"run": repeated(back), "what": "SDPA" if SDPA else "softmax(q k) v"}


def attention_decode(n, variant):
    B, T, H, K, D = n["B"], n["T"], n["heads"], n["kvHeads"], n["headDim"]
    caches = [tuple(torch.randn(B, K, T, D, device=DEVICE, dtype=HALF) for _ in range(2)) for _ in range(4 if CUDA else 1)]
    q = torch.randn(B, H, 1, D, device=DEVICE, dtype=HALF)
    turn = [0]

    def call():
        k, v = caches[turn[0] % len(caches)]
        turn[0] += 1
        with torch.inference_mode():
            attend_one(q, k, v)

    return {"run": repeated(call), "what": "SDPA" if SDPA else "softmax(q k) v"}


def decode(n, variant):
    m, B, context, steps = n["model"], n["batch"], n["context"], n["steps"]
    dtype = torch.bfloat16 if n.get("dtype") == "bf16" else HALF
    model = build(m, dtype).requires_grad_(False)
    length = context + steps
    caches = cache_of(m, B, length, dtype)
    last = torch.randint(0, m["V"], (B, 1), device=DEVICE)
    if variant == "static cache":
        def step(position):
            def at(i):
                def attention(q, k, v):
                    keys, values = caches[i]
                    keys[:, :, position:position + 1] = k
                    values[:, :, position:position + 1] = v
                    return attend_one(q, keys[:, :, :position + 1], values[:, :, :position + 1])
                return attention
            hidden = model.hidden(last, slice(position, position + 1), at)
            last.copy_(draw(model.logits(hidden[:, -1])))

        def run(count):
            wait()
            start = time.perf_counter()
            with torch.inference_mode():
                for i in range(count):
                    step(context + i % steps)
            wait()
            return time.perf_counter() - start

        return {"run": run, "most": steps, "what": "static cache, eager", "dtype": dtype}
    if not CUDA:
        return {"missing": "CUDA graphs need CUDA"}
    place = torch.full((1,), context, device=DEVICE, dtype=torch.long)
    columns = torch.arange(length, device=DEVICE)

    def step():
        seen = (columns <= place)[None, None, None]
        def at(i):
            def attention(q, k, v):
                keys, values = caches[i]
                keys.index_copy_(2, place, k)
                values.index_copy_(2, place, v)
                return attend_one(q, keys, values, seen)
            return attention
        hidden = model.hidden(last, place, at)
        last.copy_(draw(model.logits(hidden[:, -1])))
        place.add_(1)

    with torch.inference_mode():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()

    def run(count):
        place.fill_(context)
        wait()
        start = time.perf_counter()
        for _ in range(count):
            graph.replay()
        wait()
        return time.perf_counter() - start

    return {"run": run, "most": steps, "what": "static cache, CUDA graph"}


def generate(n, variant):
    try:
        import transformers
    except ImportError:
        return {"missing": "transformers is not installed"}
    m, B, prompt, steps = n["model"], n["batch"], n["prompt"], n["steps"]
    config = transformers.Qwen2Config(
        vocab_size=m["V"], hidden_size=m["C"], intermediate_size=m["F"], num_hidden_layers=m["L"], num_attention_heads=m["H"],
        num_key_value_heads=m["K"], max_position_embeddings=4096, tie_word_embeddings=True, attn_implementation="sdpa",
        bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )
    config.head_dim = m["D"]
    before = torch.get_default_dtype()
    torch.set_default_dtype(HALF)
    try:
        with torch.device(DEVICE):
            model = transformers.Qwen2ForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)
    ids = torch.randint(0, m["V"], (B, prompt), device=DEVICE)
    mask = torch.ones_like(ids)

    def seconds(tokens):
        wait()
        start = time.perf_counter()
        with torch.inference_mode():
            model.generate(ids, attention_mask=mask, do_sample=True, top_k=0, temperature=1.0, min_new_tokens=tokens, max_new_tokens=tokens, eos_token_id=None, pad_token_id=0)
        wait()
        return time.perf_counter() - start

    seconds(2)

    # The first token comes with the prefill, which is not counted.
    def run(count):
        return sum(seconds(1 + steps) - seconds(1) for _ in range(count))

    return {"run": run, "most": 1, "what": f"transformers {transformers.__version__} generate, SDPA, dynamic cache"}


def prefill(n, variant):
    m, B, T = n["model"], n["batch"], n["tokens"]
    model = build(m, HALF).requires_grad_(False)
    caches = cache_of(m, B, T, HALF)
    ids = torch.randint(0, m["V"], (B, T), device=DEVICE)

    def at(i):
        def attention(q, k, v):
            caches[i][0].copy_(k)
            caches[i][1].copy_(v)
            return attend(q, k, v, True)
        return attention

    def call():
        with torch.inference_mode():
            model.hidden(ids, slice(0, T), at)

    return {"run": repeated(call), "what": "SDPA, cache written" if SDPA else "softmax(q k) v, cache written"}


def embed(n, variant):
    """Embeddings of texts of several lengths: batches of texts of like length, padded on the right, where causal attention does not see it."""
    m, lengths = n["model"], sorted(n["lengths"])
    model = build(m, HALF if CUDA else torch.float32).requires_grad_(False)
    batches = []
    for at in range(0, len(lengths), n["batch"]):
        some = torch.tensor(lengths[at : at + n["batch"]], device=DEVICE)
        batches.append((torch.randint(0, m["V"], (len(some), int(some.max())), device=DEVICE), some - 1))

    def call():
        with torch.inference_mode():
            for ids, last in batches:
                states = model.hidden(ids, slice(0, ids.shape[1]), lambda i: lambda q, k, v: attend(q, k, v, True))
                F.normalize(states[torch.arange(len(last), device=DEVICE), last].float(), dim=-1)

    return {"run": repeated(call), "what": f"batches of {n['batch']} by length, " + ("SDPA" if SDPA else "softmax(q k) v")}


def train(n, variant):
    m, B, micro, T, recompute = n["model"], n["sequences"], n["micro"], n["tokens"], n["recompute"]
    model = build(m, torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01, **({"fused": True} if CUDA else {}))
    ids = torch.randint(0, m["V"], (B, T), device=DEVICE)
    plain = lambda i: lambda q, k, v: attend(q, k, v, True)
    mixed = torch.autocast("cuda", dtype=HALF) if CUDA else contextlib.nullcontext()

    def call():
        optimizer.zero_grad(set_to_none=False)
        for first in range(0, B, micro):
            part = ids[first:first + micro]
            with mixed:
                hidden = model.hidden(part, slice(0, T), plain, recompute)[:, :-1]
                logits = model.logits(hidden).reshape(-1, m["V"])
                loss = F.cross_entropy(logits.float(), part[:, 1:].reshape(-1), reduction="sum") / (B * (T - 1))
            loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return {"run": repeated(call), "what": f"{'bf16 autocast over f32 masters, fused AdamW' if CUDA else 'f32, AdamW'}{', checkpointed' if recompute else ''}"}


class Lora(nn.Module):
    """A frozen linear layer and what is added to it, in f32 as PEFT keeps it: y += scale (x a^T) b^T."""

    def __init__(self, base, rank, scale):
        super().__init__()
        self.base, self.scale = base, scale
        self.a = nn.Parameter(torch.randn(rank, base.in_features, device=DEVICE) * base.in_features**-0.5)
        self.b = nn.Parameter(torch.zeros(base.out_features, rank, device=DEVICE))

    def forward(self, x):
        y = self.base(x)
        return y + ((x.float() @ self.a.t()) @ self.b.t() * self.scale).to(y.dtype)


def lora(n, variant):
    m, T, rank = n["model"], n["tokens"], n["rank"]
    dtype = torch.bfloat16 if n["dtype"] == "bf16" else torch.float32
    model = build(m, dtype).requires_grad_(False)
    for block in model.blocks:
        for name in ("q", "k", "v", "o", "gate", "up", "down"):
            setattr(block, name, Lora(getattr(block, name), rank, n["alpha"] / rank))
    adapter = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(adapter, lr=1e-4, weight_decay=0)
    ids = torch.randint(0, m["V"], (1, T), device=DEVICE)
    plain = lambda i: lambda q, k, v: attend(q, k, v, True)

    def call():
        optimizer.zero_grad(set_to_none=False)
        hidden = model.hidden(ids, slice(0, T), plain, True)[:, :-1]
        loss = F.cross_entropy(model.logits(hidden).reshape(-1, m["V"]).float(), ids[:, 1:].reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(adapter, 1.0)
        optimizer.step()

    return {"run": repeated(call), "most": 1, "what": "adapter in f32, AdamW, checkpointed", "dtype": dtype}


def best_threads(run):
    """The fastest of 1, 2, 4 ... threads, each by the better of two runs; None on CUDA."""
    if CUDA:
        return None
    most = os.cpu_count() or 1
    counts = sorted({most, *(1 << i for i in range(most.bit_length()) if 1 << i <= most)})
    taken = {}
    for threads in counts:
        torch.set_num_threads(threads)
        run(1)
        taken[threads] = min(run(1), run(1))
    return min(taken, key=taken.get)


kinds = {f.__name__: f for f in (gemm, copy, attention, attention_decode, decode, generate, prefill, embed, train, lora)}
prepared = {}


def answer(request):
    op, key = request["op"], request["id"]
    if op == "prepare":
        torch.manual_seed(0)
        made = kinds[request["kind"]](request["numbers"], request["variant"])
        if "missing" in made:
            return {"missing": made["missing"]}
        made["threads"] = best_threads(made["run"])
        prepared[key] = made
        where = torch.cuda.get_device_name() if CUDA else f"CPU, {made['threads']} threads"
        return {"description": f"torch {torch.__version__} on {where}, {str(made.get('dtype', HALF)).replace('torch.', '')}: {made['what']}", **({"most": made["most"]} if "most" in made else {})}
    if op == "run":
        if not CUDA:
            torch.set_num_threads(prepared[key]["threads"])
        return {"seconds": prepared[key]["run"](request["count"])}
    if op == "close":
        prepared.pop(key, None)
        gc.collect()
        if CUDA:
            torch.cuda.empty_cache()
        return {}
    raise ValueError(f"unknown op {op}")


print(json.dumps({"torch": torch.__version__, "device": torch.cuda.get_device_name() if CUDA else "CPU"}), flush=True)
for line in sys.stdin:
    try:
        reply = answer(json.loads(line))
    except Exception as error:  # the bench says it and goes on
        reply = {"error": f"{type(error).__name__}: {error}"[:500]}
        gc.collect()
        if CUDA:
            torch.cuda.empty_cache()
    print(json.dumps(reply), flush=True)
