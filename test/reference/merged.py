"""Reads base, adapter and merged model, each a folder, without this project's code, and prints as JSON for every tensor of the merged
model how far it lies from base + scale B A in units of half its last place: at most 1 where it was rounded once.

python3 merged.py BASE ADAPTER MERGED
"""

import glob
import json
import math
import struct
import sys

import numpy as np


def read(folder):
    """Tensors by name, and the numpy type each had."""
    tensors, kinds = {}, {}
    for path in sorted(glob.glob(f"{folder}/*.safetensors")):
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
            data = file.read()
        assert header.pop("__metadata__") == {"format": "pt"}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            kinds[name] = entry["dtype"]
            kind = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[entry["dtype"]]
            values = np.frombuffer(data[begin:end], kind)
            if entry["dtype"] == "BF16":
                values = (values.astype("<u4") << 16).view("<f4")
            tensors[name] = values.astype(np.longdouble).reshape(entry["shape"])
    return tensors, kinds


base, _ = read(sys.argv[1])
adapter, _ = read(sys.argv[2])
merged, kinds = read(sys.argv[3])
config = json.load(open(f"{sys.argv[2]}/adapter_config.json"))
errors = {}
for name, values in merged.items():
    expected = base[name]
    prefix = "base_model.model." + name.removesuffix(".weight")
    if f"{prefix}.lora_A.weight" in adapter:
        a, b = adapter[f"{prefix}.lora_A.weight"], adapter[f"{prefix}.lora_B.weight"]
        scale = config["lora_alpha"] / (math.sqrt(a.shape[0]) if config["use_rslora"] else a.shape[0])
        expected = expected + np.longdouble(scale) * (b @ a)
    bits, least = {"F32": (24, -149), "F16": (11, -24), "BF16": (8, -133)}[kinds[name]]
    _, exponents = np.frexp(expected)
    half = np.ldexp(np.longdouble(0.5), np.maximum(exponents - bits, least))
    errors[name] = float(np.max(np.abs(values - expected) / half))
print(json.dumps(errors))
