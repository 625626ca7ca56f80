"""The special tokens and the chat template of tokenizers that Caravan trains."""

from __future__ import annotations

END_OF_TEXT = "<|endoftext|>"
PAD = "<|pad|>"
SYSTEM, USER, ASSISTANT, END = "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
AUDIO_START, AUDIO_PAD, AUDIO_END = "<|audio_start|>", "<|audio_pad|>", "<|audio_end|>"
IMAGE_START, IMAGE_PAD, IMAGE_END = "<|image_start|>", "<|image_pad|>", "<|image_end|>"

# In the order of their ids, from 0.
SPECIAL_TOKENS = (
    END_OF_TEXT, PAD, SYSTEM, USER, ASSISTANT, END,
    AUDIO_START, AUDIO_PAD, AUDIO_END, IMAGE_START, IMAGE_PAD, IMAGE_END,
)  # fmt: skip

# Content is a string or a list of parts, OpenAI's names of part types included.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' -}}"
    "{%- if message['content'] is string -%}{{- message['content'] -}}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'text' -%}{{- part['text'] -}}"
    "{%- elif part['type'] in ['audio', 'input_audio'] -%}{{- '<|audio_start|><|audio_pad|><|audio_end|>' -}}"
    "{%- elif part['type'] in ['image', 'image_url'] -%}{{- '<|image_start|><|image_pad|><|image_end|>' -}}"
    "{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{{- '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
