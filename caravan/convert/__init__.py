"""Conversion of models between the layouts of other frameworks, a tensor at a time."""
