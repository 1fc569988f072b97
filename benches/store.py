#!/usr/bin/env python3
"""Write a large store of embedded preference pairs, to measure training on more than fits into memory.

    pip install -r benches/peer/requirements.txt
    python benches/store.py --pairs 100000 --dim 4096 --dtype f16 -o store.safetensors

The pairs are made up as those of `lens bench train` are: 32 directions that embeddings vary along (half of them the
prompt's, so alike on both sides), noise, and one direction along which the preferred response lies further on; 15% of
the pairs are labelled the wrong way round. Rows are written block by block: the script needs little memory.
"""

import argparse
import json
import struct

import numpy as np

FACTORS, STRENGTH, WRONG, BLOCK = 32, 1.2, 0.15, 2000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=4096)
    parser.add_argument("--dtype", choices=("f16", "f32"), default="f16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", type=int, default=0, help="other pairs of the same kind, such as held-out ones")
    parser.add_argument("-o", "--output", required=True)
    args = parser.parse_args()
    dtype = {"f16": np.float16, "f32": np.float32}[args.dtype]
    rng = np.random.default_rng(args.seed)
    directions = rng.standard_normal((FACTORS, args.dim), dtype=np.float32)
    preferred = rng.standard_normal(args.dim, dtype=np.float32)
    size = args.pairs * args.dim * np.dtype(dtype).itemsize
    tensor = lambda start: {
        "dtype": args.dtype.upper(), "shape": [args.pairs, args.dim], "data_offsets": [start, start + size]}
    header = json.dumps({"chosen": tensor(0), "rejected": tensor(size)}).encode()
    header += b" " * (-len(header) % 8)
    with open(args.output, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for side in (0, 1):
            for block, first in enumerate(range(0, args.pairs, BLOCK)):
                n = min(BLOCK, args.pairs - first)
                # What both sides of a pair share comes from one stream, what is a side's own from another.
                shared = np.random.default_rng([args.seed, 1, args.part, block])
                own = np.random.default_rng([args.seed, 2 + side, args.part, block])
                half = (n, FACTORS // 2)
                factors = np.hstack([shared.standard_normal(half), own.standard_normal(half)]).astype(np.float32)
                apart = STRENGTH / 2 * np.abs(shared.standard_normal(n))
                apart = np.where(shared.random(n) < WRONG, -apart, apart) * (1 - 2 * side)
                rows = 0.5 * own.standard_normal((n, args.dim), dtype=np.float32)
                rows += 0.3 * factors @ directions + apart[:, None].astype(np.float32) * preferred
                file.write(rows.astype(dtype).tobytes())


if __name__ == "__main__":
    main()
