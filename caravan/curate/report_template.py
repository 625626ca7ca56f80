"""The template of the curation report's page."""

from __future__ import annotations

from caravan.pages.plots import BAR
from caravan.pages.style import framed

_STYLE = f"""
.tiles {{ display: flex; flex-wrap: wrap; gap: .8rem; }}
.tiles div {{ background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .5rem 1rem; }}
.tiles b {{ display: block; font-size: 1.3rem; }} .plot {{ max-width: 34rem; }}
td, th {{ white-space: nowrap; }} td.text {{ white-space: normal; overflow-wrap: anywhere; min-width: 14rem; }}
td.bar {{ min-width: 6rem; width: 30%; vertical-align: middle; }}
td.bar div {{ background: {BAR}; height: .7rem; border-radius: .2rem; min-width: 1px; }}
td.heat {{ padding: .15rem .5rem; }} details {{ margin: .6rem 0; }} summary {{ cursor: pointer; }}
"""

_MACROS = """
{% macro figure(value) %}{{ "–" if value is none else "%.4g" | format(value) }}{% endmacro %}
{% macro count(value) %}{{ "{:,}".format(value) }}{% endmacro %}
{% macro cells() %}{% for value in varargs %}<td class="number">{{ value }}</td>{% endfor %}{% endmacro %}
{% macro heads() %}{% for name in varargs %}<th class="number">{{ name }}</th>{% endfor %}{% endmacro %}
{% macro bar(value, most) %}
<td class="bar"><div style="width: {{ (100 * value / (most or 1)) | round(1) }}%"></div></td>
{% endmacro %}

{% macro reasons(part) %}
<div class="scroll"><table>
<tr><th>reason</th>{{ heads("went", "of all read") }}<th></th>{{ heads("bytes") }}<th>step</th></tr>
{% for row in part.reasons %}
<tr><td>{{ row.reason }}</td>{{ cells(count(row.documents), (row.documents / part.read) | percent) }}
{{ bar(row.documents, part.reasons[0].documents) }}{{ cells(count(row.bytes)) }}
<td class="quiet">{{ row.step }}</td></tr>
{% else %}
<tr><td colspan="6">Nothing went.</td></tr>
{% endfor %}
</table></div>
{% endmacro %}

{% macro languages(rows, steps) %}
<div class="scroll"><table>
<tr><th></th>{{ heads("read", "kept", "bytes kept") }}{% for step in steps %}{{ heads(step) }}{% endfor %}</tr>
{% for language, row in rows.items() %}
<tr><td>{{ language }}</td>{{ cells(count(row.read), count(row.kept), count(row.bytes)) }}
{% for step in steps %}{{ cells((row.left[step] / row.read) | percent) }}{% endfor %}</tr>
{% endfor %}
</table></div>
{% endmacro %}

{% macro spread(rows, words, plot) %}
<p class="quiet">{{ words }} Grey: what was read. Green: what was kept.</p>
<div class="plot">{{ plot | safe }}</div>
<details><summary>in figures</summary><div class="scroll"><table>
<tr><th></th>{{ heads("read", "5 %", "median", "95 %", "kept", "5 %", "median", "95 %") }}</tr>
{% for language, row in rows.items() %}
<tr><td>{{ language }}</td>
{% for part in (row.read, row.kept) %}
{{ cells(count(part.documents), figure(part["5 %"]), figure(part["50 %"]), figure(part["95 %"])) }}
{% endfor %}</tr>
{% endfor %}
</table></div></details>
{% endmacro %}

{% macro excerpts(rows, pairs=false) %}
{% for step, reason, own in rows %}
<details{{ " open" if loop.first }}><summary>{{ reason }} <span class="quiet">{{ step }}</span></summary>
<div class="turns">
{% for row in own %}
<div class="turn"><p class="quiet">figure {{ figure(row.value) }} · {{ row.language }} · {{ row.id }}
{% if row.copy_of %}= {{ row.copy_of }}{% endif %}</p>
{% for part in (row.text.split("\\t") if pairs else [row.text]) %}
<p dir="auto">{{ part or "(nothing)" }}</p>
{% endfor %}
</div>
{% endfor %}
</div></details>
{% endfor %}
{% endmacro %}

{% macro masking(rows) %}
<div class="scroll"><table><tr><th>kind</th><th></th>{{ heads("masked", "texts") }}</tr>
{% for row in rows %}
<tr><td>{{ row.kind }}</td>{{ bar(row.places, rows[0].places) }}
{{ cells(count(row.places), count(row.documents)) }}</tr>
{% endfor %}
</table></div>
{% endmacro %}
"""

_DOCUMENTS = """
<h2>What is left after each step</h2>
<div class="plot">{{ plots.survivors | safe }}</div>
<div class="scroll"><table id="steps">
<tr><th>step</th>{{ heads("kept of all", "dropped here", "documents", "bytes") }}<th>stage</th></tr>
{% for row in documents.stages %}
<tr><td>{{ row.step }}</td>
{{ cells(row.kept | percent, row.dropped | percent, count(row.documents), count(row.bytes)) }}
<td class="quiet">{{ row.stage }}</td></tr>
{% endfor %}
</table></div>

<h2>By stage</h2>
{% set groups = documents.table[0].keys() | reject("equalto", "stage") | list %}
<div class="scroll"><table id="stages">
<tr><th></th>{% for group in groups %}<th class="number" colspan="2">{{ group }}</th>{% endfor %}</tr>
<tr><th></th>{% for group in groups %}{{ heads("kept of all", "dropped here") }}{% endfor %}</tr>
{% for row in documents.table %}
<tr><td>{{ row.stage }}</td>
{% for group in groups %}{{ cells(row[group].kept | percent, row[group].dropped | percent) }}{% endfor %}</tr>
{% endfor %}
</table></div>
<p class="quiet">For comparison, PolyLM (arXiv 2307.06018): rules and learned filters drop 28.3 %, deduplication then
23.1 % of English and 18.6 % of the other languages.</p>

<h2>Languages</h2>
<div class="plot">{{ plots.languages | safe }}</div>
{{ languages(wanted, documents.stages[1:] | map(attribute="step") | list) }}
{% if others %}
<p class="quiet">Languages that are not wanted:
{% for language, read in (others.items() | list)[:12] %}{{ language }} {{ count(read) }}{{ ", " if not loop.last }}
{% endfor %}{{ "and others" if others | length > 12 }}.</p>
{% endif %}

<h2>Why documents went</h2>
{{ reasons(documents) }}
{% if documents.reasons and wanted | length > 1 %}
<details><summary>by language, as shares of its documents</summary><div class="scroll"><table class="matrix">
<tr><th></th>{% for language in wanted %}<th>{{ language }}</th>{% endfor %}</tr>
{% for row in documents.reasons %}
<tr><td style="text-align: start">{{ row.reason }}</td>
{% for language, entry in wanted.items() %}
{% set share = row.languages.get(language, 0) / entry.read %}
<td style="background: color-mix(in srgb, var(--bad) {{ (100 * share) | round | int }}%, transparent)">
{{ share | percent if share else "" }}</td>
{% endfor %}</tr>
{% endfor %}
</table></div></details>
{% endif %}

{% if lengths %}
<h2>Lengths</h2>
{{ spread(spreads.lengths, "Documents by characters, in half octaves.", plots.lengths) }}
{% endif %}
{% if perplexity %}
<h2>Perplexity</h2>
{{ spread(spreads.perplexity, "Documents that came as far as the filter.", plots.perplexity) }}
{% if buckets %}
<details><summary>buckets of what stays</summary><div class="scroll"><table>
<tr><th>language</th><th>bucket</th>{{ heads("documents", "bytes") }}</tr>
{% for row in buckets %}
<tr><td>{{ row.language }}</td><td>{{ row.bucket }}</td>{{ cells(count(row.documents), count(row.bytes)) }}</tr>
{% endfor %}
</table></div></details>
{% endif %}
{% endif %}
{% if quality %}
<h2>Quality</h2>
<div class="scroll"><table>
<tr><th>language</th>{{ heads("asked about", "mean probability", "kept", "mean probability") }}</tr>
{% for row in quality %}
<tr><td>{{ row.language }}</td>
{{ cells(count(row.read), "%.3f" | format(row.mean_read), count(row.kept),
         "%.3f" | format(row.mean_kept) if row.kept else "") }}</tr>
{% endfor %}
</table></div>
{% endif %}
{% if evaluation_sets %}
<h2>Evaluation sets that text must not hold</h2>
<div class="scroll"><table>
<tr><th>set</th>{{ heads("items", "too short to be looked for") }}</tr>
{% for row in evaluation_sets %}
<tr><td>{{ row.set }}</td>{{ cells(count(row["items"]), count(row.too_short)) }}</tr>
{% endfor %}
</table></div>
{% endif %}
{% if removed %}
<h2>What was taken out of documents that stay</h2>
<div class="scroll"><table>
<tr><th>reason</th>{{ heads("lines or paragraphs", "documents", "bytes") }}</tr>
{% for row in removed %}
<tr><td>{{ row.reason }}</td>{{ cells(count(row.parts), count(row.documents), count(row.bytes)) }}</tr>
{% endfor %}
</table></div>
{% endif %}
{% if repaired %}
<h2>What was repaired in documents that stay</h2>
<div class="scroll"><table><tr><th>repair</th><th></th>{{ heads("documents", "characters taken") }}</tr>
{% for row in repaired %}
<tr><td>{{ row.repair }}</td>{{ bar(row.documents, repaired[0].documents) }}
{{ cells(count(row.documents), count(row.characters)) }}</tr>
{% endfor %}
</table></div>
{% endif %}
{% if masked.documents %}
<h2>Personal data in documents that stay</h2>
{{ masking(masked.documents) }}
{% endif %}
{% if samples %}
<h2>A sample of what went</h2>
{{ excerpts(excerpts_of.documents) }}
{% endif %}
"""

_PAIRS = """
<h2>Parallel pairs</h2>
<div class="scroll"><table>
<tr><th>step</th>{{ heads("kept of all", "dropped here", "pairs", "bytes") }}</tr>
{% for row in pairs.stages %}
<tr><td>{{ row.step }}</td>
{{ cells(row.kept | percent, row.dropped | percent, count(row.documents), count(row.bytes)) }}</tr>
{% endfor %}
</table></div>
<details><summary>by languages</summary>
{{ languages(pairs.languages, pairs.stages[1:] | map(attribute="step") | list) }}</details>
<h2>Why pairs went</h2>
{{ reasons(pairs) }}
{% if masked.pairs %}
<h2>Personal data in pairs that stay</h2>
{{ masking(masked.pairs) }}
{% endif %}
{% if pairs.samples %}
<h2>A sample of pairs that went</h2>
{{ excerpts(excerpts_of.pairs, true) }}
{% endif %}
"""

_BROKEN = """
<h2>What could not be read</h2>
<p>{{ count(broken.rows) }} rows and {{ count(broken.files) }} files.</p>
<div class="scroll"><table><tr><th>file</th><th class="number">row</th><th>problem</th></tr>
{% for row in listed %}
<tr><td>{{ row.file }}</td>{{ cells(row.row or "all") }}<td class="text">{{ row.problem }}</td></tr>
{% endfor %}
</table></div>
"""

PAGE = framed(
    "Caravan: corpus",
    _MACROS
    + """
<h1>Corpus</h1>
<div class="tiles">
{% if documents.read %}
<div><b>{{ (documents.kept / documents.read) | percent }}</b>{{ count(documents.kept) }} of {{ count(documents.read) }}
documents</div>
<div><b>{{ count(documents.bytes) }}</b>bytes of text</div>
<div><b>{{ wanted.values() | selectattr("kept") | list | length }}</b>languages</div>
{% endif %}
{% if pairs.read %}
<div><b>{{ (pairs.kept / pairs.read) | percent }}</b>{{ count(pairs.kept) }} of {{ count(pairs.read) }} pairs</div>
{% endif %}
{% if broken.rows or broken.files %}
<div><b class="bad">{{ count(broken.rows) }}</b>rows that could not be read</div>
{% endif %}
{% if not documents.read and not pairs.read %}<div><b>0</b>documents and pairs</div>{% endif %}
</div>
"""
    + "{% for note in notes %}<p>{{ note }}</p>{% endfor %}{% if documents.read %}"
    + _DOCUMENTS
    + "{% endif %}{% if pairs.read %}"
    + _PAIRS
    + "{% endif %}{% if listed %}"
    + _BROKEN
    + "{% endif %}",
    _STYLE,
)
