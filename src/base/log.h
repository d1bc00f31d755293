/* Diagnostics to stderr for -v, and progress as events. Only face decides what a person sees. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_QUIET = 0, LOG_WARN = 1, LOG_INFO = 2, LOG_DEBUG = 3 };
void log_set_level(enum log_level level); /* default LOG_WARN */
enum log_level log_level(void);
/* The sink is called from any thread, one call at a time; default writes "sintra: ..." to stderr.
 */
void log_set_sink(void (*sink)(void *ud, enum log_level level, const char *text), void *ud);
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Progress of something longer than a moment. `update` may be NULL. Returns via stop.h when the
 * user interrupts. Pass this struct down by pointer; NULL pointer = nobody listens. */
struct progress {
    void (*update)(void *ud, const char *phase, double done, double total, const char *detail);
    void *ud;
};
void progress_report(const struct progress *p, const char *phase, double done, double total,
                     const char *detail); /* NULL-safe */

#endif
