"""Draw the ratios of DRAWN as bars on a logarithmic axis, into its files; see ops/bench/plot.py.

A bar to the right: Team Sessions is better by this factor; to the left: worse. Where more is better (its unit is a
rate) and where less is, the same. A peer that did not do what it was asked for is hatched.
"""

import json
import os

from matplotlib.figure import Figure

request = json.loads(os.environ["DRAWN"])
names, better = [], []
for entry in request["ratios"]:
    quotient = entry["value"] / entry["peer_value"]
    ratio = quotient if entry["unit"].endswith("/s") else 1 / quotient
    better.append(ratio)
    names.append(f"{entry['what']}\n{entry['value']:.3g} : {entry['peer_value']:.3g} {entry['unit']}, {entry['peer']}")

longest = max(3.0, *better)
figure = Figure(figsize=(11, 1.2 + 0.5 * len(names)), layout="constrained")
axes = figure.subplots()
for index, (entry, ratio) in enumerate(zip(request["ratios"], better, strict=True)):
    colour, hatch = ("#2a7f62" if ratio >= 1 else "#b5452c"), ("//" if entry["wrong"] else "")
    axes.barh(index, ratio - 1, left=1, color=colour, hatch=hatch, edgecolor="white")
    label = f"{ratio:.3g} ×" + (" (the peer's is wrong)" if entry["wrong"] else "")
    axes.text(ratio, index, f" {label} ", va="center", ha="left" if ratio >= 1 else "right", fontsize=8)
axes.set_xscale("log")
axes.set_xlim(min(0.9, min(better) / 3), longest * 4)
axes.axvline(1, color="black", linewidth=0.8)
axes.set_yticks(range(len(names)), names, fontsize=8)
axes.invert_yaxis()
axes.set_xlabel("times better than the peer")
axes.set_title(request["title"], fontsize=9)
for file in request["files"]:
    figure.savefig(file, dpi=150)
print(json.dumps(request["files"]), flush=True)
