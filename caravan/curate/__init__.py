"""Raw text to a corpus: language, rules with reasons, deduplication, kept shards and a reject stream."""
