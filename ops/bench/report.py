"""What ops/bench/compare found, as a Markdown table and as a chart."""

import html
import statistics


def median(samples, field="rate"):
    values = [sample[field] for sample in samples if sample.get(field) is not None]
    return statistics.median(values) if values else None


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def limit_of(cell):
    samples = cell["samples"].get(cell["limit"])
    return median(samples) if samples else None


def reached(cell, limit):
    """Whether the median reaches the share that the cell aims at; its other aims stand in the second table."""
    rate = median(cell["samples"].get("holdfast", []))
    if not cell["aim"] or not limit or not rate:
        return ""
    return "yes" if round(rate / limit, 2) >= cell["aim"] else "NO"


def markdown(found):
    """The table: median/best and processor time for each system, then the ratios."""
    names = [name for name in ("holdfast", "seaweedfs") if name in found["labels"]]
    labels = found["labels"]
    lines = [
        f"Measured on {found['date']}: {found['machine']}; {found['rounds']} rounds of {found['seconds']} s, median/best, in",
        "brackets the server's processor time (ms per request; for big objects s per GiB). Server and loader share the cores.",
        "",
        "| cell | limit | "
        + " | ".join(labels[name] for name in names)
        + " | "
        + " | ".join(f"{labels[name]} ÷ limit" for name in names)
        + (" | Holdfast ÷ SeaweedFS" if len(names) == 2 else "")
        + " | aim | reached |",
        "|---" * (5 + 2 * len(names) - (1 if len(names) < 2 else 0)) + "|",
    ]
    for cell in found["cells"]:
        limit = limit_of(cell)
        row = [f"{cell['name']} ({cell['unit']})", f"{number(limit)} {cell['limit']}"]
        for name in names:
            samples = cell["samples"].get(name, [])
            best = max((sample["rate"] for sample in samples), default=None)
            text = f"{number(median(samples))}/{number(best)}"
            if median(samples, "cpu") is not None:
                text += f" ({number(median(samples, 'cpu'))})"
            if any(sample["failed"] for sample in samples):
                text += f", **{sum(sample['failed'] for sample in samples)} failed**"
            row.append(text)
        rates = [median(cell["samples"].get(name, [])) for name in names]
        row += [f"{rate / limit:.2f}" if rate and limit else "–" for rate in rates]
        if len(names) == 2:
            row.append(f"{rates[0] / rates[1]:.1f}" if rates[0] and rates[1] else "–")
        row.append(", ".join(filter(None, [f"≥ {cell['aim']}" if cell["aim"] else "", cell["more"]])))
        row.append(reached(cell, limit))
        lines.append("| " + " | ".join(row) + " |")
    lines += ["", "| | " + " | ".join(labels[name] for name in names) + " |", "|---" * (1 + len(names)) + "|"]
    for cell in found["cells"]:
        if any(median(cell["samples"].get(name, []), "p99") is not None for name in names):
            row = [number(median(cell["samples"].get(name, []), "p99")) for name in names]
            lines.append(f"| p99 of {cell['name']} (ms) | " + " | ".join(row) + " |")
    if found["loaded"]:
        row = [
            f"{number(found['loaded'][name]['quiet'])} → {number(found['loaded'][name]['loaded'])}" for name in names
        ]
        lines.append("| p99 of GET 4 KiB, 8, alone → under a big upload (ms) | " + " | ".join(row) + " |")
    if found["peak"]:
        row = [f"{found['peak'][name] / 2**20:,.0f}" for name in names]
        lines.append("| peak memory of all server processes (MiB) | " + " | ".join(row) + " |")
    for name, many in (found.get("many") or {}).items():
        lines += [
            "",
            f"{labels[name]} with {many['objects']:,} objects of 4 KiB and {many['connections']} connections, half of them "
            f"writing: peak memory {many['peak'] / 2**20:,.0f} MiB (aim: 250), {many['failed']} requests failed.",
        ]
    return "\n".join(lines) + "\n"


COLOURS = {"holdfast": "#1f6f54", "seaweedfs": "#8aa4b8"}


def chart(found):
    """Bars: each system's share of the limit of its cell."""
    names = [name for name in ("holdfast", "seaweedfs") if name in found["labels"]]
    left, width, bar, gap = 190, 430, 13, 16
    row = bar * len(names) + gap
    height = 64 + row * len(found["cells"]) + 34
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 110}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="12" y="22" font-size="15" font-weight="bold">Share of what the machine allows</text>',
        '<text x="12" y="40" fill="#555">writes: three synced logs; reads: nginx with static files; '
        f'{html.escape(found["date"])}</text>',
    ]
    top = 56
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = left + width * share
        out.append(f'<line x1="{x}" y1="{top}" x2="{x}" y2="{height - 32}" stroke="#ddd"/>')
        out.append(f'<text x="{x}" y="{height - 18}" text-anchor="middle" fill="#555">{share:.0%}</text>')
    for index, cell in enumerate(found["cells"]):
        y, limit = top + 6 + index * row, limit_of(cell)
        out.append(
            f'<text x="{left - 8}" y="{y + bar * len(names) / 2 + 4}" text-anchor="end">'
            f'{html.escape(cell["name"])}</text>'
        )
        if cell["aim"]:
            x = left + width * cell["aim"]
            out.append(
                f'<line x1="{x}" y1="{y - 3}" x2="{x}" y2="{y + bar * len(names)}" stroke="#b5482f" '
                'stroke-width="2"/>'
            )
        for place, name in enumerate(names):
            rate = median(cell["samples"].get(name, []))
            share = rate / limit if rate and limit else 0
            length, at = max(1, width * min(share, 1.1)), y + place * bar
            out.append(f'<rect x="{left}" y="{at}" width="{length:.1f}" height="{bar - 2}" fill="{COLOURS[name]}"/>')
            out.append(
                f'<text x="{left + length + 5:.1f}" y="{at + bar - 4}" font-size="10" fill="#333" '
                'stroke="white" stroke-width="3" paint-order="stroke">'
                f'{number(rate)} {cell["unit"]}</text>'
            )
    x = 12
    for name in names:
        out.append(f'<rect x="{x}" y="{height - 12}" width="10" height="8" fill="{COLOURS[name]}"/>')
        out.append(f'<text x="{x + 14}" y="{height - 4}" font-size="10">{html.escape(found["labels"][name])}</text>')
        x += 24 + 7 * len(found["labels"][name])
    out.append(f'<line x1="{x}" y1="{height - 13}" x2="{x}" y2="{height - 3}" stroke="#b5482f" stroke-width="2"/>')
    out.append(f'<text x="{x + 6}" y="{height - 4}" font-size="10">aim</text>')
    return "\n".join([*out, "</svg>"]) + "\n"
