#!/bin/sh
# make check: gates on the text of the program. tests/check/run.sh [TALLY]
#
#   lint      layers, banned calls, lengths, form (tests/check/lint.c says them all)
#   words     tests/check/words.txt, over every file of the tree
#   scripts   sh -n over every shell script
#   format    clang-format-14 with .clang-format
#   cppcheck  errors, warnings and portability, exceptions in tests/check/cppcheck.txt
#
# Before a check is believed it must find what is wrong in tests/check/bad, which is laid out like the
# tree: what it says there must be tests/check/bad/NAME.expected. UPDATE=1 writes those files.
# CHECKS="lint words" runs some.
set -eu
cd "$(dirname "$0")/../.."
CHECKS=${CHECKS:-lint words scripts format cppcheck}
TMP=$(mktemp -d "${TMPDIR:-/tmp}/sintra-check.XXXXXX")
trap 'rm -rf "$TMP"' EXIT
JOBS=${JOBS:-2}

# ---- what is looked at ---------------------------------------------------------------------------

files() { # files ROOT: tracked and new files, one per line, relative to ROOT
    if [ "$1" = . ]; then
        { git ls-files --cached --others --exclude-standard 2>/dev/null || find . -type f | cut -c3-; } |
            grep -v '^tests/check/bad/' | while read -r f; do [ ! -f "$f" ] || echo "$f"; done | sort -u
    else
        (cd "$1" && find . -type f ! -name '*.expected' | cut -c3- | sort)
    fi
}

c_files() { files "$1" | grep -E '^(src|tests|bench)/.*\.[ch]$' || :; }

# ---- the checks: each prints findings, one per line, and nothing when all is well ------------------

check_lint() {
    [ -x "$TMP/lint" ] || gcc -std=c11 -D_GNU_SOURCE -O1 -Wall -Wextra -Wconversion -Werror \
        -o "$TMP/lint" tests/check/lint.c
    # shellcheck disable=SC2046 # no spaces in our file names
    "$TMP/lint" "$1" $(c_files "$1") || :
}

check_words() {
    grep -v -e '^#' -e '^$' tests/check/words.txt >"$TMP/words"
    files "$1" | grep -v -e '^tests/check/' -e '^models/' |
        (cd "$1" && xargs -r grep -nIE -f "$TMP/words" /dev/null) | sed 's/$/  <- a host or a machine path/' || :
}

check_scripts() {
    files "$1" | while read -r f; do
        case $f in
        *.sh) ;;
        *.*) continue ;;
        *) head -c 32 "$1/$f" | head -n 1 | grep -aqE '^#!.*[/ ](ba|da)?sh' || continue ;;
        esac
        case $(head -n 1 "$1/$f") in *bash*) shell=bash ;; *) shell=sh ;; esac
        (cd "$1" && $shell -n "$f" 2>&1) || :
    done
}

check_format() {
    c_files "$1" | (cd "$1" && xargs -r \
        clang-format-14 --style=file --dry-run --ferror-limit=1 -Werror 2>&1) |
        grep -E 'error:' | sed 's/code should be.*/is not laid out by clang-format-14: make format/' | sort || :
}

check_cppcheck() {
    build=${CPPCHECK_CACHE:-$TMP/cppcheck}
    mkdir -p "$build"
    files=$(c_files "$1" | grep -E '^src/.*\.c$' || :)
    [ -n "$files" ] || return 0
    # shellcheck disable=SC2086
    (cd "$1" && cppcheck -q -j "$JOBS" --std=c11 --language=c --platform=unix64 -D_GNU_SOURCE \
        -D__x86_64__ -D__linux__ -D__STDC_VERSION__=201112L -Isrc \
        --enable=warning,portability --inline-suppr --suppressions-list="$OLDPWD/tests/check/cppcheck.txt" \
        --cppcheck-build-dir="$build" --template='{file}:{line}: cppcheck: {message} [{id}]' \
        $files 2>&1 | grep 'cppcheck:' | sort -u) || :
}

# ---- run them ------------------------------------------------------------------------------------

needs() {
    case $1 in
    format) command -v clang-format-14 ;;
    cppcheck) command -v cppcheck ;;
    *) echo sh ;;
    esac >/dev/null
}

passed=0 failed=0
verdict() { # verdict NAME OUTPUT-FILE FAILED-SENTENCE
    if [ -s "$2" ]; then
        failed=$((failed + 1))
        echo "FAIL check/$1: $3"
        head -n "${CHECK_LINES:-50}" "$2" | sed 's/^/    /'
        n=$(wc -l <"$2")
        [ "$n" -le "${CHECK_LINES:-50}" ] || echo "    ... $n in all"
    else
        passed=$((passed + 1))
        echo "ok   check/$1"
    fi
}

for check in $CHECKS; do
    if ! needs "$check"; then
        failed=$((failed + 1))
        echo "FAIL check/$check: its program is not installed; make setup-dev"
        continue
    fi
    expected=tests/check/bad/$check.expected
    CPPCHECK_CACHE='' "check_$check" tests/check/bad >"$TMP/$check.bad"
    [ "${UPDATE:-}" != 1 ] || cp "$TMP/$check.bad" "$expected"
    if [ ! -s "$expected" ]; then
        echo "it found nothing wrong in tests/check/bad" >"$TMP/$check.diff"
    else
        diff -u "$expected" "$TMP/$check.bad" >"$TMP/$check.diff" || :
    fi
    verdict "$check-proves-itself" "$TMP/$check.diff" "it does not say of tests/check/bad what it should"
    "check_$check" . >"$TMP/$check.out"
    verdict "$check" "$TMP/$check.out" "$(wc -l <"$TMP/$check.out") findings"
done
[ $# = 0 ] || echo "check $passed $failed 0" >>"$1"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
