"""What shall happen in a run. The same plan gives the same records, the same poisoned ones, the
same script of faults and the same moments of the kills; which request meets which fault is
left to the race between the processes."""

import random
from dataclasses import dataclass

# What the backend does with an export instead of taking it, and how often among the faults.
# Those that make everybody wait (for a second at least, whatever the hurry) are rare, and those
# that end a request without another try are few: a batch with a poisoned record in it takes some
# twenty exports until the culprit is found, all of which must come through.
FAULTS = {
    "reset before reading": 60,   # the connection breaks before the request is read
    "reset before accepting": 70,  # read, thrown away, RST
    "reset after accepting": 70,  # kept, RST: nobody is told
    "cut in mid-answer": 50,      # kept, half an answer, RST
    "hang": 3,                    # thrown away; no answer until the peer gives up
    "hang after accepting": 3,
    "slow": 50,                   # kept and said so, after up to half a second
    "500": 70,
    "502 after accepting": 30,
    "503": 1,
    "503 with Retry-After": 1,
    "429 with Retry-After": 1,
    "401": 2, "403": 2, "404": 2,  # a wrong token or URL: no verdict on the records
    "portal": 12,                 # a captive portal's page, with 200
    "junk": 6,                    # 200, and a body that is no OTLP
    "413": 20,                    # too large, as long as there is more than one record
}

# What it takes a filter that splits exports to survive: without that, clients would have to give
# up what shares a request with a poisoned record.
NEED_SPLITTING = ("413",)

BREAKS = ("acknowledge-and-drop", "false-200", "discard")


@dataclass(frozen=True)
class Plan:
    """records     that the clients make, over all
    clients     each an install with its own user, connection and queue
    kills       of Envoy, by SIGKILL, evenly over the run
    traps       of a worker's VM, likewise
    fault_rate  the part of the exports that meets a fault
    faults      which: names of FAULTS
    splitting   whether records are poisoned such that whatever holds them is refused (400, 413, 422); else
                the backend names them in a partial success
    poisoned    one record in so many
    hurry       how many times as fast as in the field clients back off
    limit       exports beyond so many bytes get 413, as long as they hold more than one record
    breaks      what is broken on purpose, to see the run fail
    trace       whether Envoy's access logs are kept, one for each life
    """

    records: int = 100_000
    seed: int = 1
    clients: int = 128
    kills: int = 5
    traps: int = 3
    fault_rate: float = 0.2
    faults: tuple = tuple(FAULTS)
    splitting: bool = True
    poisoned: int = 2_000
    hurry: int = 20
    limit: int = 512 * 1024
    timeout_ms: int = 5000
    workers: int = 2
    breaks: str = ""
    trace: bool = False

    def records_of(self, client):
        """The numbers of the records that a client makes: a range."""
        return range(client * self.records // self.clients, (client + 1) * self.records // self.clients)

    def owner(self, record):
        """The client that makes it."""
        guess = record * self.clients // self.records
        while record not in self.records_of(guess):
            guess += 1 if record >= self.records_of(guess).stop else -1
        return guess

    def is_poisoned(self, record):
        """Whether the backend never takes it."""
        return scattered(self.seed, record) % self.poisoned == 0

    def refusal(self, record):
        """The status of an export that holds this poisoned record; 200 for a partial success."""
        choices = (400, 413, 422, 200) if self.splitting else (200,)
        return choices[scattered(self.seed + 1, record) % len(choices)]

    def script(self):
        """The backend's faults, request by request, without end; None where there is none."""
        chance = random.Random(f"{self.seed} faults")
        weights = [FAULTS[name] for name in self.faults]
        while True:
            faulty = self.faults and chance.random() < self.fault_rate
            yield chance.choices(self.faults, weights)[0] if faulty else None

    def moments(self):
        """When Envoy is killed or a VM trapped: pairs of how many records are delivered by then, and
        "kill" or "trap"; in order."""
        chance = random.Random(f"{self.seed} moments")
        events = ["kill"] * self.kills + ["trap"] * self.traps
        chance.shuffle(events)
        step = self.records / (len(events) + 1)
        # The last records may wait in a few queues: nothing is planned for them.
        return [(int(step * (number + 0.8 * chance.random())), event) for number, event in enumerate(events, 1)]


def scattered(seed, number):
    """A number that looks like chance."""
    mixed = (number * 0x9E3779B97F4A7C15 + seed * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    mixed = ((mixed ^ (mixed >> 31)) * 0x94D049BB133111EB) & (2**64 - 1)
    return mixed >> 17
