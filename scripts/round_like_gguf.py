#!/usr/bin/env python3
"""Writes a copy of a model folder whose layers' matrices are rounded as GGUF rounds them, by llama.cpp's own Python
package, and turned back into numbers: its perplexity is that of a GGUF file, to compare with fastserve compress at
the same bits (Q8_0: --format int8 --group 32; Q4_0: --format int4 --symmetric).

    python3 scripts/round_like_gguf.py models/demo demo-q4_0 --type Q4_0
    fastserve compress demo-q4_0 OUT1 --format int8 --evaluate text.txt       # "perplexity" begins with Q4_0's
    fastserve compress models/demo OUT2 --format int4 --symmetric --calibrate other.txt --evaluate text.txt

Embedding, head and norms stay as they are, as in fastserve compress; so does a matrix whose rows are no whole number of
blocks.

Requirements: Python >= 3.10, numpy, torch, safetensors, gguf >= 0.10.
"""

import argparse
import pathlib
import shutil

import gguf
import torch
from safetensors.torch import load_file, save_file


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--type", default="Q4_0", choices=["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
    options = parser.parse_args()
    kind = gguf.GGMLQuantizationType[options.type]
    block = gguf.GGML_QUANT_SIZES[kind][0]
    tensors = load_file(options.folder / "model.safetensors")
    for name, tensor in tensors.items():
        if ".layers." in name and tensor.ndim == 2 and tensor.shape[1] % block == 0:
            rounded = gguf.dequantize(gguf.quantize(tensor.float().numpy(), kind), kind)
            tensors[name] = torch.from_numpy(rounded.copy())
    options.out.mkdir(parents=True)
    save_file(tensors, options.out / "model.safetensors", {"format": "pt"})
    for file in options.folder.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, options.out / file.name)


if __name__ == "__main__":
    main()
