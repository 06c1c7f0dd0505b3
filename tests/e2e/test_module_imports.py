"""The release module imports only what Envoy 1.40 offers. An import that it lacks
would keep the module from loading at all.

The lists are what Envoy 1.40.0 links for a module of proxy-wasm ABI 0.2.1. Some of
the WASI functions only answer that they are not supported, which is enough to load.
"""

import shutil

import pytest

from harness import bootstrap, wasm
from harness.common import Problem
from harness.envoy import Envoy

PROXY_WASM = """
    add_header_map_value call_foreign_function close_stream continue_stream define_metric
    dequeue_shared_queue done enqueue_shared_queue get_buffer_bytes get_buffer_status
    get_current_time_nanoseconds get_header_map_pairs get_header_map_size get_header_map_value
    get_log_level get_metric get_property get_shared_data get_status grpc_call grpc_cancel
    grpc_close grpc_send grpc_stream http_call increment_metric log record_metric
    register_shared_queue remove_header_map_value replace_header_map_value resolve_shared_queue
    send_local_response set_buffer_bytes set_effective_context set_header_map_pairs set_property
    set_shared_data set_tick_period_milliseconds
""".split()

WASI = """
    args_get args_sizes_get clock_res_get clock_time_get environ_get environ_sizes_get fd_advise
    fd_allocate fd_close fd_datasync fd_fdstat_get fd_fdstat_set_flags fd_fdstat_set_rights
    fd_filestat_get fd_filestat_set_size fd_filestat_set_times fd_pread fd_prestat_dir_name
    fd_prestat_get fd_pwrite fd_read fd_readdir fd_renumber fd_seek fd_sync fd_tell fd_write
    path_create_directory path_filestat_get path_filestat_set_times path_link path_open
    path_readlink path_remove_directory path_rename path_symlink path_unlink_file poll_oneoff
    proc_exit random_get sched_yield sock_accept sock_recv sock_send sock_shutdown
""".split()

OFFERED = {("env", f"proxy_{name}") for name in PROXY_WASM} | {("wasi_snapshot_preview1", name) for name in WASI}


def not_offered(binary):
    return [
        str(entry) for entry in wasm.imports(binary)
        if entry.kind != "func" or (entry.module, entry.name) not in OFFERED
    ]


def test_the_module_imports_only_what_envoy_offers(wasm_module):
    binary = wasm_module.read_bytes()
    assert ("env", "proxy_log") in [(entry.module, entry.name) for entry in wasm.imports(binary)]
    assert not_offered(binary) == []


@pytest.mark.skipif(not shutil.which("wasm-metadce"), reason="there is no wasm-metadce: apt-get install binaryen")
def test_the_module_exports_no_callback_that_it_has_no_use_for(wasm_module):
    """Each would be a call into the VM for every stream of the gateway."""
    callbacks = """
        context_create delete vm_start configure tick queue_ready http_call_response grpc_receive grpc_close
        request_headers request_body request_trailers memory_allocate
    """.split()
    exports = {f"proxy_on_{name}" for name in callbacks} | {"_initialize", "proxy_abi_version_0_2_1"}
    assert set(wasm.exports(wasm_module.read_bytes())) == exports


@pytest.mark.parametrize("module, name", [
    ("env", "proxy_remove_shared_data_key"),  # of a later ABI
    ("env", "pthread_create"),
    ("wasi_snapshot_preview1", "proc_raise"),
    ("wasi_snapshot_preview2", "random_get"),
])
def test_an_unknown_import_is_found(module, name):
    binary = wasm.module_importing(("env", "proxy_log"), (module, name))
    assert not_offered(binary) == [f"{module}.{name} (func)"]


def test_other_kinds_of_imports_are_found():
    memory = wasm.text("env") + wasm.text("memory") + b"\2\1\1\2"
    table = wasm.text("env") + wasm.text("table") + b"\1\x70\0\1"
    constant = wasm.text("env") + wasm.text("base") + b"\3\x7f\0"
    binary = wasm.MAGIC + wasm.section(wasm.IMPORT_SECTION, wasm.leb(3) + memory + table + constant)
    assert not_offered(binary) == ["env.memory (memory)", "env.table (table)", "env.base (global)"]


def test_what_is_no_module_is_an_error():
    with pytest.raises(ValueError):
        wasm.imports(b"\x7fELF")


def test_envoy_refuses_an_unknown_import(tmp_path):
    """That such a list is needed: Envoy does not start."""
    module = tmp_path / "bogus.wasm"
    # The one function that it exports tells Envoy the ABI.
    module.write_bytes(
        wasm.module_importing(("env", "proxy_no_such_function"))
        + wasm.section(3, b"\1\0")
        + wasm.section(7, b"\1" + wasm.text("proxy_abi_version_0_2_1") + b"\0\1")
        + wasm.section(10, b"\1\2\0\x0b")
    )
    document = bootstrap.load_for_tests()
    bootstrap.wasm_plugin(document)["vm_config"]["code"]["local"]["filename"] = str(module)
    envoy = Envoy(document, workdir=tmp_path)
    with pytest.raises(Problem):
        envoy.start()
    assert "missing import: env.proxy_no_such_function" in envoy.log_text()
