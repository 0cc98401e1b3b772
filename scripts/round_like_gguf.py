#!/usr/bin/env python3
"""Writes a copy of a model folder whose layers' matrices are rounded by llama.cpp's own quantizer and turned back into
numbers: its perplexity is that of the GGUF file, to compare with fastserve compress at the same bits (Q8_0: --format
int8 --group 32; Q4_0: --format int4 --symmetric). Rounding so once more finds the same integers.

    python3 scripts/round_like_gguf.py models/demo demo-q4_0 --type Q4_0
    fastserve compress demo-q4_0 OUT1 --format int4 --symmetric --evaluate text.txt
    fastserve compress models/demo OUT2 --format int4 --symmetric --calibrate other.txt --evaluate text.txt

Embedding, head and norms stay as they are, as in fastserve compress. Rows that are no whole number of blocks of 32 are
filled up with zeros, as llama.cpp would leave such a matrix in f16.

Requirements: Python >= 3.10, numpy, gguf, llama-cpp-python.
"""

import argparse
import json
import pathlib
import shutil
import tempfile

import gguf
import llama_cpp
import numpy as np
from peer_models import Skip, finish_gguf, gguf_name, quantize_by_llama_cpp, start_gguf

TYPES = ["Q8_0", "Q4_0"]
BLOCK = 32


def read_safetensors(file: pathlib.Path) -> dict[str, np.ndarray]:
    data = file.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    out = {}
    for name, about in json.loads(data[8:begin]).items():
        if name == "__metadata__":
            continue
        part = data[begin + about["data_offsets"][0] : begin + about["data_offsets"][1]]
        if about["dtype"] == "BF16":  # the upper half of an f32
            values = (np.frombuffer(part, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(part, {"F32": np.float32, "F16": np.float16}[about["dtype"]]).astype(np.float32)
        out[name] = values.reshape(about["shape"])
    return out


def write_safetensors(tensors: dict[str, np.ndarray], file: pathlib.Path) -> None:
    header, at = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [at, at + values.nbytes]}
        at += values.nbytes
    text = json.dumps(header).encode()
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for values in tensors.values():
            out.write(np.ascontiguousarray(values, np.float32).tobytes())


def write_gguf(tensors: dict[str, np.ndarray], config: dict, file: pathlib.Path) -> None:
    """What the quantizer asks for; nothing could be generated with it."""
    out = start_gguf(config, file)
    for name, values in tensors.items():
        if values.ndim == 2:
            values = np.pad(values, [(0, 0), (0, -values.shape[1] % BLOCK)])
        out.add_tensor(gguf_name(name), values)
    finish_gguf(out)


def quantize(source: pathlib.Path, target: pathlib.Path, kind: str) -> None:
    plain = llama_cpp.GGML_TYPE_F32
    try:
        quantize_by_llama_cpp(source, target, kind, nthread=1, token_embedding_type=plain, output_tensor_type=plain)
    except Skip as why:
        raise SystemExit(str(why)) from None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--type", default="Q4_0", choices=TYPES)
    options = parser.parse_args()
    tensors = read_safetensors(options.folder / "model.safetensors")
    weights = bits = 0
    with tempfile.TemporaryDirectory() as work:
        source, target = pathlib.Path(work) / "f32.gguf", pathlib.Path(work) / "rounded.gguf"
        write_gguf(tensors, json.loads((options.folder / "config.json").read_text()), source)
        quantize(source, target, options.type)
        rounded = {tensor.name: tensor for tensor in gguf.GGUFReader(str(target)).tensors}
        for name, values in tensors.items():
            if ".layers." not in name or values.ndim != 2:
                continue
            found = rounded[gguf_name(name)]
            if found.tensor_type.name != options.type:
                raise SystemExit(f"{name}: llama.cpp made it {found.tensor_type.name}")
            numbers = gguf.dequantize(found.data, found.tensor_type)
            tensors[name] = numbers.reshape(values.shape[0], -1)[:, : values.shape[1]]
            weights += values.size
            bits += 8 * int(found.n_bytes)
    print(f"layers: {bits / weights:.2f} bits a weight")
    options.out.mkdir(parents=True)
    for file in options.folder.iterdir():
        if file.is_file():
            shutil.copy(file, options.out / file.name)
    write_safetensors(tensors, options.out / "model.safetensors")


if __name__ == "__main__":
    main()
