/* How fast all cores together read memory.
 *
 * Token generation is bound by this number, so the probe does what generation does: every core
 * streams through memory that no cache holds. The buffer is several times the caches and written
 * once, so that every page is its own (reading untouched memory would read one shared zero page).
 * The best of the passes counts: other processes can only slow a pass down. Owns the buffer for the
 * time of the call.
 */
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/thread.h"
#include "hw/hw_int.h"
#include "base/banned.h"

enum {
    SLICE_BYTES = 2 << 20, /* handed to whichever core is free: slow cores do not set the pace */
    PASSES_MIN = 3,
    PASSES_MAX = 12,
};

static const uint64_t buffer_min = 128u << 20, buffer_max = 1u << 30;
static const double time_max_s = 1.0; /* for the passes; writing the pages comes before */

struct sweep {
    unsigned char *data;
    size_t slices;
    atomic_ullong sum; /* keeps the reads from being optimised away */
};

static int write_slice(void *ud, size_t item, int worker)
{
    struct sweep *s = ud;
    (void)worker;
    memset(s->data + item * SLICE_BYTES, (int)item + 1, SLICE_BYTES);
    return 0;
}

/* Four vectors of two lanes: the baseline of both architectures. */
typedef uint64_t lanes __attribute__((vector_size(16)));

/* A cache line per step, in four independent sums, so that the loop waits for memory and not for
 * the previous addition. */
static int read_slice(void *ud, size_t item, int worker)
{
    struct sweep *s = ud;
    const lanes *p = (const lanes *)(const void *)(s->data + item * SLICE_BYTES);
    const lanes *end = p + SLICE_BYTES / sizeof(*p);
    lanes a = {0}, b = {0}, c = {0}, d = {0};
    (void)worker;
    for (; p < end; p += 4) {
        a += p[0];
        b += p[1];
        c += p[2];
        d += p[3];
    }
    a += b + c + d;
    atomic_fetch_add_explicit(&s->sum, a[0] + a[1], memory_order_relaxed);
    return 0;
}

/* Four times the caches, within the bounds of taste and memory; 0 when memory is too short. */
static size_t choose_slices(uint64_t cache_bytes, uint64_t ram_usable)
{
    uint64_t bytes = cache_bytes < buffer_max / 4 ? cache_bytes * 4 : buffer_max;
    if (bytes < buffer_min)
        bytes = buffer_min;
    if (bytes > ram_usable / 8)
        bytes = ram_usable / 8;
    return (size_t)(bytes / SLICE_BYTES);
}

double hw_bandwidth_measure(int threads, uint64_t cache_bytes, uint64_t ram_usable)
{
    struct sweep s = {.slices = choose_slices(cache_bytes, ram_usable)};
    size_t bytes = s.slices * SLICE_BYTES;
    if (s.slices == 0 || !(s.data = big_alloc(bytes, "the bandwidth probe", NULL)))
        return 0;
    thread_parallel_for(threads, s.slices, write_slice, &s);
    double begin = clock_seconds(), best = 0;
    for (int pass = 0; pass < PASSES_MAX; pass++) {
        double start = clock_seconds();
        thread_parallel_for(threads, s.slices, read_slice, &s);
        double end = clock_seconds(), rate = (double)bytes / (end - start) / 1e9;
        if (rate > best)
            best = rate;
        if (pass + 1 >= PASSES_MIN && end - begin > time_max_s)
            break;
    }
    big_free(s.data, bytes);
    return best;
}
