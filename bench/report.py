"""What `full.py` has measured, as Markdown tables and SVG plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quick import HELLO_4K, HELLO_EMPTY, HELLO_PAGE, MD5, NGINX, SYNC

S3LITE = "s3lite"
CALLED = "PUT 4 KiB with a callback, 8"

# Figure: (its limit, the ratio aimed at, the rate aimed at); docs/performance.md says where they come from.
ROWS: dict[str, tuple[str, float | None, int | None]] = {
    "PUT 64 MiB, unsigned": (MD5, 0.90, None),
    "PUT 64 MiB, signed": (MD5, 0.85, None),
    "PUT 64 MiB, signed chunks": (MD5, 0.80, None),
    "form POST 64 MiB": (MD5, 0.85, None),
    "multipart 512 MiB, 4 at a time": (MD5, 1.2, None),
    "GET 64 MiB": (NGINX, 0.8, None),
    "GET 64 MiB, 4 streams": (NGINX, 0.8, None),
    "PUT 4 KiB, 1": (SYNC, None, None),
    "PUT 4 KiB, 8": (SYNC, None, 2500),
    "PUT 4 KiB, 32": (SYNC, None, 3000),
    CALLED: (SYNC, None, None),
    "GET 4 KiB, 1": (HELLO_4K, None, None),
    "GET 4 KiB, 8": (HELLO_4K, 0.6, None),
    "GET 4 KiB, 32": (HELLO_4K, None, None),
    "HEAD, 8": (HELLO_EMPTY, 0.6, None),
    "DELETE, 8": (SYNC, None, 3000),
    "LIST 1000": (HELLO_PAGE, None, 500),
    "LIST 100 prefixes": (HELLO_4K, None, 1000),
}


def limits_of(figure: str) -> tuple[str, ...]:
    """The limit that is measured just before a figure."""
    return (ROWS[figure][0],) if figure in ROWS else ()


def tables(found: dict[str, Any]) -> str:
    """All tables of a run."""
    names = list(found["durability"])
    parts = [
        "| | target | s3lite | of its limit | " + "".join(f"{name} | " for name in names[1:]) + "\n",
        "|---|---:|---:|---:|" + "---:|" * len(names[1:]) + "\n",
        *(_row(figure, found["rows"], names[1:]) for figure in ROWS if figure in found["rows"]),
        "| CompleteMultipartUpload, ms | < 10 | ",
        " | ".join(
            [f"{found['complete_ms'][S3LITE]:.1f} | "] + [f"{found['complete_ms'][n]:.1f}" for n in names[1:]]
        ),
        f" |\n| CPU of a callback beside its PUT, ms | < 1.5 | {_callback_ms(found['rows']):.2f} |{' |' * len(names)}",
        "\n\nRates in requests or MiB per second, a number after a comma is that of connections. Before a PUT is answered: ",
        "; ".join(f"{name}: {what}" for name, what in found["durability"].items()) + ".\n\n",
        _costs(found, names),
        _growth(found["growth"]),
        _lines("Small GETs at 4 connections beside", found["tail"]),
        _lines(
            "Small GETs at 8 connections beside",
            {k: v for k, v in found["connections"].items() if "rate" in v},
        ),
    ]
    return "".join(parts)


def _row(figure: str, rows: dict[str, Any], peers: Sequence[str]) -> str:
    limit, ratio, rate = ROWS[figure]
    ours = rows[figure][S3LITE]["rate"]
    at_most = rows[limit]["limit"]["rate"]
    target = f"{ratio:.2f}" if ratio else f"{rate:,}" if rate else ""
    cells = [figure, target, f"{ours:,.0f}", f"{ours / at_most:.2f} of {limit}: {at_most:,.0f}"]
    for peer in peers:
        theirs = rows[figure].get(peer)
        cells.append(f"{theirs['rate']:,.0f} ({ours / theirs['rate']:.1f} ×)" if theirs else "")
    return "| " + " | ".join(cells) + " |\n"


def _callback_ms(rows: dict[str, Any]) -> float:
    """What a callback adds to the server's CPU for a small PUT."""
    called: float = rows[CALLED][S3LITE]["cpu_ms"] - rows["PUT 4 KiB, 8"][S3LITE]["cpu_ms"]
    return called


def _costs(found: dict[str, Any], names: Sequence[str]) -> str:
    """CPU, latency and memory."""
    lines = [
        "| CPU ms per request or 64 MiB; p50 / p99 ms | "
        + " | ".join(names)
        + " |\n|---|"
        + "---:|" * len(names)
        + "\n"
    ]
    for figure in ROWS:
        cells = [figure]
        for name in names:
            line = found["rows"].get(figure, {}).get(name)
            cell = f"{line['cpu_ms']:.2f}" if line else ""
            if line and "p50_ms" in line:
                cell += f"; {line['p50_ms']:.1f} / {line['p99_ms']:.1f}"
            cells.append(cell)
        lines.append("| " + " | ".join(cells) + " |\n")
    memory = " | ".join(f"{found['memory_mib'][name]:,.0f}" for name in names)
    lines.append(f"| MiB held afterwards (s3lite idle: {found['idle_mib']:,.0f}) | {memory} |\n\n")
    return "".join(lines)


def _growth(growth: dict[str, Any]) -> str:
    keys = [
        "| keys in the bucket | LIST 1,000, pages/s | 100 prefixes, pages/s | HEAD, /s |\n|---:|---:|---:|---:|\n"
    ]
    keys += [
        f"| {line['keys']:,} | {line['list']:,.0f} | {line['prefixes']:,.0f} | {line['head']:,.0f} |\n"
        for line in growth["keys"]
    ]
    return "".join(keys) + "\n"


def _lines(title: str, lines: dict[str, dict[str, float]]) -> str:
    columns = list(next(iter(lines.values())))
    text = f"| {title} | " + " | ".join(name.replace("_", ", ") for name in columns) + " |\n|---|"
    text += "---:|" * len(columns) + "\n"
    for name, line in lines.items():
        text += f"| {name} | " + " | ".join(f"{line[column]:,.1f}" for column in columns) + " |\n"
    return text + "\n"


def splice(document: Path, text: str, *, by: str) -> None:
    """Replace what stands between a script's marks in a document."""
    begin, end = f"<!-- measured: {by} -->\n", "<!-- end of measured -->"
    before, _, rest = document.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    document.write_text(f"{before}{begin}\n{text.rstrip()}\n\n{end}{after}", encoding="utf-8")


def plots(found: dict[str, Any], out: Path) -> None:
    """growth.svg: size, connections and keys; nothing where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no plots: matplotlib is not installed (bench/requirements.txt)")
        return
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    size, connections, keys = figure.subplots(1, 3)
    growth = found["growth"]
    _curves(size, growth["size"], "bytes", {"put": "PUT", "get": "GET"}, "bytes of the object", "MiB/s")
    size.axhline(found["rows"][MD5]["limit"]["rate"], color="grey", linestyle=":", label="MD5, one core")
    size.set_yscale("log")
    _curves(
        connections,
        growth["connections"],
        "connections",
        {"get": "GET 4 KiB", "put": "PUT 4 KiB"},
        "connections",
        "per second",
    )
    _curves(
        keys,
        growth["keys"],
        "keys",
        {"list": "LIST 1,000", "prefixes": "100 prefixes", "head": "HEAD"},
        "keys in the bucket",
        "per second",
    )
    keys.set_yscale("log")
    for axes in (size, connections, keys):
        axes.legend(fontsize=8)
    figure.savefig(out / "growth.svg", metadata={"Date": None})


def _curves(
    axes: Any, lines: list[dict[str, float]], x: str, names: dict[str, str], label: str, unit: str
) -> None:
    for name, title in names.items():
        axes.plot([line[x] for line in lines], [line[name] for line in lines], marker="o", label=title)
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.set_ylabel(unit)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
