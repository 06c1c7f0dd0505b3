"""CPU for each record, by batch and rival: rows of results.csv as JSON on standard input, the
picture's path as argument. Runs where matplotlib is."""

import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

rows = json.load(sys.stdin)
rows = [row for row in rows if row["http"] == rows[0]["http"] and row["cpu_us_record"] > 0]
batches = list(dict.fromkeys(row["batch"] for row in rows))
connections = sorted({row["connections"] for row in rows})
rivals = list(dict.fromkeys(row["rival"] for row in rows))
shown = [connections[0], min(connections[1:], key=lambda count: abs(count - 64))] if connections[1:] else connections

figure, axes = plt.subplots(1, len(shown), figsize=(6 * len(shown), 4.5), sharey=True, squeeze=False)
for axis, count in zip(axes[0], shown):
    for i, rival in enumerate(rivals):
        values = {
            row["batch"]: row["cpu_us_record"] for row in rows if (row["rival"], row["connections"]) == (rival, count)
        }
        places = [
            x + (i - len(rivals) / 2 + 0.5) * 0.8 / len(rivals) for x, batch in enumerate(batches) if batch in values
        ]
        axis.bar(places, [values[batch] for batch in batches if batch in values], 0.8 / len(rivals), label=rival)
    axis.set_yscale("log")
    axis.set_xticks(range(len(batches)), [f"batch of {batch}" for batch in batches])
    axis.set_title(f"{count} connection{'s' if count > 1 else ''}")
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)
axes[0][0].set_ylabel("CPU µs of the process for each record")
handles, labels = axes[0][0].get_legend_handles_labels()
figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False)
figure.tight_layout(rect=(0, 0.14, 1, 1))
figure.savefig(sys.argv[1], dpi=150)
