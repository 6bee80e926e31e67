"""Draw the ratios of DRAWN as bars on a logarithmic axis, into its files; see ops/bench/plot.py.

A bar to the right: ours is so many times better; to the left: so many times worse. Where more is better (its unit is a
rate) and where less is, the same. A peer that did not do what it was asked for is hatched.
"""

import json
import os

from matplotlib.figure import Figure

asked = json.loads(os.environ["DRAWN"])
names, better = [], []
for one in asked["ratios"]:
    ratio = one["ours"] / one["theirs"] if one["unit"].endswith("/s") else one["theirs"] / one["ours"]
    better.append(ratio)
    names.append(f"{one['what']}\n{one['ours']:.3g} : {one['theirs']:.3g} {one['unit']}, {one['peer']}")

longest = max(3.0, *better)
figure = Figure(figsize=(11, 1.2 + 0.5 * len(names)), layout="constrained")
axes = figure.subplots()
for place, (one, ratio) in enumerate(zip(asked["ratios"], better, strict=True)):
    colour, hatch = ("#2a7f62" if ratio >= 1 else "#b5452c"), ("//" if one["wrong"] else "")
    axes.barh(place, ratio - 1, left=1, color=colour, hatch=hatch, edgecolor="white")
    said = f"{ratio:.3g} ×" + (" (the peer's is wrong)" if one["wrong"] else "")
    axes.text(ratio, place, f" {said} ", va="center", ha="left" if ratio >= 1 else "right", fontsize=8)
axes.set_xscale("log")
axes.set_xlim(min(0.9, min(better) / 3), longest * 4)
axes.axvline(1, color="black", linewidth=0.8)
axes.set_yticks(range(len(names)), names, fontsize=8)
axes.invert_yaxis()
axes.set_xlabel("times better than the peer")
axes.set_title(asked["title"], fontsize=9)
for file in asked["files"]:
    figure.savefig(file, dpi=150)
print(json.dumps(asked["files"]), flush=True)
