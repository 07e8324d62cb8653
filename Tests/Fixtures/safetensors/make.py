"""Writes every_type.safetensors with the reference implementation; see RECIPE.md."""
import numpy
from safetensors import TensorSpec, serialize

SIZES = {
    "bool": 1, "uint8": 1, "int8": 1, "float8_e5m2": 1, "float8_e4m3fn": 1, "int16": 2, "uint16": 2, "float16": 2,
    "bfloat16": 2, "int32": 4, "uint32": 4, "float32": 4, "float64": 8, "int64": 8, "uint64": 8,
}

arrays, specs = [], {}


def add(name, dtype, shape, data):
    arrays.append(data)
    specs[name] = TensorSpec(dtype=dtype, shape=shape, data_ptr=data.ctypes.data, data_len=data.nbytes)


for dtype, size in SIZES.items():
    add(f"b.{dtype}", dtype, [3], numpy.arange(1, 3 * size + 1, dtype=numpy.uint8))
    add(f"a.{dtype}", dtype, [1, 2], numpy.arange(101, 2 * size + 101, dtype=numpy.uint8))
add("scalar", "float32", [], numpy.array(1.5, dtype=numpy.float32))
add("empty", "float32", [0, 4], numpy.zeros([0, 4], dtype=numpy.float32))
add('odd "name" \\ \u00e9\n\u0001\u007f/', "uint8", [1], numpy.array([7], dtype=numpy.uint8))
# One key: the reference implementation writes several in no fixed order.
data = serialize(specs, metadata={"a\"b\\": "\u00e9\t\n\u0001\u007f/\U0001f600"})
open("every_type.safetensors", "wb").write(data)
