#!/bin/sh
# The NEON encoders under emulation: the same bytes, floats and errors as the plain C ones there, and
# as the ones of this machine. Wants aarch64-linux-gnu-gcc and qemu-aarch64-static (make setup-dev).
set -u
cd "${SINTRA_ROOT:-.}" || exit 1
HERE=${SINTRA_BUILD:-build}
CROSS=${CROSS:-aarch64-linux-gnu-gcc}
if ! command -v "$CROSS" >/dev/null || ! command -v qemu-aarch64-static >/dev/null; then
    echo "$CROSS and qemu-aarch64-static are not both here: NEON was not compared"
    exit 77
fi
fail() {
    echo "FAIL: $1"
    exit 1
}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
kernels=$(ls src/quant/*.c | grep -v _avx)
base="src/base/mem.c src/base/err.c src/base/num.c src/base/rng.c src/base/log.c src/base/cpu.c src/base/clock.c"
# shellcheck disable=SC2086
"$CROSS" -static -std=c11 -O2 -ffp-contract=off -D_GNU_SOURCE -pthread -Isrc -o "$dir/hashes" \
    tests/tools/encode_hashes.c $kernels src/tensor/*.c $base -lm || fail "it does not build"
qemu-aarch64-static "$dir/hashes" >"$dir/arm64" || fail "NEON differs from plain C"
"$HERE/tools/encode_hashes" >"$dir/here" || fail "kernels differ on this machine"
if ! diff "$dir/here" "$dir/arm64"; then
    fail "arm64 (>) differs from this machine (<)"
fi
echo "$(wc -l <"$dir/here") passed, 0 failed"
