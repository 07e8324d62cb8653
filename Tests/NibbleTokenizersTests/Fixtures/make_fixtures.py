"""Makes the fixtures of this folder; see RECIPE.md. Usage: make_fixtures.py MODEL_FOLDER OUTPUT_FOLDER"""

import copy
import json
import os
import random
import sys
import tempfile
from pathlib import Path

import sentencepiece
from tokenizers import Tokenizer
from transformers import CLIPTokenizerFast, T5TokenizerFast

RANGES = [(0x20, 0x7E)] * 4 + [
    (0x00, 0x1F), (0x7F, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x590, 0x5FF), (0x600, 0x6FF),
    (0x900, 0x97F), (0xC80, 0xCFF), (0xE00, 0xEFF), (0xF00, 0xFFF), (0x1100, 0x11FF), (0x1E00, 0x1FFF),
    (0x2000, 0x218F), (0x2460, 0x24FF), (0x3000, 0x30FF), (0x3200, 0x33FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
    (0xF900, 0xFAFF), (0xFB50, 0xFDFF), (0xFE00, 0xFE6F), (0xFF00, 0xFFEF), (0x1D400, 0x1D7FF), (0x1F1E6, 0x1F1FF),
    (0x1F300, 0x1F64F), (0xE0020, 0xE007F),
]
SNIPPETS = [
    "<|startoftext|>", "<|endoftext|>", "<|EndOfText|>", "</s>", "<pad>", "<unk>", "<extra_id_0>", "<extra_id_99>",
    "\u2581", " ", "  ", "   ", "\t", "\r\n", "'s", "'VE", "''", "!'s", "\u03a3\u0391\u03a3", "\u0130", "\u00df", "\ufb01",
    "\u00a8", "\u2460", "\u338f", "e\u0301", "\u0301", "\u00a0", "\u3000", "\u200b", "\x00", "\x01", "\u0085", "\u2028",
    "\u0f73\u0f71", "\U000e0045\u0344", "\u0ccb", "\u1112\u1161\u11ab", "\u0915\u094d\u0937\u093f", "\U0001f469\u200d\U0001f467",
    "\U0001f44d\U0001f3fd", "\u263a\ufe0f", "red apple ", "cat", "the", "ll", "1,000",
]


def texts(seed, count):
    """Random texts of mixed scripts, marks, emoji, controls and special tokens' texts; assigned characters only."""
    import unicodedata

    rng = random.Random(seed)
    result = ["", " ", "red apple", "Cat face", "a green frog wearing a crown"]
    while len(result) < count:
        ranges = [rng.choice(RANGES) for _ in range(rng.randint(1, 3))]
        text = ""
        for _ in range(rng.choice([1, 2, 4, 8, 12])):
            if rng.random() < 0.35:
                text += rng.choice(SNIPPETS)
            else:
                character = chr(rng.randint(*rng.choice(ranges)))
                if unicodedata.category(character) != "Cn":
                    text += character
        result.append(text)
    return result


def emoji(model):
    """Both tokenizers of flux-emoji, as transformers loads them."""
    clip = CLIPTokenizerFast.from_pretrained(model / "tokenizer")
    t5 = T5TokenizerFast.from_pretrained(model / "tokenizer_2")
    return [{"prompt": text, "clip": clip(text).input_ids, "t5": t5(text).input_ids} for text in texts(11, 220)]


def small_sentence_piece(folder):
    """A sentencepiece model of a few kilobytes with a character map of its own."""
    rules = {
        "\r": " ", "\n": " ", "\t": " ", "\u00a0": " ", "\u3000": " ", "\u200b": " ", "\x01": "", "\u00a8": " \u0308",
        "\ufb01": "fi", "\u2460": "1", "\u338f": "kg", "e\u0301": "\u00e9", "\u00df": "ss", "\uff0f": "/", "\u0f73": "\u0f71\u0f72",
    }
    (folder / "rules.tsv").write_text("".join(
        " ".join(f"{ord(c):X}" for c in old) + "\t" + " ".join(f"{ord(c):X}" for c in new) + "\n"
        for old, new in rules.items()))
    (folder / "corpus.txt").write_text("\n".join([
        "red apple and green apple", "the cat sees the red frog", "a cat face, a frog face", "the kg of the fish is 1,000",
        "caf\u00e9 and stra\u00dfe", "all the frogs wear crowns", "it's the cat's crown!"] * 3))
    os.chdir(folder)  # The model keeps the names of these files.
    sentencepiece.SentencePieceTrainer.train(
        input="corpus.txt", model_prefix="spiece", vocab_size=70, model_type="unigram",
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, normalization_rule_tsv="rules.tsv", user_defined_symbols=["[mask]"],
        hard_vocab_limit=False, minloglevel=2, num_threads=1)
    return folder / "spiece.model"


def piece_cases(model, prompts):
    """T5TokenizerFast made from spiece.model alone, with several settings."""
    result = []
    for config in [{}, {"legacy": False}, {"extra_ids": 3, "legacy": False, "model_max_length": 40}, {"add_prefix_space": False}]:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "spiece.model").write_bytes(model.read_bytes())
            if config:
                Path(folder, "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", **config}))
            tokenizer = T5TokenizerFast.from_pretrained(folder)
            result.append({"config": config, "cases": [{"prompt": p, "ids": tokenizer(p).input_ids} for p in prompts]})
            if not config:
                base = json.loads(tokenizer._tokenizer.to_str())
    return result, base


def added(identity, content, **flags):
    token = dict(id=identity, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=False)
    return {**token, **flags}


def unigram_variants(base):
    """Changes of a T5 tokenizer.json, each through a part that such files use."""
    precompiled = base["normalizer"]["normalizers"][0]
    count = len(base["model"]["vocab"])
    sequence = lambda *parts: {"type": "Sequence", "normalizers": list(parts)}
    replace = lambda pattern, content: {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}
    strip = lambda left, right: {"type": "Strip", "strip_left": left, "strip_right": right}
    words = lambda *parts: {"type": "Sequence", "pretokenizers": list(parts)}
    metaspace = lambda scheme, split=True: {
        "type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": split}
    space = {"type": "WhitespaceSplit"}
    variants = {}
    for scheme in ["first", "always", "never"]:
        variants[f"metaspace {scheme}"] = dict(pre_tokenizer=metaspace(scheme))
        variants[f"metaspace {scheme}, not split"] = dict(pre_tokenizer=metaspace(scheme, False))
        variants[f"white space, metaspace {scheme}"] = dict(pre_tokenizer=words(space, metaspace(scheme)))
    variants["old metaspace"] = dict(pre_tokenizer={"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True})
    for form in ["NFC", "NFD", "NFKC", "NFKD"]:
        variants[form] = dict(normalizer=sequence({"type": form}, {"type": "Lowercase"}))
    variants["strip both"] = dict(normalizer=sequence(strip(True, True), precompiled), pre_tokenizer=words(space, metaspace("first")))
    variants["strip left"] = dict(normalizer=sequence(precompiled, strip(True, False)), pre_tokenizer=metaspace("first"))
    variants["prepend"] = dict(normalizer=sequence(precompiled, {"type": "Prepend", "prepend": "x "}))
    variants["replace"] = dict(
        normalizer=sequence(
            replace(r"\s+", "  "), replace("l{2}", "e"), replace(r"\.", ""), replace(" {2,}", "\u2581"),
            {"type": "Replace", "pattern": {"String": "the"}, "content": "a cat"}),
        pre_tokenizer=words(space, metaspace("first")))
    variants["no normalizer"] = dict(normalizer=None, pre_tokenizer=metaspace("first"))
    variants["no post-processor"] = dict(post_processor=None)
    for name, flags in {
        "plain": {}, "strips left": dict(lstrip=True), "strips right": dict(rstrip=True), "single word": dict(single_word=True),
        "normalized": dict(normalized=True), "normalized, strips": dict(normalized=True, lstrip=True, rstrip=True),
    }.items():
        tokens = [added(count + place, text, **flags) for place, text in enumerate(["cat", "the", "ll", "\u03a3", "<extra_id_0>"])]
        variants[f"added tokens, {name}"] = dict(
            added_tokens=base["added_tokens"] + tokens, normalizer=sequence(precompiled, {"type": "Lowercase"}))
    for name, missing in {"byte fallback": None, "byte fallback, a byte missing": "<0xE1>"}.items():
        model = copy.deepcopy(base["model"])
        model["byte_fallback"] = True
        model["vocab"] += [[f"<0x{byte:02X}>", -30.0] for byte in range(256) if f"<0x{byte:02X}>" != missing]
        model["vocab"] += [["\u0e01\u0e02", -90.0], ["dup", -3.0], ["dup", -2.0]]
        variants[name] = dict(model=model)
    return base, variants


def pair_variants(model):
    """Changes of a CLIP tokenizer.json with the first 700 tokens of flux-emoji's vocabulary."""
    base = json.loads(CLIPTokenizerFast.from_pretrained(model / "tokenizer")._tokenizer.to_str())
    vocab = {token: identity for token, identity in base["model"]["vocab"].items() if identity < 700}
    for place, token in enumerate(["<|startoftext|>", "<|endoftext|>"]):
        vocab[token] = 700 + place
        base["added_tokens"][place]["id"] = 700 + place
    base["post_processor"].update(cls=["<|startoftext|>", 700], sep=["<|endoftext|>", 701])
    pairs = [m for m in base["model"]["merges"] if m[0] in vocab and m[1] in vocab and m[0] + m[1] in vocab]
    base["model"].update(vocab=vocab, merges=pairs)
    cut = copy.deepcopy(base)
    for character in "\u00c3\u00a9\u00f0\u0141x":
        cut["model"]["vocab"].pop(character, None)
        cut["model"]["vocab"].pop(character + "</w>", None)
    known = cut["model"]["vocab"]
    cut["model"]["merges"] = [m for m in pairs if m[0] in known and m[1] in known and m[0] + m[1] in known]
    fused, dropped, lines, shuffled, tokens = (copy.deepcopy(c) for c in [cut, cut, base, base, base])
    fused["model"]["fuse_unk"] = True
    dropped["model"]["unk_token"] = None
    lines["model"]["merges"] = [" ".join(m) for m in pairs]
    random.Random(5).shuffle(shuffled["model"]["merges"])
    shuffled["model"]["merges"] += shuffled["model"]["merges"][10:40]
    tokens["added_tokens"] += [
        added(9000, "Cat", normalized=True, lstrip=True, rstrip=True), added(9001, "the", single_word=True)]
    variants = {
        "unknown bytes": cut, "unknown bytes fused": fused, "unknown bytes dropped": dropped, "merges as lines": lines,
        "merges in another order, some twice": shuffled, "added tokens": tokens,
        "no post-processor": {**base, "post_processor": None}, "no normalizer": {**base, "normalizer": None},
    }
    changed = lambda contents: {key: value for key, value in contents.items() if value != base[key]}
    return base, {name: changed(contents) for name, contents in variants.items()}


def main():
    model, output = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()
    write = lambda name, value: (output / name).write_text(json.dumps(value, separators=(",", ":")) + "\n")
    cases = emoji(model)
    write("flux-emoji.json", cases)
    prompts = texts(12, 40)
    with tempfile.TemporaryDirectory() as folder:
        pieces = small_sentence_piece(Path(folder))
        (output / "small.spiece.model").write_bytes(pieces.read_bytes())
        settings, base = piece_cases(pieces, prompts)
    write("sentencepiece.json", settings)
    families = {}
    for kind, (base, variants) in {"t5": unigram_variants(base), "clip": pair_variants(model)}.items():
        family = {"base": base, "prompts": prompts, "variants": []}
        for name, change in variants.items():
            tokenizer = Tokenizer.from_str(json.dumps({**base, **change}))
            family["variants"].append(
                {"name": name, "change": change, "ids": [tokenizer.encode(p).ids for p in prompts]})
        families[kind] = family
    write("variants.json", families)


main()
