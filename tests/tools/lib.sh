# Shared by the scripts beside it; sourced, never run.
# Each script sets `tool` to its own name before anything is said.

root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)"

say() { printf '%s: %s\n' "$tool" "$*" >&2; }

# One line that says what to do, then the end.
fail() {
    printf '%s: error: %s\n' "$tool" "$*" >&2
    exit 1
}

have() { command -v -- "$1" >/dev/null 2>&1; }

# True if every Debian package named is installed.
debian_has() {
    have dpkg-query || return 1
    local package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || return 1
    done
}

# Installs Debian packages that are missing: as root, or by sudo where it asks
# for no password. Otherwise the caller reads the exact line to run.
debian_install() {
    debian_has "$@" && return
    have apt-get || fail "needs $*, and this is no Debian to install them on"
    local line="apt-get install -y --no-install-recommends $*" sudo=()
    if [ "$(id -u)" != 0 ]; then
        have sudo && sudo -n true 2>/dev/null || fail "needs packages; run:  sudo $line"
        sudo=(sudo -n)
    fi
    mkdir -p "$root/target"
    local log="$root/target/apt.log"
    say "installing $* (log: target/apt.log)"
    # The package lists of a fresh machine are empty or old; updating them may
    # fail in part (one source of many), so only the install decides.
    ${sudo[@]+"${sudo[@]}"} apt-get update >"$log" 2>&1 || true
    # shellcheck disable=SC2086
    ${sudo[@]+"${sudo[@]}"} env DEBIAN_FRONTEND=noninteractive $line >>"$log" 2>&1 ||
        fail "could not install packages (no network?); see target/apt.log, or run:  $line"
}

# Sets the array `cargo` to a native cargo that has the given subcommands: the
# usual one, else Debian's. Each is given with the Debian package that holds it:
#   native_cargo fmt=rustfmt-web
native_cargo() {
    local pair missing=() wanted=()
    for pair in "$@"; do
        wanted+=("${pair#*=}")
        (cd "$root" && have cargo && cargo "${pair%%=*}" --version) >/dev/null 2>&1 || missing+=("cargo ${pair%%=*}")
    done
    have cargo || missing+=(cargo)
    cargo=(cargo)
    [ "${#missing[@]}" = 0 ] && return
    say "no ${missing[*]} in the usual toolchain; using Debian's"
    debian_install rustc-web cargo-web ${wanted[@]+"${wanted[@]}"}
    # Its own target directory: two compilers in one would rebuild everything in turns.
    cargo=(env "PATH=/usr/bin:$PATH" "CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/debian" /usr/bin/cargo)
}
