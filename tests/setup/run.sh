#!/bin/sh
# Tests of deps/setup.sh, without network and without installing anything: tests/setup/run.sh TALLY
#
# Each case runs a copy of deps/ in a scratch folder, with a small package of the same form as the
# pinned one and a counterfeit `npm` (and `apt-get`, `id`, `sudo`) first on PATH, whose behaviour the
# case chooses: fetch well, stop half-way, fetch other bytes, hang.
set -eu

ROOT=$(realpath "$(dirname "$0")/../..")
TALLY=$(realpath -m "$1")
TOP=$(mktemp -d "${TMPDIR:-/tmp}/sintra-setup.XXXXXX")
trap 'rm -rf "$TOP"' EXIT
passed=0 failed=0
case $(uname -m) in aarch64 | arm64) ARCH=linux-arm64 ;; *) ARCH=linux-x64 ;; esac

# ---- a package of the form of the pinned one -----------------------------------------------------

make_packages() {
    mkdir -p "$TOP/repo/include" "$TOP/repo/ggml/include" "$TOP/repo/ggml/src" "$TOP/package/bins/$ARCH" "$TOP/store"
    echo '/* llama.h */' >"$TOP/repo/include/llama.h"
    echo '/* ggml.h */' >"$TOP/repo/ggml/include/ggml.h"
    echo '/* backends */' >"$TOP/repo/ggml/src/ggml-backend-impl.h"
    echo 'a licence' >"$TOP/repo/LICENSE"
    git -C "$TOP/repo" init -q
    git -C "$TOP/repo" add .
    git -C "$TOP/repo" -c user.name=t -c user.email=t@example.org commit -q -m release
    echo 'a library' >"$TOP/package/bins/$ARCH/libllama.v0.5.0.so"
    echo 'not a library' >"$TOP/package/bins/$ARCH/addon.node"
    tar -C "$TOP" -czf "$TOP/store/libs.tgz" package
    rm -r "$TOP/package"
    mkdir -p "$TOP/package/llama/patches"
    git -C "$TOP/repo" bundle create -q "$TOP/package/llama/gitRelease.bundle" HEAD
    echo 'a patch' >"$TOP/package/llama/patches/PR-22566.diff"
    tar -C "$TOP" -czf "$TOP/store/node.tgz" package
}

make_clients() {
    mkdir "$TOP/bin"
    cat >"$TOP/bin/npm" <<'NPM'
#!/bin/sh
# counterfeit npm: npm pack --silent NAME; $NPM_MODE says how it goes
for last; do :; done
echo "$last" >>"$NPM_LOG"
case $last in @*) from=libs.tgz to=llama-libs.tgz ;; *) from=node.tgz to=node-llama.tgz ;; esac
case ${NPM_MODE:-good} in
good) cp "$NPM_STORE/$from" "$to" ;;
abort) head -c 100 "$NPM_STORE/$from" >"$to"; echo 'npm error network aborted' >&2; exit 1 ;;
abort-second) cp "$NPM_STORE/$from" "$to"; [ "$from" = libs.tgz ] || { rm "$to"; exit 1; } ;;
wrong) cp "$NPM_STORE/$from" "$to"; echo x >>"$to" ;;
nothing) ;;
hang) head -c 100 "$NPM_STORE/$from" >"$to"; : >"$NPM_LOG.hangs"; exec sleep 60 ;;
esac
NPM
    cat >"$TOP/bin/apt-get" <<'APT'
#!/bin/sh
# counterfeit apt-get: "installs" by making the file that the package list looks for
echo "$*" >>"$APT_LOG"
[ "${APT_MODE:-good}" = good ] || { echo 'E: no such package' >&2; exit 100; }
case " $* " in *" install "*) : >"$APT_MAKES" ;; esac
APT
    printf '#!/bin/sh\nif [ "${1:-}" = -u ]; then echo "${FAKE_UID:-0}"; fi\n' >"$TOP/bin/id"
    printf '#!/bin/sh\nexit 1\n' >"$TOP/bin/sudo"
    chmod +x "$TOP"/bin/*
}

# ---- one case ------------------------------------------------------------------------------------

fresh() { # fresh NAME: a new copy of deps/ in $DEPS
    CASE=$1
    DEPS=$TOP/$1/deps
    mkdir -p "$DEPS"
    cp "$ROOT/deps/setup.sh" "$ROOT/deps/debian-packages.txt" "$DEPS/"
    pin "$TOP/store/node.tgz" "$TOP/store/libs.tgz"
    export NPM_LOG="$TOP/$1/npm.log" NPM_STORE="$TOP/store" NPM_MODE=good
    export APT_LOG="$TOP/$1/apt.log" APT_MAKES="$TOP/$1/installed" APT_MODE=good FAKE_UID=0
    grep -v ' cmd:npm ' "$ROOT/deps/debian-packages.txt" >"$DEPS/debian-packages.txt"
    : >"$NPM_LOG"
    OK=1
}

pin() { # pin NODE LIBS
    printf '%s  node-llama-cpp@3.22.1\n%s  @node-llama-cpp/%s@3.22.1\n' \
        "$(sha512sum <"$1" | cut -d' ' -f1)" "$(sha512sum <"$2" | cut -d' ' -f1)" "$ARCH" >"$DEPS/llama.sha512"
}

setup() { # setup EXIT [ARG...]: runs it, expects that exit code
    want=$1
    shift
    code=0
    PATH=$TOP/bin:$PATH "$DEPS/setup.sh" "$@" >"$TOP/out" 2>&1 </dev/null || code=$?
    want "$([ $code = "$want" ] && echo 1)" "exit code $code instead of $want"
}

want() { # want NONEMPTY MESSAGE
    [ -n "$1" ] || { OK=0; printf '    %s\n' "$2"; sed 's/^/    | /' "$TOP/out" 2>/dev/null || :; }
}

says() { want "$(grep -F -- "$1" "$TOP/out" || :)" "the output lacks: $1"; }
has() { want "$(ls -d "$DEPS/$1" 2>/dev/null || :)" "deps/$1 is missing"; }
lacks() { want "$([ -e "$DEPS/$1" ] || echo 1)" "deps/$1 is there"; }
clean() { want "$(ls -d "$DEPS"/.fetch.* >/dev/null 2>&1 || echo 1)" "a .fetch folder was left"; }
fetched() { n=$(wc -l <"$NPM_LOG"); want "$([ "$n" = "$1" ] && echo 1)" "$n fetches instead of $1"; }

done_case() {
    if [ $OK = 1 ]; then passed=$((passed + 1)); echo "ok   setup/$CASE"
    else failed=$((failed + 1)); echo "FAIL setup/$CASE"; fi
}

make_packages
make_clients

fresh first-and-second-run
setup 0; has llama/lib/libllama.v0.5.0.so; has llama/include/llama.h; has llama/include/ggml.h; has llama/include/ggml-backend-impl.h
has llama/source/gitRelease.bundle; has llama/LICENSE; lacks llama/lib/addon.node; clean; fetched 2
setup 0; fetched 2; want "$([ ! -s "$TOP/out" ] && echo 1)" "the second run said something"
done_case

fresh aborted-download
NPM_MODE=abort; setup 1; says 'was not finished'; says 'hint:'; lacks llama; lacks .ready-prebuilt; clean
NPM_MODE=good; setup 0; has llama/lib/libllama.v0.5.0.so
done_case

fresh aborted-second-package
NPM_MODE=abort-second; setup 1; says 'node-llama-cpp@3.22.1'; lacks llama; clean
NPM_MODE=good; setup 0; has llama/include/llama.h
done_case

fresh wrong-checksum
NPM_MODE=wrong; setup 1; says 'the checksum of @node-llama-cpp/'; says 'expected'; lacks llama; clean
NPM_MODE=good; setup 0; has llama/lib/libllama.v0.5.0.so
done_case

fresh client-leaves-no-file
NPM_MODE=nothing; setup 1; says 'left no package file'; lacks llama; clean
done_case

fresh killed-while-fetching
NPM_MODE=hang PATH=$TOP/bin:$PATH setsid "$DEPS/setup.sh" >"$TOP/out" 2>&1 </dev/null &
pid=$!
tries=0
while [ ! -e "$NPM_LOG.hangs" ] && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -s KILL -- "-$pid"
wait $pid 2>/dev/null || :
lacks llama
NPM_MODE=good; setup 0; has llama/lib/libllama.v0.5.0.so; clean
done_case

fresh interrupted-while-fetching
NPM_MODE=hang PATH=$TOP/bin:$PATH setsid "$DEPS/setup.sh" >"$TOP/out" 2>&1 </dev/null &
pid=$!
tries=0
while [ ! -e "$NPM_LOG.hangs" ] && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -s TERM -- "-$pid"
wait $pid 2>/dev/null || :
lacks llama; clean
setup 0; has llama/lib/libllama.v0.5.0.so
done_case

fresh failed-update-keeps-the-old
setup 0
pin "$TOP/store/libs.tgz" "$TOP/store/libs.tgz"
setup 1; says 'the checksum of node-llama-cpp@3.22.1 is wrong'; has llama/lib/libllama.v0.5.0.so; clean
pin "$TOP/store/node.tgz" "$TOP/store/libs.tgz"
setup 0; has llama/lib/libllama.v0.5.0.so
done_case

fresh changed-pins-fetch-again
setup 0; fetched 2
echo '# a comment changes the stamp' >>"$DEPS/llama.sha512"
setup 0; fetched 4
done_case

fresh missing-packages-without-root
echo 'no-such-dev file:/nonexistent/x base' >>"$DEPS/debian-packages.txt"
FAKE_UID=1000; setup 1; says 'are missing: no-such-dev'; says 'as root'; lacks llama; fetched 0
want "$([ ! -e "$APT_LOG" ] && echo 1)" "apt-get was called"
done_case

fresh missing-packages-as-root
echo "some-dev file:$APT_MAKES base" >>"$DEPS/debian-packages.txt"
setup 0; has llama; want "$(grep -F 'install -y' "$APT_LOG" | grep some-dev || :)" "apt-get install was not called"
done_case

fresh packages-that-apt-cannot-install
echo 'no-such-dev file:/nonexistent/x base' >>"$DEPS/debian-packages.txt"
APT_MODE=bad; setup 1; says 'could not install: no-such-dev'; lacks llama
APT_MODE=good; setup 1; says 'still missing after apt-get: no-such-dev'
done_case

fresh unknown-option
setup 1 --nonsense; says 'unknown option --nonsense'
done_case

mkdir -p "$(dirname "$TALLY")"
echo "setup $passed $failed 0" >>"$TALLY"
[ $failed = 0 ]
