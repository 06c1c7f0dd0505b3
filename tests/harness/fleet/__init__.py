"""`make fleet`: is a 200 a promise? Many clients in the field, a backend that fails in
every way, an Envoy that is killed again and again; and then the books are compared.

    plan        what shall happen in a run: all of it follows from a seed and a few figures
    ledger      what clients were told and what the backend has, record by record
    client      the apps: a queue on disk, and what they do with each answer
    backend     an OTLP/HTTP receiver that fails by the seeded script
    gateway     Envoy, its SIGKILLs, and VMs that trap
    verdict     the books compared: a table, target/fleet/result.json, the exit status

Clients, backend and Envoy are processes of their own; the program itself starts them,
kills Envoy when it is time, and shows how far the run is.

A run must be able to fail. `--break acknowledge-and-drop` makes a backend that says it took
what it threw away, `--break false-200` an Envoy that turns a 502 into a 200, and
`--break discard` one that turns it into a 400: each must end with exit status 1.
"""
