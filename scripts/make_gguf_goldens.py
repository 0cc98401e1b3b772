#!/usr/bin/env python3
"""Makes tests/data/gguf/blocks.gguf: random blocks of every quantized type that we read, as tensor NAME, beside the
numbers that the gguf package makes of them, as tensor NAME.values in F32.

    python3 scripts/make_gguf_goldens.py [--out tests/data/gguf/blocks.gguf] [--check]

Every bit of a block is random but for its scales of 16 bits, which are finite and of either sign.

Requirements: Python >= 3.10, numpy, gguf >= 0.10 (made with 0.19).
"""

import argparse
import pathlib
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as types

# where a block's 16-bit scales stand
SCALES = {
    types.Q8_0: [0],
    types.Q4_0: [0],
    types.Q4_1: [0, 2],
    types.Q5_0: [0],
    types.Q5_1: [0, 2],
    types.Q2_K: [80, 82],
    types.Q3_K: [108],
    types.Q4_K: [0, 2],
    types.Q5_K: [0, 2],
    types.Q6_K: [208],
}
ROWS, COLUMNS = 3, 512


def blocks(kind: types, random: np.random.Generator) -> np.ndarray:
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    out = random.integers(0, 256, (ROWS, COLUMNS // elements, size), dtype=np.uint8)
    for at in SCALES[kind]:
        scale = random.normal(0, 0.05, out.shape[:2]).astype(np.float16)
        out[:, :, at : at + 2] = scale[..., None].view(np.uint8)
    return out.reshape(ROWS, -1)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("tests/data/gguf/blocks.gguf"))
    parser.add_argument("--check", action="store_true", help="compare with the committed file, write nothing")
    options = parser.parse_args()
    random = np.random.default_rng(1)
    tensors = {}
    for kind in SCALES:
        data = blocks(kind, random)
        values = gguf.dequantize(data, kind).astype(np.float32)
        assert values.shape == (ROWS, COLUMNS) and np.isfinite(values).all()
        tensors[kind.name] = (data, kind)
        tensors[f"{kind.name}.values"] = (values, types.F32)
    if options.check:
        found = {t.name: t.data for t in gguf.GGUFReader(options.out).tensors}
        wrong = [name for name, (data, _) in tensors.items() if not np.array_equal(found.get(name), data)]
        print("differs:" if wrong else "all the same", *wrong)
        return 1 if wrong else 0
    options.out.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(options.out, "none")
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
