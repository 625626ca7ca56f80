"""A classifier of text: trusted or not, by hashed n-grams of words and characters."""
