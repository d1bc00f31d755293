/* How encoding scales over threads, beside a loop that only computes and one that only reads
 * memory.
 *
 *   scaling [THREADS]           (default 2)
 * CSV: what,importance,one_thread,threads,scaling — weights/s (or turns/s, bytes/s), and the
 * quotient over THREADS. One turn of everything on one thread, then on all, ROUNDS times, best of
 * each: wall time, so run it on an idle machine. The encoders without a search are bound by memory:
 * the last column of their "bytes" lines compares bytes read and written with what the reading loop
 * moves on the same threads. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "quant/quant.h"

enum { COLUMNS = 4096, ROWS = 8192, ROUNDS = 3, THREADS_MAX = 16, TURNS = 100000000 };

struct task {
    enum dtype type;
    const float *x, *q;
    uint8_t *out;
    int repeat;
    uint64_t turns; /* of the computing loop */
    uint64_t sum;
};

static void *encode(void *ud)
{
    struct task *t = ud;
    for (int i = 0; i < t->repeat; i++)
        if (quant_encode(t->type, t->x, t->out, ROWS, COLUMNS, t->q, NULL, NULL))
            abort();
    return NULL;
}

/* A dependent chain of multiplications: one core's arithmetic and nothing else. */
static void *compute(void *ud)
{
    struct task *t = ud;
    uint64_t v = t->sum | 1;
    for (uint64_t i = 0; i < t->turns; i++)
        v = v * 6364136223846793005u + 1442695040888963407u;
    t->sum = v;
    return NULL;
}

static void *read_memory(void *ud)
{
    struct task *t = ud;
    const uint64_t *p = (const uint64_t *)(const void *)t->x;
    for (int k = 0; k < t->repeat; k++) {
        uint64_t a = 0, b = 0, c = 0, d = 0;
        for (size_t i = 0; i < (size_t)ROWS * COLUMNS / 2; i += 4) {
            a += p[i];
            b += p[i + 1];
            c += p[i + 2];
            d += p[i + 3];
        }
        t->sum += a + b + c + d;
    }
    return NULL;
}

static double seconds(void *(*work)(void *), struct task *tasks, int threads)
{
    pthread_t id[THREADS_MAX];
    double start = clock_seconds();
    for (int i = 0; i < threads; i++)
        pthread_create(&id[i], NULL, work, &tasks[i]);
    for (int i = 0; i < threads; i++)
        pthread_join(id[i], NULL);
    return clock_seconds() - start;
}

/* Best time on one thread and on all, in alternation. */
static void time_both(void *(*work)(void *), struct task *tasks, int threads, double best[2])
{
    best[0] = best[1] = INFINITY;
    for (int i = 0; i < ROUNDS; i++) {
        best[0] = fmin(best[0], seconds(work, tasks, 1));
        best[1] = fmin(best[1], seconds(work, tasks, threads));
    }
}

static double report(const char *what, int important, double work, int threads, const double *best)
{
    printf("%s,%d,%.4g,%.4g,%.3f\n", what, important, work / best[0], threads * work / best[1],
           best[0] / best[1]);
    fflush(stdout);
    return threads * work / best[1];
}

int main(int argc, char **argv)
{
    static const struct {
        enum dtype type;
        int important, repeat;
    } cases[] = {{DT_Q4_K, 1, 2}, {DT_Q6_K, 1, 4}, {DT_Q2_K, 1, 2}, {DT_IQ4_XS, 1, 2},
                 {DT_Q4_K, 0, 4}, {DT_Q4_0, 0, 8}, {DT_Q4_1, 0, 8}, {DT_Q5_0, 0, 8},
                 {DT_Q5_1, 0, 8}, {DT_Q8_0, 0, 8}, {DT_TQ2_0, 0, 8}};
    int threads = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 2;
    struct task tasks[THREADS_MAX];
    float q[COLUMNS];
    struct rng g;
    double best[2];
    if (threads < 1 || threads > THREADS_MAX)
        return 2;
    rng_seed(&g, 1);
    for (int i = 0; i < COLUMNS; i++)
        q[i] = (float)(0.5 + rng_unit(&g));
    uint64_t n = (uint64_t)ROWS * COLUMNS;
    for (int k = 0; k < threads; k++) {
        float *x = big_alloc(n * sizeof *x, "rows", NULL);
        uint8_t *out = big_alloc(n * 2, "blocks", NULL);
        if (!x || !out)
            return 1;
        for (uint64_t i = 0; i < n; i++)
            x[i] = (float)(0.02 * rng_normal(&g));
        tasks[k] = (struct task){.x = x, .out = out, .turns = TURNS, .repeat = 2};
    }
    printf("what,importance,one_thread,threads,scaling\n");
    time_both(compute, tasks, threads, best);
    report("multiplications", 0, TURNS, threads, best);
    time_both(read_memory, tasks, threads, best);
    double bandwidth = report("bytes read", 0, 2.0 * (double)n * 4, threads, best);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const struct dtype_info *info = dtype_info(cases[c].type);
        double bytes = (double)n * (4 + (double)info->bytes / info->block);
        for (int k = 0; k < threads; k++) {
            tasks[k].type = cases[c].type;
            tasks[k].q = cases[c].important ? q : NULL;
            tasks[k].repeat = cases[c].repeat;
        }
        time_both(encode, tasks, threads, best);
        report(info->name, cases[c].important, (double)n * cases[c].repeat, threads, best);
        if (!cases[c].important)
            printf("# %s moves %.1f GB/s, %.0f %% of the reading loop's\n", info->name,
                   threads * bytes * cases[c].repeat / best[1] * 1e-9,
                   100 * threads * bytes * cases[c].repeat / best[1] / bandwidth);
    }
    return 0;
}
