"""The report's page and its Markdown, as templates.

The page loads nothing from elsewhere: styles, plots, sound and pictures are in it.
"""

from __future__ import annotations

from caravan.pages.style import framed

_STYLE = """
.turn audio { width: 100%; height: 2.2rem; }
.turn img { display: block; min-width: 6rem; max-width: 100%; max-height: 12rem; image-rendering: auto;
  border-radius: .3rem; background: #fff; }
"""

_CARDS = """{% macro cards(turns) %}
<div class="turns">
{% for turn in turns %}
<div class="turn" lang="{{ turn.language }}">
<p class="quiet" lang="en">{{ turn.task }} · {{ turn.language }}{{ " · " + turn.group if turn.group else "" }}</p>
{% for part in turn.parts %}
{% if part.type == "text" %}
<p dir="auto"><b lang="en" class="quiet">{{ part.role }}</b> {{ part.text }}</p>
{% elif part.type == "audio" %}
<audio controls preload="metadata" src="{{ part.uri }}"></audio>
{% else %}
<img alt="the picture that is asked about" src="{{ part.uri }}">
{% endif %}
{% endfor %}
<p dir="auto" class="{{ {true: 'good', false: 'bad'}[turn.right] }}">{{ {true: "✓", false: "✗"}[turn.right] }}
{{ turn.answer or "(nothing)" }}</p>
{% if turn.right == false %}<p dir="auto" class="quiet">expected: {{ turn.expected }}</p>{% endif %}
{% if turn.heard is defined %}<p dir="auto" class="quiet">heard by the cascade: {{ turn.heard or "(nothing)" }};
answered: {{ turn.cascade or "(nothing)" }}</p>{% endif %}
{% if turn.int4 != turn.answer %}<p dir="auto" class="quiet">int4: {{ turn.int4 or "(nothing)" }}</p>{% endif %}
</div>
{% endfor %}
</div>
{% endmacro %}
"""

PAGE = framed(
    "Caravan: held-out quality",
    _CARDS
    + """<h1>Held-out quality</h1>
<p>{{ rows }} questions, none of them seen in training. {{ rule }}</p>
<div class="scroll"><table id="results">
<tr><th>measured</th><th class="number">value</th><th class="number">at least</th><th class="number">items</th>
<th></th></tr>
{% for line in table %}
<tr><td>{{ line.name }}</td><td class="number">{{ line.value | percent }}</td>
<td class="number">{{ "reported" if line.at_least is none else line.at_least | percent }}</td>
<td class="number">{{ line.count }}</td>
<td class="{{ 'good' if reached(line) else 'bad' }}">{{ line | mark }}</td></tr>
{% endfor %}
</table></div>

<h2>Exact answers by language</h2>
{{ plots.accuracy | safe }}
{% if plots.errors %}
<h2>Transcripts</h2>
{{ plots.errors | safe }}
{% endif %}
{% if plots.chrf %}
<h2>Captions and translations</h2>
{{ plots.chrf | safe }}
{% endif %}
{% if plots.bits %}
<h2>Held-out text</h2>
{{ plots.bits | safe }}
{% if bits_per_byte_before %}
<p>Bits per byte before this run and after it; more is forgotten, less is learnt.</p>
<div class="scroll"><table id="forgotten">
<tr><th>language</th><th>before</th><th>after</th><th>change</th></tr>
{% for language, value in bits_per_byte.items() if language in bits_per_byte_before %}
<tr><td>{{ language }}</td><td>{{ "%.3f" | format(bits_per_byte_before[language]) }}</td>
<td>{{ "%.3f" | format(value) }}</td><td>{{ "%+.3f" | format(value - bits_per_byte_before[language]) }}</td></tr>
{% endfor %}
</table></div>
{% endif %}
{% endif %}

<h2>What fails</h2>
<div class="scroll"><table id="failures">
<tr><th>task</th><th class="number">wrong</th><th class="number">of</th>
<th class="number">another item's answer</th><th class="number">another language</th><th class="number">other words</th>
<th>most often</th></tr>
{% for task in failures %}
<tr><td>{{ task.task }}</td><td class="number">{{ task.wrong }}</td><td class="number">{{ task.rows }}</td>
<td class="number">{{ task.other_item }}</td><td class="number">{{ task.other_language }}</td>
<td class="number">{{ task.other_words }}</td>
<td>{% for language, expected, answered, count in task.confusions[:5] %}
<div><span class="quiet">{{ language }}, {{ count }} ×</span> <bdi lang="{{ language }}">{{ expected }}</bdi> →
<bdi lang="{{ language }}">{{ answered or "(nothing)" }}</bdi></div>
{% endfor %}</td></tr>
{% endfor %}
</table></div>
{% for matrix in confusions %}
<h2>{{ matrix.task }}, {{ matrix.language }}: expected (rows) and answered (columns)</h2>
<div class="scroll"><table class="matrix" lang="{{ matrix.language }}">
<tr><td></td>{% for label in matrix.labels %}<th><bdi>{{ label }}</bdi></th>{% endfor %}
<th class="quiet">other</th></tr>
{% for label in matrix.labels %}
{% set line = matrix.counts[loop.index0] %}
<tr><th><bdi>{{ label }}</bdi></th>
{% for count in line %}
{% set share = 60 * count / ([line | sum, 1] | max) %}
<td class="{{ 'hit' if matrix.labels[loop.index0] == label else '' }}"
style="background: color-mix(in srgb, var(--good) {{ share | round | int }}%, transparent)">
{{ count or "" }}</td>
{% endfor %}
</tr>
{% endfor %}
</table></div>
{% endfor %}

{% if cascade is defined %}
<h2>Against a cascade</h2>
<p>The same {{ cascade.rows }} clips by a recogniser, then a language model: exact answers
{{ cascade.fused | percent }} fused, {{ cascade.cascade | percent }} by the cascade.</p>
<div class="scroll"><table id="cascade">
<tr><th>task</th><th>language</th><th class="number">items</th><th class="number">fused</th>
<th class="number">cascade</th><th class="number">errors of its recogniser</th></tr>
{% for line in cascade.figures %}
<tr><td>{{ line.task }}</td><td>{{ line.language }}</td><td class="number">{{ line.rows }}</td>
<td class="number">{{ line.fused | percent }}</td><td class="number">{{ line.cascade | percent }}</td>
<td class="number">{{ line.heard | percent }}</td></tr>
{% endfor %}
</table></div>
{% for name, line in cascade.latency.items() %}
<p>{{ name }}: {{ "%.0f" | format(1000 * line.median) }} ms from the end of a clip to the first token (90th percentile
{{ "%.0f" | format(1000 * line.p90) }} ms, {{ "%.0f" | format(1000 * line.cpu) }} ms of CPU; {{ line.clips }} clips)</p>
{% endfor %}
{{ plots.cascade | safe }}
{{ cards(cascade_turns) }}
{% endif %}
{% if probes is defined %}
<h2>Probes</h2>
<p>What the senses do with what no test holds. <i>Before</i>: exact answers to the rows that a probe was made of.
<i>Unchanged</i>: the same answer as before. <i>Own language</i>: where that can be told.</p>
<div class="scroll"><table id="probes">
<tr><th>probe</th><th class="number">items</th><th class="number">exact</th><th class="number">before</th>
<th class="number">unchanged</th><th class="number">no words</th><th class="number">refusals</th>
<th class="number">run away</th><th class="number">own language</th><th class="number">errors</th></tr>
{% for line in probes.means %}
<tr><td>{{ line.probe }}</td><td class="number">{{ line.rows }}</td>
{% for name in ("right", "before", "unchanged", "wordless", "refusing", "running_away", "own_language", "error_rate") %}
<td class="number">{{ line[name] | percent }}</td>
{% endfor %}
</tr>
{% endfor %}
</table></div>
<p>{{ probes.guard.running_away }} of {{ probes.guard.answers }} answers run away{% if probes.guard.running_away %}; the
decoding guard ends {{ probes.guard.ended }} of them, in {{ probes.guard.characters_guarded }} characters instead of
{{ probes.guard.characters }}{% endif %}.</p>
{{ plots.probes | safe }}
{{ cards(probe_turns) }}
{% endif %}

<h2>Sample turns</h2>
{{ cards(turns) }}
""",
    _STYLE,
)

MARKDOWN = """# Held-out quality

{{ rows }} questions, none of them seen in training. {{ rule }}

| measured | value | at least | items | |
|---|---:|---:|---:|---|
{% for line in table %}
| {{ line.name }} | {{ line.value | percent }} \
| {{ "reported" if line.at_least is none else line.at_least | percent }} | {{ line.count }} | {{ line | mark }} |
{% endfor %}

## By task and language

| task | held out | language | items | exact | error rate | chrF | BLEU |
|---|---|---|---:|---:|---:|---:|---:|
{% for score in scores %}
| {{ score.task }} | {{ score.group }} | {{ score.language }} | {{ score.rows }} | {{ score.accuracy | percent }} \
{% for value in (score.error_rate, score.chrf, score.bleu) %}| {{ "" if value is none else value | percent }} \
{% endfor %}|
{% endfor %}
{% if bits_per_byte %}

## Bits per byte of held-out text

| language | bits per byte |{{ " before | change |" if bits_per_byte_before else "" }}
|---|---:|{{ "---:|---:|" if bits_per_byte_before else "" }}
{% for language, value in bits_per_byte.items() %}
| {{ language }} | {{ "%.3f" | format(value) }} |\
{% if bits_per_byte_before and language in bits_per_byte_before %}
 {{ "%.3f | %+.3f |" | format(bits_per_byte_before[language], value - bits_per_byte_before[language]) }}\
{% endif %}

{% endfor %}
{% endif %}

## What fails

| task | wrong | of | another item's answer | another language | other words |
|---|---:|---:|---:|---:|---:|
{% for task in failures %}
| {{ task.task }} | {{ task.wrong }} | {{ task.rows }} | {{ task.other_item }} | {{ task.other_language }} \
| {{ task.other_words }} |
{% endfor %}
{% if cascade is defined %}

## Against a cascade

| task | language | items | fused | cascade | errors of its recogniser |
|---|---|---:|---:|---:|---:|
{% for line in cascade.figures %}
| {{ line.task }} | {{ line.language }} | {{ line.rows }} | {{ line.fused | percent }} | {{ line.cascade | percent }} \
| {{ line.heard | percent }} |
{% endfor %}
| all | | {{ cascade.rows }} | {{ cascade.fused | percent }} | {{ cascade.cascade | percent }} | |

| end of clip to first token | median | 90th percentile | CPU | clips |
|---|---:|---:|---:|---:|
{% for name, line in cascade.latency.items() %}
| {{ name }} | {{ "%.0f" | format(1000 * line.median) }} ms | {{ "%.0f" | format(1000 * line.p90) }} ms \
| {{ "%.0f" | format(1000 * line.cpu) }} ms | {{ line.clips }} |
{% endfor %}
{% endif %}
{% if probes is defined %}

## Probes

| probe | items | exact | before | unchanged | no words | refusals | run away | own language | errors |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
{% for line in probes.means %}
| {{ line.probe }} | {{ line.rows }} | {{ line.right | percent }} | {{ line.before | percent }} \
| {{ line.unchanged | percent }} | {{ line.wordless | percent }} | {{ line.refusing | percent }} \
| {{ line.running_away | percent }} | {{ line.own_language | percent }} | {{ line.error_rate | percent }} |
{% endfor %}

{{ probes.guard.running_away }} of {{ probes.guard.answers }} answers run away{% if probes.guard.running_away %}; \
the decoding guard ends {{ probes.guard.ended }} of them, in {{ probes.guard.characters_guarded }} characters \
instead of {{ probes.guard.characters }}{% endif %}.
{% endif %}
"""
