"""`make token`: a fresh session token for the stack that is running, alone on
standard output."""

import os
import sys

from . import tokens
from .common import RUN_DIR

SECRET_FILE = RUN_DIR / "secret"
LIFETIME = 3600


def secret():
    """The stack's HMAC secret: from the environment, as docker-compose.yml has it, or
    from a running `make run`; None if neither is there."""
    named = os.environ.get("SESSION_JWT_SECRET")
    if named:
        return named
    try:
        return SECRET_FILE.read_text()
    except FileNotFoundError:
        return None


def token(of_secret):
    return tokens.mint(tokens.hmac_key(of_secret), sub="local-user", sid="local-login", lifetime=LIFETIME)


def main():
    found = secret()
    if found is None:
        sys.exit("token: error: no stack is running here; start one with `make run`, or set SESSION_JWT_SECRET")
    print(token(found))


if __name__ == "__main__":
    main()
