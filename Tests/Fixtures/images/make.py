"""Makes kinds.json, texts.json and hostile.json: see RECIPE.md."""

import base64
import io
import json
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image, PngImagePlugin

HERE = pathlib.Path(__file__).parent
WIDTH, HEIGHT = 9, 7  # odd, so that every Adam7 pass is cut
GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGBA: 4}
DEPTHS = {GRAY: [1, 2, 4, 8, 16], RGB: [8, 16], PALETTE: [1, 2, 4, 8], GRAY_ALPHA: [8, 16], RGBA: [8, 16]}
NAMES = {GRAY: "gray", RGB: "rgb", PALETTE: "palette", GRAY_ALPHA: "gray-alpha", RGBA: "rgba"}
# First column, first row, column step, row step of each pass (specification, section 8.2).
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = chunk(b"IEND", b"")


def header(width, height, depth=8, color=RGB, compression=0, filtering=0, interlace=0):
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, compression, filtering, interlace))


def pixels(data):
    return chunk(b"IDAT", zlib.compress(data, 9))


def pack_row(row, depth):
    """One row of samples [columns, channels] as bytes."""
    samples = row.reshape(-1)
    if depth == 16:
        return samples.astype(">u2").tobytes()
    if depth == 8:
        return samples.astype(np.uint8).tobytes()
    bits = "".join(format(int(s), f"0{depth}b") for s in samples)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


def paeth(a, b, c):
    p = a + b - c
    pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
    return a if pa <= pb and pa <= pc else b if pb <= pc else c


def filtered(rows, step):
    """Rows with the five filters in turn (section 9.2); step is the bytes of a pixel, at least 1."""
    out, above = b"", bytes(len(rows[0]))
    for y, row in enumerate(rows):
        kind = y % 5
        out += bytes([kind])
        for x, value in enumerate(row):
            a = row[x - step] if x >= step else 0
            c = above[x - step] if x >= step else 0
            b = above[x]
            out += bytes([(value - [0, a, b, (a + b) // 2, paeth(a, b, c)][kind]) % 256])
        above = row
    return out


def encode(samples, color, depth, interlaced, extra=b""):
    """Samples [height, width, channels] as a PNG; extra chunks go before the pixels."""
    step = max(1, CHANNELS[color] * depth // 8)
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    data = b""
    for x, y, dx, dy in passes:
        part = samples[y::dy, x::dx]
        if part.size:
            data += filtered([pack_row(row, depth) for row in part], step)
    height, width, _ = samples.shape
    return SIGNATURE + header(width, height, depth, color, interlace=int(interlaced)) + extra + pixels(data) + END


def expected(samples, color, depth, palette, alpha):
    """8-bit RGB over white, in f64, rounded once. alpha: [height, width] from 0 to 1."""
    full = 2**depth - 1
    if color == PALETTE:
        rgb = palette[samples[:, :, 0]] / 255
    elif color in (RGB, RGBA):
        rgb = samples[:, :, :3] / full
    else:
        rgb = np.repeat(samples[:, :, :1] / full, 3, axis=2)
    over_white = rgb * alpha[:, :, None] + 1 - alpha[:, :, None]
    return np.floor(over_white * 255 + 0.5).astype(np.uint8)


def kind(rng, color, depth, interlaced, transparent):
    full = 2**depth - 1
    samples = rng.integers(0, full + 1, (HEIGHT, WIDTH, CHANNELS[color]))
    palette = rng.integers(0, 256, (2**depth, 3)) if color == PALETTE else None
    alpha = np.ones((HEIGHT, WIDTH))
    extra = chunk(b"PLTE", palette.astype(np.uint8).tobytes()) if color == PALETTE else b""
    if color in (GRAY_ALPHA, RGBA):
        samples[0, 0, -1], samples[0, 1, -1] = 0, full
        alpha = samples[:, :, -1] / full
    if transparent and color == PALETTE:
        entries = rng.integers(0, 256, 2**depth - 1)  # shorter than the palette, which is legal: the rest is opaque
        extra += chunk(b"tRNS", entries.astype(np.uint8).tobytes())
        alpha = np.append(entries, 255)[samples[:, :, 0]] / 255
    elif transparent:
        key = samples[3, 3]
        extra += chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
        alpha = 1.0 - np.all(samples == key, axis=2)
    png = encode(samples, color, depth, interlaced, extra)
    rgb = expected(samples, color, depth, palette, alpha)
    # Pillow cuts 16 bits to 8 by a rule of its own, and does not scale the transparent gray of 1, 2 and 4 bits.
    if depth != 16 and not (color == GRAY and transparent and depth < 8):
        check_with_pillow(png, rgb)
    name = f"{NAMES[color]}-{depth}" + ("-transparent" if transparent else "") + ("-interlaced" if interlaced else "")
    # A 16-bit picture with alpha is rounded twice, once to 8 bits and once when it is laid over white.
    tolerance = 1 if depth == 16 and color in (GRAY_ALPHA, RGBA) else 0
    return {"name": name, "width": WIDTH, "height": HEIGHT, "tolerance": tolerance, "png": b64(png), "rgb": b64(rgb)}


def check_with_pillow(png, rgb):
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    seen = np.asarray(Image.alpha_composite(white, image).convert("RGB")).astype(int)
    assert np.abs(seen - rgb).max() <= 1, "Pillow sees another picture"


def b64(data):
    return base64.b64encode(bytes(data) if isinstance(data, bytes) else data.tobytes()).decode()


def texts():
    """One picture by Pillow with every kind of text chunk."""
    info = PngImagePlugin.PngInfo()
    prompt = "a red apple\nNegative prompt: blurry\nSteps: 8, Seed: 18446744073709551615"
    wanted = [
        ("parameters", prompt, lambda k, v: info.add_text(k, v)),
        ("Title", "café ÿ", lambda k, v: info.add_text(k, v)),
        ("Comment", "long " * 500, lambda k, v: info.add_text(k, v, zip=True)),
        ("nibble", '{"prompt": "красное яблоко 🍎"}', lambda k, v: info.add_itxt(k, v)),
        ("workflow", "яблоко " * 300, lambda k, v: info.add_itxt(k, v, lang="ru", tkey="ключ", zip=True)),
        ("empty", "", lambda k, v: info.add_text(k, v)),
    ]
    for key, value, add in wanted:
        add(key, value)
    rgb = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "PNG", pnginfo=info)
    return {
        "width": 3, "height": 2, "png": b64(file.getvalue()), "rgb": b64(rgb),
        "texts": [{"key": key, "value": value} for key, value, _ in wanted],
    }  # fmt: skip


def damaged(part):
    """A chunk whose checksum is wrong."""
    return part[:-1] + bytes([part[-1] ^ 1])


def hostile():
    """Files that are wrong in one way each, with the error that says so, and a few that only look wrong."""
    good = pixels(b"\0abcdefghi" * 2)  # 3 x 2 pixels of RGB
    text = b"parameters\0hello"
    bomb = b"parameters\0\0" + zlib.compress(bytes(5 << 20), 9)
    flat = pixels(bytes((1024 // 8 + 1) * 1024))
    files = {
        "fine": ("none", header(3, 2) + good + END),
        "a faulty color profile": ("none", header(3, 2) + chunk(b"iCCP", b"x\0\0junk") + good + END),
        "an unknown optional chunk": ("none", header(3, 2) + chunk(b"quUx", b"junk") + good + END),
        "1024 x 1024 black pixels in few bytes": ("none", header(1024, 1024, 1, GRAY) + flat + END),
        "32 texts": ("none", header(3, 2) + chunk(b"tEXt", text) * 32 + good + END),
        "33 texts": ("malformed", header(3, 2) + chunk(b"tEXt", text) * 33 + good + END),
        "width 0": ("malformed", header(0, 2) + good + END),
        "height 0": ("malformed", header(3, 0) + good + END),
        "negative width": ("malformed", header(2**32 - 1, 2) + good + END),
        "the largest sides": ("tooLarge", header(2**31 - 1, 2**31 - 1) + good + END),
        "one side too long": ("tooLarge", header(65536, 1) + good + END),
        "too many pixels": ("tooLarge", header(8193, 8192) + good + END),
        "more pixels than the file can hold": ("truncated", header(8192, 8192) + good + END),
        "more pixels than there are": ("malformed", header(3, 200) + good + END),
        "fewer pixels than there are": ("malformed", header(3, 1) + good + END),
        "no header": ("malformed", good + END),
        "two headers": ("malformed", header(3, 2) + header(3, 2) + good + END),
        "no pixels": ("malformed", header(3, 2) + END),
        "no end": ("truncated", header(3, 2) + good),
        "only a signature": ("truncated", b""),
        "no palette": ("malformed", header(3, 2, 8, PALETTE) + pixels(b"\0abc" * 2) + END),
        "an index beyond the palette": (
            "none", header(3, 2, 8, PALETTE) + chunk(b"PLTE", bytes(3)) + pixels(b"\0abc" * 2) + END),
        "3 bits a sample": ("malformed", header(3, 2, 3, GRAY) + good + END),
        "palette of 16 bits": ("malformed", header(3, 2, 16, PALETTE) + good + END),
        "color type 5": ("malformed", header(3, 2, 8, 5) + good + END),
        "compression 1": ("malformed", header(3, 2, compression=1) + good + END),
        "filter method 7": ("malformed", header(3, 2, filtering=7) + good + END),
        "interlace 2": ("malformed", header(3, 2, interlace=2) + good + END),
        "filter 9 of a row": ("malformed", header(3, 2) + pixels(b"\x09abcdefghi" * 2) + END),
        "pixels that are not zlib": ("malformed", header(3, 2) + chunk(b"IDAT", b"not zlib at all") + END),
        "an unknown critical chunk": ("malformed", header(3, 2) + chunk(b"QUUX", b"junk") + good + END),
        "a chunk of 2 GiB": ("malformed", header(3, 2) + struct.pack(">I", 2**31 - 1) + b"tEXtparameters"),
        "wrong checksum of the header": ("malformed", damaged(header(3, 2)) + good + END),
        "wrong checksum of the pixels": ("malformed", header(3, 2) + damaged(good) + END),
        "wrong checksum of a text": ("malformed", header(3, 2) + damaged(chunk(b"tEXt", text)) + good + END),
        "a text that unpacks to 5 MiB": ("malformed", header(3, 2) + chunk(b"zTXt", bomb) + good + END),
        "a text that is not zlib": ("malformed", header(3, 2) + chunk(b"zTXt", b"a\0\0junk") + good + END),
        "a text without its key": ("malformed", header(3, 2) + chunk(b"zTXt", b"junk") + good + END),
    }  # fmt: skip
    return [{"name": n, "error": error, "png": b64(SIGNATURE + data)} for n, (error, data) in files.items()]


def main():
    rng = np.random.default_rng(20)
    kinds = []
    for color, depths in DEPTHS.items():
        for depth in depths:
            for interlaced in (False, True):
                kinds.append(kind(rng, color, depth, interlaced, False))
            if color in (GRAY, RGB, PALETTE):
                kinds.append(kind(rng, color, depth, False, True))
    for name, value in (("kinds", kinds), ("texts", texts()), ("hostile", hostile())):
        (HERE / f"{name}.json").write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


main()
