"""Writes t5/ and clip/: two tiny text encoders with random weights and what they make of some tokens.

They cover what the models in golden/flux-* do not: heads whose widths do not add up to the model's, other buckets, the
erf formula of GELU, an end token that is not the largest id, float16 and float32 weights, the embedding's other name,
tensors that may be left over. The states are computed here in float64, from the papers' formulas; needs numpy only.
"""

import json
import math
import pathlib
import struct

import numpy as np

HERE = pathlib.Path(__file__).parent
RANDOM = np.random.default_rng(20240801)
TYPES = {"float16": "F16", "float32": "F32", "int64": "I64"}
erf = np.vectorize(math.erf)


def save(path, tensors):
    header, data = {}, b""
    for name, tensor in sorted(tensors.items()):
        raw = np.ascontiguousarray(tensor).tobytes()
        header[name] = {"dtype": TYPES[str(tensor.dtype)], "shape": list(tensor.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def save_model(name, config, weights, expected):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save(folder / "model.safetensors", weights)
    save(folder / "expected.safetensors", {k: v if v.dtype == np.int64 else v.astype(np.float32)
                                           for k, v in expected.items()})


def normal(shape, scale, dtype, center=0.0):
    return (center + scale * RANDOM.standard_normal(shape)).astype(dtype)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def gelu(x):
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def attention(q, k, v, heads, scale, added):
    split = lambda x: x.reshape(x.shape[0], heads, -1).transpose(1, 0, 2)
    q, k, v = split(q), split(k), split(v)
    out = softmax(scale * q @ k.transpose(0, 2, 1) + added) @ v
    return out.transpose(1, 0, 2).reshape(out.shape[1], -1)


def t5():
    config = dict(d_model=24, d_kv=16, num_heads=3, d_ff=40, num_layers=2, vocab_size=30, feed_forward_proj="gated-gelu",
                  dense_act_fn="gelu", relative_attention_num_buckets=12, relative_attention_max_distance=20)
    d, inner, ff, dtype = 24, 48, 40, np.float16
    w = {"encoder.embed_tokens.weight": normal((30, d), 1, dtype), "lm_head.weight": normal((30, d), 1, dtype)}
    w["encoder.final_layer_norm.weight"] = normal(d, 0.2, dtype, 1)
    for i in range(2):
        p = f"encoder.block.{i}.layer."
        for n in "qkv":
            w[p + f"0.SelfAttention.{n}.weight"] = normal((inner, d), 0.15, dtype)
        w[p + "0.SelfAttention.o.weight"] = normal((d, inner), 0.2, dtype)
        w[p + "1.DenseReluDense.wi_0.weight"] = normal((ff, d), 0.3, dtype)
        w[p + "1.DenseReluDense.wi_1.weight"] = normal((ff, d), 0.3, dtype)
        w[p + "1.DenseReluDense.wo.weight"] = normal((d, ff), 0.2, dtype)
        w[p + "0.layer_norm.weight"] = normal(d, 0.2, dtype, 1)
        w[p + "1.layer_norm.weight"] = normal(d, 0.2, dtype, 1)
    name = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    w[name] = normal((12, 3), 1, dtype)
    f = {n: x.astype(np.float64) for n, x in w.items()}

    def bucket(distance):  # 6 for each direction: 0, 1, 2, then three ranges up to 20, at 3 (20/3)^(i/3)
        m = abs(distance)
        b = m if m < 3 else min(5, 3 + sum(m >= 3 * (20 / 3) ** (i / 3) for i in (1, 2)))
        return b + (6 if distance > 0 else 0)

    def norm(x, gain):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * gain

    ids = RANDOM.integers(0, 30, 40)
    buckets = np.array([[bucket(k - q) for k in range(40)] for q in range(40)])
    bias = f[name][buckets].transpose(2, 0, 1)
    x = f["encoder.embed_tokens.weight"][ids]
    for i in range(2):
        p = f"encoder.block.{i}.layer."
        n = norm(x, f[p + "0.layer_norm.weight"])
        q, k, v = (n @ f[p + f"0.SelfAttention.{c}.weight"].T for c in "qkv")
        x = x + attention(q, k, v, 3, 1.0, bias) @ f[p + "0.SelfAttention.o.weight"].T
        n = norm(x, f[p + "1.layer_norm.weight"])
        gate, up = (n @ f[p + f"1.DenseReluDense.wi_{c}.weight"].T for c in "01")
        x = x + (gelu(gate) * up) @ f[p + "1.DenseReluDense.wo.weight"].T
    distances = np.arange(-60, 61)
    save_model("t5", config, w, {
        "ids": ids, "hidden": norm(x, f["encoder.final_layer_norm.weight"]),
        "distances": distances, "buckets": np.array([bucket(d) for d in distances])})


def clip():
    config = dict(hidden_size=24, intermediate_size=56, num_hidden_layers=2, num_attention_heads=3, vocab_size=20,
                  max_position_embeddings=16, hidden_act="gelu", layer_norm_eps=1e-3, eos_token_id=7)
    d, mlp, dtype = 24, 56, np.float32
    t = "text_model."
    w = {t + "embeddings.token_embedding.weight": normal((20, d), 1, dtype),
         t + "embeddings.position_embedding.weight": normal((16, d), 0.5, dtype),
         t + "embeddings.position_ids": np.arange(16, dtype=np.int64)[None],
         "text_projection.weight": normal((d, d), 0.2, dtype)}

    def linear(name, output, width):
        w[name + ".weight"] = normal((output, width), 0.25, dtype)
        w[name + ".bias"] = normal(output, 0.2, dtype)

    def layer_norm(name):
        w[name + ".weight"] = normal(d, 0.2, dtype, 1)
        w[name + ".bias"] = normal(d, 0.2, dtype)

    layer_norm(t + "final_layer_norm")
    for i in range(2):
        p = f"{t}encoder.layers.{i}."
        for n in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(p + "self_attn." + n, d, d)
        linear(p + "mlp.fc1", mlp, d)
        linear(p + "mlp.fc2", d, mlp)
        layer_norm(p + "layer_norm1")
        layer_norm(p + "layer_norm2")
    f = {n: x.astype(np.float64) for n, x in w.items()}

    def apply(name, x):
        return x @ f[name + ".weight"].T + f[name + ".bias"]

    def norm(name, x):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-3) * f[name + ".weight"] + f[name + ".bias"]

    ids = np.array([1, 4, 19, 3, 19, 7, 7, 0, 12, 7, 5])  # the end token 7 first at 5, the largest id first at 2
    mask = np.where(np.tril(np.ones((len(ids), len(ids)))) > 0, 0, -np.inf)
    x = f[t + "embeddings.token_embedding.weight"][ids] + f[t + "embeddings.position_embedding.weight"][:len(ids)]
    for i in range(2):
        p = f"{t}encoder.layers.{i}."
        n = norm(p + "layer_norm1", x)
        q, k, v = (apply(p + f"self_attn.{c}_proj", n) for c in "qkv")
        x = x + apply(p + "self_attn.out_proj", attention(q, k, v, 3, 8 ** -0.5, mask))
        x = x + apply(p + "mlp.fc2", gelu(apply(p + "mlp.fc1", norm(p + "layer_norm2", x))))
    last = norm(t + "final_layer_norm", x)
    save_model("clip", config, w, {"ids": ids, "last": last, "pooled": last[5:6]})


t5()
clip()
