"""curl, the client that everybody has, over HTTP/1.1 or HTTP/2.

    curl(url, headers={"authorization": "Bearer …"}, body=b"…", http2=True).status
"""

import subprocess
from dataclasses import dataclass

HTTP2_STREAM = 92  # curl's exit status for "Stream error in the HTTP/2 framing layer"


class AnswerLost(Exception):
    """curl over HTTP/2 met RST_STREAM, and forgot the answer that had come in full before it."""


@dataclass
class Answer:
    """What curl printed. `headers` is a list of (name in lower case, value)."""

    status: int
    version: str
    headers: list
    body: bytes
    exit: int

    def header(self, name):
        """The value of a header, None where there is none. Two of them would be an error."""
        values = [value for known, value in self.headers if known == name]
        assert len(values) <= 1, f"{name} stands twice: {values}"
        return values[0] if values else None


def curl(url, *, method="POST", headers=(), body=None, chunked=False, http2=False, timeout=30):
    """Runs curl. `headers` is a dict, or pairs, of which values may be bytes; `body` has a
    content-length unless it is to be sent `chunked` (for HTTP/2: without a length)."""
    pairs = headers.items() if hasattr(headers, "items") else headers
    command = ["curl", "--silent", "--show-error", "--include", "--max-time", str(timeout)]
    command += ["--http2-prior-knowledge" if http2 else "--http1.1"]
    command += ["--head"] if method == "HEAD" else ["--request", method]
    for name, value in pairs:
        raw = value if isinstance(value, bytes) else value.encode()
        # A header with no value is written with a semicolon.
        command += ["--header", name.encode() + (b": " + raw if raw else b";")]
    if body is not None:
        command += ["--upload-file", "-"] if chunked else ["--data-binary", "@-"]
        if not any(name.lower() == "content-type" for name, _ in pairs):
            command += ["--header", "content-type: application/json"]
    done = subprocess.run([*command, url], input=body or b"", capture_output=True, timeout=timeout + 10)
    if not done.stdout and done.returncode == HTTP2_STREAM and http2:
        raise AnswerLost
    if not done.stdout:
        raise AssertionError(f"curl ended with {done.returncode} and no answer: {done.stderr.decode().strip()}")
    return parse(done.stdout, done.returncode)


def parse(output, status_of_curl=0):
    """The last head in curl's output, and the body behind it. Heads before it are
    `100 Continue`, which curl prints too."""
    while True:
        head, _, body = output.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status = first.split(" ")[:2]
        if status != "100":
            pairs = [line.split(":", 1) for line in lines]
            headers = [(name.lower(), value.strip()) for name, value in pairs]
            return Answer(int(status), version, headers, body, status_of_curl)
        output = body
