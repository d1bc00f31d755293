/* What a person sees while a command runs, on stderr: a progress bar on a terminal, a plain line
 * every few seconds elsewhere, warnings and notes above it. One screen per process; every call is
 * thread-safe. */
#ifndef FACE_SCREEN_H
#define FACE_SCREEN_H

#include <stdbool.h>
#include <stdio.h>

#include "base/log.h"

struct screen_options {
    FILE *out; /* stderr, or a stream of a test */
    bool tty;  /* a bar that is redrawn; else lines */
    bool colour, utf8;
    int width;  /* columns when tty */
    bool quiet; /* no progress, no notes; warnings remain */
};
/* Takes over the log's sink. */
void screen_open(const struct screen_options *o);
/* Erases the bar and gives the sink back. */
void screen_close(void);
const struct progress *screen_progress(void);
/* A line above the bar. */
void screen_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Seconds left, from the share done when the clock of this phase started and now; < 0 = cannot
 * tell. */
double screen_eta(double share_at_start, double share, double elapsed);

#endif
