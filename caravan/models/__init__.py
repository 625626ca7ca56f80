"""The fused model: an open language model with a speech encoder, a vision encoder and their projectors."""
