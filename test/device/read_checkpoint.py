"""Reads models' folders with nothing but numpy and prints, for each tensor, folder, name, type, shape and the SHA-256 of its numbers as f32."""
import hashlib, json, os, sys
import numpy as np

for folder in sys.argv[1:]:
    index = os.path.join(folder, "model.safetensors.index.json")
    if os.path.exists(index):
        weight_map = json.load(open(index))["weight_map"]
    else:
        weight_map = None
    files = sorted(set(weight_map.values())) if weight_map else ["model.safetensors"]
    for name in files:
        data = open(os.path.join(folder, name), "rb").read()
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        assert header.pop("__metadata__")["format"] == "pt"
        for key, entry in header.items():
            assert weight_map is None or weight_map[key] == name
            raw = data[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]]
            if entry["dtype"] == "BF16":
                values = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
            else:
                values = np.frombuffer(raw, {"F32": "<f4", "F16": "<f2"}[entry["dtype"]]).astype("<f4")
            values = values.reshape(entry["shape"])
            print(json.dumps([folder, key, entry["dtype"], values.shape, hashlib.sha256(values.tobytes()).hexdigest()]))
