"""The page: the chat, and the comparison where a second model is served. Nothing in it is fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr
from fastapi import FastAPI
from starlette.routing import Mount

from caravan.serve.assistant import Assistant
from caravan.serve.web.chat import chat_tab
from caravan.serve.web.compare import compare_tab
from caravan.serve.web.uploads import Uploads

# Uploads and recordings are deleted after an hour; the check is made as often.
KEEP_SECONDS = 3600
LOOK_SECONDS = 0.05
# Each message in the direction of its own script; no button that would send pictures elsewhere; all of a phone's width.
CSS = """
.message, .message *, textarea { unicode-bidi: plaintext; text-align: start; }
button[aria-label="Share"], footer { display: none !important; }
:focus-visible { outline: 2px solid var(--color-accent) !important; outline-offset: 1px; }
@media (max-width: 640px) { .gradio-container main { padding: 8px !important; } h1 { margin: 0 !important; } }
"""
SYSTEM_FONTS = ("ui-sans-serif", "system-ui", "sans-serif")
MONO_FONTS = ("ui-monospace", "Consolas", "monospace")


def mount_chat(app: FastAPI, assistants: Sequence[Assistant]) -> FastAPI:
    """Mount the page of an assistant, and of another to compare it with if there is one, at `/`."""
    first, *_ = assistants
    blocks = page_of(assistants)
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        theme=gr.themes.Soft(primary_hue="amber", font=SYSTEM_FONTS, font_mono=MONO_FONTS),
        css=CSS,
        footer_links=[],
        run_history=False,
        show_error=True,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size=first.config.limits.request_bytes,
    )
    # Gradio looks for work a thousand times a second, and a hundred times for progress that nothing here reports.
    blocks._queue.sleep_when_free = LOOK_SECONDS
    blocks._queue.progress_update_sleep_when_free = 1.0
    # Within the application, where the bounds on a request's body hold and its errors are told.
    page = next(route for route in app.routes if isinstance(route, Mount))
    page.app = Uploads(page.app)
    return app


def page_of(assistants: Sequence[Assistant]) -> gr.Blocks:
    """The page."""
    first, *others = assistants
    title, cache = f"Caravan: {first.name}", (KEEP_SECONDS, KEEP_SECONDS)
    with gr.Blocks(title=title, delete_cache=cache, analytics_enabled=False, fill_height=True) as page:
        gr.Markdown(f"# Caravan\n{first.description}")
        if not others:
            chat_tab(page, first)
            return page
        with gr.Tab("Chat"):
            chat_tab(page, first)
        with gr.Tab("Compare"):
            compare_tab(first, others[0])
    return page
