"""What clients were told and what the backend has, record by record: arrays in a file that all
processes of a run have mapped, so that it survives whatever dies.

Each array, and each row of counters, is written by one process alone. Times are those of the
machine's monotonic clock, which is one for all processes.
"""

import mmap
from pathlib import Path

# What became of a record in its client's queue.
QUEUED, CONFIRMED, DISCARDED, GIVEN_UP = range(4)

# The arrays by name: the type of an item, as `struct` has it, and its size.
ARRAYS = {
    "told": ("d", 8),    # client: when it was last told 200 for it; 0: never
    "acked": ("d", 8),   # backend: when it first told the gateway in full that it took it; 0: never
    "uid": ("Q", 8),     # backend: a hash of the attribute log.record.uid; 0: none
    "fate": ("B", 1),    # client: see above
    "stored": ("H", 2),  # backend: how many times it has kept it, whether it could say so or not
    "refused": ("H", 2),  # backend: in how many exports it was refused, or they for it
}

COUNTERS = (
    "port", "clients_left",
    "requests", "confirmed", "discarded", "given_up", "stopped", "unlike_counts", "rejected_told",
    "rejected_too_many",
    "crashes", "expired_tokens", "no_answer",
    *(f"status_{code}" for code in (200, 400, 401, 403, 404, 413, 415, 429, 500, 502, 503, 504)), "status_other",
    "exports", "exports_taken", "export_bytes", "most_requests_in_an_export", "requests_in_exports",
    "partial", "poison_refused", "faults", "not_decoded", "strangers", "misnamed",
    "without_uid", "uid_differs", "kills", "traps",
    *(f"fault_{number}" for number in range(32)),
)
ROWS = {"program": 0, "backend": 1, "clients": 2}


class Ledger:
    """Made by the first to open the file; the others find what is in it."""

    def __init__(self, path, records):
        self.records = records
        sizes = [8 * len(COUNTERS)] * len(ROWS)
        whole = sum(sizes) + sum((size * records + 7) // 8 * 8 for _, size in ARRAYS.values())
        path = Path(path)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.truncate(whole)
        with path.open("r+b") as file:
            view = memoryview(mmap.mmap(file.fileno(), whole))
        at = 0
        self._rows = []
        for size in sizes:
            self._rows.append(view[at:at + size].cast("Q"))
            at += size
        for name, (kind, size) in ARRAYS.items():
            setattr(self, name, view[at:at + size * records].cast(kind))
            at += (size * records + 7) // 8 * 8

    def row(self, process):
        """The counters that a process writes."""
        return Row(self._rows[ROWS[process]])

    def count(self, name):
        """A counter over all processes."""
        return sum(row[NUMBER[name]] for row in self._rows)


NUMBER = {name: number for number, name in enumerate(COUNTERS)}


class Row:
    """row.add("requests"); row.set("port", 8080)"""

    def __init__(self, view):
        self._view = view

    def add(self, name, more=1):
        self._view[NUMBER[name]] += more

    def set(self, name, value):
        self._view[NUMBER[name]] = value

    def most(self, name, value):
        if value > self._view[NUMBER[name]]:
            self._view[NUMBER[name]] = value
