"""The pages: plain HTML that reads well without scripts, on a phone and in the dark. Pure: answers in, text out.

Whatever comes from a record is escaped where it is put in; nothing here is HTML but what this module writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any
from urllib.parse import quote

#: What would hide in a page or turn its text around, shown as a sign or by its number.
_CONTROLS = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}
_CONTROLS |= {code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}
_CONTROLS |= {code: f"\\u{code:04x}" for code in (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_CONTROLS |= {code: f"\\u{code:04x}" for code in (0x61C, 0xFEFF, *range(0xD800, 0xE000))}
_CONTROLS_BUT_LINES = {code: shown for code, shown in _CONTROLS.items() if code != 0x0A}
#: Characters of a key and of a value that a row of a table shows.
_KEY_SHOWN, _VALUE_SHOWN = 80, 300


def tables(app_id: str, names: Mapping[str, str]) -> str:
    """The list of tables."""
    rows = (
        f'<tr><td class="name"><a href="/tables/{quote(name, safe="")}">{escape(name)}</a></td>'
        f"<td>{escape(about)}</td></tr>"
        for name, about in names.items()
    )
    body = _table(("Table", "What it holds"), rows) if names else "<p>This app keeps no table.</p>"
    return _page(app_id, "Tables", f"<h1>Tables</h1>{body}")


def rows(app_id: str, answer: Mapping[str, Any], about: str) -> str:
    """A page of a table's rows."""
    name = str(answer["table"])
    lines = (
        f'<tr><td><a href="{escape(row["url"])}">{_cut(row["key"], _KEY_SHOWN)}</a></td>'
        f"<td><code>{_cut(_compact(row['value']), _VALUE_SHOWN)}</code></td></tr>"
        for row in answer["rows"]
    )
    body = _table(("Key", "Value"), lines) if answer["rows"] else '<p class="soft">No rows here.</p>'
    more = f'<p><a rel="next" href="{escape(answer["next"])}">Next page</a></p>' if answer["next"] else ""
    return _page(
        app_id,
        name,
        f'<h1>{escape(name)}</h1><p class="soft">{escape(about)}</p>{_search(name)}{body}{more}'
        f"<h2>Committed up to</h2>{_versions(answer['partitions'])}",
    )


def row(app_id: str, answer: Mapping[str, Any]) -> str:
    """One row."""
    name, key = str(answer["table"]), str(answer["key"])
    pretty = json.dumps(answer["value"], indent=2, ensure_ascii=False).translate(_CONTROLS_BUT_LINES)
    inputs = ", ".join(f"{topic} {offset:,}" for topic, offset in answer["inputs"].items())
    facts = {
        "Committed offset": f"{_offset(answer['committed_offset'])} of {answer['changelog']}[{answer['partition']}]",
        "Events up to": inputs or "none",
        "As of": answer["as_of"],
        "Owner": _owner(answer),
    }
    listed = "".join(f"<dt>{escape(label)}</dt><dd>{escape(str(value))}</dd>" for label, value in facts.items())
    return _page(
        app_id,
        f"{_shortened(visible(key), _KEY_SHOWN)} in {name}",
        f'<h1>{_cut(key, 1000)}</h1><p><a href="/tables/{quote(name, safe="")}">{escape(name)}</a></p>'
        f"<pre>{escape(pretty)}</pre><dl>{listed}</dl>",
    )


def problem(app_id: str, title: str, text: str) -> str:
    """What is wrong, and what to do."""
    shown = _shortened(text, 1000)
    return _page(
        app_id, title, f'<h1 class="bad">{escape(title)}</h1><p>{escape(shown)}</p><p><a href="/tables">Tables</a></p>'
    )


def _page(app_id: str, title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} - {escape(app_id)}</title>"
        '<link rel="stylesheet" href="/style.css"></head><body>'
        f'<header><strong>{escape(app_id)}</strong><nav><a href="/tables">Tables</a> '
        '<a href="/metrics">Metrics</a> <a href="/readyz">Health</a> <a href="/ops/errors">Errors</a></nav></header>'
        f"<main>{body}</main><footer>Committed values only: what a transaction has not committed is never shown."
        "</footer></body></html>\n"
    )


def _search(name: str) -> str:
    return (
        f'<form action="/tables/{quote(name, safe="")}" method="get"><input name="find" aria-label="Key" '
        'placeholder="Key" required><input name="key" aria-label="Key of its events, if it is another" '
        'placeholder="Key of its events, if it is another"><button>Look up</button></form>'
    )


def _versions(versions: Iterable[Mapping[str, Any]]) -> str:
    lines = (
        f'<tr><td>{escape(str(it["partition"]))}</td><td class="number">{escape(_offset(it["committed_offset"]))}</td>'
        f"<td>{escape(str(it['as_of']))}</td><td>{escape(_owner(it))}</td></tr>"
        for it in versions
    )
    return _table(("Partition", "Committed offset", "As of", "Owner"), lines, numbers={"Committed offset"})


def _table(columns: Iterable[str], lines: Iterable[str], numbers: Iterable[str] = ()) -> str:
    heads = "".join(f'<th scope="col"{" class=number" if name in numbers else ""}>{name}</th>' for name in columns)
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _offset(offset: int | None) -> str:
    return "nothing yet" if offset is None else f"{offset:,}"


def _owner(answer: Mapping[str, Any]) -> str:
    instance, owner = answer["instance"], str(answer["owner"])
    return f"{instance} at {owner}" if instance else owner


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def visible(text: str) -> str:
    """The text with what cannot be seen in it made visible."""
    return text.translate(_CONTROLS)


def _cut(text: str, most: int) -> str:
    return escape(_shortened(visible(text), most))


def _shortened(text: str, most: int) -> str:
    if text == "":
        return "(empty)"
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"
