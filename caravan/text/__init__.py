"""Text: special tokens, chat rendering, indexed token files."""
