"""As much of the WebAssembly binary format as it takes to read a module's imports,
and to write a module that has nothing else."""

from typing import NamedTuple

MAGIC = b"\0asm\1\0\0\0"
TYPE_SECTION, IMPORT_SECTION = 1, 2
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
