/* Progress, notes and warnings on stderr.
 *
 * Owns the one line at the bottom of the terminal and the log's sink while open. Invariant: whoever
 * writes a line takes the lock, erases the bar, writes, and the bar returns with the next report. A
 * phase that is over in less than half a second never shows; elsewhere than on a terminal a phase
 * is mentioned after two seconds and then every five, so that a log of an hour stays readable. The
 * time left is that of the phase, from its own pace so far.
 */
#include "face/screen.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/num.h"
#include "face/paper.h"

#include "base/banned.h"

enum { BAR_COLUMNS = 24, PHASE_MAX = 64, DETAIL_MAX = 96, LINE_MAX_BYTES = 4096 };

static const double tty_first_s = 0.5, tty_every_s = 0.1, line_first_s = 2, line_every_s = 5;

static struct {
    pthread_mutex_t lock;
    struct screen_options o;
    bool open, drawn;
    char phase[PHASE_MAX];
    double began, shown; /* clock of the phase; of the last output */
    double share_began;
} screen = {.lock = PTHREAD_MUTEX_INITIALIZER};

double screen_eta(double share_at_start, double share, double elapsed)
{
    double gained = share - share_at_start;
    if (!(gained > 0) || !(elapsed > 0))
        return -1;
    return share >= 1 ? 0 : elapsed / gained * (1 - share);
}

static void erase(void)
{
    if (screen.drawn)
        fputs("\r\033[K", screen.o.out);
    screen.drawn = false;
}

static void add_bar(struct buf *b, double share)
{
    const char *full = screen.o.utf8 ? "\u2588" : "#", *empty = screen.o.utf8 ? "\u2591" : "-";
    int filled = (int)(share * BAR_COLUMNS + 0.5);
    buf_adds(b, screen.o.utf8 ? "" : "[");
    if (screen.o.colour)
        buf_adds(b, "\033[36m");
    for (int i = 0; i < BAR_COLUMNS; i++)
        buf_adds(b, i < filled ? full : empty);
    if (screen.o.colour)
        buf_adds(b, "\033[0m");
    buf_adds(b, screen.o.utf8 ? "" : "]");
}

/* "43 %, 12 s left", or the time gone by where nobody knows the total. */
static void add_figures(struct buf *b, double share, double elapsed)
{
    char time[NUM_TEXT_MAX];
    if (share < 0) {
        buf_addf(b, "%s", num_format_seconds(elapsed, time));
        return;
    }
    buf_addf(b, "%3.0f %%", floor(share * 100));
    double left = screen_eta(screen.share_began, share, elapsed);
    if (left >= 0)
        buf_addf(b, ", %s left", num_format_seconds(left, time));
}

/* As much of the text as fits into `room` columns, control characters replaced. */
static void add_fitting(struct buf *b, const char *text, int room)
{
    struct paper p;
    paper_init(&p, false, screen.o.utf8, 0);
    paper_say(&p, STYLE_PLAIN, "%s", text);
    const char *clean = buf_str(&p.text);
    if (text_columns(clean) <= room)
        buf_adds(b, clean);
    paper_release(&p);
}

static void draw(double share, double elapsed, const char *detail)
{
    struct buf b;
    buf_init(&b, LINE_MAX_BYTES);
    int used = text_columns(screen.phase) + 2;
    buf_addf(&b, "\r\033[K%s  ", screen.phase);
    if (share >= 0) {
        add_bar(&b, share);
        buf_adds(&b, "  ");
        used += BAR_COLUMNS + 4;
    }
    size_t at = b.len;
    add_figures(&b, share, elapsed);
    used += (int)(b.len - at) + 2;
    if (detail && detail[0]) {
        buf_adds(&b, "  ");
        add_fitting(&b, detail, screen.o.width - used - 1);
    }
    fputs(buf_str(&b), screen.o.out);
    fflush(screen.o.out);
    screen.drawn = true;
    buf_release(&b);
}

static void say_line(double share, double elapsed, const char *detail)
{
    struct buf b;
    buf_init(&b, LINE_MAX_BYTES);
    buf_addf(&b, "%s: ", screen.phase);
    add_figures(&b, share, elapsed);
    if (detail && detail[0]) {
        buf_adds(&b, ", ");
        add_fitting(&b, detail, DETAIL_MAX);
    }
    fprintf(screen.o.out, "%s\n", buf_str(&b));
    fflush(screen.o.out);
    buf_release(&b);
}

static void phase_begin(const char *phase, double share, double now)
{
    struct paper p;
    paper_init(&p, false, true, 0);
    paper_say(&p, STYLE_PLAIN, "%.60s", phase);
    snprintf(screen.phase, sizeof(screen.phase), "%.60s", buf_str(&p.text));
    paper_release(&p);
    screen.began = now;
    screen.share_began = share;
    if (!screen.o.tty)
        screen.shown = now + line_first_s - line_every_s;
}

static void update(void *ud, const char *phase, double done, double total, const char *detail)
{
    (void)ud;
    pthread_mutex_lock(&screen.lock);
    if (!screen.open || screen.o.quiet)
        goto out;
    double now = clock_seconds();
    double share = total > 0 && done >= 0 ? done / total : -1;
    share = share > 1 ? 1 : share;
    if (strncmp(screen.phase, phase, PHASE_MAX - 4) != 0 || share < screen.share_began)
        phase_begin(phase, share, now);
    double elapsed = now - screen.began;
    double every = screen.o.tty ? tty_every_s : line_every_s;
    bool early = screen.o.tty && !screen.drawn && elapsed < tty_first_s;
    if (now - screen.shown < every || early)
        goto out;
    screen.shown = now;
    if (screen.o.tty)
        draw(share, elapsed, detail);
    else
        say_line(share, elapsed, detail);
out:
    pthread_mutex_unlock(&screen.lock);
}

const struct progress *screen_progress(void)
{
    static const struct progress p = {.update = update};
    return &p;
}

/* The log's sink. */
static void on_log(void *ud, enum log_level level, const char *text)
{
    (void)ud;
    pthread_mutex_lock(&screen.lock);
    erase();
    struct paper p;
    paper_init(&p, screen.o.colour, screen.o.utf8, 0);
    paper_say(&p, STYLE_DIM, "sintra: ");
    if (level == LOG_WARN)
        paper_say(&p, STYLE_BOLD, "warning: ");
    paper_say(&p, STYLE_PLAIN, "%s", text);
    fprintf(screen.o.out, "%s\n", buf_str(&p.text));
    fflush(screen.o.out);
    paper_release(&p);
    pthread_mutex_unlock(&screen.lock);
}

void screen_open(const struct screen_options *o)
{
    pthread_mutex_lock(&screen.lock);
    screen.o = *o;
    screen.open = true;
    screen.drawn = false;
    screen.phase[0] = 0;
    screen.shown = 0;
    pthread_mutex_unlock(&screen.lock);
    log_set_sink(on_log, NULL);
}

void screen_close(void)
{
    log_set_sink(NULL, NULL);
    pthread_mutex_lock(&screen.lock);
    if (screen.open) {
        erase();
        fflush(screen.o.out);
    }
    screen.open = false;
    pthread_mutex_unlock(&screen.lock);
}

void screen_note(const char *format, ...)
{
    struct buf b;
    buf_init(&b, LINE_MAX_BYTES);
    va_list ap;
    va_start(ap, format);
    buf_addv(&b, format, ap);
    va_end(ap);
    struct paper p;
    paper_init(&p, false, screen.o.utf8, 0);
    paper_say(&p, STYLE_PLAIN, "%s", buf_str(&b));
    pthread_mutex_lock(&screen.lock);
    if (screen.open && !screen.o.quiet) {
        erase();
        fprintf(screen.o.out, "%s\n", buf_str(&p.text));
        fflush(screen.o.out);
    }
    pthread_mutex_unlock(&screen.lock);
    paper_release(&p);
    buf_release(&b);
}
