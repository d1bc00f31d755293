/* Our encoders against ggml_quantize_chunk, byte by byte: every type with kernels, every kernel set
 * that this processor runs, with and without importance, over kinds of rows that go through every
 * branch of the searches.
 *
 * Arguments: types and kernel sets by name (default: all). The short mode takes 24 rows a case.
 * SINTRA_LONG=N encodes at least N weights per type and set (10^8 for a release): fresh random
 * rows until there are enough. Not compared: values for which ggml aborts, and MXFP4 blocks below
 * 2^-125, where C leaves its conversion undefined (docs/quant.md says what ours does; test at the
 * end). */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "ggml.h"

#include "base/mem.h"
#include "base/rng.h"
#include "quant/kernel_int.h"
#include "tensor/convert.h"

enum { ROWS = 24, COLUMNS_MAX = 2304, KINDS = 15 };

static int passed, failed;

static void fill(struct rng *r, float *x, size_t n, int kind)
{
    for (size_t i = 0; i < n; i++) {
        double v = rng_normal(r);
        switch (kind) {
        case 1:
            v = v * v * v * v * v;
            break; /* heavy tails */
        case 2:
            v = 0.3;
            break; /* constant */
        case 3:
            v = 0;
            break; /* zero */
        case 4:
            v *= 1e-20;
            break; /* tiny */
        case 5:
            v *= 1e8;
            break; /* huge */
        case 6:
            v *= 1e-40;
            break; /* denormal */
        case 7:
            v = i % 256 == 77 ? 100 : v * 0.001;
            break; /* one outlier */
        case 8:
            v = fabs(v);
            break; /* one sign */
        case 9:
            v = -fabs(v);
            break;
        case 10:
            v = i / 32 % 3 == 0 ? 0 : v;
            break; /* zero sub-blocks */
        case 11:
            v *= pow(10, (double)(i / 16 % 9) - 6);
            break; /* mixed scales */
        case 12:
            v = trunc(v * 3) * 0.25;
            break; /* few values, many ties */
        case 13:
            v *= 1e-14;
            break; /* around the zero threshold */
        case 14:
            v = i % 2 ? v : -0.0;
            break; /* negative zeros */
        default:
            break;
        }
        x[i] = (float)v;
    }
}

static int skip(enum dtype type, int kind)
{
    bool book = type == DT_IQ2_XXS || type == DT_IQ2_XS || type == DT_IQ2_S || type == DT_IQ3_XXS ||
                type == DT_IQ3_S || type == DT_IQ1_S || type == DT_IQ1_M;
    return (type == DT_MXFP4 && kind == 6) || (book && kind == 5);
}

struct one_case {
    enum dtype type;
    const struct kernel_set *set;
    const float *x, *q;
    uint64_t rows, columns;
    int kind;
};

static void judge(const struct one_case *c, const uint8_t *ours, const uint8_t *theirs)
{
    const struct dtype_info *info = dtype_info(c->type);
    size_t bytes = c->rows * c->columns / info->block * info->bytes, at = 0;
    if (memcmp(ours, theirs, bytes) == 0) {
        passed++;
        return;
    }
    while (ours[at] == theirs[at])
        at++;
    printf("FAIL %s %s%s kind %d columns %llu: block %zu byte %zu is %02x, ggml has %02x\n",
           info->name, c->set->name, c->q ? " with importance" : "", c->kind,
           (unsigned long long)c->columns, at / info->bytes, at % info->bytes, ours[at],
           theirs[at]);
    failed++;
}

/* MXFP4 blocks whose largest weight is just below a power of two, where the C library's log2f
 * gives the power: one exponent too many in the reference, never another difference
 * (docs/quant.md). Ours must have the float's own exponent; then the block is left out. */
static void leave_out_rounded_up(const struct one_case *c, const uint8_t *ours, uint8_t *theirs)
{
    const struct dtype_info *info = dtype_info(c->type);
    for (uint64_t b = 0; b < c->rows * c->columns / info->block; b++) {
        float largest = 0, power;
        for (uint64_t i = 0; i < info->block; i++)
            largest = fmaxf(largest, fabsf(c->x[b * info->block + i]));
        power = log2f(largest);
        if (largest > 0 && power == floorf(power) && largest < ldexpf(1, (int)power) &&
            theirs[b * info->bytes] == ours[b * info->bytes] + 1)
            memcpy(theirs + b * info->bytes, ours + b * info->bytes, info->bytes);
    }
}

static void compare(const struct one_case *c, uint8_t *theirs, uint8_t *ours)
{
    const struct dtype_info *info = dtype_info(c->type);
    bool infinite = false;
    memset(ours, 0xa5, c->rows * c->columns / info->block * info->bytes);
    ggml_quantize_chunk((enum ggml_type)c->type, c->x, theirs, 0, (int64_t)c->rows,
                        (int64_t)c->columns, c->q);
    if (!kernel_encode(c->set, c->type, c->x, ours, c->rows, c->columns, c->q, NULL, &infinite)) {
        printf("FAIL %s %s: no kernel\n", info->name, c->set->name);
        failed++;
        return;
    }
    if (c->type == DT_MXFP4)
        leave_out_rounded_up(c, ours, theirs);
    if (infinite)
        passed++;
    else
        judge(c, ours, theirs);
}

/* Encoders that read rows as they are stored, here at an odd address: ggml gets the same numbers as
 * floats. Few bits make many weights equal. */
static void compare_stored(struct one_case c, enum dtype stored, uint8_t *theirs, uint8_t *ours)
{
    static float x[ROWS * COLUMNS_MAX];
    static uint8_t rows[ROWS * COLUMNS_MAX * 2 + 1];
    uint64_t n = c.rows * c.columns;
    bool unfit = false;
    convert_from_f32(stored, c.x, rows + 1, n);
    convert_to_f32(stored, rows + 1, x, n);
    c.x = x;
    ggml_quantize_chunk((enum ggml_type)c.type, x, theirs, 0, (int64_t)c.rows, (int64_t)c.columns,
                        c.q);
    kernel_encode_stored(c.set, c.type, stored, rows + 1, ours, c.rows, c.columns, c.q, NULL,
                         &unfit);
    if (unfit)
        passed++;
    else
        judge(&c, ours, theirs);
}

static void test_type(enum dtype type, const struct kernel_set *set, uint64_t weights)
{
    static const uint64_t columns[] = {256, 512, 768, 1280, 2304};
    static float x[ROWS * COLUMNS_MAX], q[COLUMNS_MAX];
    static uint8_t theirs[ROWS * COLUMNS_MAX * 4], ours[ROWS * COLUMNS_MAX * 4];
    struct rng r;
    rng_seed(&r, (uint64_t)type * 1000 + (uint64_t)set->lanes);
    uint64_t done = 0;
    for (int i = 0; done < weights || i < KINDS * 5; i++) {
        int kind = i % KINDS;
        if (skip(type, kind))
            continue;
        struct one_case c = {type, set, x, NULL, ROWS - (uint64_t)(i % 7), columns[i / KINDS % 5],
                             kind};
        fill(&r, x, c.rows * c.columns, kind);
        for (uint64_t j = 0; j < c.columns; j++)
            q[j] = (float)exp(2 * rng_normal(&r));
        if (i % 4 == 3)
            q[r.s[0] % c.columns] = 0;
        if (kernel_encodes(set, type, false))
            compare(&c, theirs, ours);
        c.q = q;
        if (kernel_encodes(set, type, true))
            compare(&c, theirs, ours);
        for (int s = 0; s < 2 && kernel_reads_stored(set, type, false); s++) {
            c.q = NULL;
            compare_stored(c, s ? DT_F16 : DT_BF16, theirs, ours);
        }
        done += c.rows * c.columns;
    }
}

/* MXFP4 where the reference is undefined or libm's: the exponent is the float's own. */
static void test_mxfp4_choice(const struct kernel_set *set)
{
    float x[32] = {0};
    uint8_t block[17];
    bool infinite = false, good = true;
    for (int e = -149; e < 127; e++) {
        x[5] = ldexpf(1.0f, e);
        kernel_encode(set, DT_MXFP4, x, block, 1, 32, NULL, NULL, &infinite);
        int expected = e - 2 + 127 < 0 ? 0 : e - 2 + 127;
        good = good && block[0] == expected;
        x[5] = nextafterf(x[5], 0);
        kernel_encode(set, DT_MXFP4, x, block, 1, 32, NULL, NULL, &infinite);
        if (e > -126)
            good = good && block[0] == (expected ? expected - 1 : 0);
    }
    printf("%s mxfp4 exponents, %s\n", good ? "ok  " : "FAIL", set->name);
    good ? passed++ : failed++;
}

/* Is `name` asked for, or no other of its kind (type or kernel set)? */
static bool wanted(const char *name, bool is_set, int argc, char **argv)
{
    bool others = false;
    for (int i = 1; i < argc; i++) {
        bool set = dtype_by_name(argv[i]) == DT_NONE;
        if (set == is_set && strcasecmp(argv[i], name) == 0)
            return true;
        others = others || set == is_set;
    }
    return !others;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"ref", "avx2", "avx512", "neon"};
    const char *text = getenv("SINTRA_LONG");
    uint64_t weights = text ? strtoull(text, NULL, 10) : 0;
    for (size_t s = 0; s < sizeof names / sizeof *names; s++) {
        const struct kernel_set *set = kernel_set_find(names[s]);
        if (!set || !wanted(names[s], true, argc, argv))
            continue;
        for (int t = 0; t < KERNEL_TYPES; t++) {
            if (!kernel_encodes(set, (enum dtype)t, true) ||
                !wanted(dtype_name((enum dtype)t), false, argc, argv))
                continue;
            ggml_quantize_init((enum ggml_type)t);
            int before = failed;
            test_type((enum dtype)t, set, weights);
            printf("%s %s %s\n", failed == before ? "ok  " : "FAIL", dtype_name((enum dtype)t),
                   set->name);
            fflush(stdout);
        }
        test_mxfp4_choice(set);
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
