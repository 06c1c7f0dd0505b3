"""SipHash-1-3 with 128 bits of output, by its definition (Aumasson and Bernstein).

    siphash13_128(key, text)    key: 16 bytes; the hash as a number
"""

MASK = (1 << 64) - 1


def siphash13_128(key, text):
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D ^ 0xEE, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]
    tail = len(text) % 8
    last = text[len(text) - tail:].ljust(7, b"\0") + bytes([len(text) % 256])
    whole = text[: len(text) - tail]
    for start in range(0, len(whole), 8):
        _take(v, int.from_bytes(whole[start:start + 8], "little"))
    _take(v, int.from_bytes(last, "little"))
    v[2] ^= 0xEE
    low = _finish(v)
    v[1] ^= 0xDD
    return low | _finish(v) << 64


def _take(v, word):
    v[3] ^= word
    _round(v)
    v[0] ^= word


def _finish(v):
    for _ in range(3):
        _round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def _round(v):
    a, b, c, d = v
    a = (a + b) & MASK
    b = _left(b, 13) ^ a
    a = _left(a, 32)
    c = (c + d) & MASK
    d = _left(d, 16) ^ c
    a = (a + d) & MASK
    d = _left(d, 21) ^ a
    c = (c + b) & MASK
    b = _left(b, 17) ^ c
    c = _left(c, 32)
    v[:] = a, b, c, d


def _left(word, by):
    return (word << by | word >> (64 - by)) & MASK
