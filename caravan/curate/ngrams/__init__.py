"""N-gram language models: training, ARPA files, scoring."""
