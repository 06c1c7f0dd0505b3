"""python -m harness.fleet --records 1000000 --seed 7: see the package."""

import argparse
import multiprocessing
import os
import shutil
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from .. import tokens
from ..common import TARGET, Problem
from . import backend, client
from .gateway import Gateway
from .ledger import Ledger
from .plan import BREAKS, FAULTS, NEED_SPLITTING, Plan
from .verdict import Verdict

STUCK_SECONDS = 90


def main():
    arguments = parsed()
    plan = Plan(
        records=arguments.records, seed=arguments.seed, clients=min(arguments.clients, arguments.records),
        kills=arguments.kills if arguments.kills is not None else 3 + arguments.records // 45_000,
        traps=arguments.traps if arguments.traps is not None else 2 + arguments.records // 100_000,
        fault_rate=arguments.fault_rate, splitting=not arguments.no_splitting,
        faults=tuple(name for name in FAULTS if not (arguments.no_splitting and name in NEED_SPLITTING)),
        hurry=arguments.hurry, breaks=arguments.breaks or "", trace=arguments.trace)
    directory = Path(arguments.directory)
    try:
        verdict = run(plan, directory, require_uid=not arguments.no_uid)
    except Problem as problem:
        print(f"fleet: error: {problem}", file=sys.stderr)
        return 2
    for line in verdict.table():
        print(line)
    for breach in verdict.breaches:
        print(f"fleet: BROKEN: {breach}")
    again = f"SEED={plan.seed} RECORDS={plan.records}"
    print(f"fleet: {'the promise was broken' if verdict.breaches else 'every promise was kept'} ({again}; "
          f"more in {directory / 'result.json'})")
    return 1 if verdict.breaches else 0


def parsed():
    parser = argparse.ArgumentParser(prog="make fleet", description=__doc__)
    add = parser.add_argument
    add("--records", type=int, default=100_000, help="how many, over all clients")
    add("--seed", type=int, default=1)
    add("--clients", type=int, default=128)
    add("--kills", type=int, help="SIGKILLs of Envoy; by default 3, and one more for each 45,000 records")
    add("--traps", type=int, help="VMs trapped; by default 2, and one more for each 100,000 records")
    add("--fault-rate", type=float, default=0.2, help="the part of the exports that meets a fault")
    add("--hurry", type=int, default=20, help="how many times as fast as in the field clients back off")
    add("--directory", default=os.path.relpath(TARGET / "fleet"), help="where it works and leaves result.json")
    add("--break", dest="breaks", choices=BREAKS, help="break something, to see the run fail")
    add("--trace", action="store_true", help="keep Envoy's access logs")
    add("--no-splitting", action="store_true", help="no fault that a filter must split exports to survive")
    add("--no-uid", action="store_true", help="records may arrive without log.record.uid, if all of them do")
    return parser.parse_args()


def run(plan, directory, *, require_uid=True):
    """One run, from nothing to its Verdict."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    books = directory / "books"
    ledger = Ledger(books, plan.records)
    key = tokens.hmac_key()
    progress = Progress(plan, ledger)
    began = time.monotonic()
    with ExitStack() as running:
        processes = multiprocessing.get_context("spawn")
        listening = backend.listening()
        server = processes.Process(target=backend.main, args=(plan, books, listening), daemon=True)
        running.callback(end, server)
        server.start()
        gateway = Gateway(plan, key, listening.getsockname()[1], directory)
        listening.close()
        running.callback(gateway.stop)
        row = ledger.row("program")
        row.set("port", gateway.start())
        clients = processes.Process(target=client.main, args=(plan, books, key), daemon=True)
        running.callback(end, clients)
        clients.start()
        conduct(plan, ledger, gateway, clients, server, progress)
    verdict = Verdict(plan, ledger, gateway, time.monotonic() - began, require_uid=require_uid)
    verdict.write(directory / "result.json")
    books.unlink()
    return verdict


def conduct(plan, ledger, gateway, clients, server, progress):
    """Kills and traps when it is time, until the clients are done or stuck."""
    row = ledger.row("program")
    moments = plan.moments()
    delivered, since = 0, time.monotonic()
    while True:
        clients.join(0.05)
        now = time.monotonic()
        if ledger.count("confirmed") > delivered:
            delivered, since = ledger.count("confirmed"), now
        progress.show()
        if not clients.is_alive():
            break
        if not server.is_alive():
            raise Problem("the backend of the fleet has ended by itself; what it said stands above")
        if now - since > STUCK_SECONDS:
            gateway.faults.append(f"nothing was delivered for {STUCK_SECONDS} s")
            break
        while moments and moments[0][0] <= delivered:
            _, event = moments.pop(0)
            if event == "trap":
                trapped = gateway.trapped
                gateway.trap()
                row.add("traps", gateway.trapped - trapped)
                if gateway.trapped == trapped:
                    moments.insert(0, (delivered + 1, event))
                    break
                continue
            row.set("port", 0)
            gateway.kill()
            row.add("kills")
            row.set("port", gateway.start())
    if clients.exitcode:
        gateway.faults.append(f"the clients' process ended with status {clients.exitcode}")
    progress.show(last=True)


def end(process):
    """Ends a process that this program has started."""
    if process.is_alive():
        process.terminate()
    if process.pid:
        process.join()


class Progress:
    """One line that is written anew on a terminal; elsewhere one every five seconds."""

    def __init__(self, plan, ledger):
        self.plan = plan
        self.ledger = ledger
        self.began = time.monotonic()
        self.shown = 0.0
        self.live = sys.stderr.isatty()

    def show(self, last=False):
        now = time.monotonic()
        if now - self.shown < (0.5 if self.live else 5) and not last:
            return
        self.shown = now
        count = self.ledger.count
        seconds = max(0.1, now - self.began)
        text = (f"fleet: {seconds:4.0f} s  {count('confirmed'):,} of {self.plan.records:,} records "
                f"({count('confirmed') / seconds:,.0f}/s)  {count('requests'):,} requests  "
                f"{count('exports'):,} exports  {count('faults'):,} faults  {count('kills')} kills  "
                f"{count('traps')} traps  {count('clients_left')} clients left")
        print(f"\r{text}\x1b[K" if self.live else text, end="" if self.live and not last else "\n",
              file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
