#!/usr/bin/env python3
"""Makes tests/data/quantized: a tiny Llama with random weights in every quantized form of Hugging Face folders that we
read, each beside expected.safetensors, the numbers that three of its matrices stand for.

    python3 scripts/make_quantized_goldens.py [--out tests/data/quantized] [--form FORM]

AWQ, GPTQ and fp8 are packed here, from the formats' definitions:
  AWQ   qweight [in, out/8]: bits 4i of a word hold output 8c + (0, 2, 4, 6, 1, 3, 5, 7)[i]; qzeros likewise;
        value = scale * (code - zero)
  GPTQ  qweight [in*bits/32, out]: bits bits*i of a word hold input r*32/bits + i; qzeros [groups, out*bits/32], stored less
        one unless checkpoint_format is gptq_v2; g_idx names each input's group
  fp8   weight [out, in] of e4m3: sign, 4 bits of exponent (bias 7), 3 of fraction; weight_scale [out, 1] in
        compressed-tensors' "float-quantized", [] in quant_method "fp8", which may have input_scale, too
Other forms of compressed-tensors are packed by its own library.

Requirements: Python >= 3.10, numpy, torch, safetensors, compressed-tensors (made with 0.20).
"""

import argparse
import json
import pathlib

import numpy as np
import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from safetensors.torch import save_file

HIDDEN, WIDE, VOCAB, HEADS = 32, 64, 24, 2
MATRICES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN, HIDDEN),
    "self_attn.v_proj": (HIDDEN, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (WIDE, HIDDEN),
    "mlp.up_proj": (WIDE, HIDDEN),
    "mlp.down_proj": (HIDDEN, WIDE),
}
SHOWN = ("self_attn.q_proj", "mlp.gate_proj", "mlp.down_proj")
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": WIDE,
    "num_hidden_layers": 1,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "vocab_size": VOCAB,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
}


def words(codes: np.ndarray, bits: int) -> torch.Tensor:
    """Codes [..., 32/bits] to int32 [...], the first in the lowest bits."""
    shifts = np.arange(32 // bits, dtype=np.uint64) * bits
    return torch.from_numpy(((codes.astype(np.uint64) << shifts).sum(-1).astype(np.uint32)).view(np.int32).copy())


def awq(random, rows, cols, group):
    codes = random.integers(0, 16, (cols, rows))
    zeros = random.integers(0, 16, (cols // group, rows))
    scales = (random.random((cols // group, rows)) * 0.1).astype(np.float16)
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    pack = lambda x: words(x.reshape(x.shape[0], -1, 8)[:, :, order], 4)
    value = (codes - zeros.repeat(group, 0)) * scales.astype(np.float32).repeat(group, 0)
    return {"qweight": pack(codes), "qzeros": pack(zeros), "scales": torch.from_numpy(scales)}, value.T


def gptq(random, rows, cols, group, bits=4, less_one=True, shuffled=False):
    group = group if group > 0 else cols
    per_word = 32 // bits
    codes = random.integers(0, 1 << bits, (cols, rows))
    low = 1 if less_one else 0
    zeros = random.integers(low, (1 << bits) - 1 + low, (cols // group, rows))
    scales = (random.random((cols // group, rows)) * 0.1).astype(np.float16)
    index = np.arange(cols) // group
    if shuffled:
        index = random.permutation(index)
    value = (codes - zeros[index]) * scales.astype(np.float32)[index]
    tensors = {
        "qweight": words(codes.reshape(cols // per_word, per_word, rows).transpose(0, 2, 1), bits),
        "qzeros": words((zeros - low).reshape(zeros.shape[0], -1, per_word), bits),
        "scales": torch.from_numpy(scales),
        "g_idx": torch.from_numpy(index.astype(np.int32)),
    }
    return tensors, value.T


def compressed(random, rows, cols, group, bits=4, symmetric=True, packed=True, dtype=torch.bfloat16):
    groups = cols // group if group > 0 else 1
    low, high = -(1 << (bits - 1)), 1 << (bits - 1)
    codes = torch.from_numpy(random.integers(low, high, (rows, cols)).astype(np.int8))
    scales = torch.from_numpy(random.random((rows, groups)) * 0.1).to(dtype)
    zeros = torch.from_numpy(random.integers(low, high, (rows, groups)).astype(np.int8))
    span = cols // groups
    shift = 0 if symmetric else zeros.to(torch.float32).repeat_interleave(span, 1)
    value = (codes.to(torch.float32) - shift) * scales.to(torch.float32).repeat_interleave(span, 1)
    tensors = {"weight_scale": scales}
    if packed:
        tensors["weight_packed"] = pack_to_int32(codes, bits)
        tensors["weight_shape"] = torch.tensor([rows, cols])
    else:
        tensors["weight"] = codes
    if not symmetric:
        tensors["weight_zero_point"] = pack_to_int32(zeros, bits, packed_dim=0).contiguous() if packed else zeros
    return tensors, value.numpy()


def fp8(random, rows, cols, by_row):
    codes = random.integers(0, 256, (rows, cols)).astype(np.uint8)
    codes[codes % 128 == 127] = 0  # no number
    scales = (random.random((rows, 1) if by_row else ()) * 0.001 + 0.0001).astype(np.float32)
    exponent, fraction = codes >> 3 & 15, codes % 8 / 8
    magnitude = np.where(exponent == 0, fraction * 2.0**-6, (1 + fraction) * 2.0 ** (exponent.astype(int) - 7))
    value = np.where(codes < 128, magnitude, -magnitude).astype(np.float32) * scales
    tensors = {"weight": torch.from_numpy(codes).view(torch.float8_e4m3fn), "weight_scale": torch.from_numpy(scales)}
    if not by_row:
        tensors["input_scale"] = torch.from_numpy(np.float32(0.25).reshape(()))
    return tensors, value


def scheme(bits, group, symmetric, form, activations=None, kind="int"):
    weights = {"num_bits": bits, "type": kind, "symmetric": symmetric, "strategy": "group" if group else "channel"}
    if group:
        weights["group_size"] = group
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": activations}},
    }


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 16, "desc_act": False, "sym": False}
ACTIVATIONS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
FORMS = {
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": 16, "version": "gemm", "zero_point": True}, awq, (16,)),
    "gptq": (GPTQ, gptq, (16,)),
    "gptq_act_order": (GPTQ | {"desc_act": True}, lambda *a: gptq(*a, shuffled=True), (16,)),
    "gptq_v2_8bit_row": (
        GPTQ | {"bits": 8, "group_size": -1, "checkpoint_format": "gptq_v2"},
        lambda *a: gptq(*a, bits=8, less_one=False),
        (-1,),
    ),
    "w4a16": (scheme(4, 32, True, "pack-quantized"), compressed, (32,)),
    "w4a16_zeros": (scheme(4, 16, False, "pack-quantized"), lambda *a: compressed(*a, symmetric=False), (16,)),
    "w8a16_packed": (scheme(8, 32, True, "pack-quantized"), lambda *a: compressed(*a, bits=8, dtype=torch.float16), (32,)),
    "w8a8": (scheme(8, 0, True, "int-quantized", ACTIVATIONS), lambda *a: compressed(*a, bits=8, packed=False), (0,)),
    "w8a8_zeros": (
        scheme(8, 0, False, "int-quantized", ACTIVATIONS),
        lambda *a: compressed(*a, bits=8, packed=False, symmetric=False, dtype=torch.float32),
        (0,),
    ),
    "fp8_channel": (scheme(8, 0, True, "float-quantized", ACTIVATIONS | {"type": "float"}, "float"), fp8, (True,)),
    "fp8_tensor": ({"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["lm_head"]}, fp8, (False,)),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("tests/data/quantized"))
    parser.add_argument("--form", action="append", choices=FORMS, help="make this one only; may be repeated")
    options = parser.parse_args()
    for name in options.form or FORMS:
        config, make, arguments = FORMS[name]
        random = np.random.default_rng(sum(name.encode()))
        tensors, expected = {}, {}
        for matrix, (rows, cols) in MATRICES.items():
            parts, values = make(random, rows, cols, *arguments)
            stem = f"model.layers.0.{matrix}"
            tensors |= {f"{stem}.{part}": data.contiguous() for part, data in parts.items()}
            if matrix in SHOWN:
                expected[f"{stem}.weight"] = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
        for norm in ("layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm"):
            tensors[f"model.{norm}.weight"] = torch.ones(HIDDEN, dtype=torch.float16)
        for table in ("model.embed_tokens", "lm_head"):
            tensors[f"{table}.weight"] = torch.from_numpy(random.normal(0, 1, (VOCAB, HIDDEN))).to(torch.float16)
        folder = options.out / name
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        save_file(expected, folder / "expected.safetensors")
        (folder / "config.json").write_text(json.dumps(CONFIG | {"quantization_config": config}, indent=1) + "\n")


if __name__ == "__main__":
    main()
