#!/usr/bin/env python3
"""Makes the tokenizers and golden encodings under tests/data/tokenizer/, with the Hugging Face `tokenizers` library.

    make_tokenizer_goldens.py CORPUS.txt                      trains on a text and writes the goldens
    make_tokenizer_goldens.py CORPUS.txt --compare TOOL DIR.. compares TOOL (build/tests/dump_tokens) with the library
                                                              on random strings, for folders with a tokenizer.json

Each golden folder holds a tokenizer.json and golden.jsonl: one {"text", "ids", "special", "decoded"} a line, where
`special` are the ids with special tokens (left out if equal to `ids`) and `decoded` is the text of `ids` (left out
if equal to `text`). Strings are drawn from a fixed seed; the trainers break ties as they like, so a second run may
give another vocabulary, with goldens that fit it.
"""
import argparse
import json
import pathlib
import random
import subprocess

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE.parent / "tests" / "data" / "tokenizer"
SEED = 20240229
STRINGS = 140

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")

FRAGMENTS = [
    "'s", "'S", "'t", "'RE", "'ve", "'ll", "'LL", "'\u017f", "\n", "\r\n", "\n\n", "\r", " ", "  ", "   ", "\t",
    "\u00a0", "\u3000", "\u2028", "\u0085", "\u180e", "\u200b", "\u200d", "\ufb01", "\u00e9", "e\u0301", "n\u0303",
    "\u0130", "\u00df", "\u01c4", "\ud55c\uae00", "\u1100\u1161\u11a8", "\u65e5\u672c\u8a9e", "\u4f60\u597d",
    "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "\u00bd", "\u00b2", "\u0661\u0662\u0663", "<s>", "</s>",
    "<unk>", "<|endoftext|>", "<|eot|>", "[CLS]", "[MASK]", "<mask>", "[UNK]", "<pad>", "<0x0A>", "\u2581",
    "\u2581\u2581", "\u0120", "##", "...", "!!!", "1234567", "3.14", "a'b", "don't", "<left>", "<right>", "<word>",
    "<both>", "Caf\u00e9", "cafe\u0301", "\x00", "\x7f", "\ufeff", "\ufffd", "\ufffe", "\U000e0001",
]


def random_character(rng):
    ranges = [(0x20, 0x7F), (0x20, 0x7F), (0x20, 0x7F), (0, 0x300), (0x300, 0x2000), (0x2000, 0x3100),
              (0x3100, 0xD800), (0xE000, 0x10000), (0x10000, 0x20000), (0x20000, 0x110000)]
    first, last = rng.choice(ranges)
    return chr(rng.randrange(first, last))


def random_string(rng, corpus):
    kind = rng.random()
    count = rng.choice([1, 2, 3, 5, 8, 13, 30])
    if kind < 0.2:
        return "".join(random_character(rng) for _ in range(count))
    if kind < 0.4:
        return "".join(rng.choice(FRAGMENTS) for _ in range(count))
    if kind < 0.7:
        parts = []
        for _ in range(count):
            part = rng.random()
            start = rng.randrange(len(corpus) - 20)
            parts.append(rng.choice(FRAGMENTS) if part < 0.4 else random_character(rng) if part < 0.7 else
                         corpus[start:start + rng.randrange(1, 15)])
        return "".join(parts)
    if kind < 0.9:
        start = rng.randrange(len(corpus) - 120)
        return corpus[start:start + rng.randrange(1, 120)]
    return rng.choice(FRAGMENTS + [random_character(rng)]) * rng.randrange(1, 70)


def added():
    return [
        AddedToken("<|endoftext|>", special=True, normalized=False),
        AddedToken("<left>", lstrip=True, normalized=False),
        AddedToken("<right>", rstrip=True, normalized=False),
        AddedToken("<word>", single_word=True, normalized=False),
        AddedToken("<both>", lstrip=True, rstrip=True, normalized=True),
        AddedToken("Caf\u00e9", normalized=True),
        AddedToken("don", normalized=True, single_word=True),
        AddedToken("<|eot|>", special=True, normalized=False),
        AddedToken("<|eot", special=False, normalized=False),
    ]


def train(tokenizer, corpus, trainer):
    tokenizer.train_from_iterator(corpus.splitlines(keepends=True), trainer)
    return tokenizer


def bpe_trainer(size, **options):
    return trainers.BpeTrainer(vocab_size=size, show_progress=False, **options)


def byte_level(corpus, split, size, normalizer=None, model=None):
    tokenizer = Tokenizer(model or models.BPE())
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    return train(tokenizer, corpus, bpe_trainer(size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))


def split_then_bytes(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def gpt2_like(corpus):
    tokenizer = byte_level(corpus, pre_tokenizers.ByteLevel(add_prefix_space=False), 900)
    tokenizer.add_tokens(added())
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def roberta_like(corpus):
    tokenizer = byte_level(corpus, pre_tokenizers.ByteLevel(add_prefix_space=True), 500)
    tokenizer.add_special_tokens(["<s>", "</s>", AddedToken("<mask>", lstrip=True, special=True)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", tokenizer.token_to_id("</s>")),
                                                            ("<s>", tokenizer.token_to_id("<s>")))
    return tokenizer


def llama3_like(corpus):
    tokenizer = byte_level(corpus, split_then_bytes(LLAMA3), 900, model=models.BPE(ignore_merges=True))
    tokenizer.add_tokens(added())
    tokenizer.add_special_tokens(["<s>"])
    template = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B:1",
                                             special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer


def qwen2_like(corpus):
    tokenizer = byte_level(corpus, split_then_bytes(QWEN2), 900, normalizer=normalizers.NFC())
    tokenizer.add_tokens(added())
    return tokenizer


def with_byte_fallback(corpus, size, normalizer, split):
    """Byte-pair encoding of characters with <0x00> to <0xFF> for the rest, like Llama 2."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    train(trained, corpus[:400000], bpe_trainer(size, special_tokens=["<unk>", "<s>", "</s>"]))
    model = json.loads(trained.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    tokens = tokens[:3] + [f"<0x{byte:02X}>" for byte in range(256)] + tokens[3:]
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab, [tuple(m) for m in model["merges"]], unk_token="<unk>", fuse_unk=True,
                                     byte_fallback=True))
    if normalizer:
        tokenizer.normalizer = normalizer
    if split:
        tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B:1",
                                                             special_tokens=[("<s>", 1)])
    return tokenizer


def llama2_like(corpus):
    rules = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    return with_byte_fallback(corpus, 700, rules, None)


def mistral_like(corpus):
    split = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer = with_byte_fallback(corpus, 500, None, split)
    tokenizer.add_tokens(added())
    return tokenizer


def bert_like(corpus):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    train(tokenizer, corpus + " ".join(FRAGMENTS) * 3,
          trainers.WordPieceTrainer(vocab_size=900, special_tokens=special, show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("[CLS]", "[SEP]")])
    return tokenizer


def unigram_like(corpus):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.StripAccents(),
                                                 normalizers.Lowercase(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(),
                                                       pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    train(tokenizer, corpus[:300000], trainers.UnigramTrainer(vocab_size=500, special_tokens=["<unk>", "</s>"],
                                                              unk_token="<unk>", show_progress=False))
    return tokenizer


def splits_like(corpus):
    """Rare pre-tokenizers in one sequence, on a character model without bytes: unknown characters fuse."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Replace(Regex(r"\s{2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\d{2}|[A-Z]\w"), "merged_with_previous"),
        pre_tokenizers.Split(" ", "merged_with_next"),
        pre_tokenizers.Split(Regex(r"[^\S\n]+|\p{P}"), "contiguous"),
        pre_tokenizers.Split(Regex(r"[\p{L}\p{M}]+|\s+"), "removed", invert=True),
        pre_tokenizers.Punctuation("merged_with_next"),
        pre_tokenizers.Digits(individual_digits=True)])
    tokenizer.decoder = decoders.Fuse()
    train(tokenizer, corpus[:200000], bpe_trainer(300, special_tokens=["<unk>"]))
    return tokenizer


MAKERS = {maker.__name__: maker for maker in (gpt2_like, roberta_like, llama3_like, qwen2_like, llama2_like,
                                              mistral_like, bert_like, unigram_like, splits_like)}


def write_goldens(corpus):
    for name, maker in MAKERS.items():
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        document = json.loads(maker(corpus).to_str())
        if name in ("gpt2_like", "llama2_like"):  # merges as one string, the older way to write them
            document["model"]["merges"] = [" ".join(m) for m in document["model"]["merges"]]
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        (folder / "tokenizer.json").write_text(text + "\n", encoding="utf-8")
        tokenizer = Tokenizer.from_str(text)
        rng = random.Random(SEED)
        with open(folder / "golden.jsonl", "w", encoding="utf-8") as out:
            for _ in range(STRINGS):
                text = random_string(rng, corpus)
                ids = tokenizer.encode(text, add_special_tokens=False).ids
                special = tokenizer.encode(text, add_special_tokens=True).ids
                decoded = tokenizer.decode(ids, skip_special_tokens=False)
                line = {"text": text, "ids": ids}
                if special != ids:
                    line["special"] = special
                if decoded != text:
                    line["decoded"] = decoded
                out.write(json.dumps(line, separators=(",", ":")) + "\n")
        print(name, tokenizer.get_vocab_size(), sum(f.stat().st_size for f in folder.iterdir()) // 1024, "KiB")


def compare(corpus, tool, folders, count):
    rng = random.Random(SEED + 1)
    texts = [random_string(rng, corpus) for _ in range(count)]
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    failed = False
    for folder in folders:
        tokenizer = Tokenizer.from_file(str(pathlib.Path(folder) / "tokenizer.json"))
        expected = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
        run = subprocess.run([tool, folder], input=lines, capture_output=True, text=True, check=True)
        found = [json.loads(line) for line in run.stdout.splitlines()]
        wrong = [i for i in range(count) if found[i] != expected[i]]
        print(f"{folder}: {count} strings, {len(wrong)} differences")
        for i in wrong[:3]:
            print(f"  {json.dumps(texts[i])}\n    expected {expected[i]}\n    found    {found[i]}")
        failed = failed or bool(wrong)
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", help="UTF-8 text to train on and to take strings from")
    parser.add_argument("--compare", nargs="+", metavar=("TOOL", "DIR"))
    parser.add_argument("--strings", type=int, default=20000)
    arguments = parser.parse_args()
    corpus = pathlib.Path(arguments.corpus).read_text(encoding="utf-8")
    if arguments.compare:
        return compare(corpus, arguments.compare[0], arguments.compare[1:], arguments.strings)
    write_goldens(corpus)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
