/* Runs: one row per `optimize`, its owner, its state.
 *
 * Owns nothing beyond a call; strings given to callbacks belong to SQLite and die with the row. A
 * run whose owner died without a word still says 'running' in the table; readers see it as
 * 'interrupted', which is what it is, and nothing needs to be repaired first.
 */
#include "store/store.h"

#include <ctype.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/store_int.h"
#include "base/banned.h"

#define RUN_SELECT                                                                                 \
    "SELECT id, model_sha256, model_name, model_path, config, state, report, started_ms, "         \
    "ended_ms, mock, pid, "                                                                        \
    "(SELECT count(*) FROM trial WHERE run_id = run.id AND state = 'done'), pid_start, "           \
    "host, boot, namespace, active_ms FROM run "

static const char *text_at(sqlite3_stmt *st, int column)
{
    return (const char *)sqlite3_column_text(st, column);
}

static void copy_text(char *dst, size_t size, sqlite3_stmt *st, int column)
{
    const char *text = text_at(st, column);
    snprintf(dst, size, "%s", text ? text : "");
}

/* The row of RUN_SELECT that st stands on. *alive: its owner lives (only asked for running ones).
 */
static void read_run(sqlite3_stmt *st, struct store_run *r, bool *alive)
{
    *r = (struct store_run){.model_name = text_at(st, 2),
                            .model_path = text_at(st, 3),
                            .config = text_at(st, 4),
                            .state = text_at(st, 5),
                            .report = text_at(st, 6),
                            .started_ms = sqlite3_column_int64(st, 7),
                            .ended_ms = sqlite3_column_int64(st, 8),
                            .mock = sqlite3_column_int(st, 9) != 0,
                            .pid = sqlite3_column_int64(st, 10),
                            .trials = sqlite3_column_int(st, 11)};
    copy_text(r->id, sizeof(r->id), st, 0);
    copy_text(r->model_sha256, sizeof(r->model_sha256), st, 1);
    *alive = false;
    if (strcmp(r->state, "running") != 0)
        return;
    struct store_owner owner = {.pid = r->pid, .pid_start = sqlite3_column_int64(st, 12)};
    copy_text(owner.host, sizeof(owner.host), st, 13);
    copy_text(owner.boot, sizeof(owner.boot), st, 14);
    copy_text(owner.space, sizeof(owner.space), st, 15);
    *alive = store_owner_alive(&owner, sqlite3_column_int64(st, 16), clock_unix_ms());
    if (!*alive)
        r->state = "interrupted";
}

/* A failed run may be taken up by name, once what it failed on has changed. */
static bool is_resumable(const struct store_run *r)
{
    return strcmp(r->state, "interrupted") == 0 || strcmp(r->state, "failed") == 0;
}

int store_touch(struct store *s, const char *run_id, struct err *e)
{
    int rc = store_execute(s, "record a run", e, "UPDATE run SET active_ms = ? WHERE id = ?", "it",
                           clock_unix_ms(), run_id);
    return rc < 0 ? -1 : 0;
}

int store_run_begin(struct store *s, const struct store_run *r, struct err *e)
{
    struct store_owner o;
    store_owner_self(&o);
    int64_t now = clock_unix_ms();
    int rc = store_execute(
        s, "record a run", e,
        "INSERT INTO run (id, model_sha256, model_name, model_path, config, state, report, "
        "started_ms, mock, pid, pid_start, host, boot, namespace, active_ms) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        "tttttttiiiittti", r->id, r->model_sha256, r->model_name, r->model_path, r->config,
        r->state ? r->state : "running", r->report, r->started_ms ? r->started_ms : now,
        (int64_t)r->mock, o.pid, o.pid_start, o.host, o.boot, o.space, now);
    return rc < 0 ? -1 : 0;
}

static int no_such_run(const char *id, struct err *e)
{
    return err_set(e, ERR_MISSING, "'sintra runs' lists the runs", "there is no run %s", id);
}

int store_run_end(struct store *s, const char *id, const char *state, const char *report,
                  struct err *e)
{
    int64_t now = clock_unix_ms();
    int rc = store_execute(
        s, "record the end of a run", e,
        "UPDATE run SET state = ?, report = ?, ended_ms = ?, active_ms = ? WHERE id = ?", "ttiit",
        state, report, now, now, id);
    if (rc == 0)
        return no_such_run(id, e);
    if (rc > 0)
        store_event(s, id, "end", NULL, NULL);
    return rc < 0 ? -1 : 0;
}

static int check_claim(const struct store_run *r, bool alive, struct err *e)
{
    if (alive && r->pid != getpid())
        return err_set(e, ERR_BUSY, "wait for it to finish, or stop it",
                       "run %s is being worked on by process %lld", r->id, (long long)r->pid);
    if (!alive && !is_resumable(r))
        return err_set(e, ERR_INPUT, "start a new run; 'sintra report' shows this one",
                       "run %s is finished (%s): there is nothing to resume", r->id, r->state);
    return 0;
}

/* Reads run `id` and decides; inside the transaction of the claim, so that only one process can
 * win. */
static int may_claim(struct store *s, const char *id, struct err *e)
{
    static const char doing[] = "take over a run";
    sqlite3_stmt *st = store_prepare(s, doing, e, RUN_SELECT "WHERE id = ?", "t", id);
    if (!st)
        return -1;
    int rc = store_step(s, doing, st, e);
    if (rc == 0)
        rc = no_such_run(id, e);
    if (rc > 0) {
        struct store_run r;
        bool alive;
        read_run(st, &r, &alive);
        rc = check_claim(&r, alive, e);
    }
    sqlite3_finalize(st);
    return rc;
}

int store_run_claim(struct store *s, const char *id, struct err *e)
{
    struct store_owner o;
    store_owner_self(&o);
    if (store_begin(s, e))
        return -1;
    int rc = may_claim(s, id, e);
    if (rc == 0 &&
        store_execute(
            s, "take over a run", e,
            "UPDATE run SET state = 'running', report = NULL, ended_ms = 0, pid = ?, "
            "pid_start = ?, host = ?, boot = ?, namespace = ?, active_ms = ? WHERE id = ?",
            "iitttit", o.pid, o.pid_start, o.host, o.boot, o.space, clock_unix_ms(), id) < 0)
        rc = -1;
    /* What its former owner left unfinished will never finish. */
    if (rc == 0 && store_execute(s, "take over a run", e,
                                 "UPDATE trial SET state = 'failed', error = 'interrupted' "
                                 "WHERE run_id = ? AND state = 'running'",
                                 "t", id) < 0)
        rc = -1;
    if (rc || store_event(s, id, "claim", NULL, e)) {
        store_rollback(s);
        return -1;
    }
    return store_commit(s, e);
}

int store_runs(struct store *s, bool interrupted_only, int limit, store_run_fn *fn, void *ud,
               struct err *e)
{
    static const char doing[] = "list the runs";
    sqlite3_stmt *st =
        store_prepare(s, doing, e, RUN_SELECT "ORDER BY started_ms DESC, id DESC", "");
    if (!st)
        return -1;
    int rc;
    for (int shown = 0; (rc = store_step(s, doing, st, e)) == 1;) {
        struct store_run r;
        bool alive;
        read_run(st, &r, &alive);
        if (interrupted_only && strcmp(r.state, "interrupted") != 0)
            continue;
        if ((limit > 0 && shown++ >= limit) || fn(ud, &r))
            break;
    }
    sqlite3_finalize(st);
    return rc < 0 ? -1 : 0;
}

int store_run_get(struct store *s, const char *id, store_run_fn *fn, void *ud, struct err *e)
{
    static const char doing[] = "read a run";
    sqlite3_stmt *st = store_prepare(s, doing, e, RUN_SELECT "WHERE id = ?", "t", id);
    if (!st)
        return -1;
    int rc = store_step(s, doing, st, e);
    if (rc == 0)
        no_such_run(id, e);
    if (rc > 0) {
        struct store_run r;
        bool alive;
        read_run(st, &r, &alive);
        fn(ud, &r);
    }
    sqlite3_finalize(st);
    return rc > 0 ? 0 : -1;
}

/* The first id of a statement that yields ids; *more: there is a second one. */
static int first_id(struct store *s, sqlite3_stmt *st, char id[static 27], bool *more,
                    struct err *e)
{
    static const char doing[] = "look for a run";
    int rc = store_step(s, doing, st, e);
    *more = false;
    if (rc != 1)
        return rc;
    copy_text(id, 27, st, 0);
    rc = store_step(s, doing, st, e);
    *more = rc == 1;
    return rc < 0 ? -1 : 1;
}

int store_run_find(struct store *s, const char *id_or_prefix, char id[static 27], struct err *e)
{
    char wanted[32], found[27];
    bool latest = strcmp(id_or_prefix, "latest") == 0, more;
    size_t n = 0;
    for (; n < sizeof(wanted) - 1 && id_or_prefix[n]; n++)
        wanted[n] = (char)tolower((unsigned char)id_or_prefix[n]);
    wanted[n] = 0;
    sqlite3_stmt *st =
        latest ? store_prepare(s, "look for a run", e,
                               "SELECT id FROM run ORDER BY started_ms DESC, id DESC LIMIT 1", "")
               : store_prepare(s, "look for a run", e,
                               "SELECT id FROM run WHERE substr(id, 1, ?) = ? LIMIT 2", "it",
                               (int64_t)n, wanted);
    if (!st)
        return -1;
    int rc = first_id(s, st, found, &more, e);
    sqlite3_finalize(st);
    if (rc < 0)
        return -1;
    if (rc == 0 && latest)
        return err_set(e, ERR_MISSING, "'sintra optimize' makes one", "there are no runs yet");
    if (rc == 0 || n == 0)
        return no_such_run(n == 0 ? "\"\"" : id_or_prefix, e);
    if (more)
        return err_set(e, ERR_INPUT, "write more characters of it; 'sintra runs' lists the runs",
                       "several runs begin with %s", id_or_prefix);
    memcpy(id, found, sizeof(found));
    return 0;
}
