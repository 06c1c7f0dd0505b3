"""Golden pairs: what the filter makes of a body, written down to be read by people.

tests/golden/<case>.json is the body of a request, <case>.otlp.json is the protobuf that it
becomes, as the official decoder shows it. The fixtures are cases too. Both tell what a change
of the encoder does to records: tests/native/test_golden.py fails where they no longer fit.

counted.txt says what of each case is counted, or why it is refused. settings.yaml says what
the server knows of a request where that is not the usual, and names bodies used twice.

`make golden` writes all this anew, for review.
"""

import json
import subprocess
import sys

import yaml
from google.protobuf import json_format

from . import otlp
from .clocks import Window
from .common import FIXTURES, ROOT, TARGET, Problem
from .encoder import Request, encode

GOLDEN = ROOT / "tests" / "golden"
SUFFIX = ".otlp.json"
COUNTED = "counted.txt"
WIDTH = 120


def cases():
    """{name: Request}, sorted by name."""
    files = (*FIXTURES.glob("*.json"), *GOLDEN.glob("*.json"))
    bodies = {path.stem: path for path in files if not path.name.endswith(SUFFIX)}
    special = yaml.safe_load((GOLDEN / "settings.yaml").read_text())
    bodies |= {name: (GOLDEN / given["body"]) for name, given in special.items() if "body" in given}
    unknown = special.keys() - bodies.keys()
    assert not unknown, f"settings.yaml has cases that are not there: {sorted(unknown)}"
    return {name: request_of(bodies[name].read_bytes(), special.get(name, {})) for name in sorted(bodies)}


def request_of(body, settings):
    more = {name: settings[name] for name in ("subject", "received", "resource") if name in settings}
    if "window" in settings:
        more["window"] = Window(*settings["window"]) if settings["window"] else None
    return Request(body, **more)


def files(answers):
    """{file name: text} of all that is written, for {case: Answer}."""
    counted = "".join(f"{name}: {counted_line(answer)}\n" for name, answer in answers.items())
    messages = {name + SUFFIX: shown(answer.protobuf) for name, answer in answers.items() if not answer.refused}
    return {COUNTED: counted, **messages}


def counted_line(answer):
    if answer.refused:
        return f"refused, {answer.refused}"
    return ", ".join([f"{answer.records} records", *(f"{kind} {times}" for kind, times in sorted(answer.odd.items()))])


def written():
    """The same as it was committed."""
    return {path.name: path.read_text() for path in (GOLDEN / COUNTED, *GOLDEN.glob(f"*{SUFFIX}")) if path.exists()}


def shown(protobuf):
    """The message as JSON text: protobuf's own, but what fits on a line stands on one."""
    message = json_format.MessageToDict(otlp.decode(protobuf))
    return laid_out(message) + "\n"


def laid_out(value, indent=0):
    line = json.dumps(value, ensure_ascii=False)
    if indent + len(line) <= WIDTH or not isinstance(value, (dict, list)):
        # What would not be seen, or seen as something else, is escaped.
        return line if line.isprintable() else json.dumps(value)
    margin = " " * (indent + 1)
    if len(value) == 1:  # else what is nested deeply would be all margin
        if isinstance(value, list):
            return f"[{laid_out(value[0], indent)}]"
        ((name, item),) = value.items()
        return f"{{{json.dumps(name)}: {laid_out(item, indent)}}}"
    if isinstance(value, list):
        return "[\n" + ",\n".join(margin + laid_out(item, indent + 1) for item in value) + "\n" + " " * indent + "]"
    fields = (f"{json.dumps(name)}: {laid_out(item, indent + 1)}" for name, item in value.items())
    return "{\n" + ",\n".join(margin + each for each in fields) + "\n" + " " * indent + "}"


def answers():
    """{case: Answer}; their bytes are left in target/golden, for other tools to look at."""
    requests = cases()
    found = dict(zip(requests, encode(list(requests.values()))))
    directory = TARGET / "golden"
    directory.mkdir(parents=True, exist_ok=True)
    for path in directory.glob("*.binpb"):
        path.unlink()
    for name, answer in found.items():
        if not answer.refused:
            (directory / f"{name}.binpb").write_bytes(answer.protobuf)
    return found


def main():
    try:
        fresh = files(answers())
    except Problem as problem:
        sys.exit(str(problem))
    for name in written().keys() - fresh.keys():
        (GOLDEN / name).unlink()
    for name, text in fresh.items():
        (GOLDEN / name).write_text(text)
    print(f"{len(fresh) - 1} messages in tests/golden", flush=True)
    changes = subprocess.run(["git", "-C", ROOT, "status", "--short", "--", GOLDEN], capture_output=True, text=True)
    print(changes.stdout, end="", flush=True)
    return subprocess.run(["git", "-C", ROOT, "--no-pager", "diff", "--stat", "--", GOLDEN]).returncode


if __name__ == "__main__":
    sys.exit(main())
