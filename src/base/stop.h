/* Has the user asked to stop (Ctrl-C, SIGTERM)? The signal handler lives in main.c and calls
 * stop_request(); long loops ask stop_requested() and return ERR_INTERRUPTED via stop_check(). */
#ifndef BASE_STOP_H
#define BASE_STOP_H

#include <stdbool.h>

#include "base/err.h"

void stop_request(void); /* async-signal-safe */
bool stop_requested(void);
void stop_reset(void); /* tests only */
/* 0, or -1 with ERR_INTERRUPTED "interrupted". */
int stop_check(struct err *e);

#endif
