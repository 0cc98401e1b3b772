#!/usr/bin/env python3
"""Compares FastServe's greedy answer with the transformers library, token by token.

    python3 scripts/compare_with_transformers.py MODEL_DIR --prompt "Once upon a time" --max-tokens 64
    python3 scripts/compare_with_transformers.py MODEL_DIR --prompt-ids 0,12,7 --fastserve build/fastserve
    python3 scripts/compare_with_transformers.py MODEL_DIR --fastserve build/fastserve --launch "mpirun -n 3"

Without --fastserve it prints one line of JSON with the prompt's and the answer's token ids, computed in float32 with
eager attention from the stored weights. With --fastserve it also runs

    fastserve console --model MODEL_DIR --prompt-ids ... --temperature 0 --max-tokens N --ignore-eos --json

and says whether token_ids are equal, or where they first differ and by how much the reference preferred its own token
there (a lead near zero is a tie that rounding may decide). It exits with 1 on a difference, 2 if the run failed.

Requirements: Python >= 3.10, torch >= 2.4, transformers >= 5.0, safetensors.
"""

import argparse
import json
import pathlib
import shlex
import subprocess
import sys

import torch
import transformers

DEFAULT_TEXT = "Once upon a time"


def prompt_ids(args):
    if args.prompt_ids:
        return [int(token) for token in args.prompt_ids.split(",")]
    if not any((args.model / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        sys.exit(f"{args.model} has no tokenizer: give --prompt-ids")
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    return tokenizer(args.prompt).input_ids


def greedy(model, ids, max_tokens, stop_ids):
    """Greedy ids and, for each, the logits they were chosen from."""
    chosen, rows = [], []
    with torch.inference_mode():
        out = model(torch.tensor([ids]), use_cache=True)
        while True:
            rows.append(out.logits[0, -1].float())
            chosen.append(int(rows[-1].argmax()))
            if len(chosen) == max_tokens or chosen[-1] in stop_ids:
                return chosen, rows
            out = model(torch.tensor([chosen[-1:]]), past_key_values=out.past_key_values, use_cache=True)


def run_fastserve(args, ids):
    command = [
        *shlex.split(args.launch), str(args.fastserve), "console", "--model", str(args.model),
        "--prompt-ids", ",".join(map(str, ids)), "--temperature", "0", "--max-tokens", str(args.max_tokens), "--json",
        *([] if args.stop_at_eos else ["--ignore-eos"]), *shlex.split(args.flags),
    ]  # fmt: skip
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=args.timeout_s)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        sys.stderr.write(done.stderr)
        print(f"{shlex.join(command)}: exit code {done.returncode}, {len(lines)} lines of JSON", file=sys.stderr)
        sys.exit(2)
    return json.loads(lines[-1])["token_ids"]


def without_stop(ids, stop_ids):
    """An answer without the end-of-text id that closes it: it may or may not be counted as part of the answer."""
    return ids[:-1] if ids and ids[-1] in stop_ids else ids


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path, help="Hugging Face folder")
    parser.add_argument("--prompt", default=DEFAULT_TEXT, help=f"text, encoded by transformers ({DEFAULT_TEXT!r})")
    parser.add_argument("--prompt-ids", help="token ids with commas, instead of --prompt")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--stop-at-eos", action="store_true", help="stop at an end-of-text id; else generate over it")
    parser.add_argument("--fastserve", type=pathlib.Path, help="binary to compare with")
    parser.add_argument("--launch", default="", help='what starts the binary, such as "mpirun -n 2"')
    parser.add_argument("--flags", default="", help="more flags for the binary")
    parser.add_argument("--timeout-s", type=float, default=300)
    args = parser.parse_args()
    if args.max_tokens < 1:
        parser.error("--max-tokens must be at least 1")

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        args.model, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    ids = prompt_ids(args)
    stops = model.generation_config.eos_token_id if args.stop_at_eos else None
    stop_ids = set(stops if isinstance(stops, list) else [] if stops is None else [stops])
    want, rows = greedy(model, ids, args.max_tokens, stop_ids)
    if not args.fastserve:
        print(json.dumps({"prompt_ids": ids, "token_ids": want}))
        return
    got, want = without_stop(run_fastserve(args, ids), stop_ids), without_stop(want, stop_ids)
    if got == want:
        print(f"equal: {len(want)} tokens")
        return
    at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
    if at == len(got) or at == len(want):
        print(f"different lengths: fastserve {len(got)}, transformers {len(want)}, equal up to there")
    else:
        lead = float(rows[at][want[at]] - rows[at][got[at]])
        print(f"first difference at token {at}: fastserve {got[at]}, transformers {want[at]}, lead {lead:.2g}")
    sys.exit(1)


if __name__ == "__main__":
    main()
