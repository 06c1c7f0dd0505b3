"""Short versions of what `make limits` measures at length: a bucket that is exact under fire, and a
memory that doesn't know how many users there are."""


from harness import limits
from harness.gateways import serving


def test_no_more_than_the_bucket_its_refill_and_one_request(wasm_module, session_key, sink):
    bucket = {"max_tokens": 100, "tokens_per_fill": 50, "fill_interval_ms": 1000}
    config = {"rate_limits": {"unit": "records", "user": bucket, "session": None}}
    with serving(sink, session_key, config=config, edit=limits.quiet, concurrency=2) as gate:
        let_in, allowed, refused = limits.exact(gate, bucket, seconds=4)
        assert bucket["max_tokens"] < let_in <= allowed
        assert refused > 0


def test_memory_does_not_grow_with_users(wasm_module, session_key, sink):
    limit = {"max_tokens": 10, "tokens_per_fill": 1, "fill_interval_ms": 1000}
    # So few places that all of them are taken, and given to others, many times.
    settings = {"unit": "requests", "user": limit, "session": limit, "slots": 1024}
    config = {"rate_limits": settings, "auth": {"cache_entries": 512}}
    with serving(sink, session_key, config=config, edit=limits.quiet, concurrency=2) as gate:
        before, after = limits.memory(gate, 1000, 15_000)
        assert after - before < 20 * limits.MB
        gate.good_on_every_worker()
