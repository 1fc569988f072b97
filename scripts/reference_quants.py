#!/usr/bin/env python3
"""Write random blocks of every common ggml tensor type and the numbers they stand for.

    python scripts/reference_quants.py

Run by hand, only to change the test data: it needs `numpy` and `gguf` (`benches/peer/requirements.txt`). Writes
`crates/lens-encoder/tests/data/quants.json`, a list with for each type

    type        ggml's name of it, such as `Q4_K`
    id          its number in a GGUF file's tensor table
    block       values per block
    block_bytes bytes per block
    shape       [rows, columns]
    data        the tensor's bytes as they lie in a file, base64
    values      what `gguf.quants.dequantize` makes of them, little-endian float32, row by row, base64

The bytes are random apart from the scales of each block, float16 numbers between 0.002 and 0.02 of either sign
(min values of the K types: positive): so every bit pattern of the small fields occurs, and no infinity.
"""

import base64
import json
from pathlib import Path

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES

OUT = Path(__file__).resolve().parent.parent / "crates/lens-encoder/tests/data/quants.json"
ROWS, COLUMNS = 2, 256

# where in a block its float16 scales are
SCALES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0],
}


def scale(rng, signed):
    value = rng.uniform(0.002, 0.02) * (rng.choice([-1, 1]) if signed else 1)
    return np.frombuffer(np.float16(value).tobytes(), np.uint8)


def main():
    entries = []
    for number, name in enumerate(["F32", "F16", "BF16", *SCALES]):
        kind = gguf.GGMLQuantizationType[name]
        rng = np.random.default_rng(100 + number)
        block, size = GGML_QUANT_SIZES[kind]
        if name in SCALES:
            blocks = rng.integers(0, 256, (ROWS * COLUMNS // block, size), dtype=np.uint8)
            for row in blocks:
                for i, at in enumerate(SCALES[name]):
                    row[at:at + 2] = scale(rng, signed=i == 0)
            data = blocks.reshape(ROWS, -1)
        else:
            data = gguf.quants.quantize(rng.normal(0, 0.5, (ROWS, COLUMNS)).astype(np.float32), kind)
        values = gguf.quants.dequantize(data, kind).astype("<f4").reshape(ROWS, COLUMNS)
        assert np.isfinite(values).all() and values.std() > 0.005, name
        entries.append(dict(
            type=name, id=int(kind), block=block, block_bytes=size, shape=[ROWS, COLUMNS],
            data=base64.b64encode(np.ascontiguousarray(data).tobytes()).decode(),
            values=base64.b64encode(values.tobytes()).decode(),
        ))
        print(f"{name}: {data.nbytes} bytes, largest {abs(values).max():.3f}")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text("[\n" + ",\n".join(json.dumps(e) for e in entries) + "\n]\n")


if __name__ == "__main__":
    main()
