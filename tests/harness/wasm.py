"""As much of the WebAssembly binary format as it takes to read a module's imports and exports, to write
a module that has nothing else, and to make one of a module's exports trap at will."""

from typing import NamedTuple

MAGIC = b"\0asm\1\0\0\0"
TYPE_SECTION, IMPORT_SECTION, FUNCTION_SECTION, EXPORT_SECTION, CODE_SECTION = 1, 2, 3, 7, 10
KINDS = {0: "func", 1: "table", 2: "memory", 3: "global"}


class Import(NamedTuple):
    module: str
    name: str
    kind: str

    def __str__(self):
        return f"{self.module}.{self.name} ({self.kind})"


def imports(binary: bytes) -> list:
    """The imports of a module, in order. Raises ValueError if it is no module."""
    if not binary.startswith(MAGIC):
        raise ValueError("no WebAssembly module")
    reader = Reader(binary, len(MAGIC))
    while reader.at < len(binary):
        section, size = reader.byte(), reader.unsigned()
        if section == IMPORT_SECTION:
            return [reader.import_entry() for _ in range(reader.unsigned())]
        reader.at += size
    return []


class Reader:
    def __init__(self, binary, at):
        self.binary = binary
        self.at = at

    def byte(self):
        self.at += 1
        return self.binary[self.at - 1]

    def unsigned(self):
        """LEB128."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def name(self):
        size = self.unsigned()
        self.at += size
        return self.binary[self.at - size : self.at].decode()

    def import_entry(self):
        module, name, kind = self.name(), self.name(), KINDS[self.byte()]
        if kind == "func":
            self.unsigned()  # index of its type
        elif kind == "global":
            self.at += 2  # type, mutability
        else:
            if kind == "table":
                self.byte()  # element type
            self.limits()
        return Import(module, name, kind)

    def limits(self):
        has_maximum = self.byte() & 1
        self.unsigned()
        if has_maximum:
            self.unsigned()


def module_importing(*names) -> bytes:
    """A module that imports functions () -> (), given as (module, name), and does nothing."""
    entries = b"".join(text(module) + text(name) + b"\0\0" for module, name in names)
    return MAGIC + section(TYPE_SECTION, b"\1\x60\0\0") + section(IMPORT_SECTION, leb(len(names)) + entries)


def trapping(binary: bytes, export: str, parameter: int, at_least: int) -> bytes:
    """The module, in which the exported function traps when the parameter of that number is at least
    so much, and else does what it did: a VM that dies while it is at work, of a module that has no
    defect by which it would. The function has parameters of 32 bits and one result."""
    sections = split(binary)
    functions = sum(entry.kind == "func" for entry in imports(binary))
    index = exported(sections[EXPORT_SECTION], export)
    types = numbers(sections[FUNCTION_SECTION])
    wrapped = functions + len(types)
    kind = types[index - functions]
    sections[FUNCTION_SECTION] = vector([leb(each) for each in [*types, kind]])
    sections[EXPORT_SECTION] = sections[EXPORT_SECTION].replace(
        text(export) + b"\0" + leb(index), text(export) + b"\0" + leb(wrapped))
    body = b"\0"  # no locals
    body += b"\x20" + leb(parameter) + b"\x41" + signed(at_least) + b"\x4f"  # local.get, i32.const, i32.ge_u
    body += b"\x04\x40\x00\x0b"  # if, unreachable, end
    for number in range(parameters(sections[TYPE_SECTION], kind)):
        body += b"\x20" + leb(number)
    body += b"\x10" + leb(index) + b"\x0b"  # call, end
    reader = Reader(sections[CODE_SECTION], 0)
    count = reader.unsigned()
    sections[CODE_SECTION] = leb(count + 1) + sections[CODE_SECTION][reader.at:] + leb(len(body)) + body
    return MAGIC + b"".join(section(number, content) for number, content in sections.items() if number)


def split(binary):
    """The sections of a module by their numbers, in order, without custom ones."""
    found, reader = {}, Reader(binary, len(MAGIC))
    while reader.at < len(binary):
        number, size = reader.byte(), reader.unsigned()
        found[number] = binary[reader.at:reader.at + size]
        reader.at += size
    return found


def exports(binary: bytes) -> list:
    """The names of the functions that a module exports, in order."""
    return list(function_exports(split(binary)[EXPORT_SECTION]))


def exported(content, name):
    """The index of an exported function."""
    found = function_exports(content)
    if name not in found:
        raise ValueError(f"no function {name} is exported")
    return found[name]


def function_exports(content):
    """{name: index} of the functions in a section of exports."""
    reader = Reader(content, 0)
    entries = [(reader.name(), KINDS[reader.byte()], reader.unsigned()) for _ in range(reader.unsigned())]
    return {name: index for name, kind, index in entries if kind == "func"}


def parameters(content, kind):
    """How many parameters the functions of a type have."""
    reader = Reader(content, 0)
    counts = []
    for _ in range(reader.unsigned()):
        if reader.byte() != 0x60:
            raise ValueError("a type that is no function's")
        counts.append(reader.unsigned())
        reader.at += counts[-1]
        results = reader.unsigned()
        reader.at += results
    return counts[kind]


def numbers(content):
    """A vector of numbers."""
    reader = Reader(content, 0)
    return [reader.unsigned() for _ in range(reader.unsigned())]


def vector(items):
    return leb(len(items)) + b"".join(items)


def section(number, content):
    return bytes([number]) + leb(len(content)) + content


def text(value):
    return leb(len(value.encode())) + value.encode()


def leb(value):
    out = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        out.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(out)


def signed(value):
    """LEB128 of a number that is not negative, as constants have it: the last byte's sign bit is clear."""
    out = leb(value)
    return out if out[-1] < 0x40 else out[:-1] + bytes([out[-1] | 0x80, 0])
