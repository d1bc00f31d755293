/* Encoders without a search beside the memory: bytes read and written per second, on all threads.
 *
 *   bandwidth [THREADS [TYPE...]]       (default 2, Q4_0 Q4_1 Q5_0 Q5_1 Q8_0)
 * CSV: type,variant,stored,weights_per_s,bytes_per_s,read_bytes_per_s,copy_bytes_per_s,
 *      of_read,of_copy,cached_weights_per_s
 * bytes_per_s counts every stored weight read once and every block written once, of rows too long
 * for any cache, as much as a loop that only reads the same bytes moves (read_…) and memcpy of
 * them (copy_…, read and written). cached_… is the same encoder on rows that stay in the second
 * level cache: what the arithmetic alone takes. Medians of ROUNDS turns of read, copy and encode
 * in alternation; rates are bytes over each thread's processor time, summed over threads that run
 * at once, so that another program on the machine does not look like slow memory. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/stat.h"
#include "quant/kernel_int.h"
#include "tensor/convert.h"

enum {
    COLUMNS = 4096,
    ROWS = 32768, /* 128 M weights a thread: 512 MiB of F32, 256 MiB of BF16 */
    CACHED_ROWS = 32,
    ROUNDS = 5,
    THREADS_MAX = 16,
    STEP = 4096,
    AHEAD = 1024 /* 8-byte words */
};

enum work { READ, COPY, ENCODE, ENCODE_CACHED, WORKS };

struct task {
    enum work work;
    const struct kernel_set *set;
    enum dtype type, stored;
    uint8_t *src, *dst;
    double seconds;
    uint64_t sum;
};

static pthread_barrier_t start;

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t stored_bytes(enum dtype stored)
{
    return (uint64_t)ROWS * COLUMNS * dtype_info(stored)->bytes;
}

/* Eight sums, so that loads wait for nothing but memory. */
static uint64_t read_all(const uint8_t *src, uint64_t bytes)
{
    const uint64_t *p = (const uint64_t *)(const void *)src;
    uint64_t a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0;
    for (uint64_t i = 0; i < bytes / sizeof *p; i += 8) {
        __builtin_prefetch(p + i + AHEAD);
        a += p[i];
        b += p[i + 1];
        c += p[i + 2];
        d += p[i + 3];
        e += p[i + 4];
        f += p[i + 5];
        g += p[i + 6];
        h += p[i + 7];
    }
    return a + b + c + d + e + f + g + h;
}

static void encode(const struct task *t, uint64_t rows)
{
    bool unfit = false;
    kernel_encode_stored(t->set, t->type, t->stored, t->src, t->dst, rows, COLUMNS, NULL, NULL,
                         &unfit);
    if (unfit)
        abort();
}

static void *run(void *ud)
{
    struct task *t = ud;
    uint64_t bytes = stored_bytes(t->stored);
    pthread_barrier_wait(&start);
    double t0 = cpu_seconds();
    if (t->work == READ)
        t->sum += read_all(t->src, bytes);
    else if (t->work == COPY)
        memcpy(t->dst, t->src, bytes);
    else if (t->work == ENCODE)
        encode(t, ROWS);
    else
        for (int i = 0; i < ROWS / CACHED_ROWS; i++)
            encode(t, CACHED_ROWS);
    t->seconds = cpu_seconds() - t0;
    return NULL;
}

/* Passes over all rows per second of processor time, summed over the threads. */
static double rate(struct task *tasks, int threads, enum work work)
{
    pthread_t id[THREADS_MAX];
    double sum = 0;
    pthread_barrier_init(&start, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++) {
        tasks[i].work = work;
        if (pthread_create(&id[i], NULL, run, &tasks[i]) != 0)
            abort();
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(id[i], NULL);
        sum += 1 / tasks[i].seconds;
    }
    pthread_barrier_destroy(&start);
    return sum;
}

static void measure(struct task *tasks, int threads)
{
    const struct dtype_info *info = dtype_info(tasks->type);
    double got[WORKS][ROUNDS], m[WORKS], weights = (double)ROWS * COLUMNS;
    double read = (double)stored_bytes(tasks->stored);
    double moved = read + weights / info->block * info->bytes;
    for (int i = 0; i < ROUNDS; i++)
        for (int w = 0; w < WORKS; w++)
            got[w][i] = rate(tasks, threads, (enum work)w);
    for (int w = 0; w < WORKS; w++)
        m[w] = stat_median(got[w], ROUNDS);
    printf("%s,%s,%s,%.4g,%.4g,%.4g,%.4g,%.2f,%.2f,%.4g\n", info->name, tasks->set->name,
           dtype_name(tasks->stored), m[ENCODE] * weights, m[ENCODE] * moved, m[READ] * read,
           m[COPY] * 2 * read, m[ENCODE] * moved / (m[READ] * read),
           m[ENCODE] * moved / (m[COPY] * 2 * read), m[ENCODE_CACHED] * weights);
    fflush(stdout);
}

static uint8_t *huge_alloc(void)
{
    uint64_t bytes = stored_bytes(DT_F32);
    void *p = big_alloc(bytes, "rows", NULL);
    if (!p)
        exit(1);
    madvise(p, bytes, MADV_HUGEPAGE); /* advice: without it pages are small for all alike */
    memset(p, 0, bytes);
    return p;
}

/* The same four thousand rows over and over: what is measured does not depend on the values. */
static void fill(struct task *tasks, int threads, enum dtype stored)
{
    uint64_t n = (uint64_t)COLUMNS * STEP, bytes = n * dtype_info(stored)->bytes;
    float *x = xmalloc(n * sizeof *x);
    struct rng g;
    rng_seed(&g, 1);
    for (uint64_t i = 0; i < n; i++)
        x[i] = (float)(0.02 * rng_normal(&g));
    for (int k = 0; k < threads; k++) {
        for (uint64_t at = 0; at < stored_bytes(stored); at += bytes)
            convert_from_f32(stored, x, tasks[k].src + at, n);
        tasks[k].stored = stored;
    }
    xfree(x);
}

static bool wanted(enum dtype type, int argc, char **argv)
{
    for (int i = 2; i < argc; i++)
        if (dtype_by_name(argv[i]) == type)
            return true;
    return argc < 3;
}

static void measure_types(struct task *tasks, int threads, int argc, char **argv)
{
    static const enum dtype types[] = {DT_Q4_0, DT_Q4_1, DT_Q5_0, DT_Q5_1, DT_Q8_0};
    static const char *const sets[] = {"avx512", "avx2", "neon"};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (size_t s = 0; s < sizeof sets / sizeof *sets; s++) {
            const struct kernel_set *set = kernel_set_find(sets[s]);
            if (!set || !wanted(types[t], argc, argv))
                continue;
            for (int k = 0; k < threads; k++) {
                tasks[k].set = set;
                tasks[k].type = types[t];
            }
            measure(tasks, threads);
        }
}

int main(int argc, char **argv)
{
    static const enum dtype stored[] = {DT_F32, DT_BF16, DT_F16};
    struct task tasks[THREADS_MAX] = {{0}};
    int threads = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 2;
    if (threads < 1 || threads > THREADS_MAX)
        return 2;
    for (int k = 0; k < threads; k++) {
        tasks[k].src = huge_alloc();
        tasks[k].dst = huge_alloc();
    }
    printf("type,variant,stored,weights_per_s,bytes_per_s,read_bytes_per_s,copy_bytes_per_s,"
           "of_read,of_copy,cached_weights_per_s\n");
    for (size_t i = 0; i < sizeof stored / sizeof *stored; i++) {
        fill(tasks, threads, stored[i]);
        measure_types(tasks, threads, argc, argv);
    }
    return 0;
}
