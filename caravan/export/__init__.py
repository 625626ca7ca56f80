"""Export: a model to GGUF files for llama.cpp, checked against torch."""
