"""Makes the first inputs of the fuzzers, small ones of every kind of file: python make.py (needs sentencepiece).

safetensors/: whole files. tokenizers/: a byte that says which file it is (see FuzzTokenizers.swift), then the file.
The PNG fuzzer starts from Tests/Fixtures/images.
"""

import base64
import io
import json
import pathlib
import struct
import tempfile

import sentencepiece

HERE = pathlib.Path(__file__).parent


def safetensors(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header, ensure_ascii=False).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors_seeds():
    types = {"F32": 4, "F16": 2, "BF16": 2, "I8": 1, "I32": 4, "U8": 1, "F8_E4M3": 1, "F64": 8, "I64": 8, "BOOL": 1}
    header, end = {"__metadata__": {"format": "pt", "ключ \"": "\u0001é🍎"}}, 0
    for name, size in types.items():
        header[f"layers.{name}.weight"] = tensor(name, [2, 3], end, end + 6 * size)
        end += 6 * size
    one = {"a": tensor("F32", [2], 0, 8)}
    return {
        "every-type": safetensors(header, bytes(end)),
        "one": safetensors(one, bytes(8)),
        "padded": safetensors(json.dumps(one).encode() + b"      ", bytes(8)),
        "scalar-and-empty": safetensors({"s": tensor("BF16", [], 0, 2), "e": tensor("F32", [0, 7], 2, 2)}, bytes(2)),
        "empty": safetensors({}, b""),
        "overflow": safetensors({"a": tensor("F32", [2**62, 4], 0, 8)}, bytes(8)),
        "escapes": safetensors(b'{"\\u0061\\n\\ud83c\\udf4e":{"shape":[1],"dtype":"U8","data_offsets":[0,1]}}', b"x"),
        "deep": safetensors(b'{"a":' * 200, b""),
    }


def sentencepiece_model():
    """A unigram model of 60 pieces whose character map has five rules."""
    rules = "FB01\t66 69\nA0\t20\nC\t\nBD\t31 2F 32\n41 301\tC1\n"
    text = ["a red apple on a green table", "an apple and a pear", "the green pear is on the table"] * 20
    with tempfile.TemporaryDirectory() as folder:
        tsv = pathlib.Path(folder) / "rules.tsv"
        tsv.write_text(rules)
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(text), model_writer=model, vocab_size=60, hard_vocab_limit=False,
            pad_id=0, eos_id=1, unk_id=2, bos_id=-1, normalization_rule_tsv=str(tsv), minloglevel=2,
        )  # fmt: skip
    return model.getvalue()


def character_map(model):
    """The field precompiled_charsmap (2) of normalizer_spec (3)."""
    from sentencepiece import sentencepiece_model_pb2

    message = sentencepiece_model_pb2.ModelProto()
    message.ParseFromString(model)
    return message.normalizer_spec.precompiled_charsmap


def tokenizer_json(model, normalizer, pre_tokenizer, end):
    special = [{"id": i, "content": t, "special": True, "normalized": False} for i, t in enumerate(["<pad>", end])]
    template = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": end, "type_id": 0}}],
        "special_tokens": {end: {"id": end, "ids": [1], "tokens": [end]}},
    }
    return json.dumps(
        {"version": "1.0", "added_tokens": special, "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
         "post_processor": template, "model": model}, ensure_ascii=False, separators=(",", ":")).encode()  # fmt: skip


def tokenizer_seeds():
    spiece = sentencepiece_model()
    charsmap = character_map(spiece)
    processor = sentencepiece.SentencePieceProcessor(model_proto=spiece)
    pieces = [[processor.id_to_piece(i), processor.get_score(i)] for i in range(processor.get_piece_size())]
    metaspace = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True, "prepend_scheme": "first"}
    spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}
    t5 = tokenizer_json(
        {"type": "Unigram", "unk_id": 2, "vocab": pieces},
        {"type": "Sequence", "normalizers": [
            {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()}, spaces]},
        metaspace, "</s>")  # fmt: skip
    vocabulary = ["<pad>", "<|endoftext|>", "a", "p", "l", "e</w>", "ap", "le</w>", "app", "apple</w>", "Ġ", "!</w>"]
    bpe = {"type": "BPE", "unk_token": "<|endoftext|>", "end_of_word_suffix": "</w>", "fuse_unk": False,
           "vocab": {t: i for i, t in enumerate(vocabulary)},
           "merges": ["a p", "l e</w>", ["ap", "p"], ["app", "le</w>"]]}  # fmt: skip
    words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    clip = tokenizer_json(
        bpe,
        {"type": "Sequence", "normalizers": [
            {"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}, {"type": "Lowercase"}]},
        {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": words}, "behavior": "Removed", "invert": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
        "<|endoftext|>")  # fmt: skip
    added = {"content": "</s>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    config = {"eos_token": "</s>", "pad_token": added, "model_max_length": 128, "extra_ids": 3,
              "added_tokens_decoder": {"1": added}, "additional_special_tokens": ["<extra_id_0>"]}  # fmt: skip
    return {
        "spiece": b"s" + spiece,
        "map": b"x" + charsmap,
        "t5": b"t" + t5,
        "clip": b"c" + clip,
        "merges": b"m#version: 0.2\na p\nl e</w>\nap p\napp le</w>\n",
        "config": b"k" + json.dumps(config).encode(),
        "special": b"p" + json.dumps({"eos_token": "</s>", "pad_token": added}).encode(),
    }


for folder, seeds in (("safetensors", safetensors_seeds()), ("tokenizers", tokenizer_seeds())):
    (HERE / folder).mkdir(exist_ok=True)
    for name, contents in seeds.items():
        (HERE / folder / name).write_bytes(contents)
