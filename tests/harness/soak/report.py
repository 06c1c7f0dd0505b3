"""The CSV, the picture, and the rule.

The rule: the first tenth of the samples is left out. Of the rest the medians of the first and the
last third are compared, and the slope through all (the median of the slopes between pairs of
samples, after Theil and Sen) is carried over the time between these thirds. The smaller of the two
is the growth: a level that merely jumps about, or a single peak, is none. It may be as much as
one part in twenty and 4 MiB (16 for files): allocators settle for a long time, and a leak that
matters is past that in half an hour.
"""

import csv
import itertools
import statistics

MIB = 1 << 20

# The columns that must not grow, what they are called, and what is allowed beside a twentieth.
BOUNDED = {
    "resident_bytes": ("resident memory of Envoy", 4 * MIB),
    "vm_bytes": ("linear memory of the VMs", 4 * MIB),
    "heap_bytes": ("heap of Envoy", 4 * MIB),
    "open_files": ("open files of Envoy", 16),
}
PART = 0.05


def settled(values):
    """Without the first tenth."""
    return values[len(values) // 10:]


def growth(values):
    """By how much they grow after the first tenth, by the rule above."""
    values = settled(values)
    third = len(values) // 3
    if third < 2:
        return 0
    medians = statistics.median(values[-third:]) - statistics.median(values[:third])
    # Some hundred samples say as much as all.
    points = list(enumerate(values))[::max(1, len(values) // 150)]
    slopes = [(b - a) / (y - x) for (x, a), (y, b) in itertools.combinations(points, 2)]
    return min(medians, statistics.median(slopes) * (len(values) - third))


def allowed(column, values):
    return PART * statistics.median(settled(values)[:max(1, len(values) // 4)]) + BOUNDED[column][1]


def breaches(rows):
    """What grew, one line each."""
    found = []
    for column, (meaning, _) in BOUNDED.items():
        values = [row[column] for row in rows if row[column] is not None]
        if len(values) < 10:
            continue
        by, limit = growth(values), allowed(column, values)
        if by > limit:
            grown, most = plain(column, by), plain(column, limit)
            found.append(f"{meaning} grew by {grown} after the first tenth; {most} are allowed")
    return found


def plain(column, value):
    return f"{value / MIB:.1f} MiB" if column.endswith("_bytes") else f"{value:.0f}"


class Table:
    """The CSV, written row by row: what was seen so far survives an interruption."""

    def __init__(self, path):
        self.rows = []
        self._file = path.open("w", newline="")
        self._writer = None

    def add(self, row):
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, row.keys(), lineterminator="\n")
            self._writer.writeheader()
        self._writer.writerow(row)
        self._file.flush()
        self.rows.append(row)

    def close(self):
        self._file.close()


def draw(rows, path):
    """Four panels over time: memory, files, latency, answers."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    minutes = [row["seconds"] / 60 for row in rows]
    figure, panels = pyplot.subplots(4, 1, figsize=(11, 13), sharex=True)
    memory, files, latency, answers = panels
    for column, label in (("resident_bytes", "resident"), ("heap_bytes", "heap"), ("vm_bytes", "all VMs")):
        memory.plot(minutes, [None if row[column] is None else row[column] / MIB for row in rows], label=label)
    memory.set_ylabel("MiB")
    for column, label in (("open_files", "open files"), ("connections", "connections"), ("under_way", "requests")):
        files.plot(minutes, [row[column] for row in rows], label=label)
    for column in ("p50_ms", "p95_ms", "p99_ms"):
        latency.plot(minutes, [row[column] for row in rows], label=column[:-3])
    latency.set_yscale("log")
    latency.set_ylabel("ms, good batches")
    for column in ("good", "refused", "failed", "unanswered"):
        answers.plot(minutes, [row[column] / row["interval"] for row in rows], label=column)
    answers.set_ylabel("per second")
    answers.set_xlabel("minutes")
    for panel in panels:
        panel.axvline(minutes[-1] / 10, color="grey", linestyle=":")
        panel.grid(alpha=0.3)
        panel.legend(loc="upper right", fontsize="small")
    for panel in (memory, files):
        panel.set_ylim(bottom=0)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
