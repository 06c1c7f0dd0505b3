"""What the tests and `make run` stand on: a real Envoy, a backend that stands in
for Logfire, tokens, and the local stack made of them.

    envoy       start the real Envoy, ask its admin port, read its logs
    envoy_bin   find that Envoy, or download the pinned one
    bootstrap   load an Envoy file from envoy/ and change parts of it
    backend     an OTLP/HTTP receiver that can be told to misbehave
    otlp        the official decoder's view of what was received
    gateways    Envoys that several tests share, and a look at each one's end
    expected    what a batch must become, said independently of the filter; clocks is its part on time
    jsontext    JSON as it was sent, for expected
    encoder     the filter's encoder without an Envoy, and what is wrong with what it encodes
    budget      how many instructions its work takes; `make budget`
    golden      what it makes of bodies, written down; `make golden`
    memory      what a process holds
    corners     bodies and strings that a parser could stumble over
    batches     batches that are generated, and made small again
    echo        a plain upstream, for what must pass through untouched
    curl        curl, over HTTP/1.1 and HTTP/2
    rawhttp     HTTP by hand, for what no client library would send
    crowd       many requests under way at once
    tokens      session tokens, good and bad
    tls         certificates for a backend that speaks TLS
    wasm        the imports of a module
    sample      a realistic batch of client records
    fleet       clients in the field, a backend that fails, an Envoy that dies; `make fleet`
    gobuild     builds what the two below need that is written in Go
    ratelimit   rate limit services: the Envoy project's, where Go is at hand, and one that misbehaves
    soak        good and bad traffic for a long time, and what it does to Envoy; `make soak`
    limits      do the limits hold, at length; `make limits`. load is its client
    group       what group commit saves and costs, measured; python -m harness.group
    collector   the real OpenTelemetry Collector, where Go is at hand
    run         `make run`; mint is `make token`

All servers listen on 127.0.0.1. Nothing here sleeps where it can wait for a
condition, and whatever is started is ended by its process id.
"""
