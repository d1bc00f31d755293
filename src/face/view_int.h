/* What views are made of: values formatted by kind, tables described by columns. Private to face/.
 */
#ifndef FACE_VIEW_INT_H
#define FACE_VIEW_INT_H

#include "base/json.h"
#include "face/paper.h"

enum view_kind {
    VIEW_TEXT,
    VIEW_INTEGER,
    VIEW_SIZE,    /* bytes, binary units */
    VIEW_COUNT,   /* 7.34 M */
    VIEW_BITS,    /* bits per weight */
    VIEW_KL,      /* three significant digits, never an exponent */
    VIEW_PERCENT, /* a share 0..1 */
    VIEW_RATE,    /* per second, three significant digits */
    VIEW_GIVEN,   /* as the user gave it: 4.5 */
    VIEW_SHARE,   /* a share as the user gave it: 90 % */
    VIEW_MS,
    VIEW_SECONDS,
    VIEW_DATE,  /* unix ms, UTC, to the minute */
    VIEW_SHORT, /* the beginning of an id or hash */
    VIEW_YES    /* true: yes */
};
enum { VIEW_TEXT_MAX = 160 };

/* The value at a dotted path, or NULL. */
const json_t *view_at(const json_t *o, const char *path);
const char *view_str(const json_t *o, const char *path, const char *otherwise);
double view_real(const json_t *o, const char *path, double otherwise);
/* "" for a value that is absent, null or of another type. Returns text. */
char *view_format(enum view_kind kind, const json_t *value, char text[static VIEW_TEXT_MAX]);
char *view_format_at(const json_t *o, const char *path, enum view_kind kind,
                     char text[static VIEW_TEXT_MAX]);

struct view_column {
    const char *title, *path;
    enum view_kind kind;
    enum style style;
};
/* A table of the objects in an array, ended by a NULL path in columns. */
void view_rows(struct paper *p, const json_t *rows, const struct view_column *columns, int indent);

/* "label   value" lines, aligned; empty values are left out. Ended by a NULL path. */
struct view_fact {
    const char *label, *path;
    enum view_kind kind;
};
void view_facts(struct paper *p, const json_t *o, const struct view_fact *facts, int indent);

void view_heading(struct paper *p, const char *title);
/* A plain line. */
void view_line(struct paper *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What happens during a run, as lines on the screen. */
void face_event(void *ud, const json_t *doc);

/* A line that is not to be seen: from a pipe, or typed on the terminal without echo. */
int face_secret(void *ud, const char *prompt, char **text, struct err *e);

/* The views, one per command. */
void view_optimize(struct paper *p, const json_t *r);
void view_plan(struct paper *p, const json_t *r);
void view_probe(struct paper *p, const json_t *r);
void view_runs(struct paper *p, const json_t *r);
void view_report(struct paper *p, const json_t *r);
void view_compare(struct paper *p, const json_t *r);
void view_history(struct paper *p, const json_t *r);
void view_stats(struct paper *p, const json_t *r);
void view_inspect(struct paper *p, const json_t *r);
void view_detect(struct paper *p, const json_t *r);
void view_profiles(struct paper *p, const json_t *r);
void view_convert(struct paper *p, const json_t *r);
void view_quantize(struct paper *p, const json_t *r);
void view_calibrate(struct paper *p, const json_t *r);
void view_eval(struct paper *p, const json_t *r);
void view_bench(struct paper *p, const json_t *r);
void view_version(struct paper *p, const json_t *r);
void view_pull(struct paper *p, const json_t *r);
void view_hf(struct paper *p, const json_t *r);
void view_publish(struct paper *p, const json_t *r);

#endif
