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
    ik_llama.cpp/{BF16,Q8_0,Q4_0}       ik-llama-cpp-python, from llama.cpp's files; it repacks them when it loads.
                                        As published (0.1.5) its build lacks a file that only its tools need: build
                                        the target "llama" and name the library in IK_LLAMA_CPP_LIB_PATH
    ctranslate2/int8                    ctranslate2; the model is written through its specs, no converter needed
    openvino/{int8,int4}                openvino-genai, its continuous batching; int4 in groups of 128, head int8
    onnxruntime/{int8,int4}             onnxruntime-genai, in blocks of 32; onnx writes the model

peer_models.py writes the models as each engine's own converter would; neither PyTorch nor a converter is needed.

Requirements: Python >= 3.10, numpy; for the peers, whichever are wanted:

    pip install gguf llama-cpp-python ctranslate2 openvino openvino-genai onnx onnxruntime-genai
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

from peer_models import Skip, need, quantize_gguf, write_ctranslate2, write_gguf, write_onnx, write_openvino

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


# -- engines: each measures one case in this process, tokens a second ---------------------------------------------------


def measure_llama_cpp(model: pathlib.Path, threads: int, prompt: int, answer: int, batch: int, shape: dict) -> dict:
    import llama_cpp as lc

    def forget(context):
        lc.llama_memory_clear(lc.llama_get_memory(context), True)

    wishes = lc.llama_model_default_params(), lc.llama_context_default_params()
    return measure_llama_api(lc, *wishes, forget, model, threads, prompt, answer, batch, shape)


def measure_ik(model: pathlib.Path, threads: int, prompt: int, answer: int, batch: int, shape: dict) -> dict:
    from ik_llama_cpp import _ctypes_api as lc

    wishes = lc.llama_model_default_params(), lc.llama_context_default_params()
    wishes[0].use_mmap = False
    wishes[0].repack_tensors = True
    # Its flash attention aborts where a sequence sees nothing of a block of the cache.
    wishes[1].flash_attn = batch == 1
    return measure_llama_api(lc, *wishes, lc.llama_kv_cache_clear, model, threads, prompt, answer, batch, shape)


def measure_llama_api(lc, model_params, params, forget, model, threads, prompt, answer, batch, shape) -> dict:
    """lc: bindings of llama.h; forget: clears a context."""
    import numpy as np

    lc.llama_backend_init()
    model_params.n_gpu_layers = 0
    loaded = lc.llama_model_load_from_file(str(model).encode(), model_params)
    if not loaded:
        raise Skip(f"cannot load {model.name}")
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
    forget(context)
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
    """By the pipeline that LLMPipeline is on CPUs, step by step; all prompts in the first, none kept for the next."""
    import numpy as np
    import openvino as ov
    import openvino_genai

    room = openvino_genai.SchedulerConfig()
    room.max_num_batched_tokens = batch * prompt
    room.enable_prefix_caching = False
    pipe = openvino_genai.ContinuousBatchingPipeline(str(model), room, "CPU", {"INFERENCE_NUM_THREADS": threads})
    random = np.random.default_rng(1)

    def run(count: int):
        how = openvino_genai.GenerationConfig(max_new_tokens=count + 1, ignore_eos=True)
        tokens = random.integers(3, shape["vocab_size"], (batch, 1, prompt))
        answers = [pipe.add_request(i, ov.Tensor(tokens[i]), how) for i in range(batch)]
        times = [time.perf_counter()]
        while pipe.has_non_finished_requests():
            pipe.step()
            times.append(time.perf_counter())
        if len(times) != count + 2 or any(len(a.read_all()[0].generated_ids) != count + 1 for a in answers):
            raise RuntimeError(f"{len(times) - 1} steps for {count + 1} tokens")
        return times

    run(1)  # warm up
    start, middle, *_, end = run(answer)
    return {"prefill": batch * prompt / (middle - start), "decode": batch * answer / (end - middle)}


def measure_onnxruntime(model: pathlib.Path, threads: int, prompt: int, answer: int, batch: int, shape: dict) -> dict:
    import numpy as np
    import onnxruntime_genai as og

    config = og.Config(str(model))
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
    loaded = og.Model(config)
    random = np.random.default_rng(1)

    def run(count: int):
        params = og.GeneratorParams(loaded)
        length = prompt + count + 1
        params.set_search_options(max_length=length, min_length=length, batch_size=batch)
        generator = og.Generator(loaded, params)
        tokens = random.integers(3, shape["vocab_size"], (batch, prompt)).astype(np.int32)
        start = time.perf_counter()
        generator.append_tokens(tokens)
        generator.generate_next_token()
        middle = time.perf_counter()
        for _ in range(count):
            generator.generate_next_token()
        end = time.perf_counter()
        if generator.token_count() != length:
            raise RuntimeError(f"{generator.token_count()} tokens, not {length}")
        return start, middle, end

    run(1)  # warm up
    start, middle, end = run(answer)
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
    "ik_llama.cpp/BF16": ("ik_llama_cpp", "model-BF16.gguf", measure_ik),
    "ik_llama.cpp/Q8_0": ("ik_llama_cpp", "model-Q8_0.gguf", measure_ik),
    "ik_llama.cpp/Q4_0": ("ik_llama_cpp", "model-Q4_0.gguf", measure_ik),
    "ctranslate2/int8": ("ctranslate2", "ctranslate2-int8", measure_ctranslate2),
    "openvino/int8": ("openvino_genai", "openvino-int8", measure_openvino),
    "openvino/int4": ("openvino_genai", "openvino-int4", measure_openvino),
    "onnxruntime/int8": ("onnxruntime_genai", "onnxruntime-int8", measure_onnxruntime),
    "onnxruntime/int4": ("onnxruntime_genai", "onnxruntime-int4", measure_onnxruntime),
}
ENGINES = ["fastserve/bf16", "fastserve/int8", "fastserve/int4", *PEERS]


def make(options) -> int:
    shape = json.loads(options.shape.read_text())
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    steps = {
        "llama.cpp/BF16": lambda: write_gguf(shape, work / "model-BF16.gguf"),
        "llama.cpp/Q8_0": lambda: quantize_gguf(work / "model-BF16.gguf", work / "model-Q8_0.gguf", "Q8_0"),
        "llama.cpp/Q4_0": lambda: quantize_gguf(work / "model-BF16.gguf", work / "model-Q4_0.gguf", "Q4_0"),
        "ctranslate2/int8": lambda: write_ctranslate2(shape, work / "ctranslate2-int8"),
        "openvino/int8": lambda: write_openvino(shape, work / "openvino-int8", 8),
        "openvino/int4": lambda: write_openvino(shape, work / "openvino-int4", 4),
        "onnxruntime/int8": lambda: write_onnx(shape, work / "onnxruntime-int8", 8),
        "onnxruntime/int4": lambda: write_onnx(shape, work / "onnxruntime-int4", 4),
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
