/* Private to run/: what is kept of a contest (contest_kept.c), for contest.c. */
#ifndef RUN_CONTEST_INT_H
#define RUN_CONTEST_INT_H

#include "run/run_int.h"

struct kept {
    char id[27];
    json_t *doc;
    struct settings *settings; /* (n) what configs point into */
    struct run_config *configs;
    size_t n;
    const char *out, *text_sha256; /* in doc */
};
/* A new contest: sets k->id alone. */
int kept_begin(struct kept *k, struct store *s, const struct run_config *configs, size_t n,
               const char *out, const char *text_sha256, struct err *e);
void kept_end(struct store *s, const char *id);
/* kept_release, also after a failure. */
int kept_read(struct kept *k, struct store *s, const char *id, const char *home, struct err *e);
void kept_release(struct kept *k);
/* What the run of one of its models carries in its settings; xfree. */
char *kept_tag(const char *id, size_t entry);

/* The latest run with a tag; id "" = none was begun. */
struct kept_run {
    char id[27];
    bool ended;     /* with a result */
    json_t *report; /* of that; json_decref */
};
int kept_run_find(struct store *s, const char *tag, struct kept_run *found, struct err *e);

#endif
