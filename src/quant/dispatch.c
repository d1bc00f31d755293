/* Chooses a kernel set for this processor and cuts rows into batches of blocks.
 *
 * SINTRA_KERNELS masks the choice (libdeflate's way), so that every variant is tested on one
 * machine. The bytes are the same for every set; the order in which errors are summed is too. */
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "quant/codebook_int.h"
#include "quant/kernel_int.h"

#include "base/banned.h"

#if defined(__x86_64__)
/* F16C, which every processor with AVX2 has so far; not all compilers know its name. */
static bool converts_half(void)
{
    unsigned a, b, c = 0, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

static bool set_runs_here(const struct kernel_set *set)
{
#if defined(__x86_64__)
    if (set == &kernel_set_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (set == &kernel_set_avx2)
        return __builtin_cpu_supports("avx2") && converts_half();
#endif
    return set != NULL;
}

/* Fastest first. */
static const struct kernel_set *const sets[] = {
#if defined(__x86_64__)
    &kernel_set_avx512,
    &kernel_set_avx2,
#elif defined(__aarch64__)
    &kernel_set_neon,
#endif
    &kernel_set_ref,
};
enum { N_SETS = sizeof sets / sizeof *sets };

const struct kernel_set *kernel_set_find(const char *name)
{
    for (int i = 0; i < N_SETS; i++)
        if (strcmp(sets[i]->name, name) == 0 && set_runs_here(sets[i]))
            return sets[i];
    return NULL;
}

static const struct kernel_set *chosen;
static pthread_once_t chosen_once = PTHREAD_ONCE_INIT;

static void choose(void)
{
    const char *wish = getenv("SINTRA_KERNELS");
    if (wish != NULL && *wish != '\0') {
        chosen = kernel_set_find(wish);
        if (chosen != NULL)
            return;
        log_warn("SINTRA_KERNELS=%s: no such kernels on this processor; using the best", wish);
    }
    for (int i = 0; i < N_SETS && chosen == NULL; i++)
        if (set_runs_here(sets[i]))
            chosen = sets[i];
}

const struct kernel_set *kernel_set_best(void)
{
    pthread_once(&chosen_once, choose);
    return chosen;
}

enum { MEANS = 8 };

/* Mean x² of `rows` rows, each summed in order: Q4_0…Q5_1 weigh with it. One sum is a chain of
 * additions, so several rows together take little longer than one. */
static void row_mean_squares(const float *x, uint64_t n, uint64_t rows, float *mean)
{
    const float *row[MEANS];
    float sum[MEANS] = {0};
    for (uint64_t r = 0; r < MEANS; r++)
        row[r] = x + (r < rows ? r : rows - 1) * n;
    for (uint64_t i = 0; i < n; i++)
        for (int r = 0; r < MEANS; r++)
            sum[r] += row[r][i] * row[r][i];
    for (int r = 0; r < MEANS; r++)
        mean[r] = sum[r] / (float)n;
}

struct cut {
    const struct dtype_info *type;
    const float *src, *importance;
    uint8_t *dst;
    uint64_t n_per_row, blocks_per_row, blocks;
    uint64_t row, row_first; /* row of the block last filled in, its first block */
    bool need_row_mean;
    uint64_t rows, mean_row; /* first row that `mean` belongs to */
    float mean[MEANS];
};

/* Fills lanes [0, lanes) with blocks from `first` on; lanes beyond the last block repeat it. */
static void cut_fill(struct cut *c, struct kernel_batch *b, int lanes, uint64_t first)
{
    uint64_t left = c->blocks - first;
    b->count = left < (uint64_t)lanes ? (int)left : lanes;
    for (int lane = 0; lane < lanes; lane++) {
        uint64_t block = first + (uint64_t)(lane < b->count ? lane : b->count - 1);
        while (block - c->row_first >= c->blocks_per_row) {
            c->row_first += c->blocks_per_row;
            c->row++;
        }
        uint64_t row = c->row, column = block - c->row_first;
        b->x[lane] = c->src + block * c->type->block;
        if (c->importance != NULL)
            b->w[lane] = c->importance + column * c->type->block;
        if (c->need_row_mean) {
            if (row - c->mean_row >= MEANS) {
                row_mean_squares(c->src + row * c->n_per_row, c->n_per_row, c->rows - row, c->mean);
                c->mean_row = row;
            }
            b->row_mean_square[lane] = c->mean[row - c->mean_row];
        }
        b->dst[lane] = c->dst + block * c->type->bytes;
    }
}

bool kernel_reads_stored(const struct kernel_set *set, enum dtype type, bool important)
{
    return (int)type < KERNEL_TYPES && set->rows[type] && !(important && set->important[type]);
}

bool kernel_encodes(const struct kernel_set *set, enum dtype type, bool important)
{
    return (int)type < KERNEL_TYPES && (kernel_reads_stored(set, type, important) ||
                                        (important ? set->important[type] : set->plain[type]));
}

void kernel_encode_stored(const struct kernel_set *set, enum dtype type, enum dtype stored,
                          const void *src, uint8_t *dst, uint64_t rows, uint64_t n_per_row,
                          const float *importance, struct quant_error *error, bool *unfit)
{
    struct kernel_rows r = {.src = src, .stored = stored, .importance = importance, .dst = dst};
    r.blocks_per_row = n_per_row / dtype_info(type)->block;
    r.blocks = rows * r.blocks_per_row;
    set->rows[type](&r);
    if (error != NULL) {
        error->squared += r.squared;
        error->weighted += r.weighted;
    }
    if (r.unfit)
        *unfit = true;
}

bool kernel_encode(const struct kernel_set *set, enum dtype type, const float *src, uint8_t *dst,
                   uint64_t rows, uint64_t n_per_row, const float *importance,
                   struct quant_error *error, bool *infinite)
{
    if (!kernel_encodes(set, type, importance != NULL))
        return false;
    if (kernel_reads_stored(set, type, importance != NULL)) {
        kernel_encode_stored(set, type, DT_F32, src, dst, rows, n_per_row, importance, error,
                             infinite);
        return true;
    }
    kernel_encode_fn *encode = importance ? set->important[type] : set->plain[type];
    codebook_prepare(type);
    struct cut c = {.type = dtype_info(type), .src = src, .importance = importance, .dst = dst};
    c.n_per_row = n_per_row;
    c.blocks_per_row = n_per_row / c.type->block;
    c.blocks = rows * c.blocks_per_row;
    c.rows = rows;
    c.need_row_mean = importance != NULL &&
                      (type == DT_Q4_0 || type == DT_Q4_1 || type == DT_Q5_0 || type == DT_Q5_1);
    c.mean_row = 0 - (uint64_t)MEANS;
    struct kernel_batch b = {.count = 0};
    for (uint64_t first = 0; first < c.blocks; first += (uint64_t)set->lanes) {
        cut_fill(&c, &b, set->lanes, first);
        encode(&b);
    }
    if (error != NULL) {
        error->squared += b.squared;
        error->weighted += b.weighted;
    }
    if (b.infinite)
        *infinite = true;
    return true;
}
