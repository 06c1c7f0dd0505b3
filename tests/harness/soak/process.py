"""What can be seen of a running Envoy: its memory, its open files, and the linear memory of the
VMs in it. On Linux from /proc; elsewhere only what the admin port tells, and the rest is empty."""

from pathlib import Path

GIB = 1 << 30


def look(envoy):
    """A dict of figures, in bytes or counts; None for what can't be seen here."""
    stats = envoy.stats()
    return {
        "resident_bytes": resident(envoy.pid),
        "vm_bytes": linear_memory(envoy.pid),
        "heap_bytes": stats["server.memory_allocated"],
        "open_files": open_files(envoy.pid),
        "connections": stats["http.ingest.downstream_cx_active"],
        "under_way": stats["http.ingest.downstream_rq_active"],
        "vms": stats["wasm.wasm_vm_count"],
        "vm_reloads": sum(value for name, value in stats.items() if ".vm_reload" in name),
    }


def resident(pid):
    for line in lines(pid, "status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return None


def open_files(pid):
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return None


def linear_memory(pid):
    """Of all VMs together. V8 reserves gigabytes behind each, so that no address that the module can
    form lies outside: what can be written directly before such a gap is the memory of a VM. It
    never shrinks."""
    found, previous = 0, None
    mappings = lines(pid, "maps")
    for line in mappings:
        where, access, _, _, inode = line.split()[:5]
        start, end = (int(part, 16) for part in where.split("-"))
        if previous and access.startswith("---") and end - start > 4 * GIB and previous[1] == start:
            found += previous[1] - previous[0]
        previous = (start, end) if access.startswith("rw") and inode == "0" else None
    return found if mappings else None


def lines(pid, name):
    try:
        return Path(f"/proc/{pid}/{name}").read_text().splitlines()
    except OSError:
        return []
