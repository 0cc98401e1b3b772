#!/usr/bin/env python3
"""Measures FastServe beside other CPU engines: same shape, same threads, in turn, medians; JSON and a table.

    python3 scripts/bench_peers.py make --work DIR                     # random models of the shape, once
    python3 scripts/bench_peers.py measure --work DIR --out R.json     # one round of every engine; repeat at will
    python3 scripts/bench_peers.py measure --work DIR --out R.json --only fastserve/int8,llama.cpp/Q8_0 --rounds 3
    python3 scripts/bench_peers.py table R.json                        # medians, as markdown

Every measurement is a process of its own. FastServe's report the machine's read bandwidth and multiply-add rate, as
measured between its own rounds. Peers are Python packages and optional: what is missing, or cannot be made, is listed
with the reason. Engines:

    fastserve/{bf16,int8,int4}          fastserve bench, weights made up in memory
    llama.cpp/{BF16,Q8_0,Q4_0}          llama-cpp-python, built for this machine:
                                        CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-binary llama-cpp-python ...
                                        Q8_0 and Q4_0 are made by its own quantizer
    ctranslate2/int8                    ctranslate2; the model is written through its specs, no converter needed
    openvino/int8                       openvino-genai, on a folder that optimum-intel exports
    onnxruntime/int4                    onnxruntime-genai, on a folder that its model builder makes

Requirements: Python >= 3.10, numpy; gguf for llama.cpp.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

SHARED_SHAPE = pathlib.Path(__file__).resolve().parent.parent.parent / "shared/data/configs/llama-1.1b.json"
CASES = {  # name: (prompt tokens, answer tokens, sequences)
    "prefill": (512, 1, 1),
    "decode": (8, 32, 1),
    "decode8": (64, 32, 8),
    "decode16": (64, 32, 16),
    "decode32": (64, 32, 32),
    "long": (8192, 16, 1),
}
SHORT = "prefill,decode,decode8,decode16,decode32"  # what is measured unless told


class Skip(Exception):
    """Why an engine is not measured."""


def need(module: str, why: str = "") -> None:
    if importlib.util.find_spec(module) is None:
        raise Skip(f"the package {module} is not installed{why}")


# -- models ------------------------------------------------------------------------------------------------------------


def tensors_of(shape: dict):
    """Name and shape of every tensor, as Hugging Face has them."""
    hidden, wide = shape["hidden_size"], shape["intermediate_size"]
    head = shape.get("head_dim", hidden // shape["num_attention_heads"])
    queries, keys = shape["num_attention_heads"] * head, shape["num_key_value_heads"] * head
    yield "model.embed_tokens.weight", (shape["vocab_size"], hidden)
    for i in range(shape["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        yield layer + "input_layernorm.weight", (hidden,)
        yield layer + "self_attn.q_proj.weight", (queries, hidden)
        yield layer + "self_attn.k_proj.weight", (keys, hidden)
        yield layer + "self_attn.v_proj.weight", (keys, hidden)
        yield layer + "self_attn.o_proj.weight", (hidden, queries)
        yield layer + "post_attention_layernorm.weight", (hidden,)
        yield layer + "mlp.gate_proj.weight", (wide, hidden)
        yield layer + "mlp.up_proj.weight", (wide, hidden)
        yield layer + "mlp.down_proj.weight", (hidden, wide)
    yield "model.norm.weight", (hidden,)
    if not shape.get("tie_word_embeddings"):
        yield "lm_head.weight", (shape["vocab_size"], hidden)


class Weights:
    """Made-up weights: matrices uniform with variance 1 / columns, gains 1."""

    def __init__(self):
        import numpy as np

        self.np = np
        self.block = np.random.default_rng(1).random((1 << 20) - 3, dtype=np.float32) * 2 - 1

    def make(self, size):
        np = self.np
        if len(size) == 1:
            return np.ones(size, np.float32)
        return np.resize(self.block, size) * np.float32((3 / size[1]) ** 0.5)

    def bf16(self, size):
        bits = self.make(size).view(self.np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(self.np.uint16)


def write_folder(shape: dict, folder: pathlib.Path) -> None:
    """A Hugging Face folder, without a tokenizer."""
    if (folder / "config.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    weights, header, at = Weights(), {}, 0
    for name, size in tensors_of(shape):
        count = 2
        for n in size:
            count *= n
        header[name] = {"dtype": "BF16", "shape": list(size), "data_offsets": [at, at + count]}
        at += count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for _, size in tensors_of(shape):
            out.write(weights.bf16(size).tobytes())
    (folder / "config.json").write_text(json.dumps(shape, indent=2))


GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    plain = {"model.embed_tokens.weight": "token_embd", "model.norm.weight": "output_norm", "lm_head.weight": "output"}
    if name in plain:
        return plain[name] + ".weight"
    _, _, number, module = name.removesuffix(".weight").split(".", 3)
    return f"blk.{number}.{GGUF_NAMES[module]}.weight"


def start_gguf(shape: dict, file: pathlib.Path):
    """A writer that knows what llama.cpp asks of every llama, whatever is to be done with it."""
    import gguf

    out = gguf.GGUFWriter(str(file), "llama")
    out.add_context_length(shape["max_position_embeddings"])
    out.add_embedding_length(shape["hidden_size"])
    out.add_block_count(shape["num_hidden_layers"])
    out.add_feed_forward_length(shape["intermediate_size"])
    out.add_head_count(shape["num_attention_heads"])
    out.add_head_count_kv(shape["num_key_value_heads"])
    out.add_layer_norm_rms_eps(shape["rms_norm_eps"])
    out.add_tokenizer_model("none")
    return out


def finish_gguf(out) -> None:
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def write_gguf(shape: dict, file: pathlib.Path) -> None:
    if file.exists():
        return
    need("gguf")
    import gguf

    part = file.with_suffix(".part")
    out = start_gguf(shape, part)
    out.add_rope_freq_base(shape["rope_theta"])
    out.add_vocab_size(shape["vocab_size"])
    weights = Weights()
    kinds = gguf.GGMLQuantizationType
    for name, size in tensors_of(shape):
        if len(size) == 1:
            out.add_tensor(gguf_name(name), weights.make(size))
        else:
            data = weights.bf16(size).view(weights.np.uint8).reshape(size[0], size[1] * 2)
            out.add_tensor(gguf_name(name), data, raw_dtype=kinds.BF16)
    finish_gguf(out)
    part.rename(file)


def quantize_by_llama_cpp(source: pathlib.Path, target: pathlib.Path, kind: str, **parameters) -> None:
    """`parameters`: fields of llama_model_quantize_params."""
    import llama_cpp

    how = llama_cpp.llama_model_quantize_default_params()
    how.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    for name, value in parameters.items():
        setattr(how, name, value)
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), how) != 0:
        raise Skip(f"llama.cpp cannot quantize to {kind}")


def quantize_gguf(source: pathlib.Path, target: pathlib.Path, name: str) -> None:
    if target.exists():
        return
    need("llama_cpp")
    part = target.with_suffix(".part")
    quantize_by_llama_cpp(source, part, name, nthread=2)
    part.rename(target)


def write_ctranslate2(shape: dict, folder: pathlib.Path) -> None:
    """Through the specs that the package's converters fill, too: nothing but numpy is needed."""
    if (folder / "model.bin").exists():
        return
    need("ctranslate2")
    from ctranslate2.specs import common_spec, transformer_spec

    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        shape["num_hidden_layers"],
        shape["num_attention_heads"],
        activation=common_spec.Activation.SWISH,
        pre_norm=True,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=0,
        rotary_interleave=False,
        rotary_base=shape["rope_theta"],
        num_heads_kv=shape["num_key_value_heads"],
    )
    weights = Weights()
    hidden, wide = shape["hidden_size"], shape["intermediate_size"]
    keys = shape["num_key_value_heads"] * hidden // shape["num_attention_heads"]
    spec.decoder.scale_embeddings = False
    spec.decoder.embeddings.weight = weights.make((shape["vocab_size"], hidden))
    spec.decoder.layer_norm.gamma = weights.make((hidden,))
    spec.decoder.projection.weight = weights.make((shape["vocab_size"], hidden))
    for layer in spec.decoder.layer:
        layer.self_attention.layer_norm.gamma = weights.make((hidden,))
        layer.self_attention.linear[0].weight = weights.make((hidden + 2 * keys, hidden))
        layer.self_attention.linear[1].weight = weights.make((hidden, hidden))
        layer.ffn.layer_norm.gamma = weights.make((hidden,))
        layer.ffn.linear_0.weight = weights.make((wide, hidden))
        layer.ffn.linear_0_noact.weight = weights.make((wide, hidden))
        layer.ffn.linear_1.weight = weights.make((hidden, wide))
    tokens = ["<unk>", "<s>", "</s>"] + [f"t{i}" for i in range(3, shape["vocab_size"])]
    spec.register_vocabulary(tokens)
    spec.config.bos_token, spec.config.eos_token, spec.config.unk_token = "<s>", "</s>", "<unk>"
    spec.config.layer_norm_epsilon = shape["rms_norm_eps"]
    spec.validate()
    spec.optimize(quantization="int8")
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))


# -- engines: each measures one case in this process, tokens a second ---------------------------------------------------


def measure_llama_cpp(model: pathlib.Path, threads: int, prompt: int, answer: int, batch: int, shape: dict) -> dict:
    import llama_cpp as lc
    import numpy as np

    lc.llama_backend_init()
    model_params = lc.llama_model_default_params()
    model_params.n_gpu_layers = 0
    loaded = lc.llama_model_load_from_file(str(model).encode(), model_params)
    if not loaded:
        raise Skip(f"llama.cpp cannot load {model.name}")
    params = lc.llama_context_default_params()
    params.n_ctx = batch * (prompt + answer + 32)
    params.n_batch = params.n_ubatch = 512
    params.n_seq_max = batch
    params.n_threads = params.n_threads_batch = threads
    context = lc.llama_init_from_model(loaded, params)
    room = lc.llama_batch_init(512, 0, 1)
    random = np.random.default_rng(1)

    def step(rows):
        """rows: (token, position, sequence, wants logits)"""
        room.n_tokens = len(rows)
        for i, (token, position, sequence, logits) in enumerate(rows):
            room.token[i], room.pos[i], room.n_seq_id[i] = int(token), position, 1
            room.seq_id[i][0] = sequence
            room.logits[i] = logits
        if lc.llama_decode(context, room) != 0:
            raise RuntimeError("llama_decode failed")

    def prefill():
        for sequence in range(batch):
            tokens = random.integers(3, shape["vocab_size"], prompt)
            rows = [(t, i, sequence, i == prompt - 1) for i, t in enumerate(tokens)]
            for i in range(0, prompt, 512):
                step(rows[i : i + 512])

    def decode():
        for i in range(answer):
            tokens = random.integers(3, shape["vocab_size"], batch)
            step([(t, prompt + i, s, True) for s, t in enumerate(tokens)])
            lc.llama_get_logits_ith(context, batch - 1)

    step([(5, 0, 0, True)])  # warm up
    lc.llama_memory_clear(lc.llama_get_memory(context), True)
    start = time.perf_counter()
    prefill()
    middle = time.perf_counter()
    decode()
    end = time.perf_counter()
    return {"prefill": batch * prompt / (middle - start), "decode": batch * answer / (end - middle)}


def measure_ctranslate2(model: pathlib.Path, threads: int, prompt: int, answer: int, batch: int, shape: dict) -> dict:
    import ctranslate2
    import numpy as np

    generator = ctranslate2.Generator(str(model), device="cpu", compute_type="int8", intra_threads=threads)
    random = np.random.default_rng(1)
    prompts = [[f"t{t}" for t in random.integers(3, shape["vocab_size"], prompt)] for _ in range(batch)]

    def run(count: int) -> float:
        start = time.perf_counter()
        generator.generate_batch(
            prompts, max_length=count, min_length=count, include_prompt_in_result=False, end_token=[], max_batch_size=0
        )
        return time.perf_counter() - start

    run(1)
    first = run(1)
    rest = run(answer + 1) - first if answer > 1 else float("inf")
    return {"prefill": batch * prompt / first, "decode": batch * answer / rest}


def measure_openvino(model: pathlib.Path, threads: int, prompt: int, answer: int, batch: int, shape: dict) -> dict:
    import numpy as np
    import openvino as ov
    import openvino_genai

    pipe = openvino_genai.LLMPipeline(str(model), "CPU", {"INFERENCE_NUM_THREADS": threads})
    random = np.random.default_rng(1)
    tokens = random.integers(3, shape["vocab_size"], (batch, prompt))
    inputs = openvino_genai.TokenizedInputs(ov.Tensor(tokens), ov.Tensor(np.ones_like(tokens)))

    def run(count: int) -> float:
        start = time.perf_counter()
        pipe.generate(inputs, max_new_tokens=count, min_new_tokens=count, ignore_eos=True)
        return time.perf_counter() - start

    run(1)
    first = run(1)
    rest = run(answer + 1) - first if answer > 1 else float("inf")
    return {"prefill": batch * prompt / first, "decode": batch * answer / rest}


def measure_onnxruntime(model: pathlib.Path, threads: int, prompt: int, answer: int, batch: int, shape: dict) -> dict:
    import numpy as np
    import onnxruntime_genai as og

    os.environ["OMP_NUM_THREADS"] = str(threads)
    loaded = og.Model(str(model))
    params = og.GeneratorParams(loaded)
    params.set_search_options(max_length=prompt + answer + 1, min_length=prompt + answer, batch_size=batch)
    generator = og.Generator(loaded, params)
    tokens = np.random.default_rng(1).integers(3, shape["vocab_size"], (batch, prompt)).astype(np.int32)
    start = time.perf_counter()
    generator.append_tokens(tokens)
    generator.generate_next_token()
    middle = time.perf_counter()
    for _ in range(answer):
        generator.generate_next_token()
    end = time.perf_counter()
    return {"prefill": batch * prompt / (middle - start), "decode": batch * answer / (end - middle)}


def measure_fastserve(form: str, options, case: str) -> dict:
    prompt, answer, batch = CASES[case]
    # Peers take any length; positions beyond those trained cost the same.
    shape = {**json.loads(options.shape.read_text()), "max_position_embeddings": 16384}
    config = options.work / "fastserve.json"
    config.write_text(json.dumps(shape))
    command = [
        *(options.launch.split() if options.launch else []), options.fastserve, "bench",
        "--random-weights", str(config), "--dtype", "bf16", "--threads", str(options.threads),
        "--prompt-tokens", str(prompt), "--decode-tokens", str(max(answer, 2)), "--batch", str(batch),
        "--token-budget", "512", "--kv-tokens", str(max(4096, batch * (prompt + answer + 64))), "--repeat", "1",
        "--no-prefix-caching", "--json",
    ]  # fmt: skip
    if form != "bf16":
        command += ["--quantize", form]
    done = subprocess.run(command, capture_output=True, text=True, timeout=options.timeout)
    if done.returncode != 0:
        raise Skip(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "fastserve failed")
    line = json.loads(done.stdout.strip().splitlines()[-1])
    return {
        "prefill": line["prefill_tokens_per_s"],
        "decode": line["decode_tokens_per_s"],
        "read_bandwidth": line["read_bandwidth_bytes_per_s"],
        "peak_ops": line["peak_ops_per_s"],
        "bytes_read": line["weight_bytes_read_per_s"],
    }


PEERS = {
    "llama.cpp/BF16": ("llama_cpp", "model-BF16.gguf", measure_llama_cpp),
    "llama.cpp/Q8_0": ("llama_cpp", "model-Q8_0.gguf", measure_llama_cpp),
    "llama.cpp/Q4_0": ("llama_cpp", "model-Q4_0.gguf", measure_llama_cpp),
    "ctranslate2/int8": ("ctranslate2", "ctranslate2-int8", measure_ctranslate2),
    "openvino/int8": ("openvino_genai", "openvino-int8", measure_openvino),
    "onnxruntime/int4": ("onnxruntime_genai", "onnxruntime-int4", measure_onnxruntime),
}
ENGINES = ["fastserve/bf16", "fastserve/int8", "fastserve/int4", *PEERS]


def make(options) -> int:
    shape = json.loads(options.shape.read_text())
    work = options.work
    work.mkdir(parents=True, exist_ok=True)

    def export_openvino():
        need("openvino_genai")
        need("optimum", ", which exports models for openvino")
        write_folder(shape, work / "folder")
        run_tool("optimum.exporters.openvino", "--model", work / "folder", "--task", "text-generation-with-past",
                 "--weight-format", "int8", work / "openvino-int8")  # fmt: skip

    def build_onnx():
        need("onnxruntime_genai")
        need("torch", ", which onnxruntime-genai's model builder needs")
        write_folder(shape, work / "folder")
        run_tool("onnxruntime_genai.models.builder", "-i", work / "folder", "-o", work / "onnxruntime-int4",
                 "-p", "int4", "-e", "cpu")  # fmt: skip

    def run_tool(module: str, *arguments) -> None:
        done = subprocess.run([sys.executable, "-m", module, *map(str, arguments)], capture_output=True, text=True)
        if done.returncode != 0:
            raise Skip(f"{module} fails: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")

    steps = {
        "folder": lambda: write_folder(shape, work / "folder"),
        "llama.cpp/BF16": lambda: write_gguf(shape, work / "model-BF16.gguf"),
        "llama.cpp/Q8_0": lambda: quantize_gguf(work / "model-BF16.gguf", work / "model-Q8_0.gguf", "Q8_0"),
        "llama.cpp/Q4_0": lambda: quantize_gguf(work / "model-BF16.gguf", work / "model-Q4_0.gguf", "Q4_0"),
        "ctranslate2/int8": lambda: write_ctranslate2(shape, work / "ctranslate2-int8"),
        "openvino/int8": export_openvino,
        "onnxruntime/int4": build_onnx,
    }
    for name, step in steps.items():
        if options.only and name not in options.only.split(","):
            continue
        try:
            step()
            print(f"{name}: made")
        except Skip as why:
            print(f"{name}: skipped: {why}")
    return 0


def measure_one(name: str, case: str, options) -> dict:
    """One engine and case, peers in a process of their own."""
    if name.startswith("fastserve/"):
        return measure_fastserve(name.split("/")[1], options, case)
    module, model, _ = PEERS[name]
    need(module)
    if not (options.work / model).exists():
        raise Skip(f"{model} was not made")
    command = [sys.executable, __file__, "child", "--work", str(options.work), "--shape", str(options.shape),
               "--threads", str(options.threads), name, case]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=options.timeout, env=environment)
    if done.returncode != 0:
        raise Skip((done.stderr.strip().splitlines() or ["it failed without a word"])[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])


def child(options) -> int:
    _, model, run = PEERS[options.engine]
    shape = json.loads(options.shape.read_text())
    print(json.dumps(run(options.work / model, options.threads, *CASES[options.case], shape)))
    return 0


def measure(options) -> int:
    wanted = options.only.split(",") if options.only else ENGINES
    unknown = [name for name in wanted if name not in ENGINES]
    if unknown:
        print(f"no such engine: {', '.join(unknown)}; expected some of {', '.join(ENGINES)}", file=sys.stderr)
        return 2
    result = json.loads(options.out.read_text()) if options.out.exists() else {"runs": [], "skipped": {}}
    for _ in range(options.rounds):
        for case in options.cases.split(","):
            for name in wanted:
                try:
                    run = measure_one(name, case, options)
                except Skip as why:
                    result["skipped"][name] = str(why)
                    print(f"{name}: skipped: {why}")
                    continue
                except subprocess.TimeoutExpired:
                    result["skipped"][name] = f"no answer within {options.timeout} s"
                    print(f"{name}: skipped: {result['skipped'][name]}")
                    continue
                result["skipped"].pop(name, None)
                result["runs"].append({"engine": name, "case": case, "threads": options.threads, **run})
                rate = run["prefill" if case == "prefill" else "decode"]
                print(f"{name} {case}: {rate:.1f} tokens/s", flush=True)
                options.out.write_text(json.dumps(result, indent=1))
    options.out.write_text(json.dumps(result, indent=1))
    return 0


def table(options) -> int:
    result = json.loads(options.results.read_text())

    def median(engine, case, key):
        values = [r[key] for r in result["runs"] if r["engine"] == engine and r["case"] == case and key in r]
        return statistics.median(values) if values else None

    def cell(value):
        return "-" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.1f}"

    columns = [
        ("prefill 512", "prefill", "prefill"),
        ("decode, batch 1", "decode", "decode"),
        ("batch 8", "decode8", "decode"),
        ("batch 16", "decode16", "decode"),
        ("batch 32", "decode32", "decode"),
        ("prefill 8k", "long", "prefill"),
        ("decode behind 8k", "long", "decode"),
    ]
    columns = [c for c in columns if any(r["case"] == c[1] for r in result["runs"])]
    print(f"| engine | {' | '.join(title for title, _, _ in columns)} | runs |")
    print("|---" * (len(columns) + 2) + "|")
    for name in ENGINES:
        runs = sum(r["engine"] == name for r in result["runs"])
        if runs:
            cells = " | ".join(cell(median(name, case, key)) for _, case, key in columns)
            print(f"| {name} | {cells} | {runs} |")
    for name, why in result["skipped"].items():
        print(f"\n{name}: skipped, {why}")
    limits = [(r["engine"], r["read_bandwidth"] / 1e9, r["peak_ops"] / 1e9) for r in result["runs"] if "peak_ops" in r]
    if limits:
        read = [b for _, b, _ in limits]
        print(f"\nRead bandwidth {min(read):.0f} to {max(read):.0f} GB/s, median {statistics.median(read):.0f}.")
        for form in ("bf16", "int8", "int4"):
            peaks = [p for e, _, p in limits if e == f"fastserve/{form}"]
            if peaks:
                print(f"Peak of {form} products: {statistics.median(peaks):.0f} Gop/s.")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)

    def command(name, run):
        one = commands.add_parser(name)
        one.set_defaults(run=run)
        return one

    def common(one):
        one.add_argument("--work", type=pathlib.Path, required=True, help="folder of the models, some GB")
        one.add_argument("--shape", type=pathlib.Path, default=SHARED_SHAPE, help="config.json of the shape")
        one.add_argument("--threads", type=int, default=2)

    making = command("make", make)
    common(making)
    making.add_argument("--only", default="", help="engines, separated by commas")
    measuring = command("measure", measure)
    common(measuring)
    measuring.add_argument("--out", type=pathlib.Path, required=True, help="JSON; runs are added to it")
    measuring.add_argument("--only", default="", help="engines, separated by commas")
    measuring.add_argument("--cases", default=SHORT, help=f"of {', '.join(CASES)}; {SHORT} unless told")
    measuring.add_argument("--rounds", type=int, default=1)
    measuring.add_argument("--timeout", type=float, default=120, help="seconds for one measurement")
    measuring.add_argument("--fastserve", default="build/fastserve")
    measuring.add_argument("--launch", default="", help='such as "mpirun -n 1 --bind-to none"')
    one_child = command("child", child)
    common(one_child)
    one_child.add_argument("engine")
    one_child.add_argument("case")
    command("table", table).add_argument("results", type=pathlib.Path)
    options = parser.parse_args()
    return options.run(options)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Skip as why:
        print(why, file=sys.stderr)
        sys.exit(3)
