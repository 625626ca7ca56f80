"""The web chat, and the comparison of two models: Gradio's pages over the same assistants as the API."""

import os

# Read when Gradio is imported: it would otherwise tell its makers of every start.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
