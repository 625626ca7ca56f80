"""llama.cpp's own server, with its own defaults; prints its URL. FILE.gguf THREADS PARALLEL CONTEXT"""

import sys
import time

import xllamacpp

path, threads, parallel, context = sys.argv[1], *map(int, sys.argv[2:5])
parameters = xllamacpp.CommonParams()
parameters.model.path = path
parameters.cpuparams.n_threads = threads
parameters.n_parallel = parallel
parameters.n_ctx = context * parallel
parameters.port = 0
parameters.verbosity = 1
server = xllamacpp.Server(parameters)
print(server.listening_address, flush=True)
while True:
    time.sleep(3600)
