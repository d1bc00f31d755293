/* Threads: one pool shape, parallel_for over indices. Work order must never change a result. */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>
#include <stddef.h>

/* Logical processors this process may use (affinity and cgroup quota considered), at least 1. */
int thread_count_default(void);

/* Calls fn(ud, item, worker) for item in [0, items), items handed out in order from an atomic
 * counter to `threads` workers (the caller is worker 0). fn returns 0 to go on, non-zero to stop
 * handing out more. Returns 0 or the first non-zero result. threads <= 0 means
 * thread_count_default(). */
int thread_parallel_for(int threads, size_t items, int (*fn)(void *ud, size_t item, int worker),
                        void *ud);

#endif
