/* Trials: one row per candidate, whose change to 'done' is the checkpoint.
 *
 * Owns nothing beyond a call; strings given to callbacks belong to SQLite and die with the row. A
 * trial is begun before its work and ended after it; a row that stays 'running' is work that was
 * lost. A finished row never changes again, and the schema forbids a second one with the same key
 * in a run.
 */
#include "store/store.h"

#include "base/clock.h"
#include "store/store_int.h"
#include "base/banned.h"

#define TRIAL_SELECT                                                                               \
    "SELECT trial.id, trial.run_id, trial.key, trial.kind, trial.state, trial.recipe, "            \
    "trial.score, trial.error, trial.extra, trial.bytes, trial.seconds, trial.started_ms "         \
    "FROM trial "

static const char *text_at(sqlite3_stmt *st, int column)
{
    return (const char *)sqlite3_column_text(st, column);
}

static void read_trial(sqlite3_stmt *st, struct store_trial *t)
{
    *t = (struct store_trial){.id = sqlite3_column_int64(st, 0),
                              .key = text_at(st, 2),
                              .kind = text_at(st, 3),
                              .state = text_at(st, 4),
                              .recipe = text_at(st, 5),
                              .score = text_at(st, 6),
                              .error = text_at(st, 7),
                              .extra = text_at(st, 8),
                              .bytes = (uint64_t)sqlite3_column_int64(st, 9),
                              .seconds = sqlite3_column_double(st, 10),
                              .started_ms = sqlite3_column_int64(st, 11)};
    snprintf(t->run_id, sizeof(t->run_id), "%s", text_at(st, 1));
}

int store_trial_begin(struct store *s, struct store_trial *t, struct err *e)
{
    static const char doing[] = "record a trial";
    if (!t->started_ms)
        t->started_ms = clock_unix_ms();
    if (store_begin(s, e))
        return -1;
    int rc = store_execute(s, doing, e,
                           "INSERT INTO trial (run_id, key, kind, state, recipe, score, error, "
                           "extra, bytes, seconds, started_ms) "
                           "VALUES (?, ?, ?, 'running', ?, ?, ?, ?, ?, ?, ?)",
                           "tttttttiri", t->run_id, t->key, t->kind, t->recipe, t->score, t->error,
                           t->extra, (int64_t)t->bytes, t->seconds, t->started_ms);
    int64_t id = sqlite3_last_insert_rowid(s->db);
    if (rc < 0 || store_touch(s, t->run_id, e)) {
        store_rollback(s);
        return -1;
    }
    if (store_commit(s, e))
        return -1;
    t->id = id;
    return 0;
}

int store_trial_end(struct store *s, const struct store_trial *t, struct err *e)
{
    static const char doing[] = "record the end of a trial";
    if (store_begin(s, e))
        return -1;
    int rc = store_execute(
        s, doing, e,
        "UPDATE trial SET state = ?, recipe = coalesce(?, recipe), score = ?, error = ?, "
        "extra = coalesce(?, extra), bytes = ?, seconds = ? WHERE id = ? AND state = 'running'",
        "tttttiri", t->state, t->recipe, t->score, t->error, t->extra, (int64_t)t->bytes,
        t->seconds, t->id);
    if (rc == 0)
        rc = err_set(e, ERR_BUG, NULL, "trial %lld of run %s was ended twice or never begun",
                     (long long)t->id, t->run_id);
    if (rc < 0 || store_touch(s, t->run_id, e)) {
        store_rollback(s);
        return -1;
    }
    return store_commit(s, e);
}

/* Calls fn for each row of st and finalizes it. *rows counts. */
static int each_trial(struct store *s, sqlite3_stmt *st, store_trial_fn *fn, void *ud, int *rows,
                      struct err *e)
{
    int rc = 0;
    *rows = 0;
    if (!st)
        return -1;
    while ((rc = store_step(s, "read the trials", st, e)) == 1) {
        struct store_trial t;
        read_trial(st, &t);
        ++*rows;
        if (fn && fn(ud, &t))
            break;
    }
    sqlite3_finalize(st);
    return rc < 0 ? -1 : 0;
}

int store_trials(struct store *s, const char *run_id, store_trial_fn *fn, void *ud, struct err *e)
{
    int rows;
    sqlite3_stmt *st = store_prepare(s, "read the trials", e,
                                     TRIAL_SELECT "WHERE run_id = ? ORDER BY id", "t", run_id);
    return each_trial(s, st, fn, ud, &rows, e);
}

int store_trial_find(struct store *s, const char *run_id, const char *key, bool *found,
                     store_trial_fn *fn, void *ud, struct err *e)
{
    int rows;
    sqlite3_stmt *st = store_prepare(s, "read the trials", e,
                                     TRIAL_SELECT "WHERE run_id = ? AND key = ? AND state = 'done'",
                                     "tt", run_id, key);
    if (each_trial(s, st, fn, ud, &rows, e))
        return -1;
    *found = rows > 0;
    return 0;
}

int store_history(struct store *s, const char *model_sha256_or_null, int limit, store_trial_fn *fn,
                  void *ud, struct err *e)
{
    int rows;
    sqlite3_stmt *st =
        store_prepare(s, "read the history", e,
                      TRIAL_SELECT "JOIN run ON run.id = trial.run_id WHERE run.mock = 0 AND "
                                   "trial.state = 'done' AND (?1 IS NULL OR run.model_sha256 = ?1) "
                                   "ORDER BY trial.started_ms DESC, trial.id DESC LIMIT ?2",
                      "ti", model_sha256_or_null, (int64_t)(limit > 0 ? limit : -1));
    return each_trial(s, st, fn, ud, &rows, e);
}
