/* Time: monotonic for durations, so that a corrected system clock never makes one negative; UTC for
 * records. Owns nothing; the caller gives the text buffer. */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

#include "base/banned.h"

double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int64_t clock_unix_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

char *clock_iso(int64_t unix_ms, char text[static 32])
{
    /* Floor division: times before 1970 must not round towards the epoch. */
    time_t seconds = (time_t)(unix_ms >= 0 ? unix_ms / 1000 : -((999 - unix_ms) / 1000));
    struct tm tm;
    if (!gmtime_r(&seconds, &tm) || strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        snprintf(text, 32, "(time out of range)");
    return text;
}
