/* Time: monotonic seconds for durations, wall clock in UTC for records. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

double clock_seconds(void); /* monotonic */
int64_t clock_unix_ms(void);
/* "2026-11-20T18:10:38Z" */
char *clock_iso(int64_t unix_ms, char text[static 32]);

#endif
