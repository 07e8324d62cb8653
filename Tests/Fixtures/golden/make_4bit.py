"""Cuts the 4-bit fixtures out of the larger golden set (RECIPE.md): numpy 2, no other package.

    python make_4bit.py LARGER_SET

w4a4, w4a16: some of the larger set's cases, unchanged. svdq-flux-block: of svdq-flux-tiny the first single block and the
tensors outside of blocks, byte for byte as DeepCompressor's converter packed them. The step of that model is computed
here in float64; before it is written, the same functions must give what torch gave for blocks of the larger set.
"""

import json
import shutil
import struct
import sys
from pathlib import Path

import numpy as np

CASES = ["k128_n128_r32_s4_m64", "k128_n128_r32_u4_m64"]
BLOCK = "single_transformer_blocks.0."
TYPES = {
    "F32": np.float32, "F64": np.float64, "I8": np.int8, "I32": np.int32, "I64": np.int64, "U8": np.uint8,
    "BF16": np.uint16,
}


class Tensors:
    """A safetensors file."""

    def __init__(self, path):
        data = Path(path).read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        self.header = json.loads(data[8 : 8 + length])
        self.metadata = self.header.pop("__metadata__", None)
        self.body = data[8 + length :]

    def raw(self, name):
        begin, end = self.header[name]["data_offsets"]
        return self.body[begin:end]

    def __getitem__(self, name):
        entry = self.header[name]
        values = np.frombuffer(self.raw(name), TYPES[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float64) if values.dtype in (np.float32, np.float64) else values

    def write(self, path, keep, metadata=None):
        """The kept tensors in the order of their data."""
        names = sorted((n for n in self.header if keep(n)), key=lambda n: self.header[n]["data_offsets"])
        entries = [(n, self.header[n]["dtype"], self.header[n]["shape"], self.raw(n)) for n in names]
        write(path, entries, metadata)


def write(path, entries, metadata=None):
    header, place = {}, 0
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, dtype, shape, data in entries:
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, place + len(data)]}
        place += len(data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(e[3] for e in entries))


def bf16(x):
    """Rounded to bfloat16, nearest even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32)


class Block:
    """A single block: `way` is full (its 16-bit weights), dequant, w4a4 or w4a8."""

    def __init__(self, way, logical, original, prefix):
        self.way, self.logical, self.original, self.prefix = way, logical, original, prefix

    def dense(self, name):
        w = self.original
        return w[self.prefix + name + ".weight"], w[self.prefix + name + ".bias"]

    def part(self, layer, name):
        return self.logical[f"{self.prefix}{layer}.{name}"]

    def full_linear(self, x, layer):
        if layer == "qkv_proj":
            return np.concatenate([self.full_linear(x, f"attn.to_{n}") for n in "qkv"], 1)
        if layer in ("out_proj", "mlp_fc2"):
            weight, bias = self.dense("proj_out")
            hidden = weight.shape[0]
            return x @ weight[:, :hidden].T if layer == "out_proj" else x @ weight[:, hidden:].T + bias
        weight, bias = self.dense({"mlp_fc1": "proj_mlp", "norm.linear": "norm.linear"}.get(layer, layer))
        return x @ weight.T + bias

    def linear(self, x, layer, shifted=False):
        if self.way == "full":
            return self.full_linear(x, layer)
        q, scales, smooth = (self.part(layer, n) for n in ("q", "wscales", "smooth"))
        down, up = self.part(layer, "lora_down"), self.part(layer, "lora_up")
        branch = (x @ down.T) @ up.T
        if self.way == "dequant":
            weight = q * np.repeat(scales, 64, 1) / smooth
            return (x + 0.171875 * shifted) @ weight.T + branch + self.part(layer, "bias")
        given = bf16(np.float32(x) + np.float32(0.171875)) if shifted else np.float32(x)
        given = bf16(given / np.float32(smooth)).reshape(len(x), -1, 64)
        largest = np.abs(given).max(2, keepdims=True)
        if self.way == "w4a4":
            s = largest * (np.float32(1) / np.float32(15 if shifted else 7))
            with np.errstate(divide="ignore", invalid="ignore"):
                codes = np.rint(given * (np.float32(1) / s))
            codes = np.where(s > 0, np.clip(codes, 0 if shifted else -8, 15 if shifted else 7), 0)
            s = bf16(s)
        else:
            s = largest / np.float32(127)
            with np.errstate(divide="ignore", invalid="ignore"):
                codes = np.where(s > 0, np.rint(given / s), 0)
        groups = q.reshape(len(q), -1, 64).astype(np.float64)
        sums = np.einsum("mgi,ngi->mng", codes.astype(np.float64), groups)
        return np.einsum("mng,mg,ng->mn", sums, np.float64(s[:, :, 0]), scales) + branch + self.part(layer, "bias")

    def modulation(self, temb):
        if self.way == "full":
            return self.full_linear(silu(temb), "norm.linear")
        weight = self.part("norm.linear", "q") * np.repeat(self.part("norm.linear", "wscales"), 64, 1)
        weight = weight + np.repeat(self.part("norm.linear", "wzeros"), 64, 1)
        # The file's bias holds the 1 that is added to a scale, rounded with it.
        folded = np.repeat([0, 1, 0], len(weight) // 3)
        return silu(temb) @ weight.T + self.part("norm.linear", "bias") - folded

    def __call__(self, stream, temb, cos, sin, gains, heads):
        shift, scale, gate = np.split(self.modulation(temb), 3, 1)
        x = layer_norm(stream) * (1 + scale) + shift
        q, k, v = np.split(self.linear(x, "qkv_proj"), 3, 1)
        tokens, hidden = q.shape
        q, k, v = (t.reshape(tokens, heads, -1).transpose(1, 0, 2) for t in (q, k, v))
        q, k = (rotate(rms_norm(t) * gain, cos, sin) for t, gain in zip((q, k), gains))
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[2])
        weights = np.exp(scores - scores.max(2, keepdims=True))
        attended = (weights / weights.sum(2, keepdims=True) @ v).transpose(1, 0, 2).reshape(tokens, hidden)
        inner = self.linear(x, "mlp_fc1")
        inner = 0.5 * inner * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
        return stream + gate * (self.linear(attended, "out_proj") + self.linear(inner, "mlp_fc2", shifted=True))


def silu(x):
    return x / (1 + np.exp(-x))


def layer_norm(x):
    centered = x - x.mean(1, keepdims=True)
    return centered / np.sqrt((centered**2).mean(1, keepdims=True) + 1e-6)


def rms_norm(x):
    return x / np.sqrt((x * x).mean(2, keepdims=True) + 1e-6)


def rotate(x, cos, sin):
    turned = np.stack([-x[..., 1::2], x[..., 0::2]], -1).reshape(x.shape)
    return x * cos + turned * sin


def prediction(stream, temb, file, tokens):
    scale, shift = np.split(silu(temb) @ file["norm_out.linear.weight"].T + file["norm_out.linear.bias"], 2, 1)
    image = layer_norm(stream[-tokens:]) * (1 + scale) + shift
    return image @ file["proj_out.weight"].T + file["proj_out.bias"]


class Sharded:
    """All files of a folder as one."""

    def __init__(self, folder):
        self.files = [Tensors(p) for p in sorted(Path(folder).glob("*.safetensors"))]

    def __getitem__(self, name):
        return next(f[name] for f in self.files if name in f.header)


def error(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def main():
    source, target = Path(sys.argv[1]), Path(__file__).parent
    for name in ("w4a4", "w4a16"):
        (target / name).mkdir(exist_ok=True)
        cases = json.loads((source / name / "cases.json").read_text())
        cases = [c for c in cases if name == "w4a16" or c["file"].split(".")[0] in CASES]
        (target / name / "cases.json").write_text(json.dumps(cases, indent=2) + "\n")
        for file in {c[key] for c in cases for key in ("file", "layer") if key in c}:
            shutil.copyfile(source / name / file, target / name / file)

    quantized = source / "svdq-flux-tiny"
    folder = target / "svdq-flux-block"
    file = Tensors(next(quantized.glob("svdq-*.safetensors")))
    logical = Tensors(quantized / "logical.safetensors")
    step = Tensors(quantized / "step.safetensors")
    original = Sharded(source / "flux-tiny/model/transformer")
    case = json.loads((source / "flux-tiny/golden/cases.json").read_text())["cases"][0]
    golden = Tensors(source / "flux-tiny/golden" / case["file"])
    config = json.loads(file.metadata["config"])
    heads = config["num_attention_heads"]
    temb, cos, sin = golden["temb"], golden["rope.cos"], golden["rope.sin"]
    tokens = golden["img_ids"].shape[0]

    def run(way, stream, block=0):
        prefix = f"single_transformer_blocks.{block}."
        gains = [file[f"{prefix}norm_{n}.weight"] for n in "qk"]
        return Block(way, logical, original, prefix)(stream, temb, cos, sin, gains, heads)

    def joined(tensors, prefix):
        return np.concatenate([tensors[f"{prefix}.txt"][0], tensors[f"{prefix}.img"][0]])

    # What torch computed for the larger model, with each way: block by block where the block before is stored.
    checks = {"full": error(run("full", joined(golden, "double.1")), joined(golden, "single.0"))}
    for way in ("dequant", "w4a4"):
        checks[way] = error(run(way, joined(step, f"{way}.double.1")), joined(step, f"{way}.single.0"))
    stream = joined(step, "w4a8.double.1")
    for block in range(config["num_single_layers"]):
        stream = run("w4a8", stream, block)
    checks["w4a8"] = error(stream, joined(step, "w4a8.single.2"))
    checks["end"] = error(prediction(joined(step, "w4a4.single.2"), temb, file, tokens), step["w4a4.noise_pred"][0])
    print("relative differences from torch:", {name: f"{value:.1e}" for name, value in checks.items()})
    # As the larger set's README: f32 sums, and codes that f32 rounding turns over.
    limits = {"full": 2e-6, "dequant": 2e-6, "w4a4": 4e-3, "w4a8": 4e-3, "end": 2e-6}
    assert all(checks[name] <= limits[name] for name in checks), checks

    start = np.concatenate([golden["context_embedder"][0], golden["x_embedder"][0]])
    entries, ways, full = [], {}, None
    for way in ("full", "dequant", "w4a4", "w4a8"):
        stream = run(way, start)
        noise = prediction(stream, temb, file, tokens)
        full = noise if way == "full" else full
        parts = {"noise_pred": noise}
        if way != "full":
            ways[way] = {"noise_pred_rel_error_to_full": round(float(error(noise, full)), 5)}
            parts |= {"single.0.txt": stream[:-tokens], "single.0.img": stream[-tokens:]}
        for name, values in parts.items():
            entries.append((f"{way}.{name}", "F32", [1, *values.shape], np.float32(values).tobytes()))
    write(folder / "step.safetensors", entries)
    (folder / "step.json").write_text(json.dumps(ways, indent=2) + "\n")

    def cut(text):
        for old, new in (("num_layers", 0), ("num_single_layers", 1), ("depth", 0), ("depth_single_blocks", 1)):
            parsed = json.loads(text)
            value = parsed.get(old, parsed.get("model_config", {}).get(old))
            text = text if value is None else text.replace(f'"{old}": {value}', f'"{old}": {new}')
        return text

    def keep(name):
        return name.startswith(BLOCK) or "transformer_blocks." not in name

    metadata = dict(file.metadata)
    metadata |= {key: cut(metadata[key]) for key in ("config", "comfy_config")}
    file.write(folder / "svdq-int4_r32-flux-block.safetensors", keep, metadata)
    (folder / "legacy").mkdir(exist_ok=True)
    for path in (quantized / "legacy").iterdir():
        if path.suffix == ".safetensors":
            tensors = Tensors(path)
            tensors.write(folder / "legacy" / path.name, keep, tensors.metadata)
        else:
            (folder / "legacy" / path.name).write_text(cut(path.read_text()))
    logical.write(folder / "logical.safetensors", keep)
    layers = json.loads((quantized / "layers.json").read_text())
    layers = {name: layer for name, layer in layers.items() if keep(name)}
    (folder / "layers.json").write_text(json.dumps(layers, indent=1) + "\n")

    inputs = ["latents_init_packed", "t5_hidden", "clip_pooled", "timesteps", "guidance", "img_ids", "txt_ids"]
    golden.write(folder / "golden/case_a.safetensors", lambda name: name in inputs)
    (folder / "golden/cases.json").write_text(json.dumps({"cases": [case]}, indent=2) + "\n")
    model = folder / "model/transformer"
    plain = [(n, e["dtype"], e["shape"], f.raw(n)) for f in original.files for n, e in f.header.items() if keep(n)]
    write(model / "diffusion_pytorch_model.safetensors", sorted(plain))
    text = (source / "flux-tiny/model/transformer/config.json").read_text()
    (model / "config.json").write_text(cut(text))


main()
