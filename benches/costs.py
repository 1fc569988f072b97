#!/usr/bin/env python3
"""How the cost of training grows: `lens bench train` over four sweeps, with the exponents that fit, and a plot.

    python benches/costs.py --lens target/release/lens --save costs.json        # measure, print, plot to docs/costs.svg
    python benches/costs.py --data costs.json                                   # print and plot again from the figures

Each sweep changes one of

    pairs      N, seed pairs
    dim        d, width of an embedding
    factor     F, training pairs for each seed pair
    members    M, heads trained together

and keeps the others at the base point (`--base pairs=1000,dim=1024,factor=4,members=5`). Every point is a process of
its own, so that its peak memory is its own. The sweeps are run through `--repeat` times, one after the other, and the
lowest figure of each point is kept, for each stage by itself.

The exponent is the slope of a least-squares line through all points in log-log: cost ~ x^exponent. `last step` is the
slope between the last two points alone: where a fixed share still weighs at the small end, this one is nearer to what
growth costs.

Only the standard library is needed. `--save` writes after every run, so that a run cut short is not lost.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path

SWEEPS = {
    "pairs": [250, 500, 1000, 2000, 4000, 8000],
    "dim": [256, 512, 1024, 2048, 4096, 8192],
    "factor": [1, 2, 4, 8, 16, 32, 64, 128, 256],
    "members": [1, 2, 4, 8, 16, 32],
}
BASE = {"pairs": 1000, "dim": 1024, "factor": 4, "members": 5}
NAMES = {"pairs": ("Seed pairs", "N"), "dim": ("Embedding width", "d"), "factor": ("Augmentation factor", "F"),
         "members": ("Members of the ensemble", "M")}
SECONDS = {"vae_seconds": "VAE", "head_seconds": "Head", "synthesis_seconds": "Synthesis"}
COSTS = SECONDS | {"peak_mb": "Peak memory"}


# Measuring

def point_of(base, sweep, value):
    return base | {sweep: value}


def measure(lens, point, options):
    """Seconds of the stages and peak memory of one run."""
    command = [
        lens, "bench", "train", "--dim", point["dim"], "--pairs", point["pairs"], "--vae-epochs", options.vae_epochs,
        "--head-epochs", options.head_epochs, "--factors", point["factor"], "--members", point["members"], "--json",
    ]
    command = [str(part) for part in command]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        sys.exit(f"{lens}: {error.strerror} (build it with `cargo build --release`, or name it with --lens)")
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr.strip()}")
    try:
        report = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        sys.exit(f"{' '.join(command)} did not end with a line of JSON:\n{done.stdout[-500:]}")
    figures = {}
    for cost in COSTS:
        figure = report.get(cost)
        if isinstance(figure, dict):
            figure = figure.get(str(point["factor"]))
        if figure:  # 0 and null: the stage was not run
            figures[cost] = figure
    return figures


def measure_all(options):
    """All sweeps. A point that several sweeps share (the base point) is run once a round."""
    data = {
        "base": options.base, "vae_epochs": options.vae_epochs, "head_epochs": options.head_epochs,
        "repeat": options.repeat, "cores": len(os.sched_getaffinity(0)),
        "sweeps": {sweep: [{"value": value} for value in options.values[sweep]] for sweep in options.sweeps},
    }
    for turn in range(1, options.repeat + 1):
        known = {}
        for sweep, points in data["sweeps"].items():
            for entry in points:
                point = point_of(options.base, sweep, entry["value"])
                key = tuple(point.items())
                if key not in known:
                    known[key] = measure(options.lens, point, options)
                    report = ", ".join(f"{cost} {figure:.4g}" for cost, figure in known[key].items())
                    print(f"run {turn} of {options.repeat}, {sweep} = {entry['value']}: {report}", file=sys.stderr)
                for cost, figure in known[key].items():
                    entry[cost] = min(figure, entry.get(cost, figure))
                if options.save:
                    save(options.save, data)
    return data


def save(path, data):
    """Replaces the file as a whole: a run cut short leaves the last whole one."""
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(data, indent=1) + "\n")
    new.replace(path)


# Fitting

def series(points, cost):
    """x and y of the points that have the cost."""
    return [(p["value"], p[cost]) for p in points if p.get(cost, 0) > 0]


def fit(points):
    """Slope and offset of the least-squares line in log-log; None below two points."""
    if len({x for x, _ in points}) < 2:
        return None
    logs = [(math.log(x), math.log(y)) for x, y in points]
    mean_x, mean_y = (sum(column) / len(logs) for column in zip(*logs))
    slope = sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)
    return slope, mean_y - slope * mean_x


def last_step(points):
    """The exponent between the last two points."""
    fitted = fit(points[-2:])
    return fitted and fitted[0]


# Printing

def number(value):
    """Three figures, never in powers of ten."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def exponent(value):
    return "" if value is None else f"{value:.2f}".replace("-0.00", "0.00")


def setting(data):
    base = ", ".join(f"{NAMES[name][1]} = {value:,}" for name, value in data["base"].items())
    runs = "1 run" if data["repeat"] == 1 else f"best of {data['repeat']} runs"
    return f"{base}; {data['vae_epochs']} epochs of the VAE, {data['head_epochs']} of the head; {runs}"


def print_tables(data):
    print(f"Base point: {setting(data)}.\n")
    print("| Sweep | Cost | Smallest | Largest | Exponent, all points | Exponent, last step |")
    print("|---|---|---|---|---|---|")
    for sweep, points in data["sweeps"].items():
        letter = NAMES[sweep][1]
        for cost, name in COSTS.items():
            line = series(points, cost)
            if not line:
                continue
            unit = "MB" if cost == "peak_mb" else "s"
            (first, low), (last, high) = line[0], line[-1]
            fitted = fit(line)
            print(f"| {letter} {first:,} to {last:,} | {name} | {number(low)} {unit} | {number(high)} {unit} "
                  f"| {exponent(fitted and fitted[0])} | {exponent(last_step(line))} |")
    for sweep, points in data["sweeps"].items():
        print(f"\n| {NAMES[sweep][1]} | " + " | ".join(f"{point['value']:,}" for point in points) + " |")
        print("|---" * (len(points) + 1) + "|")
        for cost, name in COSTS.items():
            figures = [number(point[cost]) if point.get(cost, 0) > 0 else "" for point in points]
            if any(figures):
                print(f"| {name}, {'MB' if cost == 'peak_mb' else 's'} | " + " | ".join(figures) + " |")


# Plotting

WIDTH, HEIGHT = 960, 815
PANEL = dict(width=390, height=240)
STYLE = """
text { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", Helvetica, Arial, sans-serif; fill: #1f2328 }
.back { fill: #ffffff }
.title { font-size: 15px; font-weight: 600 }
.panel { font-size: 13px; font-weight: 600 }
.small { font-size: 11.5px }
.quiet { fill: #59636e }
.grid { stroke: #e4e7eb; stroke-width: 1 }
.axis { stroke: #8b949e; stroke-width: 1; fill: none }
.line { stroke-width: 1.5; stroke-dasharray: 5 3; fill: none }
.vae_seconds { fill: #0b62a8; stroke: #0b62a8 }
.head_seconds { fill: #c2410c; stroke: #c2410c }
.synthesis_seconds { fill: #15803d; stroke: #15803d }
.line.vae_seconds, .line.head_seconds, .line.synthesis_seconds { fill: none }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .back { fill: #0d1117 }
  .quiet { fill: #9da7b3 }
  .grid { stroke: #262c34 }
  .axis { stroke: #6e7681 }
  .vae_seconds { fill: #6cb6ff; stroke: #6cb6ff }
  .head_seconds { fill: #ff9a5c; stroke: #ff9a5c }
  .synthesis_seconds { fill: #56d364; stroke: #56d364 }
}
"""


def text(x, y, content, classes="small", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{classes}" text-anchor="{anchor}">{content}</text>'


def marker(cost, x, y):
    """A shape of its own for each cost, so that colour is not all there is."""
    if cost == "vae_seconds":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.6" class="{cost}"/>'
    if cost == "head_seconds":
        return f'<rect x="{x - 3.4:.1f}" y="{y - 3.4:.1f}" width="6.8" height="6.8" class="{cost}"/>'
    return f'<path d="M{x:.1f} {y - 4.2:.1f}l4.2 7.4h-8.4z" class="{cost}"/>'


def seconds_label(value):
    for unit, scale in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= 0.999 * scale:
            return f"{value / scale:,.4g} {unit}"
    return f"{value:.1g} s"


def y_ticks(low, high):
    """Decades; 1, 2 and 5 of each where there are few."""
    steps = (1, 2, 5) if math.log10(high / low) < 2.6 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0 ** decade for decade in decades for step in steps
            if low <= step * 10.0 ** decade * 1.0001 and step * 10.0 ** decade <= high * 1.0001]


def panel(sweep, points, left, top):
    width, height = PANEL["width"], PANEL["height"]
    title, letter = NAMES[sweep]
    lines = {cost: series(points, cost) for cost in SECONDS}
    lines = {cost: line for cost, line in lines.items() if line}
    out = [text(left, top, f"{title}, {letter}", "panel")]
    for row, (cost, line) in enumerate(lines.items()):
        y = top + 19 + 16 * row
        fitted = fit(line)
        out.append(marker(cost, left + 5, y - 4))
        label = SECONDS[cost]
        if fitted:
            slope, local = (exponent(value).replace("-", "\u2212") for value in (fitted[0], last_step(line)))
            label += f': ~ {letter}<tspan dy="-4" font-size="9.5">{slope}</tspan>'
            label += f'<tspan dy="4" class="quiet">, last step {local}</tspan>'
        out.append(text(left + 16, y, label))
    top += 19 + 16 * len(SECONDS)
    if not lines:
        return out + [text(left, top, "no measurements", "small quiet")]

    every = [point for line in lines.values() for point in line]
    xs = [point["value"] for point in points]
    low_x, high_x = min(xs), max(xs)
    low_y, high_y = min(y for _, y in every) / 1.5, max(y for _, y in every) * 1.5

    def share(value, low, high):
        return 0.5 if low == high else math.log(value / low) / math.log(high / low)

    def place(x, y):
        return left + 14 + (width - 28) * share(x, low_x, high_x), top + height * (1 - share(y, low_y, high_y))

    for value in y_ticks(low_y, high_y):
        y = place(low_x, value)[1]
        out.append(f'<line x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        out.append(text(left - 7, y + 4, seconds_label(value), anchor="end"))
    for value in xs:
        x = place(value, low_y)[0]
        out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + height}" class="grid"/>')
        out.append(text(x, top + height + 16, f"{value:,}", anchor="middle"))
    out.append(f'<path d="M{left} {top}v{height}h{width}" class="axis"/>')
    for cost, line in lines.items():
        if fitted := fit(line):
            slope, offset = fitted
            ends = [place(x, math.exp(offset + slope * math.log(x))) for x in (line[0][0], line[-1][0])]
            out.append('<path d="M' + "L".join(f"{x:.1f} {y:.1f}" for x, y in ends) + f'" class="line {cost}"/>')
        out += [marker(cost, *place(x, y)) for x, y in line]
    return out


def plot(data):
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" aria-label="Cost of training against the size of the job, with fitted exponents">',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" class="back"/>',
        text(24, 32, "What training costs as the job grows", "title"),
        text(24, 52, f"Otherwise {setting(data)}. Both axes logarithmic; dashed: least-squares fit.", "small quiet"),
    ]
    for index, (sweep, points) in enumerate(data["sweeps"].items()):
        out += panel(sweep, points, 70 + (index % 2) * 480, 88 + (index // 2) * 375)
    return "\n".join(out + ["</svg>"]) + "\n"


def assignments(base):
    """`name=value,..` onto a copy of `base`."""

    def parse(words):
        pairs = dict(word.split("=", 1) for word in words.split(","))
        if unknown := set(pairs) - set(base):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not one of {', '.join(base)}")
        return base | {name: int(value) for name, value in pairs.items()}

    return parse


def ascending(words):
    return sorted({int(word) for word in words.split(",")})


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lens", default="target/release/lens", help="the binary")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each point; the best counts")
    parser.add_argument("--vae-epochs", type=int, default=20)
    parser.add_argument("--head-epochs", type=int, default=10)
    parser.add_argument("--base", type=assignments(BASE), default=BASE, help="e.g. pairs=2000,dim=4096")
    parser.add_argument("--sweeps", type=lambda words: words.split(","), default=list(SWEEPS), help=",".join(SWEEPS))
    for sweep, values in SWEEPS.items():
        parser.add_argument(f"--{sweep}", type=ascending, default=values, metavar="LIST",
                            help=f"values of the sweep (default {','.join(map(str, values))})")
    parser.add_argument("--save", type=Path, help="write the measurements as JSON")
    parser.add_argument("--data", type=Path, help="take the measurements from here instead of measuring")
    parser.add_argument("--svg", type=Path, default=Path("docs/costs.svg"), help="where the plot goes")
    options = parser.parse_args()
    if unknown := set(options.sweeps) - set(SWEEPS):
        parser.error(f"--sweeps: {', '.join(sorted(unknown))}: not one of {', '.join(SWEEPS)}")
    if options.repeat < 1:
        parser.error("--repeat is at least 1")
    if not options.svg.parent.is_dir():
        parser.error(f"--svg: there is no folder {options.svg.parent}")
    options.values = {sweep: getattr(options, sweep) for sweep in SWEEPS}
    return options


def main():
    options = arguments()
    data = json.loads(options.data.read_text()) if options.data else measure_all(options)
    print_tables(data)
    options.svg.write_text(plot(data))


if __name__ == "__main__":
    main()
