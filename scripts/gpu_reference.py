#!/usr/bin/env python3
"""What PyTorch reaches on this GPU with a model of a given shape and random weights: the peers of `fastserve bench`.

  gpu_reference.py CONFIG.json [--prefill 512,2048,8192] [--decode 1,8,32,128] [--context 128] [--tokens 64]
                   [--peers compiled,eager,plain] [--seconds 200] [--device cuda] [--out FILE.json]

Peers: `compiled`: transformers with a static cache and torch.compile (decode as CUDA graphs); `eager`: transformers with
a static cache; `plain`: the same layers written with PyTorch's own operations, nothing compiled. Each figure is the
median of the timed runs. Beside them: the device's copy bandwidth and matrix rate, measured in the same run. A peer that
fails is skipped, and the reason stands in the result.
"""

import argparse
import json
import statistics
import sys
import time

import torch


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("config")
    p.add_argument("--prefill", default="512,2048,8192")
    p.add_argument("--decode", default="1,8,32,128")
    p.add_argument("--context", type=int, default=128, help="tokens before those that are decoded")
    p.add_argument("--tokens", type=int, default=64, help="decoded tokens of a run")
    p.add_argument("--peers", default="compiled,eager,plain")
    p.add_argument("--seconds", type=float, default=200, help="no new measurement begins after this long")
    p.add_argument("--device", default="cuda")
    p.add_argument("--out")
    return p.parse_args()


def sync(device):
    if device != "cpu":
        torch.cuda.synchronize()


def timed(device, work, runs=5):
    work()  # warm
    times = []
    for _ in range(runs):
        sync(device)
        begin = time.perf_counter()
        work()
        sync(device)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def limits(device):
    big = device != "cpu"
    a = torch.empty((1 << 31) if big else (1 << 26), dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    copy = 2 * a.numel() / timed(device, lambda: b.copy_(a))
    del a, b
    n = 8192 if big else 512
    x = torch.randn(n, n, dtype=torch.bfloat16, device=device)
    y = torch.randn(n, n, dtype=torch.bfloat16, device=device)
    rate = 2.0 * n**3 / timed(device, lambda: x @ y)
    return {"copy_bytes_per_s": copy, "bf16_ops_per_s": rate}


class Plain:
    """A Llama of PyTorch's operations: separate projections, SDPA, a cache that is written in place."""

    def __init__(self, c, device, batch, room):
        self.c, self.device = c, device
        h, kv = c["hidden_size"], c["num_key_value_heads"]
        self.heads, self.kv = c["num_attention_heads"], kv
        self.dim = h // self.heads
        make = lambda rows, cols: torch.randn(rows, cols, dtype=torch.bfloat16, device=device) * cols**-0.5
        self.embedding = make(c["vocab_size"], h)
        self.head = make(c["vocab_size"], h)
        self.norm = torch.ones(h, dtype=torch.bfloat16, device=device)
        self.layers = [
            {"q": make(h, h), "k": make(kv * self.dim, h), "v": make(kv * self.dim, h), "o": make(h, h),
             "gate": make(c["intermediate_size"], h), "up": make(c["intermediate_size"], h),
             "down": make(h, c["intermediate_size"])}
            for _ in range(c["num_hidden_layers"])]
        frequency = c.get("rope_theta", 10000.0) ** (-torch.arange(0, self.dim, 2, device=device).float() / self.dim)
        angle = torch.arange(room, device=device).float()[:, None] * frequency[None, :]
        self.cos = torch.cat([angle.cos()] * 2, -1).bfloat16()
        self.sin = torch.cat([angle.sin()] * 2, -1).bfloat16()
        self.cache = [torch.zeros(2, batch, kv, room, self.dim, dtype=torch.bfloat16, device=device)
                      for _ in self.layers]

    def rotate(self, x, at, n):
        half = self.dim // 2
        turned = torch.cat([-x[..., half:], x[..., :half]], -1)
        return x * self.cos[at:at + n] + turned * self.sin[at:at + n]

    def rms(self, x):
        f = x.float()
        return (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + 1e-5)).bfloat16() * self.norm

    @torch.inference_mode()
    def step(self, ids, at):
        x = torch.nn.functional.embedding(ids, self.embedding)
        b, n = ids.shape
        for w, cache in zip(self.layers, self.cache):
            y = self.rms(x)
            q = (y @ w["q"].T).view(b, n, self.heads, self.dim).transpose(1, 2)
            k = (y @ w["k"].T).view(b, n, self.kv, self.dim).transpose(1, 2)
            v = (y @ w["v"].T).view(b, n, self.kv, self.dim).transpose(1, 2)
            q, k = self.rotate(q, at, n), self.rotate(k, at, n)
            cache[0][:, :, at:at + n] = k
            cache[1][:, :, at:at + n] = v
            o = torch.nn.functional.scaled_dot_product_attention(
                q, cache[0][:, :, :at + n], cache[1][:, :, :at + n], is_causal=n > 1, enable_gqa=True)
            x = x + o.transpose(1, 2).reshape(b, n, -1) @ w["o"].T
            y = self.rms(x)
            x = x + (torch.nn.functional.silu(y @ w["gate"].T) * (y @ w["up"].T)) @ w["down"].T
        return (self.rms(x[:, -1:]) @ self.head.T).argmax(-1)


def measure_plain(c, a, result, left):
    for n in sizes(a.prefill):
        if not left():
            return
        m = Plain(c, a.device, 1, n)
        ids = torch.randint(c["vocab_size"], (1, n), device=a.device)
        result["prefill"][n] = n / timed(a.device, lambda: m.step(ids, 0), 3)
        del m
    for batch in sizes(a.decode):
        if not left():
            return
        m = Plain(c, a.device, batch, a.context + a.tokens)

        def run():
            ids = torch.zeros(batch, 1, dtype=torch.long, device=a.device)
            for t in range(a.tokens):
                ids = m.step(ids, a.context + t)

        result["decode"][batch] = batch * a.tokens / timed(a.device, run, 3)
        del m


def measure_transformers(c, a, result, left, compiled):
    import transformers

    config = transformers.LlamaConfig(**{k: v for k, v in c.items() if k != "architectures"})
    with torch.device(a.device):
        model = transformers.LlamaForCausalLM._from_config(config, dtype=torch.bfloat16)
    model = model.to(a.device).eval()
    decode = torch.compile(model.forward, mode="reduce-overhead", fullgraph=True) if compiled else model.forward

    def cache_of(batch, room):
        return transformers.StaticCache(config=config, max_batch_size=batch, max_cache_len=room, device=a.device,
                                        dtype=torch.bfloat16)

    with torch.inference_mode():
        for batch in sizes(a.decode):
            if not left():
                return
            cache = cache_of(batch, a.context + a.tokens)

            def run():
                ids = torch.zeros(batch, 1, dtype=torch.long, device=a.device)
                for t in range(a.tokens):
                    at = torch.tensor([a.context + t], device=a.device)
                if compiled:
                    torch.compiler.cudagraph_mark_step_begin()  # what the last step returned may be written over
                    out = decode(input_ids=ids, past_key_values=cache, cache_position=at,
                                 position_ids=at[None].expand(batch, 1), use_cache=True)
                    ids = out.logits[:, -1:].argmax(-1).clone()

            result["decode"][batch] = batch * a.tokens / timed(a.device, run, 3)
            del cache
        for n in sizes(a.prefill):
            if not left():
                return
            ids = torch.randint(c["vocab_size"], (1, n), device=a.device)
            at = torch.arange(n, device=a.device)

            def run():
                model(input_ids=ids, past_key_values=cache_of(1, n), cache_position=at, use_cache=True,
                      logits_to_keep=1)

            result["prefill"][n] = n / timed(a.device, run, 3)


class kept(dict):
    """Calls `keep` for every figure that is entered."""

    def __init__(self, keep):
        super().__init__()
        self.keep = keep

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.keep()


def sizes(text):
    return [int(x) for x in text.split(",") if x]


def main():
    a = parse()
    with open(a.config) as f:
        c = json.load(f)
    begin = time.monotonic()
    left = lambda: time.monotonic() - begin < a.seconds
    out = {"device": torch.cuda.get_device_name() if a.device != "cpu" else "cpu", "torch": torch.__version__,
           "context": a.context, "limits": limits(a.device), "peers": {}}

    def keep():
        if a.out:
            with open(a.out, "w") as f:
                f.write(json.dumps(out, indent=1) + "\n")

    keep()  # what there is, should the rest be cut short
    for name in a.peers.split(","):
        result = out["peers"].setdefault(name, {"decode": kept(keep), "prefill": kept(keep)})
        try:
            if name == "plain":
                measure_plain(c, a, result, left)
            elif name in ("compiled", "eager"):
                measure_transformers(c, a, result, left, name == "compiled")
            else:
                sys.exit(f"gpu_reference.py: no peer named {name!r}; there are compiled, eager and plain")
        except Exception as e:  # noqa: BLE001: a peer's failure must not cost the others their turn
            result["skipped"] = f"{type(e).__name__}: {e}".splitlines()[0]
        if a.device != "cpu":
            torch.cuda.empty_cache()
        if not left():
            result.setdefault("skipped", "out of time")
        keep()
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
