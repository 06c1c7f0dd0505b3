"""The books compared: is every record that a client deleted because of a 200 at the backend?"""

import json
from array import array

from .client import FAILURES_IN_A_ROW
from .ledger import CONFIRMED, COUNTERS, DISCARDED, GIVEN_UP, QUEUED
from .plan import FAULTS


class Verdict:
    """`breaches` are lines for people, none if the promise was kept; `figures` are what was counted."""

    def __init__(self, plan, ledger, gateway, seconds, *, require_uid=True):
        self.plan = plan
        self.ledger = ledger
        self.breaches = []
        self.records = tally(plan, ledger)
        self.counters = {name: ledger.count(name) for name in COUNTERS if not name.startswith("fault_")}
        self.faults = {name: ledger.count(f"fault_{number}") for number, name in enumerate(FAULTS)}
        self.seconds = seconds
        self.lives = gateway.lives
        self._judge(gateway, require_uid)

    def _judge(self, gateway, require_uid):
        records, counters = self.records, self.counters
        for name, meaning in BREACHES.items():
            count = records.get(name, 0) or counters.get(name, 0)
            if count:
                self.breaches.append(f"{count:,} {meaning}")
        if counters["without_uid"] and (require_uid or counters["without_uid"] < sum(self.ledger.stored)):
            self.breaches.append(f"{counters['without_uid']:,} times a record arrived without log.record.uid")
        wanted = len(self.plan.moments())
        if counters["kills"] + counters["traps"] < wanted:
            self.breaches.append(f"the run ended before all {wanted} kills and traps had happened")
        self.breaches += gateway.faults

    def table(self):
        """Lines for people."""
        records, counters = self.records, self.counters
        exports = max(1, counters["exports_taken"])
        rows = [
            ("records made", self.plan.records),
            ("  deleted because of a 200", records["confirmed"]),
            ("    of these at the backend", records["delivered"]),
            ("    of these poisoned, and refused by the backend", records["poisoned_confirmed"]),
            ("  lost", records["lost"]),
            ("  told 200 before the backend had said that it took them", records["false_200"]),
            ("  discarded for a 4xx", records["discarded"]),
            (f"  given up after {FAILURES_IN_A_ROW} failures in a row", records["given_up"]),
            ("  still in a queue", records["queued"]),
            ("rejected, as clients were told", counters["rejected_told"]),
            ("    more than the poisoned ones in their batch", counters["rejected_too_many"]),
            ("at the backend more than once", records["duplicated"]),
            ("    copies over all", records["copies"]),
            ("    with another log.record.uid than before", counters["uid_differs"]),
            ("records with the uid of another", records["uid_shared"]),
            ("client requests", counters["requests"]),
            ("no answer, or nobody there to ask", counters["no_answer"]),
            ("apps that crashed in a request", counters["crashes"]),
            ("exports at the backend", counters["exports"]),
            ("  taken", counters["exports_taken"]),
            ("  client requests in each, on average", round(counters["requests_in_exports"] / exports, 1)),
            ("  most", counters["most_requests_in_an_export"]),
            ("  refused for a poisoned record", counters["poison_refused"]),
            ("faults of the backend", counters["faults"]),
            ("SIGKILLs of Envoy", counters["kills"]),
            ("VMs trapped", counters["traps"]),
            ("seconds", round(self.seconds)),
        ]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {value:>12,}" for name, value in rows]
        lines += ["answers: " + ", ".join(
            f"{name[7:]} {count:,}" for name, count in counters.items() if name.startswith("status_") and count)]
        lines += ["faults: " + ", ".join(f"{name} {count:,}" for name, count in self.faults.items() if count)]
        return lines

    def write(self, path):
        path.write_text(json.dumps({
            "kept": not self.breaches, "breaches": self.breaches, "plan": vars(self.plan), "records": self.records,
            "counters": self.counters, "faults": self.faults, "lives": self.lives, "seconds": round(self.seconds, 1),
        }, indent=1) + "\n")


BREACHES = {
    "lost": "records were deleted because of a 200 and are not at the backend",
    "false_200": "records were told 200 before the backend had said that it took them",
    "discarded": "records were discarded for a 4xx",
    "given_up": f"records were given up after {FAILURES_IN_A_ROW} failures in a row",
    "queued": "records are still in their queue: the run got stuck",
    "poisoned_kept": "poisoned records were kept: the backend is broken",
    "stopped": "clients stopped for good, because of a 404",
    "unlike_counts": "times accepted and rejected did not add up to the batch",
    "not_decoded": "exports could not be decoded",
    "strangers": "records arrived that no client has made",
    "misnamed": "records arrived under another's name",
    "uid_differs": "times a record had another log.record.uid than before",
    "uid_shared": "records have the log.record.uid of another",
}


def tally(plan, ledger):
    """What became of the records, in one walk through the books."""
    names = ["confirmed", "delivered", "poisoned_confirmed", "poisoned_kept", "lost", "false_200", "discarded",
             "given_up", "queued", "duplicated", "copies", "uid_shared"]
    count = dict.fromkeys(names, 0)
    told, acked, fate, stored, refused = (
        copy_of(ledger, name) for name in ("told", "acked", "fate", "stored", "refused"))
    for record in range(plan.records):
        copies = stored[record]
        if copies > 1:
            count["duplicated"] += 1
            count["copies"] += copies - 1
        poisoned = plan.is_poisoned(record)
        if poisoned:
            count["poisoned_kept"] += copies > 0
            # Nobody knows that it is poisoned until the backend has said so.
            count["false_200"] += bool(told[record] and not refused[record])
        elif told[record] and not 0 < acked[record] <= told[record]:
            count["false_200"] += 1
        end = fate[record]
        if end == CONFIRMED:
            count["confirmed"] += 1
            if poisoned:
                count["poisoned_confirmed"] += 1
            elif copies:
                count["delivered"] += 1
            else:
                count["lost"] += 1
        else:
            count[{QUEUED: "queued", DISCARDED: "discarded", GIVEN_UP: "given_up"}[end]] += 1
    uids = [uid for uid in ledger.uid if uid]
    count["uid_shared"] = len(uids) - len(set(uids))
    return count


def copy_of(ledger, name):
    """The array as one of this process: faster to walk through than shared memory."""
    view = getattr(ledger, name)
    return array(view.format, view.tobytes())
