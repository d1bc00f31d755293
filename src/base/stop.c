/* The stop flag: one lock-free atomic, so that a signal handler may set it and any thread may ask.
 */
#include "base/stop.h"

#include <stdatomic.h>

#include "base/banned.h"

static atomic_int stop_flag;

_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "the signal handler needs a lock-free flag");

void stop_request(void)
{
    atomic_store(&stop_flag, 1);
}

bool stop_requested(void)
{
    return atomic_load_explicit(&stop_flag, memory_order_relaxed) != 0;
}

void stop_reset(void)
{
    atomic_store(&stop_flag, 0);
}

int stop_check(struct err *e)
{
    if (!stop_requested())
        return 0;
    return err_set(e, ERR_INTERRUPTED, NULL, "interrupted");
}
