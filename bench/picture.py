"""The picture of a run: a bar a program, as SVG."""

from __future__ import annotations

from html import escape

from bench.peers.catalogue import CATALOGUE
from bench.results import Results, Summary

_ROW, _BAR, _LEFT, _WIDTH, _TOP = 34, 18, 336, 970, 64
_OURS, _PEER, _TEXT, _SOFT = "#1f6feb", "#b6c2cf", "#1f2328", "#59636e"


def svg(results: Results) -> str:
    """Throughput of each program that answered right, the fastest first."""
    shown = sorted((one for one in results.summaries if one.rate), key=lambda one: -(one.rate or 0))
    height = _TOP + _ROW * len(shown) + 40
    top_rate = max((one.rate or 0 for one in shown), default=1)
    rows = "".join(_row(one, number, top_rate) for number, one in enumerate(shown))
    cores, load = results.machine["cores"], results.load
    title = "Transfers a second, each exactly once unless it says otherwise"
    below = (
        f"Median of the rounds, the line is from the lowest to the highest. {cores} cores, broker on the same machine, "
        f"{load['partitions']} partitions, commits every {load['commit_interval_s'] * 1000:.0f} ms."
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" role="img">\n'
        f"<title>{title}</title>\n"
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>\n'
        f'<text x="20" y="34" font-size="18" font-weight="600" fill="{_TEXT}">{title}</text>\n'
        f"{rows}"
        f'<text x="20" y="{height - 16}" font-size="12" fill="{_SOFT}">{escape(below)}</text>\n'
        "</svg>\n"
    )


def _row(summary: Summary, number: int, top_rate: float) -> str:
    y = _TOP + _ROW * number
    middle = y + _BAR / 2
    ours = summary.peer.startswith("ours")
    title = escape(CATALOGUE[summary.peer].title)

    def at(rate: float | None) -> float:
        return _LEFT + (rate or 0) / top_rate * (_WIDTH - _LEFT - 250)

    weight = ' font-weight="600"' if ours else ""
    note = f"{summary.rate:,.0f}"
    if summary.cpu_s_per_million is not None:
        note += f"   ·   {summary.cpu_s_per_million:,.0f} CPU s a million"
    end = at(summary.highest) + 10
    return (
        f'<text x="{_LEFT - 12}" y="{middle + 5}" font-size="14" text-anchor="end" fill="{_TEXT}"{weight}>'
        f"{title}</text>\n"
        f'<rect x="{_LEFT}" y="{y}" width="{max(1, at(summary.rate) - _LEFT):.1f}" height="{_BAR}" rx="2" '
        f'fill="{_OURS if ours else _PEER}"/>\n'
        f'<line x1="{at(summary.lowest):.1f}" x2="{at(summary.highest):.1f}" y1="{middle}" y2="{middle}" '
        f'stroke="{_TEXT}" stroke-width="1.5"/>\n'
        f'<text x="{end:.1f}" y="{middle + 5}" font-size="13" fill="{_SOFT}">{note}</text>\n'
    )
