"""Corpus to tokenizer and packed tokens, and how many tokens each language takes."""
