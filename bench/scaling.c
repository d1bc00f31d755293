/* How encoding scales over threads, beside a loop that only computes and one that only reads
 * memory.
 *
 *   scaling [THREADS]           (default 2)
 * CSV: what,importance,one_thread,threads,wall,processor,of_computing
 *   one_thread, threads  weights/s (turns/s, bytes/s) of processor time, the threads' added up
 *   wall                 time of one thread's work on one thread over that of THREADS threads that
 *                        do as much each: 1 is perfect
 *   processor            the same in processor time: what is left is caches, memory and clocks,
 *                        without what other programs took
 *   of_computing         wall over the computing loop's of the same round
 * In every round each case runs on one thread and on all, right after the computing loop did the
 * same; medians of ROUNDS. bench/bandwidth says how near to memory the encoders without a search
 * come. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/stat.h"
#include "quant/quant.h"

enum { COLUMNS = 4096, ROWS = 8192, ROUNDS = 5, THREADS_MAX = 16, TURNS = 100000000 };

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

struct job {
    void *(*work)(void *);
    struct task *task;
    double cpu; /* seconds of processor time that it took */
};

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *timed(void *ud)
{
    struct job *j = ud;
    double t0 = cpu_seconds();
    j->work(j->task);
    j->cpu = cpu_seconds() - t0;
    return NULL;
}

struct times {
    double wall, rate; /* seconds; jobs per second of processor time, added up */
};

static struct times run(void *(*work)(void *), struct task *tasks, int threads)
{
    pthread_t id[THREADS_MAX];
    struct job jobs[THREADS_MAX];
    struct times t = {.rate = 0};
    double start = clock_seconds();
    for (int i = 0; i < threads; i++) {
        jobs[i] = (struct job){.work = work, .task = &tasks[i]};
        if (pthread_create(&id[i], NULL, timed, &jobs[i]) != 0)
            abort();
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(id[i], NULL);
        t.rate += 1 / jobs[i].cpu;
    }
    t.wall = clock_seconds() - start;
    return t;
}

/* One line; returns the median rate on all threads. */
static double report(const char *what, int important, void *(*work)(void *), struct task *tasks,
                     int threads, double amount)
{
    double one[ROUNDS], all[ROUNDS], wall[ROUNDS], processor[ROUNDS], of[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        struct times c1 = run(compute, tasks, 1), cn = run(compute, tasks, threads);
        struct times w1 = run(work, tasks, 1), wn = run(work, tasks, threads);
        one[i] = w1.rate;
        all[i] = wn.rate;
        wall[i] = w1.wall / wn.wall;
        processor[i] = wn.rate / w1.rate / threads;
        of[i] = wall[i] / (c1.wall / cn.wall);
    }
    double rate = stat_median(all, ROUNDS) * amount;
    printf("%s,%d,%.4g,%.4g,%.3f,%.3f,%.3f\n", what, important, stat_median(one, ROUNDS) * amount,
           rate, stat_median(wall, ROUNDS), stat_median(processor, ROUNDS),
           stat_median(of, ROUNDS));
    fflush(stdout);
    return rate;
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
    printf("what,importance,one_thread,threads,wall,processor,of_computing\n");
    report("multiplications", 0, compute, tasks, threads, TURNS);
    report("bytes read", 0, read_memory, tasks, threads, 2.0 * (double)n * 4);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        for (int k = 0; k < threads; k++) {
            tasks[k].type = cases[c].type;
            tasks[k].q = cases[c].important ? q : NULL;
            tasks[k].repeat = cases[c].repeat;
        }
        report(dtype_name(cases[c].type), cases[c].important, encode, tasks, threads,
               (double)n * cases[c].repeat);
    }
    return 0;
}
