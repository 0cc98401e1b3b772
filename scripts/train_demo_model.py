#!/usr/bin/env python3
"""Makes models/demo: a Llama of 4.1 M parameters that writes small stories and Shakespeare-like dialogue.

    python3 scripts/train_demo_model.py all --shakespeare input.txt --story-model stories260K-hf --work WORK \\
        --steps 2400 --stop-step 2281

The steps, each also a command of its own; all files but the result live in --work:
  stories    samples distinct children's stories from a small story model (a Hugging Face folder)
  tokenizer  trains a byte-level BPE tokenizer of 2048 entries and encodes both texts
  train      trains the model; a checkpoint every few minutes; run again, it goes on from the last one
  export     writes the newest checkpoint as a bf16 Hugging Face folder with a card and samples

A run is a function of the arguments and the library versions: every batch is drawn from (seed, step). The learning
rate is constant after the warm-up and falls linearly over the last part of --steps, so a run that was planned too long
may be stopped before the fall and started again with fewer steps; the result is the one of the shorter plan.

Data: Shakespeare is public domain; the stories are sampled from stories260K (MIT, from llama2.c).

Requirements: Python >= 3.10, torch >= 2.9 (for torch.optim.Muon) and a C++ compiler for torch.compile,
transformers >= 5.0, tokenizers >= 0.20, sentencepiece, safetensors, numpy.
"""

import argparse
import json
import pathlib
import shutil
import time

import numpy as np
import torch
import transformers

END = "<|endoftext|>"
END_ID = 0  # of END: the trainer numbers special tokens first
VOCAB_SIZE = 2048
TRAINED_TOKENS = 256  # length of a training row but for the last part, which has rows of LONG_TOKENS
LONG_TOKENS = 512


# ---------------------------------------------------------------- stories


def sample_batch(model, rows, temperature, top_p, generator, max_tokens=511):
    """Samples `rows` texts from the beginning-of-text token alone; returns the lists of ids that came to an end."""
    bos, eos = model.config.bos_token_id, model.config.eos_token_id
    ids = torch.full((rows, 1), bos)
    owner = torch.arange(rows)  # which text a row of the shrinking batch belongs to
    texts, done = [[] for _ in range(rows)], []
    cache = transformers.DynamicCache(config=model.config)
    for _ in range(max_tokens):
        logits = model(ids, past_key_values=cache, use_cache=True).logits[:, -1] / temperature
        probability, order = logits.softmax(-1).sort(dim=-1, descending=True)
        beyond = probability.cumsum(-1) - probability > top_p
        chosen = torch.multinomial(probability.masked_fill(beyond, 0), 1, generator=generator)
        ids = order.gather(-1, chosen)
        live = owner >= 0
        ended = live & ((ids[:, 0] == bos) | (ids[:, 0] == eos))
        finished = ended | ~live
        for text, token in zip(owner[~finished].tolist(), ids[~finished, 0].tolist()):
            texts[text].append(token)
        done += [texts[text] for text in owner[ended].tolist()]
        owner = torch.where(ended, -1, owner)
        # drop finished rows in lumps: reordering the cache copies it
        if finished.sum() * 8 >= len(finished):
            keep = (~finished).nonzero()[:, 0]
            if len(keep) == 0:
                break
            ids, owner = ids[keep], owner[keep]
            cache.batch_select_indices(keep)
    return done


def make_stories(args):
    import sentencepiece

    path = args.work / "stories.jsonl"
    vocabulary = sentencepiece.SentencePieceProcessor(model_file=str(args.story_model / "tokenizer.model"))
    model = transformers.AutoModelForCausalLM.from_pretrained(args.story_model, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(args.seed)
    plain = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \n.,!?'\"-:;()")
    seen, total, started = set(), 0, time.time()
    with torch.inference_mode(), path.with_suffix(".part").open("w") as out:
        while total < args.story_mb * 1e6:
            for ids in sample_batch(model, args.story_batch, args.temperature, args.top_p, generator):
                story = vocabulary.decode(ids).strip()
                if len(story) < 200 or story in seen or not set(story) <= plain or story[-1] not in '.!?"':
                    continue
                seen.add(story)
                total += len(story)
                out.write(json.dumps(story) + "\n")
            print(f"{len(seen)} stories, {total / 1e6:.2f} MB, {time.time() - started:.0f} s", flush=True)
    path.with_suffix(".part").rename(path)


# ---------------------------------------------------------------- tokenizer


def make_tokenizer(args):
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers

    stories = [json.loads(line) for line in (args.work / "stories.jsonl").open()]
    plays = args.shakespeare.read_text()
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    # both kinds of text weigh the same, so the plays are not spelled in single letters
    tokenizer.train_from_iterator([plays] + stories[: len(plays) * len(stories) // sum(map(len, stories))], trainer)
    assert tokenizer.token_to_id(END) == END_ID
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END} $A", pair=f"{END} $A {END} $B", special_tokens=[(END, END_ID)]
    )
    folder = args.work / "tokenizer"
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": END,
        "eos_token": END,
        "clean_up_tokenization_spaces": False,
        "model_max_length": LONG_TOKENS,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")

    def encode(name, texts):
        ids, starts = [], []
        for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
            starts.append(len(ids))
            ids += [END_ID] + encoding.ids
        np.savez(args.work / name, ids=np.array(ids, np.uint16), starts=np.array(starts))
        print(f"{name}: {len(texts)} texts, {sum(map(len, texts))} characters, {len(ids)} tokens")

    held_out = max(1, len(stories) // 50)
    encode("stories_train", stories[held_out:])
    encode("stories_held_out", stories[:held_out])
    # One long text; a row starts at any speech. The last 3 % are held out.
    speeches = plays.split("\n\n")
    cut = len(speeches) * 97 // 100
    for name, part in (("plays_train", speeches[:cut]), ("plays_held_out", speeches[cut:])):
        ids, starts = [], []
        for encoding in tokenizer.encode_batch([speech + "\n\n" for speech in part], add_special_tokens=False):
            starts.append(len(ids))
            ids += encoding.ids
        np.savez(args.work / name, ids=np.array(ids, np.uint16), starts=np.array(starts))
        print(f"{name}: {len(part)} speeches, {len(ids)} tokens")


# ---------------------------------------------------------------- train


def demo_config():
    return transformers.LlamaConfig(
        vocab_size=VOCAB_SIZE, hidden_size=256, intermediate_size=512, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=2, head_dim=64, max_position_embeddings=LONG_TOKENS, rms_norm_eps=1e-5,
        tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, bos_token_id=END_ID,
        eos_token_id=END_ID,
    )  # fmt: skip


class Corpus:
    """Rows of training text: whole texts from their start as prompts have them, or a piece from anywhere."""

    def __init__(self, work, part):
        self.texts_ = {}
        for kind in ("stories", "plays"):
            file = np.load(work / f"{kind}_{part}.npz")
            self.texts_[kind] = file["ids"], file["starts"]

    def row(self, kind, tokens, rng):
        ids, starts = self.texts_[kind]
        if rng.random() < 0.5:
            at = rng.integers(0, len(ids) - tokens - 1)
            return ids[at : at + tokens + 1]
        starts = starts[starts < len(ids) - tokens - 1]
        at = starts[rng.integers(0, len(starts))]
        if kind == "plays":
            return np.concatenate([[END_ID], ids[at : at + tokens]])
        return ids[at : at + tokens + 1]

    def batch(self, rows, tokens, plays_share, rng):
        kinds = ["plays" if index < round(rows * plays_share) else "stories" for index in range(rows)]
        return torch.from_numpy(np.stack([self.row(kind, tokens, rng).astype(np.int64) for kind in kinds]))


def learning_rate_factor(step, args):
    fall = args.steps * args.fall
    return min(1.0, (step + 1) / args.warmup, max(0.02, (args.steps - step) / fall))


def make_optimizers(model, args):
    """Muon for the matrices inside the layers, AdamW for the embedding (which is also the head) and the norms."""
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and "embed_tokens" not in name]
    others = [p for name, p in model.named_parameters() if p.dim() != 2 or "embed_tokens" in name]
    return [
        torch.optim.Muon(matrices, lr=args.lr, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=args.lr, weight_decay=0.0, betas=(0.9, 0.95)),
    ]


def held_out_loss(model, corpus, tokens=TRAINED_TOKENS):
    rng = np.random.default_rng(1)
    losses = {}
    with torch.inference_mode():
        for kind in ("stories", "plays"):
            rows = torch.from_numpy(np.stack([corpus.row(kind, tokens, rng).astype(np.int64) for _ in range(32)]))
            logits = model(rows[:, :-1]).logits.float()
            losses[kind] = float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()))
    return losses


def train(args):
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    model = transformers.LlamaForCausalLM._from_config(demo_config(), dtype=torch.float32, attn_implementation="sdpa")
    print(f"{sum(p.numel() for p in model.parameters())} parameters")
    optimizers = make_optimizers(model, args)
    path = args.work / "checkpoint.pt"
    step, history = 0, []
    if path.exists():
        state = torch.load(path, weights_only=False)
        model.load_state_dict(state["model"])
        for optimizer, kept in zip(optimizers, state["optimizers"]):
            optimizer.load_state_dict(kept)
        step, history = state["step"], state["history"]
        planned = state["args"]["steps"]
        if planned != args.steps and step > min(planned, args.steps) * (1 - args.fall):
            raise SystemExit(f"step {step} lies in the fall of the learning rate: --steps must stay {planned}")
        print(f"going on from step {step}")
    corpus, held_out = Corpus(args.work, "train"), Corpus(args.work, "held_out")

    def loss_of(ids):
        with torch.autocast("cpu", torch.bfloat16, enabled=not args.float32):
            logits = model(ids[:, :-1], use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())

    compiled = torch.compile(loss_of) if args.compile else loss_of
    saved = logged = time.time()
    tokens_since, losses = 0, []
    last_step = min(args.steps, args.stop_step or args.steps)
    while step < last_step:
        long = step >= args.steps * (1 - args.long_share)
        tokens = LONG_TOKENS if long else TRAINED_TOKENS
        rows = args.batch_tokens // tokens
        ids = corpus.batch(rows, tokens, args.plays_share, np.random.default_rng((args.seed, step)))
        factor = learning_rate_factor(step, args)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = args.lr * factor
        loss = compiled(ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        losses.append(loss.item())
        tokens_since += rows * tokens
        if step % 20 == 0:
            now = time.time()
            print(f"step {step} loss {np.mean(losses):.3f} {tokens_since / (now - logged):.0f} tokens/s", flush=True)
            logged, tokens_since, losses = now, 0, []
        if time.time() - saved > args.save_minutes * 60 or step == last_step:
            losses_now = held_out_loss(model, held_out)
            history.append({"step": step, "tokens": step * args.batch_tokens, **losses_now})
            print(history[-1], flush=True)
            state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "step": step,
                     "history": history, "args": {k: str(v) if isinstance(v, pathlib.Path) else v
                                                  for k, v in vars(args).items() if k != "run"}}  # fmt: skip
            torch.save(state, path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)
            saved = time.time()


# ---------------------------------------------------------------- export


PROMPTS = ["Once upon a time", "One day, a little dog named Max", "ROMEO:\n", "KING RICHARD III:\n"]


def samples(folder, seed):
    """Texts that the exported model writes in its own 16-bit arithmetic."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = []
    for prompt in PROMPTS:
        torch.manual_seed(seed)
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=0.7, top_p=0.95,
                             top_k=0, max_new_tokens=180, pad_token_id=END_ID)  # fmt: skip
        texts.append(tokenizer.decode(out[0], skip_special_tokens=True))
    return texts


CARD = """---
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [llama, demo]
---

# The demo model

A small Llama that runs anywhere in a second: it writes simple children's stories after `Once upon a time` and
Shakespeare-like dialogue after `ROMEO:`. It is made for trying and testing FastServe; it knows nothing and follows no
instructions.

| | |
|---|---|
| architecture | `LlamaForCausalLM`, {parameters:,} parameters, tied embeddings, bfloat16 |
| widths | hidden {hidden_size}, MLP {intermediate_size}, {num_hidden_layers} layers, \
{num_attention_heads} query heads of {head_dim}, {num_key_value_heads} key-value heads |
| context | {context} tokens |
| tokenizer | byte-level BPE, {vocab_size} entries, `<|endoftext|>` (id 0) begins and ends a text |

## How it was made

By `scripts/train_demo_model.py` (`--steps {planned_steps} --stop-step {stop_step}`), from random weights, on a CPU,
with seed {seed}.

- Data: the 1.1 MB of Shakespeare's plays known as tinyshakespeare (public domain), and {stories:,} distinct stories
  ({story_mb:.1f} MB) sampled at temperature {temperature}, top-p {top_p} from stories260K, a model published
  with llama2.c under the MIT licence (trained on TinyStories).
- {steps:,} of {planned:,} planned steps of {batch_tokens:,} tokens ({tokens:.1f} M tokens); {plays_percent} % of
  the rows are from the plays; rows of {short} tokens, in the last {long_percent} % of the steps of {long}.
- Muon for the matrices of the layers, AdamW for the rest, learning rate {lr}, constant after {warmup} steps of
  warm-up, falling linearly over the last {fall_percent} %.
- Cross-entropy a token {last}, on text held out: stories {loss_stories:.3f}, plays {loss_plays:.3f}
  (a token is {chars_stories:.2f} characters of a story, {chars_plays:.2f} of a play). The plays were seen about
  {plays_epochs:.0f} times and are in part remembered, not written anew.

## What it writes

Sampled with transformers in bfloat16 at temperature 0.7, top-p 0.95, seed {seed}; the first words are the prompt.
"""


def export(args):
    state = torch.load(args.work / "checkpoint.pt", weights_only=False)
    used = argparse.Namespace(**state["args"])
    folder = args.out
    shutil.rmtree(folder, ignore_errors=True)
    model = transformers.LlamaForCausalLM(demo_config())
    model.load_state_dict(state["model"])
    model.to(torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(args.work / "tokenizer" / name, folder / name)
    generation = {"bos_token_id": END_ID, "eos_token_id": END_ID, "do_sample": True, "temperature": 0.7, "top_p": 0.95}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")

    exported = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    losses = held_out_loss(exported, Corpus(args.work, "held_out"))
    stories = [json.loads(line) for line in (args.work / "stories.jsonl").open()]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def characters_a_token(texts):
        return sum(map(len, texts)) / sum(len(tokenizer.tokenize(text)) for text in texts)

    config = exported.config
    plays_tokens = len(np.load(args.work / "plays_train.npz")["ids"])
    card = CARD.format(
        parameters=sum(p.numel() for p in exported.parameters()), context=LONG_TOKENS, seed=used.seed,
        hidden_size=config.hidden_size, intermediate_size=config.intermediate_size, vocab_size=config.vocab_size,
        num_hidden_layers=config.num_hidden_layers, num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads, head_dim=config.head_dim, stories=len(stories),
        story_mb=sum(map(len, stories)) / 1e6, temperature=used.temperature, top_p=used.top_p, steps=state["step"],
        planned=used.steps, planned_steps=used.steps, stop_step=state["step"], batch_tokens=used.batch_tokens,
        tokens=state["step"] * used.batch_tokens / 1e6,
        plays_percent=round(100 * used.plays_share), short=TRAINED_TOKENS, long=LONG_TOKENS,
        long_percent=round(100 * used.long_share), lr=used.lr, warmup=used.warmup,
        fall_percent=round(100 * used.fall), loss_stories=losses["stories"], loss_plays=losses["plays"],
        last="of the final weights" if state["step"] == used.steps else f"after step {state['step']:,}",
        plays_epochs=state["step"] * used.batch_tokens * used.plays_share / plays_tokens,
        chars_stories=characters_a_token(stories[:200]),
        chars_plays=characters_a_token(args.shakespeare.read_text().split("\n\n")),
    )  # fmt: skip
    for text in samples(folder, args.seed):
        card += "\n```text\n" + text.strip() + "\n```\n"
    (folder / "README.md").write_text(card)
    (folder / "model.safetensors").chmod(0o644)
    print(card)


# ---------------------------------------------------------------- command line


def everything(args):
    if not (args.work / "stories.jsonl").exists():
        make_stories(args)
    make_tokenizer(args)
    train(args)
    export(args)


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = {"stories": make_stories, "tokenizer": make_tokenizer, "train": train, "export": export, "all": everything}
    parser.add_argument("run", choices=steps)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder of intermediate files")
    parser.add_argument("--shakespeare", type=pathlib.Path, help="tinyshakespeare input.txt")
    parser.add_argument("--story-model", type=pathlib.Path, help="Hugging Face folder of stories260K")
    parser.add_argument("--out", type=pathlib.Path, default=root / "models/demo")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--story-mb", type=float, default=7.0, help="millions of characters to sample")
    parser.add_argument("--story-batch", type=int, default=512)
    parser.add_argument("--temperature", type=float, default=0.65)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--stop-step", type=int, help="end here, before the planned --steps are done")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--plays-share", type=float, default=0.35, help="share of the rows from the plays")
    parser.add_argument("--lr", type=float, default=6e-3)
    parser.add_argument("--warmup", type=int, default=50, help="steps")
    parser.add_argument("--fall", type=float, default=0.3, help="share of the steps in which the rate falls")
    parser.add_argument("--long-share", type=float, default=0.1, help=f"share of the steps at {LONG_TOKENS} tokens")
    parser.add_argument("--save-minutes", type=float, default=4.0)
    parser.add_argument("--float32", action="store_true", help="train without bf16 autocast")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="train without torch.compile")
    args = parser.parse_args()
    if args.run in ("tokenizer", "export", "all") and not args.shakespeare:
        parser.error(f"{args.run} needs --shakespeare")
    if args.run in ("stories", "all") and not args.story_model:
        parser.error(f"{args.run} needs --story-model")
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    steps[args.run](args)


if __name__ == "__main__":
    main()
