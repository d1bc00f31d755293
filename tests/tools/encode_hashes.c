/* A hash of what every encoder and decoder makes of the same rows, to compare machines and
 * instruction sets.
 *
 * One line per type and importance: TYPE plain|important HASH ERROR-BITS. All kernel sets of this
 * processor must agree, else the exit status is 1. The rows are integers times powers of two, so
 * that no library's mathematics takes part. Needs no libggml: tests/oracle/arm64.sh builds it for
 * another machine. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "quant/kernel_int.h"

enum { ROWS = 5, COLUMNS = 1280, KINDS = 6 };

static uint64_t hash_more(uint64_t h, const void *data, size_t n)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3ull;
    return h;
}

/* Sums of integers: close to normal, exact everywhere. */
static float bell(struct rng *r)
{
    int sum = 0;
    for (int i = 0; i < 12; i++)
        sum += (int)(rng_next(r) >> 48);
    return (float)(sum - 393216) * 0x1p-16f;
}

static void fill(struct rng *r, float *x, int kind)
{
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        float v = bell(r);
        if (kind == 1)
            v = v * v * v;
        else if (kind == 2)
            v = i / 32 % 3 == 0 ? 0 : v;
        else if (kind == 3)
            v = (float)(int)(v * 3) * 0.25f;
        else if (kind == 4)
            v *= 0x1p-46f;
        else if (kind == 5)
            v = i % 256 == 77 ? 100 : v * 0x1p-10f;
        x[i] = v;
    }
}

struct outcome {
    uint64_t hash;
    double squared, weighted;
};

static int encode_all(const struct kernel_set *set, enum dtype type, int important,
                      struct outcome *out)
{
    static float x[ROWS * COLUMNS], y[ROWS * COLUMNS], q[COLUMNS];
    static uint8_t blocks[ROWS * COLUMNS * 4];
    const struct dtype_info *info = dtype_info(type);
    struct rng r;
    struct err e;
    *out = (struct outcome){.hash = 0xcbf29ce484222325ull};
    rng_seed(&r, (uint64_t)type);
    for (int kind = 0; kind < KINDS; kind++) {
        struct quant_error error = {0};
        bool infinite = false;
        fill(&r, x, kind);
        for (int i = 0; i < COLUMNS; i++)
            q[i] = (float)(1 + (rng_next(&r) >> 54)) * 0.125f;
        if (!kernel_encode(set, type, x, blocks, ROWS, COLUMNS, important ? q : NULL, &error,
                           &infinite))
            return 0;
        out->hash = hash_more(out->hash, blocks, ROWS * COLUMNS / info->block * info->bytes);
        if (quant_decode(type, blocks, y, ROWS, COLUMNS, &e) == 0)
            out->hash = hash_more(out->hash, y, sizeof y);
        out->squared += error.squared;
        out->weighted += error.weighted;
    }
    return 1;
}

static int compare(enum dtype type, int important)
{
    static const char *const names[] = {"avx2", "avx512", "neon"};
    struct outcome truth, other;
    int bad = 0;
    if (!encode_all(kernel_set_find("ref"), type, important, &truth))
        return 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct kernel_set *set = kernel_set_find(names[i]);
        if (!set)
            continue;
        if (!encode_all(set, type, important, &other) || other.hash != truth.hash ||
            other.squared != truth.squared || other.weighted != truth.weighted) {
            fprintf(stderr, "%s: %s differs from ref\n", dtype_name(type), names[i]);
            bad = 1;
        }
    }
    printf("%s %s %016llx %a %a\n", dtype_name(type), important ? "important" : "plain",
           (unsigned long long)truth.hash, truth.squared, truth.weighted);
    fflush(stdout);
    return bad;
}

int main(void)
{
    int bad = 0;
    for (int t = 0; t < KERNEL_TYPES; t++)
        if (dtype_info((enum dtype)t))
            bad |= compare((enum dtype)t, 0) | compare((enum dtype)t, 1);
    return bad;
}
