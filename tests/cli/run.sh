#!/bin/sh
# Command-line snapshot tests: tests/cli/run.sh TALLY [CASE...]
#
# A case is tests/cli/cases/NAME.sh with what it must print and return:
#   NAME.stdout, NAME.stderr   exact text (no file: nothing is printed)
#   NAME.exit                  exit code of the script (no file: 0)
#   NAME.filter                sed -E script run over both outputs first, to replace what differs from
#                              run to run (times, speeds, ids) by a word like <seconds>
# The script runs by `sh` in an empty scratch folder, with HOME there, `sintra` on PATH, no stdin,
# no colour, UTC, a hub that does not answer, and these variables: SINTRA_ROOT (the tree), CASES (this folder of cases),
# SINTRA_DATA (data outside the tree; empty when absent), TOOLS (programs of tests/tools).
# The scratch folder and the tree print as $TMP and $ROOT. Exit 77 skips, the last line says why.
# UPDATE=1 writes what was seen as what is expected: read the difference in git before you keep it.
set -eu

show() { # show WHAT EXPECTED SEEN: true when they are the same
    diff -u --label "expected $1" --label "seen $1" "$2" "$3"
}

expected() { # expected FILE: itself, or an empty one
    if [ -f "$1" ]; then echo "$1"; else echo /dev/null; fi
}

keep() { # keep SEEN FILE
    if [ -s "$1" ]; then cp "$1" "$2"; else rm -f "$2"; fi
}

one() { # one TALLY NAME
    name=$2
    base=$CASES/$name
    top=$(mktemp -d "${TMPDIR:-/tmp}/sintra-cli.XXXXXX")
    mkdir "$top/work" "$top/home" "$top/bin"
    ln -s "$SINTRA" "$top/bin/sintra"
    begin=$(date +%s)
    code=0
    (
        cd "$top/work"
        unset SINTRA_HOME XDG_DATA_HOME XDG_CACHE_HOME XDG_CONFIG_HOME NO_COLOR CLICOLOR_FORCE
        export HOME="$top/home" TMPDIR="$top/work" PATH="$top/bin:$PATH" TERM=dumb COLUMNS=100
        export LC_ALL=C.UTF-8 TZ=UTC HF_ENDPOINT=http://127.0.0.1:9
        unset HF_HOME HF_HUB_CACHE HUGGINGFACE_HUB_CACHE HF_TOKEN HUGGING_FACE_HUB_TOKEN \
            HUGGINGFACE_TOKEN HF_TOKEN_PATH HF_HUB_OFFLINE TRANSFORMERS_OFFLINE \
            HF_HUB_DOWNLOAD_TIMEOUT HF_HUB_DISABLE_IMPLICIT_TOKEN http_proxy https_proxy \
            HTTP_PROXY HTTPS_PROXY ALL_PROXY all_proxy
        exec timeout -k 5 "${TEST_TIMEOUT:-300}" sh "$base.sh"
    ) </dev/null >"$top/stdout.raw" 2>"$top/stderr.raw" || code=$?
    seconds=$(($(date +%s) - begin))
    for stream in stdout stderr; do
        sed -e "s|$top/work|\$TMP|g; s|$top/home|\$HOME|g; s|$top/bin|\$BIN|g; s|$SINTRA_ROOT|\$ROOT|g" \
            "$top/$stream.raw" >"$top/$stream.seen"
        if [ -f "$base.filter" ]; then
            sed -E -i -f "$base.filter" "$top/$stream.seen"
        fi
    done
    echo $code >"$top/exit.seen"
    [ $code != 0 ] || : >"$top/exit.seen"
    result=pass
    if [ $code = 77 ] && [ ! -f "$base.exit" ]; then
        result=skip
    elif [ "${UPDATE:-}" = 1 ]; then
        for what in stdout stderr exit; do keep "$top/$what.seen" "$base.$what"; done
        result=update
    else
        for what in stdout stderr exit; do
            show "$name.$what" "$(expected "$base.$what")" "$top/$what.seen" \
                >>"$top/diff" 2>&1 || result=fail
        done
    fi
    case $result in
    pass) echo "ok   cli/$name (${seconds} s)"; counts='1 0 0' ;;
    update) echo "kept cli/$name (${seconds} s)"; counts='1 0 0' ;;
    skip) echo "skip cli/$name: $(cat "$top/stdout.raw" "$top/stderr.raw" | tail -n 1)"; counts='0 0 1' ;;
    fail) printf '%s\n' "FAIL cli/$name (${seconds} s)
$(head -n "${TEST_LINES:-60}" "$top/diff" | sed 's/^/    /')"; counts='0 1 0' ;;
    esac
    echo "cli/$name $counts" >>"$1"
    chmod -R u+rwX "$top"
    rm -rf "$top"
}

here=$(dirname "$0")
SINTRA_ROOT=${SINTRA_ROOT:-$(realpath "$here/../..")}
CASES=$SINTRA_ROOT/tests/cli/cases
SINTRA=${SINTRA:-$SINTRA_ROOT/sintra}
TOOLS=${SINTRA_BUILD:-$SINTRA_ROOT/build}/tools
if [ -z "${SINTRA_DATA:-}" ]; then
    SINTRA_DATA=
    [ ! -d "$SINTRA_ROOT/../shared/data" ] || SINTRA_DATA=$(realpath "$SINTRA_ROOT/../shared/data")
fi
export SINTRA_ROOT CASES SINTRA SINTRA_DATA TOOLS UPDATE="${UPDATE:-}"
if [ "$1" = --one ]; then
    one "$2" "$3"
    exit 0
fi
tally=$1
shift
if [ $# = 0 ]; then
    set -- $(cd "$CASES" && for f in *.sh; do [ ! -f "$f" ] || echo "${f%.sh}"; done)
fi
[ $# -gt 0 ] || exit 0
mkdir -p "$(dirname "$tally")"
"$here/../slow_first" "$@" | xargs -P "${JOBS:-2}" -I{} "$0" --one "$tally" {}
! awk '$1 ~ /^cli\// && $3 > 0 { bad = 1 } END { exit !bad }' "$tally"
