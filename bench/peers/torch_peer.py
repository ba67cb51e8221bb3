"""The peer `torch`: the same 8.7 M-parameter Qwen2-shaped model in PyTorch on the CPU.

Reads one command a line and answers one JSON line, so that the bench can take turns with it:
  threads T            use T threads
  prefill              seconds of 8 prompts of 256 tokens into a static cache
  train                seconds of one training step (forward, backward, AdamW) over 16 x 128 tokens
  decode B             seconds of 32 decode steps of B sequences from position 96, sampling included
  gemm M N K           seconds of one matrix product
"""
import json
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

V, C, L, H, K, D, FF = 4096, 320, 6, 5, 1, 64, 1024
BATCH, LENGTH, PAST, STEPS = 16, 128, 96, 32
PROMPTS, PROMPT = 8, 256
SDPA = hasattr(F, "scaled_dot_product_attention")


class RmsNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(C))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = RmsNorm(), RmsNorm()
        self.q, self.k, self.v = nn.Linear(C, H * D), nn.Linear(C, K * D), nn.Linear(C, K * D)
        self.o = nn.Linear(H * D, C, bias=False)
        self.gate, self.up = nn.Linear(C, FF, bias=False), nn.Linear(C, FF, bias=False)
        self.down = nn.Linear(FF, C, bias=False)

    def forward(self, x, cos, sin, cache, position, mask):
        B, T, _ = x.shape
        h = self.norm1(x)
        q = rotate(self.q(h).view(B, T, H, D).transpose(1, 2), cos, sin)
        k = rotate(self.k(h).view(B, T, K, D).transpose(1, 2), cos, sin)
        v = self.v(h).view(B, T, K, D).transpose(1, 2)
        if cache is not None:
            cache[0][:, :, position:position + T] = k
            cache[1][:, :, position:position + T] = v
            k, v = cache[0][:, :, :position + T], cache[1][:, :, :position + T]
        if T == 1:  # one key/value head: all query heads in one product
            a = torch.softmax((q.squeeze(2) @ k.squeeze(1).transpose(1, 2)) / D ** 0.5, -1) @ v.squeeze(1)
            a = a.reshape(B, 1, H * D)
        elif SDPA:
            a = F.scaled_dot_product_attention(q, k.expand(-1, H, -1, -1), v.expand(-1, H, -1, -1), is_causal=True)
            a = a.transpose(1, 2).reshape(B, T, H * D)
        else:
            a = (torch.softmax(q @ k.transpose(2, 3) / D ** 0.5 + mask, -1) @ v).transpose(1, 2).reshape(B, T, H * D)
        x = x + self.o(a)
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(V, C)
        self.blocks = nn.ModuleList([Block() for _ in range(L)])
        self.norm = RmsNorm()
        frequency = 1e6 ** (-torch.arange(0, D, 2).float() / D)
        angle = torch.arange(1024).float()[:, None] * frequency[None]
        angle = torch.cat((angle, angle), -1)
        self.cos, self.sin = angle.cos(), angle.sin()
        self.mask = torch.full((PROMPT, PROMPT), float("-inf")).triu(1)

    def hidden(self, ids, caches=None, position=0):
        T = ids.shape[1]
        cos, sin = self.cos[position:position + T], self.sin[position:position + T]
        x = self.embedding(ids)
        for i, block in enumerate(self.blocks):
            x = block(x, cos, sin, None if caches is None else caches[i], position, self.mask[:T, :T])
        return self.norm(x)

    def forward(self, ids, caches=None, position=0):
        return self.hidden(ids, caches, position) @ self.embedding.weight.t()


torch.manual_seed(0)
model = Model()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
ids = torch.randint(0, V, (BATCH, LENGTH))


def train():
    optimizer.zero_grad(set_to_none=True)
    logits = model(ids)
    F.cross_entropy(logits[:, :-1].reshape(-1, V), ids[:, 1:].reshape(-1)).backward()
    optimizer.step()


def cache(batch):
    return [(torch.zeros(batch, K, 256, D), torch.zeros(batch, K, 256, D)) for _ in range(L)]


prompts, prompt_cache = torch.randint(0, V, (PROMPTS, PROMPT)), cache(PROMPTS)


def prefill():
    """Hidden states of all tokens, no logits: as ours."""
    with torch.inference_mode():
        model.hidden(prompts, prompt_cache)


def decode(batch):
    caches = cache(batch)
    last = torch.randint(0, V, (batch, 1))
    start = time.perf_counter()
    with torch.inference_mode():
        for position in range(PAST, PAST + STEPS):
            logits = model(last, caches, position)[:, -1]
            last = torch.multinomial(torch.softmax(logits, -1), 1)
    return time.perf_counter() - start


def timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


print(json.dumps({"torch": torch.__version__, "parameters": sum(p.numel() for p in model.parameters())}), flush=True)
for line in sys.stdin:
    command, *numbers = line.split()
    numbers = [int(n) for n in numbers]
    if command == "threads":
        torch.set_num_threads(numbers[0])
        seconds = 0.0
    elif command == "prefill":
        seconds = timed(prefill)
    elif command == "train":
        seconds = timed(train)
    elif command == "decode":
        seconds = decode(numbers[0])
    elif command == "gemm":
        M, N, KK = numbers
        a, b = torch.randn(M, KK), torch.randn(KK, N)
        torch.mm(a, b)
        seconds = timed(lambda: torch.mm(a, b))
    else:
        raise SystemExit(f"unknown command {command}")
    print(json.dumps({"seconds": seconds}), flush=True)
