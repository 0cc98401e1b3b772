#!/usr/bin/env python3
"""Speeds on a GPU as tables: what scripts/bench_gpu.sh has measured, beside the device's limits and PyTorch.

  gpu_table.py CONFIG.json RESULTS

CONFIG.json: the shape. RESULTS: the folder of bench_gpu.sh, of which bench.jsonl and, if there, reference.json are read.
Bytes of a decoded token: the weights that a step reads and the keys and values of all sequences (two bytes an element).
Operations of a prompt's token: two a weight of the layers, and those of attention, half of it masked.
"""

import json
import os
import sys


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1]) as f:
        c = json.load(f)
    folder = sys.argv[2]
    with open(os.path.join(folder, "bench.jsonl")) as f:
        lines = [json.loads(line) for line in f if line.strip()]
    reference = {}
    path = os.path.join(folder, "reference.json")
    if os.path.exists(path):
        with open(path) as f:
            reference = json.load(f)
    limits = reference.get("limits", {})
    peers = reference.get("peers", {})
    hidden, layers = c["hidden_size"], c["num_hidden_layers"]
    head = hidden // c["num_attention_heads"]
    kv = 2 * 2 * layers * c["num_key_value_heads"] * head
    layer = hidden * head * 2 * (c["num_attention_heads"] + c["num_key_value_heads"]) + 3 * hidden * c["intermediate_size"]
    table = 2 * c["vocab_size"] * hidden
    ours = [x["read_bandwidth_bytes_per_s"] for x in lines]
    copy = limits.get("copy_bytes_per_s", max(ours, default=0))
    print(f"{reference.get('device', 'GPU')}: copies move {copy * 1e-9:.0f} GB/s (ours of 1 GB: "
          f"{max(ours, default=0) * 1e-9:.0f})", end="")
    rate = limits.get("bf16_ops_per_s", 0)
    print(f", a product of 8192^3 in bf16 reaches {rate * 1e-12:.0f} Tflop/s" if rate else "")

    def peer(kind, size):
        return [f"{p.get(kind, {}).get(str(size), 0):.0f}" if str(size) in p.get(kind, {}) else "-" for p in peers.values()]

    titles = ["| weights | sequences | context |", " tokens/s | of copy bandwidth | from a token to the next step |"]
    print("\n" + titles[0] + titles[1] + "".join(f" {name} |" for name in peers))
    print("|---" * (6 + len(peers)) + "|")
    for x in lines:
        if x["decode_tokens"] < 2 or not x["decode_tokens_per_s"]:
            continue
        step = x["batch"] / x["decode_tokens_per_s"]
        context = x["prompt_tokens"] + x["decode_tokens"] / 2
        read = x["weight_bytes"] - table + x["batch"] * context * kv
        gap = x.get("turnaround_us", 0) * 1e-6 / step  # none is seen where steps run ahead
        cells = [x["dtype"], x["batch"], x["prompt_tokens"], f"{x['decode_tokens_per_s']:.0f}",
                 f"{100 * read / step / copy:.0f} %", f"{100 * gap:.1f} %" if gap > 0 else "none"]
        same = x["prompt_tokens"] == reference.get("context") and x["dtype"] == "bf16"
        cells += peer("decode", x["batch"]) if same else ["-"] * len(peers)
        print("| " + " | ".join(str(cell) for cell in cells) + " |")
    print("\n| weights | prompts | tokens of each | tokens/s | Tflop/s | of the product's |" + "".join(f" {n} |" for n in peers))
    print("|---" * (6 + len(peers)) + "|")
    for x in lines:
        n = x["prompt_tokens"]
        flops = 2 * layers * layer + 2 * layers * n * hidden
        got = flops * x["prefill_tokens_per_s"]
        cells = [x["dtype"], x["batch"], n, f"{x['prefill_tokens_per_s']:.0f}", f"{got * 1e-12:.0f}",
                 f"{100 * got / rate:.0f} %" if rate else "-"]
        cells += peer("prefill", n) if x["batch"] == 1 and x["dtype"] == "bf16" else ["-"] * len(peers)
        print("| " + " | ".join(str(cell) for cell in cells) + " |")


if __name__ == "__main__":
    main()
