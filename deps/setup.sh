#!/bin/sh
# Sets a machine up to build and test Sintra, and does nothing when that is done.
#
#   deps/setup.sh            Debian packages of the set "base" and the pinned llama package
#   deps/setup.sh --dev      also the tools that `make check` and .ci/run want, and the Python
#                            environment of the interop tests (deps/python)
#   deps/setup.sh --peers    also what `make peers` compiles with
#   LLAMA=source deps/setup.sh    builds libllama from the source of the same release
#
# What it owns: deps/llama (prebuilt libraries, headers, source bundle), deps/llama-source (the
# same, built here), deps/python, deps/.ready-*. Versions and checksums are in deps/llama.sha512,
# packages in deps/debian-packages.txt. Packages come through their ordinary clients (apt-get,
# npm, pip), by name. A folder appears under its final name only when it is complete: work is done
# in deps/.fetch.*, checked, then renamed. One set-up runs at a time (deps/.lock).
set -eu
umask 022
cd "$(dirname "$0")"
PINS=llama.sha512
FORMAT=2 # raise to have every deps/llama made anew
LLAMA=${LLAMA:-prebuilt}
tmp=

say() { printf 'set-up: %s\n' "$*" >&2; }

die() { # die SENTENCE [HINT]
    printf 'set-up: error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'set-up: hint: %s\n' "$2" >&2
    exit 1
}

# ---- Debian packages ----------------------------------------------------------------------------

probe() { # probe HOW: is this thing on the machine?
    case $1 in
    cmd:*) command -v "${1#cmd:}" >/dev/null 2>&1 ;;
    file:*) [ -e "${1#file:}" ] ;;
    lib:*) PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep -q "^[[:space:]]*${1#lib:} " ;;
    py:*) python3 -c "import ${1#py:}, ensurepip" >/dev/null 2>&1 ;;
    hdr:*) printf '#include <stdio.h>\n#include <stdarg.h>\n#include <stddef.h>\n%s\n%s\n' \
        '#include <setjmp.h>
#include <stdint.h>' "#include <${1#hdr:}>" | gcc -E -xc - >/dev/null 2>&1 ;;
    *) die "deps/debian-packages.txt: unknown probe '$1'" ;;
    esac
}

packages_missing() { # packages_missing SET...
    while read -r name how set; do
        case $name in '' | \#*) continue ;; esac
        case " $* " in *" $set "*) probe "$how" || printf '%s ' "$name" ;; esac
    done <debian-packages.txt
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

packages_install() { # packages_install SET...
    missing=$(packages_missing "$@")
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null 2>&1; then
        die "these Debian packages (or what your system calls them) are missing: $missing" \
            "install them, then run the same command again"
    fi
    if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
        die "these Debian packages are missing: $missing" \
            "run 'apt-get install --no-install-recommends $missing' as root, then the same command again"
    fi
    say "installing Debian packages: $missing"
    log=.apt.log
    # shellcheck disable=SC2086 # a list of names
    if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q \
        --no-install-recommends $missing >$log 2>&1; then
        as_root apt-get update -q >>$log 2>&1 || true
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q \
            --no-install-recommends $missing >>$log 2>&1 || {
            tail -n 15 $log >&2
            die "apt-get could not install: $missing" "see deps/$log"
        }
    fi
    missing=$(packages_missing "$@")
    [ -z "$missing" ] || die "still missing after apt-get: $missing" "see deps/$log"
}

# ---- the pinned llama package -------------------------------------------------------------------

platform() {
    case $(uname -m) in
    x86_64 | amd64) echo linux-x64 ;;
    aarch64 | arm64) echo linux-arm64 ;;
    *) die "no pinned llama package for a $(uname -m) machine" "x86-64 and arm64 Linux are supported" ;;
    esac
}

fetch() { # fetch NAME@VERSION FILE: one npm package, verified, or nothing
    want=$(awk -v p="$1" '$2 == p { print $1 }' $PINS)
    [ -n "$want" ] || die "deps/$PINS has no checksum for $1"
    mkdir "$tmp/get"
    say "fetching $1"
    if ! (cd "$tmp/get" && npm pack --silent "$1" >/dev/null 2>"../npm.log"); then
        tail -n 5 "$tmp/npm.log" >&2
        die "the download of $1 by npm was not finished" "check the network, then run the same command again"
    fi
    set -- "$1" "$2" "$tmp"/get/*.tgz
    [ $# = 3 ] && [ -f "$3" ] || die "npm said it fetched $1, but left no package file" \
        "run the same command again"
    have=$(sha512sum "$3" | cut -d' ' -f1)
    [ "$have" = "$want" ] || die \
        "the checksum of $1 is wrong: expected $(echo "$want" | cut -c1-16)..., found $(echo "$have" | cut -c1-16)..." \
        "nothing was installed; run the same command again, and if it repeats, the download is not the pinned file"
    mv "$3" "$2"
    rmdir "$tmp/get"
}

bundle_extract() { # bundle_extract BUNDLE DIR [PATH...]: files of the release, without its history
    git init -q --bare "$tmp/bundle.git"
    git -C "$tmp/bundle.git" fetch -q "$(realpath "$1")" HEAD
    dir=$2
    shift 2
    mkdir -p "$dir"
    git -C "$tmp/bundle.git" archive FETCH_HEAD "$@" | tar -x -C "$dir"
    rm -rf "$tmp/bundle.git"
}

stamp_now() { printf '%s %s\n' "$FORMAT" "$(sha512sum <$PINS | cut -c1-32)"; }

is_current() { [ -f "$1/.stamp" ] && [ "$(cat "$1/.stamp")" = "$(stamp_now)" ]; }

publish() { # publish DIR NAME: the finished folder takes its final name
    stamp_now >"$1/.stamp"
    rm -rf "$2"
    mv "$1" "$2"
}

llama_prebuilt() {
    ! is_current llama || return 0
    arch=$(platform)
    new=$tmp/llama
    mkdir -p "$new/lib" "$new/include" "$new/source"
    fetch "@node-llama-cpp/$arch@3.22.1" "$tmp/libs.tgz"
    fetch "node-llama-cpp@3.22.1" "$tmp/node.tgz"
    tar -xzf "$tmp/libs.tgz" -C "$new/lib" --strip-components=3 --wildcards "package/bins/$arch/*.so"
    tar -xzf "$tmp/node.tgz" -C "$new/source" --strip-components=2 \
        package/llama/gitRelease.bundle package/llama/patches
    bundle_extract "$new/source/gitRelease.bundle" "$tmp/src" include ggml/include \
        ggml/src/ggml-backend-impl.h LICENSE
    cp "$tmp"/src/include/*.h "$tmp"/src/ggml/include/*.h "$tmp"/src/ggml/src/*.h "$new/include/"
    cp "$tmp/src/LICENSE" "$new/LICENSE"
    rm -rf "$tmp/src"
    publish "$new" llama
    say "libllama v0.5.0 is in deps/llama"
}

llama_source() {
    ! is_current llama-source || return 0
    say "building libllama v0.5.0 from source (many minutes)"
    bundle_extract llama/source/gitRelease.bundle "$tmp/src/llama.cpp"
    (cd "$tmp/src/llama.cpp" && patch -s -p1) <llama/source/patches/PR-22566.diff
    cp llama-source.cmake "$tmp/src/CMakeLists.txt"
    {
        cmake -S "$tmp/src" -B "$tmp/build" -DCMAKE_BUILD_TYPE=Release &&
            cmake --build "$tmp/build" --parallel "${JOBS:-$(nproc)}"
    } >.llama-source.log 2>&1 || {
        tail -n 20 .llama-source.log >&2
        die "libllama could not be built from source" "see deps/.llama-source.log"
    }
    new=$tmp/llama-source
    mkdir -p "$new/lib"
    cp "$tmp"/build/bin/*.so "$new/lib/"
    cp -r llama/include llama/LICENSE "$new/"
    publish "$new" llama-source
    say "libllama v0.5.0, built here, is in deps/llama-source"
}

# ---- Python, for the interop tests only ---------------------------------------------------------

python_env() {
    list=../tests/interop/requirements.txt
    [ -f $list ] || return 0
    want=$(sha512sum <$list | cut -c1-32)
    [ "$(cat python/.stamp 2>/dev/null)" != "$want" ] || return 0
    say "installing the Python packages of tests/interop/requirements.txt"
    rm -rf python
    python3 -m venv python
    if ! python/bin/pip install -q -r $list >.pip.log 2>&1; then
        tail -n 15 .pip.log >&2
        rm -rf python
        die "pip could not install the packages of tests/interop/requirements.txt" "see deps/.pip.log"
    fi
    echo "$want" >python/.stamp
}

# ---- the work -----------------------------------------------------------------------------------

cleanup() {
    status=$?
    [ -z "$tmp" ] || rm -rf "$tmp"
    exit $status
}

main() {
    sets=base dev=
    for arg; do
        case $arg in
        --dev) sets="$sets dev peers" dev=1 ;;
        --peers) sets="$sets peers" ;;
        *) die "unknown option $arg" "see the head of deps/setup.sh" ;;
        esac
    done
    case $LLAMA in
    prebuilt) ;;
    source) sets="$sets source" ;;
    *) die "LLAMA=$LLAMA is not known" "LLAMA=prebuilt (default) or LLAMA=source" ;;
    esac
    exec 9>.lock
    flock 9
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    rm -rf .fetch.* # left by a set-up that was killed
    # shellcheck disable=SC2086 # a list of sets
    packages_install $sets
    tmp=$(mktemp -d "$PWD/.fetch.XXXXXX")
    llama_prebuilt
    [ "$LLAMA" != source ] || llama_source
    [ -z "$dev" ] || python_env
    : >".ready-$LLAMA"
}

main "$@"
