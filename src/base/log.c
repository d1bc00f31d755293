/* Diagnostics and progress.
 *
 * Owns the sink and the level, both process-wide. Invariant: one sink call at a time, so a sink
 * needs no lock of its own; a sink must not log. Lines longer than a screen or two are cut, because
 * a diagnostic may quote hostile input.
 */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/banned.h"

enum { LOG_LINE_MAX = 4096 };

static atomic_int current_level = LOG_WARN;
static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;

static void write_stderr(void *ud, enum log_level level, const char *text)
{
    (void)ud;
    fprintf(stderr, "sintra: %s%s\n", level == LOG_WARN ? "warning: " : "", text);
}

static void (*sink_fn)(void *, enum log_level, const char *) = write_stderr;
static void *sink_ud;

void log_set_level(enum log_level level)
{
    atomic_store(&current_level, (int)level);
}

enum log_level log_level(void)
{
    return (enum log_level)atomic_load_explicit(&current_level, memory_order_relaxed);
}

void log_set_sink(void (*sink)(void *ud, enum log_level level, const char *text), void *ud)
{
    pthread_mutex_lock(&sink_lock);
    sink_fn = sink ? sink : write_stderr;
    sink_ud = ud;
    pthread_mutex_unlock(&sink_lock);
}

static void emit(enum log_level level, const char *format, va_list ap)
{
    if (log_level() < level)
        return;
    char line[LOG_LINE_MAX];
    if (vsnprintf(line, sizeof(line), format, ap) < 0)
        return;
    pthread_mutex_lock(&sink_lock);
    sink_fn(sink_ud, level, line);
    pthread_mutex_unlock(&sink_lock);
}

void log_warn(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    emit(LOG_WARN, format, ap);
    va_end(ap);
}

void log_info(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    emit(LOG_INFO, format, ap);
    va_end(ap);
}

void log_debug(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    emit(LOG_DEBUG, format, ap);
    va_end(ap);
}

void progress_report(const struct progress *p, const char *phase, double done, double total,
                     const char *detail)
{
    if (p && p->update)
        p->update(p->ud, phase, done, total, detail);
}
