/* Speed of our encoders beside ggml_quantize_chunk, one core, same rows, same run.
 *
 * CSV: type,variant,importance,weights_per_s,ggml_weights_per_s,ratio,bytes_equal
 * Speeds are medians of REPEATS turns, ours and ggml's in alternation, in processor time, so that
 * another process on the machine disturbs both alike. Arguments: types by name (default: all). */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/stat.h"
#include "quant/codebook_int.h"
#include "quant/kernel_int.h"

/* ggml's own, declared here: its headers are for the engine. */
void ggml_quantize_init(int type);
size_t ggml_quantize_chunk(int type, const float *src, void *dst, int64_t start, int64_t rows,
                           int64_t n_per_row, const float *imatrix);

enum { COLUMNS = 4096, REPEATS = 5 };

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct rows {
    float *x, *q;
    uint8_t *ours, *theirs;
    uint64_t rows;
};

static void measure(enum dtype type, const struct kernel_set *set, const struct rows *r,
                    const float *q)
{
    const struct dtype_info *info = dtype_info(type);
    double ours[REPEATS], theirs[REPEATS];
    uint64_t n = r->rows * COLUMNS, bytes = n / info->block * info->bytes;
    bool infinite = false;
    for (int i = 0; i < REPEATS; i++) {
        double t0 = cpu_seconds();
        kernel_encode(set, type, r->x, r->ours, r->rows, COLUMNS, q, NULL, &infinite);
        double t1 = cpu_seconds();
        ggml_quantize_chunk((int)type, r->x, r->theirs, 0, (int64_t)r->rows, COLUMNS, q);
        ours[i] = (double)n / (t1 - t0);
        theirs[i] = (double)n / (cpu_seconds() - t1);
    }
    double a = stat_median(ours, REPEATS), b = stat_median(theirs, REPEATS);
    printf("%s,%s,%d,%.4g,%.4g,%.2f,%d\n", info->name, set->name, q != NULL, a, b, a / b,
           memcmp(r->ours, r->theirs, bytes) == 0);
    fflush(stdout);
}

static int wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (dtype_by_name(argv[i]) == dtype_by_name(name))
            return 1;
    return argc < 2;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"avx512", "avx2", "neon", "ref"};
    struct rows r = {.rows = 64};
    uint64_t n = r.rows * COLUMNS;
    r.x = xmalloc(n * sizeof *r.x);
    r.q = xmalloc(COLUMNS * sizeof *r.q);
    r.ours = xmalloc(n * 4);
    r.theirs = xmalloc(n * 4);
    struct rng g;
    rng_seed(&g, 1);
    for (uint64_t i = 0; i < n; i++)
        r.x[i] = (float)(0.02 * rng_normal(&g));
    for (uint64_t i = 0; i < COLUMNS; i++)
        r.q[i] = (float)exp(rng_normal(&g));
    printf("type,variant,importance,weights_per_s,ggml_weights_per_s,ratio,bytes_equal\n");
    for (int t = 0; t < KERNEL_TYPES; t++) {
        if (!kernel_encodes(kernel_set_best(), (enum dtype)t, true) ||
            !wanted(dtype_name((enum dtype)t), argc, argv))
            continue;
        codebook_prepare((enum dtype)t);
        ggml_quantize_init((int)t);
        for (size_t s = 0; s < sizeof names / sizeof *names; s++) {
            const struct kernel_set *set = kernel_set_find(names[s]);
            if (!set)
                continue;
            if (kernel_encodes(set, (enum dtype)t, false))
                measure((enum dtype)t, set, &r, NULL);
            if (kernel_encodes(set, (enum dtype)t, true))
                measure((enum dtype)t, set, &r, r.q);
        }
    }
    return 0;
}
