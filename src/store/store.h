/* The memory of the program: SQLite in WAL mode under the home directory.
 *
 * Immutable facts (models, runs, trials, events) are rows; a trial row with a state column,
 * committed in one transaction, is the checkpoint. One writer per run (a lock row with pid and
 * host, released by liveness check); readers any time. Documents (recipe, score, report) are JSON
 * text columns. Falls back to journal_mode=DELETE where WAL does not work. Newer schema than ours →
 * ERR_UNSUPPORTED naming both versions. Mock runs carry mock=1 and are never mixed into real
 * history. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"

struct store; /* opaque */

/* path NULL = private in-memory database (tests). */
int store_open(struct store **s, const char *path, struct err *e);
void store_close(struct store *s);

struct store_model {
    char sha256[65];
    const char *name, *architecture, *path;
    uint64_t parameters, bytes;
};
int store_model_put(struct store *s, const struct store_model *m, struct err *e);

/* A run: one `optimize`. state: "running" "interrupted" "met" "best_effort" "infeasible" "failed".
 * A run whose owner died without a word is read as "interrupted". */
struct store_run {
    char id[27]; /* rng_id */
    char model_sha256[65];
    const char *model_name, *model_path;
    const char *config; /* JSON: everything needed to resume */
    const char *state;
    const char *report; /* JSON or NULL while running */
    int64_t started_ms, ended_ms;
    bool mock;
    int64_t pid;
    int trials; /* finished; filled on reading */
};
int store_run_begin(struct store *s, const struct store_run *r, struct err *e);
int store_run_end(struct store *s, const char *id, const char *state, const char *report,
                  struct err *e);
/* Takes over a run that is not owned by a living process: state "running", pid ours; trials that
 * were left "running" become "failed". ERR_BUSY if it is owned, ERR_INPUT if it has an end other
 * than "interrupted" or "failed". */
int store_run_claim(struct store *s, const char *id, struct err *e);
/* Calls fn for each run, newest first; strings valid during the call; stop when fn returns
 * non-zero. limit <= 0: all. */
typedef int store_run_fn(void *ud, const struct store_run *r);
int store_runs(struct store *s, bool interrupted_only, int limit, store_run_fn *fn, void *ud,
               struct err *e);
/* id may be a unique prefix or "latest". ERR_MISSING / ERR_INPUT (ambiguous). */
int store_run_find(struct store *s, const char *id_or_prefix, char id[static 27], struct err *e);
int store_run_get(struct store *s, const char *id, store_run_fn *fn, void *ud, struct err *e);

/* A trial: one candidate. key identifies it inside a run (recipe hash + stage), so a finished trial
 * is never repeated. state: "running" "done" "failed". */
struct store_trial {
    int64_t id;
    char run_id[27];
    const char *key;
    const char *kind; /* "stock" "search" "final" "reference" "probe" ... */
    const char *state;
    const char *recipe; /* JSON */
    const char *score;  /* JSON or NULL */
    const char *error;  /* sentence or NULL */
    const char *extra;  /* JSON, whatever the stage needs to resume, or NULL */
    uint64_t bytes;
    double seconds;
    int64_t started_ms;
};
int store_trial_begin(struct store *s, struct store_trial *t, struct err *e); /* sets t->id */
/* By t->id, once. recipe and extra keep what begin wrote when they are NULL here. */
int store_trial_end(struct store *s, const struct store_trial *t, struct err *e);
typedef int store_trial_fn(void *ud, const struct store_trial *t);
int store_trials(struct store *s, const char *run_id, store_trial_fn *fn, void *ud, struct err *e);
/* The finished trial with this key, if any: *found. */
int store_trial_find(struct store *s, const char *run_id, const char *key, bool *found,
                     store_trial_fn *fn, void *ud, struct err *e);
/* Real (non-mock) finished trials of a model over all runs, newest first. */
int store_history(struct store *s, const char *model_sha256_or_null, int limit, store_trial_fn *fn,
                  void *ud, struct err *e);

/* The store itself adds "claim" where a run is taken over and "end" where it ends. */
int store_event(struct store *s, const char *run_id, const char *kind, const char *json,
                struct err *e);
/* How long a run was worked on so far: each part, between claims, from its first event to its last.
 */
int store_run_seconds(struct store *s, const char *run_id, double *seconds, struct err *e);

/* Small key → JSON facts that outlive runs (sensitivities, bandwidth): kind + key. NULL deletes. */
int store_fact_put(struct store *s, const char *kind, const char *key, const json_t *value,
                   struct err *e);
/* A fact that can be found again by measuring: takes the value, and only warns if it is not kept.
 * Without a store (NULL) nothing is. */
void store_fact_keep(struct store *s, const char *kind, const char *key, json_t *value);
/* NULL: there is none, it cannot be read, or there is no store. json_decref. */
json_t *store_fact_get(struct store *s, const char *kind, const char *key);

#endif
