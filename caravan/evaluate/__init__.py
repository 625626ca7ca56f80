"""Evaluate: answers to held-out rows by the model and its export, what they are worth, and a page that shows it."""
