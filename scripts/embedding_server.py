"""llama.cpp's server on a GGUF model, for the tests: prints its address, and serves until its
standard input ends. Needs the package xllamacpp."""

import sys

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.embedding = True
params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST
# 2 normalises, as the server does by default; -1 does not.
params.embd_normalize = int(sys.argv[2])
params.n_ctx = params.n_batch = params.n_ubatch = 2048
params.n_parallel = 2
params.kv_unified = True
params.warmup = False
params.port = 0
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
