#!/usr/bin/env python3
"""Makes the tiny random-weight models under tests/data/models and their golden logits.

    python3 scripts/make_golden_models.py [--out tests/data/models] [--only NAME ...] [--check]

Every model is an ordinary Hugging Face folder made by the transformers library (config.json, model.safetensors or
shards with an index) plus:

  golden.json   how the reference was computed, the prompt, the greedy answer, tolerances
  golden.bin    little-endian float32 logits, row after row, vocab_size values a row:
                  row 0              the last prompt position
                  row i, 1 <= i <= 32  after feeding greedy_ids[i - 1] at position len(prompt_ids) + i - 1
                  then one row for each entry of prefill_positions (positions inside the prompt)

greedy_ids[i] is the argmax of row i, so it has 33 entries. Reference arithmetic is float32 with eager attention; for
weights stored in bfloat16 or float16 it is float32 arithmetic on the stored (rounded) weights. Errors are measured a
row: max |got - want| / max |want|, to be at most rel_tol.

A model is only accepted when its golden means something:
  - decoding with the KV cache agrees with a full forward pass without it;
  - the logits are spread, and at every step the best token leads by more than 0.05 (and, for 16-bit weights, also wins
    when the library computes in that 16-bit type), so greedy ids are robust; no greedy id is an end-of-text id;
  - every feature the model is there for (rope scaling, sliding window, biases, qk-norm, ...) is visible: with the
    feature switched off the logits move by far more than the tolerance.
Seeds are tried in order until one passes, so the result is a function of this file and the library versions.

--check recomputes the goldens of the committed folders and reports the difference, writing nothing.

Requirements: Python >= 3.10, torch >= 2.4, transformers >= 5.0 (made with 5.23), safetensors, numpy.
"""

import argparse
import dataclasses
import json
import pathlib
import shutil
import sys

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

DECODE_STEPS = 32
MIN_MARGIN = 0.05
VISIBLE = 0.02  # a feature that moves the logits by less than this share of their range is not tested
MAX_SEEDS = 3000
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 1000.0, "factor": 4.0}


@dataclasses.dataclass
class Spec:
    """One model: its configuration, how it is stored and what must be visible in its logits."""

    name: str
    config: transformers.PretrainedConfig
    prompt_tokens: int = 24
    dtype: torch.dtype = torch.float32
    max_shard_size: str = "1GB"
    config_style: str = "v5"  # "v4": rope_theta, rope_scaling and torch_dtype as most published models have them
    sharpness: float = 1.5  # gain of queries and keys: more makes attention, and so positions and windows, matter more
    hub_gpt2: bool = False  # tensor names without "transformer." and with the causal mask buffers, as published gpt2
    # feature -> changes of config.json (a dict) or of the weights (a function of name and tensor)
    switches: dict = dataclasses.field(default_factory=dict)


def default_rope(theta=10000.0):
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}


def without(*suffixes):
    """Zeroes the tensors whose name ends in one of the suffixes."""
    return lambda name, tensor: torch.zeros_like(tensor) if name.endswith(suffixes) else tensor


def with_ones(*suffixes):
    return lambda name, tensor: torch.ones_like(tensor) if name.endswith(suffixes) else tensor


def llama(**changes):
    base = dict(
        vocab_size=131, hidden_size=48, intermediate_size=88, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=12, max_position_embeddings=256, rms_norm_eps=1e-5, bos_token_id=1,
        eos_token_id=2, **default_rope(),
    )  # fmt: skip
    return transformers.LlamaConfig(**{**base, **changes})


def gpt2(**changes):
    base = dict(
        vocab_size=131, n_embd=48, n_inner=88, n_layer=2, n_head=4, n_positions=72, activation_function="gelu_new",
        bos_token_id=130, eos_token_id=130, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0,
    )  # fmt: skip
    return transformers.GPT2Config(**{**base, **changes})


def mistral(**changes):
    base = dict(
        vocab_size=131, hidden_size=48, intermediate_size=88, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=256, rms_norm_eps=1e-5, sliding_window=12,
        bos_token_id=1, eos_token_id=2, **default_rope(),
    )  # fmt: skip
    return transformers.MistralConfig(**{**base, **changes})


def qwen2(**changes):
    base = dict(
        vocab_size=137, hidden_size=40, intermediate_size=72, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-6, tie_word_embeddings=True,
        use_sliding_window=False, bos_token_id=1, eos_token_id=2, **default_rope(1000.0),
    )  # fmt: skip
    return transformers.Qwen2Config(**{**base, **changes})


def qwen3(**changes):
    base = dict(
        vocab_size=139, hidden_size=40, intermediate_size=72, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=256, rms_norm_eps=1e-6, tie_word_embeddings=True,
        use_sliding_window=False, bos_token_id=1, eos_token_id=[2, 5], **default_rope(1000.0),
    )  # fmt: skip
    return transformers.Qwen3Config(**{**base, **changes})


def specs():
    gpt2_switches = {
        "positions": without("wpe.weight"),
        "attention biases": without("c_attn.bias", "attn.c_proj.bias"),
        "mlp biases": without("c_fc.bias", "mlp.c_proj.bias"),
        "norm biases": without("ln_1.bias", "ln_2.bias", "ln_f.bias"),
        "gelu_new": {"activation_function": "relu"},
    }
    rope = {"rope": default_rope(1e30)}
    qk_norm = {"q_norm": with_ones("q_norm.weight"), "k_norm": with_ones("k_norm.weight")}
    qkv_bias = {part: without(part + "_proj.bias") for part in "qkv"}
    window = {"sliding_window": {"sliding_window": None}}
    bf16 = torch.bfloat16
    return [
        Spec("gpt2", gpt2(), switches=gpt2_switches),
        Spec("gpt2_bf16", gpt2(), 29, dtype=bf16, switches=gpt2_switches),
        Spec("gpt2_hub_layout", gpt2(n_embd=32, n_inner=None, n_head=2, n_layer=2, n_positions=60), 25, hub_gpt2=True,
             switches=gpt2_switches),
        Spec("llama", llama(hidden_size=40, intermediate_size=72, head_dim=10), 27, config_style="v4", switches=rope),
        Spec("llama_bf16", llama(num_hidden_layers=2), 31, dtype=bf16, sharpness=0.7, switches=rope),
        Spec("llama_sharded", llama(hidden_size=40, intermediate_size=48, num_hidden_layers=4, head_dim=10,
                                    vocab_size=101, hidden_act="gelu"), max_shard_size="70KB",
             switches={**rope, "exact gelu": {"hidden_act": "silu"}}),
        Spec("llama_tied_llama3_rope", llama(tie_word_embeddings=True, num_hidden_layers=2, head_dim=16,
                                             eos_token_id=[2, 7], rope_parameters=LLAMA3_ROPE), 40,
             switches={"llama3 rope": default_rope(500.0)}),
        Spec("llama_linear_rope", llama(num_hidden_layers=2, num_key_value_heads=4, intermediate_size=72,
                                        rope_parameters=LINEAR_ROPE), 30, config_style="v4",
             switches={"linear rope": default_rope(1000.0)}),
        Spec("llama_biases", llama(num_hidden_layers=2, num_key_value_heads=1, attention_bias=True, mlp_bias=True), 26,
             switches={**qkv_bias, "o": without("o_proj.bias"), "gate": without("gate_proj.bias"),
                       "up": without("up_proj.bias"), "down": without("down_proj.bias")}),
        Spec("mistral", mistral(), 40, config_style="v4", switches=window),
        Spec("mistral_head_dim", mistral(hidden_size=40, num_attention_heads=4, head_dim=14, intermediate_size=72,
                                         sliding_window=36), 25, switches=window),
        Spec("qwen2", qwen2(), 28, config_style="v4", switches={**rope, **qkv_bias}),
        Spec("qwen2_f16", qwen2(hidden_size=48, num_hidden_layers=2, tie_word_embeddings=False), 25,
             dtype=torch.float16, switches={**rope, **qkv_bias}),
        Spec("qwen3", qwen3(), 28, switches={**rope, **qk_norm}),
        Spec("qwen3_bf16", qwen3(num_attention_heads=6, num_key_value_heads=3, num_hidden_layers=2, hidden_size=64),
             33, dtype=bf16, config_style="v4", switches={**rope, **qk_norm}),
    ]  # fmt: skip


def randomize(model, sharpness, generator):
    """Draws weights that keep activations near unit scale, with norms around 1 and logits of std ~2."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.dim() == 1 and name.endswith(".bias"):
                weight.copy_(0.4 * noise)
            elif weight.dim() == 1:  # norm weights; some are negative in real models too
                weight.copy_(1.0 + 0.4 * noise)
            elif name.endswith(("embed_tokens.weight", "wte.weight", "lm_head.weight")):
                weight.copy_(noise * (2.0 / weight.shape[1] ** 0.5))
            elif name.endswith("wpe.weight"):
                weight.copy_(0.3 * noise)
            else:
                fan_in = weight.shape[0] if model.config.model_type == "gpt2" else weight.shape[1]
                sharp = sharpness if name.endswith(("q_proj.weight", "k_proj.weight", "c_attn.weight")) else 1.0
                weight.copy_(noise * (sharp / fan_in**0.5))


def edit_config(folder, edit):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def to_v4_style(config):
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)


def to_hub_gpt2(folder, config):
    tensors = load_file(folder / "model.safetensors")
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    mask = torch.tril(torch.ones(config.n_positions, config.n_positions))[None, None]
    for layer in range(config.n_layer):
        tensors[f"h.{layer}.attn.bias"] = mask.clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def write_model(spec, seed, folder):
    model = transformers.AutoModelForCausalLM.from_config(spec.config, dtype=torch.float32)
    randomize(model, spec.sharpness, torch.Generator().manual_seed(seed))
    shutil.rmtree(folder, ignore_errors=True)
    model.to(spec.dtype).save_pretrained(folder, max_shard_size=spec.max_shard_size)
    if spec.config_style == "v4":
        edit_config(folder, to_v4_style)
    if spec.hub_gpt2:
        to_hub_gpt2(folder, spec.config)


def load(folder, dtype=torch.float32, **changes):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", output_loading_info=True, **changes
    )
    unexpected = [name for name in info["unexpected_keys"] if not name.endswith("attn.bias")]
    if info["missing_keys"] - {"lm_head.weight"} or unexpected:
        raise RuntimeError(f"{folder}: loading info {info}")
    return model.eval()


def forward(model, ids):
    """Logits [tokens, vocab] of a full pass without a cache."""
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0].float()


def decode(model, prompt):
    """Prefill logits [tokens, vocab], decode rows [33, vocab] and the 33 greedy ids, with the KV cache."""
    with torch.no_grad():
        out = model(torch.tensor([prompt]), use_cache=True)
        prefill, rows, ids = out.logits[0].float(), [out.logits[0, -1].float()], []
        for _ in range(DECODE_STEPS):
            ids.append(int(rows[-1].argmax()))
            out = model(torch.tensor([[ids[-1]]]), past_key_values=out.past_key_values, use_cache=True)
            rows.append(out.logits[0, -1].float())
        ids.append(int(rows[-1].argmax()))
    return prefill, torch.stack(rows), ids


def relative_error(got, want):
    """Worst row of max |got - want| / max |want|."""
    return float(((got - want).abs().amax(-1) / want.abs().amax(-1)).max())


def apply_switch(folder, change):
    if isinstance(change, dict):
        return load(folder, **change)
    model = load(folder)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(change(name, weight))
    return model


def reference(spec, folder, prompt):
    """The golden of a folder on disk: (summary dict, rows) or a text saying why this model will not do."""
    model = load(folder)
    prefill, rows, ids = decode(model, prompt)
    top = rows.topk(2, dim=-1).values
    margin = float((top[:, 0] - top[:, 1]).min())
    spread = float(rows.std(-1).min())
    eos = spec.config.eos_token_id
    if margin < MIN_MARGIN:
        return "margin", None
    if spread < 1.0 or set(ids) & set(eos if isinstance(eos, list) else [eos]) or len(set(ids)) < 8:
        return "dull answer", None

    sequence = prompt + ids[:-1]
    full = forward(model, sequence)
    first = len(prompt) - 1
    if relative_error(full[first:], rows) > 2e-5 or relative_error(full[:first], prefill[:-1]) > 2e-5:
        raise RuntimeError(f"{spec.name}: the cached and the uncached pass disagree")

    own_error = None
    if spec.dtype != torch.float32:
        own = forward(load(folder, dtype=spec.dtype), sequence)[first:]
        own_error = relative_error(own, rows)
        if own.argmax(-1).tolist() != ids or own_error > 2e-2:
            return "not robust in its own type", None
    effect = {}
    for feature, change in spec.switches.items():
        effect[feature] = round(relative_error(forward(apply_switch(folder, change), sequence)[first:], rows), 3)
        if effect[feature] < VISIBLE:
            return f"{feature} invisible", None

    tokens = len(prompt)
    positions = sorted({0, 1, tokens // 3, tokens // 2, tokens - 2})
    summary = {
        "format": 1,
        "model_type": spec.config.model_type,
        "weights_dtype": str(spec.dtype).removeprefix("torch."),
        "math": "float32 arithmetic on the stored weights, eager attention",
        "made_with": {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]},
        "vocab_size": spec.config.vocab_size,
        "prompt_ids": prompt,
        "greedy_ids": ids,
        "decode_steps": DECODE_STEPS,
        "prefill_positions": positions,
        "logits_file": "golden.bin",
        "logits_rows": rows.shape[0] + len(positions),
        "logits_layout": "f32 little-endian [logits_rows, vocab_size]: last prompt position, decode steps, "
        "then prefill_positions",
        "error": "max |got - want| / max |want| of a row",
        "rel_tol": 1e-4 if spec.dtype == torch.float32 else 2e-2,
        "min_top2_margin": round(margin, 4),
        "min_logits_std": round(spread, 3),
        "change_when_off": effect,
    }
    if own_error is not None:
        summary["rel_error_of_16_bit_math"] = round(own_error, 5)
    return summary, torch.cat([rows, prefill[positions]]).numpy().astype("<f4")


def compact_json(value):
    """One line a key: small diffs without one number a line."""
    lines = [f"  {json.dumps(key)}: {json.dumps(item)}" for key, item in value.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def make(spec, out):
    folder, trial = out / spec.name, out / ("." + spec.name)
    reasons = {}
    for seed in range(MAX_SEEDS):
        write_model(spec, seed, trial)
        draw = torch.Generator().manual_seed(10_000 + seed)
        prompt = torch.randint(8, spec.config.vocab_size - 1, (spec.prompt_tokens,), generator=draw).tolist()
        summary, rows = reference(spec, trial, prompt)
        if rows is None:
            reasons[summary] = reasons.get(summary, 0) + 1
            continue
        summary["seed"] = seed
        rows.tofile(trial / "golden.bin")
        (trial / "golden.json").write_text(compact_json(summary))
        shutil.rmtree(folder, ignore_errors=True)
        trial.rename(folder)
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(f"{spec.name}: seed {seed}, {size} bytes, margin {summary['min_top2_margin']}, "
              f"off {summary['change_when_off']}", flush=True)  # fmt: skip
        return
    shutil.rmtree(trial, ignore_errors=True)
    raise RuntimeError(f"{spec.name}: no seed below {MAX_SEEDS} passes: {reasons}")


def check(spec, out):
    folder = out / spec.name
    golden = json.loads((folder / "golden.json").read_text())
    want = np.fromfile(folder / "golden.bin", "<f4").reshape(golden["logits_rows"], golden["vocab_size"])
    summary, rows = reference(spec, folder, golden["prompt_ids"])
    if rows is None or summary["greedy_ids"] != golden["greedy_ids"]:
        raise RuntimeError(f"{spec.name}: the golden is not reproduced")
    error = relative_error(torch.from_numpy(rows), torch.from_numpy(want))
    print(f"{spec.name}: max relative difference {error:.1e}")
    if error > 0.1 * golden["rel_tol"]:
        raise RuntimeError(f"{spec.name}: the golden is not reproduced")


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests/data/models")
    parser.add_argument("--only", nargs="*", help="names of models; all without it")
    parser.add_argument("--check", action="store_true", help="recompute and compare, write nothing")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    chosen = [spec for spec in specs() if not args.only or spec.name in args.only]
    if args.only and len(chosen) != len(set(args.only)):
        sys.exit(f"unknown name in --only; known: {', '.join(spec.name for spec in specs())}")
    for spec in chosen:
        (check if args.check else make)(spec, args.out)


if __name__ == "__main__":
    main()
