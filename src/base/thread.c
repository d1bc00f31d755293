/* Threads: one shape of parallelism, a loop over indices.
 *
 * Threads live for one parallel_for: a few tens of microseconds each, which is nothing beside the
 * row bands and windows they work on, and there is no pool whose state could leak from one loop
 * into the next. Workers block all signals, so Ctrl-C reaches the main thread. When the system
 * refuses a thread the loop runs with those it has. Nested loops are allowed.
 */
#include "base/thread.h"

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/mem.h"
#include "base/banned.h"

enum { THREADS_MAX = 1024 };

struct loop {
    size_t items;
    int (*fn)(void *ud, size_t item, int worker);
    void *ud;
    atomic_size_t next;
    atomic_bool stop;
    pthread_mutex_t lock; /* guards the two below */
    size_t failed_item;
    int failed_result;
};

struct worker {
    struct loop *loop;
    int index;
    pthread_t thread;
};

int thread_count_default(void)
{
    cpu_set_t set;
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        n = CPU_COUNT(&set);
    double quota = cgroup_cpu_quota();
    if (quota > 0 && quota < (double)n)
        n = (long)(quota + 0.999); /* a quota of 1.5 feeds two threads better than one */
    if (n > THREADS_MAX)
        n = THREADS_MAX;
    return n > 0 ? (int)n : 1;
}

/* Keeps the failure of the lowest item. Items are handed out in order, so every item below a failed
 * one has been handed out too: which failure wins does not depend on timing. */
static void record_failure(struct loop *l, size_t item, int result)
{
    pthread_mutex_lock(&l->lock);
    if (l->failed_result == 0 || item < l->failed_item) {
        l->failed_item = item;
        l->failed_result = result;
    }
    pthread_mutex_unlock(&l->lock);
    atomic_store(&l->stop, true);
}

static void run(struct loop *l, int worker)
{
    while (!atomic_load_explicit(&l->stop, memory_order_relaxed)) {
        size_t item = atomic_fetch_add(&l->next, 1);
        if (item >= l->items)
            return;
        int result = l->fn(l->ud, item, worker);
        if (result)
            record_failure(l, item, result);
    }
}

static void *worker_main(void *arg)
{
    const struct worker *w = arg;
    run(w->loop, w->index);
    return NULL;
}

/* Starts workers 1..n-1 and returns how many threads run now, the caller included. */
static int start(struct worker *workers, int n, struct loop *l)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int started = 1;
    for (int i = 1; i < n; i++, started++) {
        workers[i] = (struct worker){.loop = l, .index = i};
        if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0)
            break;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return started;
}

int thread_parallel_for(int threads, size_t items, int (*fn)(void *ud, size_t item, int worker),
                        void *ud)
{
    int n = threads > 0 ? threads : thread_count_default();
    if (n > THREADS_MAX)
        n = THREADS_MAX;
    if ((size_t)n > items)
        n = items > 0 ? (int)items : 1;
    struct loop l = {.items = items, .fn = fn, .ud = ud};
    pthread_mutex_init(&l.lock, NULL);
    struct worker *workers = n > 1 ? xcalloc((size_t)n, sizeof(*workers)) : NULL;
    int started = n > 1 ? start(workers, n, &l) : 1;
    run(&l, 0);
    for (int i = 1; i < started; i++)
        pthread_join(workers[i].thread, NULL);
    xfree(workers);
    pthread_mutex_destroy(&l.lock);
    return l.failed_result;
}
