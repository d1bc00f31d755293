/* store: rows survive kills, owners are told apart, finished work stays, bad databases are refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/rng.h"
#include "store/store.h"

static char dir[256], path[300];

static int make_dir(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof(dir), "%s/sintra-store-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/home/sintra.db", dir);
    return 0;
}

static int drop_dir(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

#define OK(call)                                                                                   \
    do {                                                                                           \
        struct err why_ = {0};                                                                     \
        struct err *why = &why_;                                                                   \
        if ((call) != 0)                                                                           \
            fail_msg("%s", why_.message);                                                          \
        assert_int_equal(why_.code, ERR_NONE);                                                     \
    } while (0)

static struct store *open_fresh(void)
{
    struct store *s = NULL;
    OK(store_open(&s, NULL, why));
    return s;
}

static struct store *open_file(void)
{
    struct store *s = NULL;
    OK(store_open(&s, path, why));
    return s;
}

static void begin_run(struct store *s, const char *id, const char *model, bool mock)
{
    struct store_run r = {.model_name = "m", .config = "{\"a\":1}", .mock = mock};
    snprintf(r.id, sizeof(r.id), "%s", id);
    snprintf(r.model_sha256, sizeof(r.model_sha256), "%s", model);
    OK(store_run_begin(s, &r, why));
}

static struct store_trial begin_trial(struct store *s, const char *run, const char *key)
{
    struct store_trial t = {.key = key, .kind = "stock", .recipe = "{}", .bytes = 7};
    snprintf(t.run_id, sizeof(t.run_id), "%s", run);
    OK(store_trial_begin(s, &t, why));
    assert_true(t.id > 0 && t.started_ms > 0);
    return t;
}

static void end_trial(struct store *s, struct store_trial *t, const char *state)
{
    t->state = state;
    t->score = "{\"kld_mean\":0.5}";
    t->seconds = 1.5;
    OK(store_trial_end(s, t, why));
}

/* Copies of what a callback saw. */
struct seen {
    int count, stop_after;
    struct store_run run;
    struct store_trial trial;
    char state[32], report[64], error[64], extra[64], key[64], score[64], recipe[64], ids[400];
};

static void keep(char *dst, size_t size, const char *text)
{
    snprintf(dst, size, "%s", text ? text : "(null)");
}

static int see_run(void *ud, const struct store_run *r)
{
    struct seen *v = ud;
    v->run = *r;
    keep(v->state, sizeof(v->state), r->state);
    keep(v->report, sizeof(v->report), r->report);
    size_t n = strlen(v->ids);
    snprintf(v->ids + n, sizeof(v->ids) - n, "%s ", r->id);
    return ++v->count == v->stop_after;
}

static int see_trial(void *ud, const struct store_trial *t)
{
    struct seen *v = ud;
    v->trial = *t;
    keep(v->state, sizeof(v->state), t->state);
    keep(v->error, sizeof(v->error), t->error);
    keep(v->extra, sizeof(v->extra), t->extra);
    keep(v->key, sizeof(v->key), t->key);
    keep(v->score, sizeof(v->score), t->score);
    keep(v->recipe, sizeof(v->recipe), t->recipe);
    size_t n = strlen(v->ids);
    snprintf(v->ids + n, sizeof(v->ids) - n, "%s ", t->key);
    return ++v->count == v->stop_after;
}

static void runs_have_a_life(void **state)
{
    (void)state;
    struct store *s = open_fresh();
    struct seen v = {0};
    struct err e = {0};
    begin_run(s, "run1", "sha", false);
    OK(store_run_get(s, "run1", see_run, &v, why));
    assert_string_equal(v.state, "running");
    assert_string_equal(v.report, "(null)");
    assert_int_equal(v.run.pid, getpid());
    assert_int_equal(v.run.ended_ms, 0);
    assert_string_equal(v.run.model_sha256, "sha");
    OK(store_run_end(s, "run1", "met", "{\"r\":1}", why));
    v = (struct seen){0};
    OK(store_run_get(s, "run1", see_run, &v, why));
    assert_string_equal(v.state, "met");
    assert_string_equal(v.report, "{\"r\":1}");
    assert_true(v.run.ended_ms >= v.run.started_ms);
    assert_int_equal(store_run_end(s, "none", "met", NULL, &e), -1);
    assert_int_equal(e.code, ERR_MISSING);
    assert_int_equal(store_run_get(s, "none", see_run, &v, &e), -1);
    assert_int_equal(store_run_end(s, "run1", "splendid", NULL, &e), -1); /* no such state */
    store_close(s);
}

static void a_run_cannot_begin_twice(void **state)
{
    (void)state;
    struct store *s = open_fresh();
    struct err e = {0};
    begin_run(s, "r", "sha", false);
    struct store_run r = {.id = "r"};
    assert_int_equal(store_run_begin(s, &r, &e), -1);
    assert_int_equal(e.code, ERR_BUG);
    store_close(s);
}

static void runs_are_found(void **state)
{
    (void)state;
    struct store *s = open_fresh();
    struct err e = {0};
    char id[27] = "untouched";
    assert_int_equal(store_run_find(s, "latest", id, &e), -1);
    assert_int_equal(e.code, ERR_MISSING);
    begin_run(s, "01abc", "sha", false);
    begin_run(s, "01abd", "sha", false);
    begin_run(s, "02%_x", "sha", false);
    OK(store_run_find(s, "01ABC", id, why));
    assert_string_equal(id, "01abc");
    OK(store_run_find(s, "01abd", id, why));
    assert_string_equal(id, "01abd");
    assert_int_equal(store_run_find(s, "01", id, &e), -1);
    assert_int_equal(e.code, ERR_INPUT);
    assert_string_equal(id, "01abd");
    assert_int_equal(store_run_find(s, "%", id, &e), -1);
    assert_int_equal(e.code, ERR_MISSING);
    assert_int_equal(store_run_find(s, "", id, &e), -1);
    assert_int_equal(store_run_find(s, "01abcx", id, &e), -1);
    OK(store_run_find(s, "latest", id, why));
    assert_string_equal(id, "02%_x");
    struct seen v = {.stop_after = 2};
    OK(store_runs(s, false, 0, see_run, &v, why));
    assert_string_equal(v.ids, "02%_x 01abd ");
    v = (struct seen){0};
    OK(store_runs(s, false, 1, see_run, &v, why));
    assert_string_equal(v.ids, "02%_x ");
    v = (struct seen){0};
    OK(store_runs(s, true, 0, see_run, &v, why)); /* all are alive: ours */
    assert_int_equal(v.count, 0);
    OK(store_run_end(s, "01abc", "interrupted", NULL, why));
    OK(store_run_end(s, "01abd", "failed", NULL, why));
    OK(store_run_end(s, "02%_x", "best_effort", NULL, why));
    OK(store_runs(s, true, 0, see_run, &v, why));
    assert_string_equal(v.ids, "01abc ");
    store_close(s);
}

static void trials_have_a_life(void **state)
{
    (void)state;
    struct store *s = open_fresh();
    struct err e = {0};
    struct seen v = {0};
    bool found = true;
    begin_run(s, "r", "sha", false);
    struct store_trial t = begin_trial(s, "r", "k1");
    OK(store_trial_find(s, "r", "k1", &found, see_trial, &v, why));
    assert_false(found); /* not finished */
    t.extra = "{\"x\":1}";
    end_trial(s, &t, "done");
    OK(store_trial_find(s, "r", "k1", &found, see_trial, &v, why));
    assert_true(found);
    assert_string_equal(v.state, "done");
    assert_string_equal(v.score, "{\"kld_mean\":0.5}");
    assert_string_equal(v.extra, "{\"x\":1}");
    assert_string_equal(v.recipe, "{}");
    assert_string_equal(v.trial.run_id, "r");
    assert_true(v.trial.seconds == 1.5 && v.trial.bytes == 7 && v.trial.id == t.id);
    /* finished rows do not change, and their key is taken */
    t.state = "failed";
    assert_int_equal(store_trial_end(s, &t, &e), -1);
    assert_int_equal(e.code, ERR_BUG);
    struct store_trial again = begin_trial(s, "r", "k1");
    again.state = "done";
    assert_int_equal(store_trial_end(s, &again, &e), -1);
    again.state = "failed";
    again.error = "the child died";
    OK(store_trial_end(s, &again, why));
    v = (struct seen){0};
    OK(store_trials(s, "r", see_trial, &v, why));
    assert_string_equal(v.ids, "k1 k1 ");
    assert_string_equal(v.error, "the child died");
    v = (struct seen){0};
    OK(store_run_get(s, "r", see_run, &v, why));
    assert_int_equal(v.run.trials, 1);
    struct store_trial orphan = {.key = "k", .kind = "stock", .run_id = "nobody"};
    assert_int_equal(store_trial_begin(s, &orphan, &e), -1);
    store_close(s);
}

static void history_is_real_and_newest_first(void **state)
{
    (void)state;
    struct store *s = open_fresh();
    struct seen v = {0};
    begin_run(s, "a", "m1", false);
    begin_run(s, "b", "m2", false);
    begin_run(s, "c", "m1", true);
    static const char *const plan[][2] = {{"a", "a1"}, {"b", "b1"}, {"c", "mock"}, {"a", "a2"}};
    for (size_t i = 0; i < 4; i++) {
        struct store_trial t = begin_trial(s, plan[i][0], plan[i][1]);
        end_trial(s, &t, "done");
    }
    begin_trial(s, "a", "unfinished");
    OK(store_history(s, NULL, 0, see_trial, &v, why));
    assert_string_equal(v.ids, "a2 b1 a1 ");
    v = (struct seen){0};
    OK(store_history(s, "m1", 0, see_trial, &v, why));
    assert_string_equal(v.ids, "a2 a1 ");
    v = (struct seen){0};
    OK(store_history(s, NULL, 1, see_trial, &v, why));
    assert_string_equal(v.ids, "a2 ");
    store_close(s);
}

static void models_events_and_facts(void **state)
{
    (void)state;
    struct store *s = open_fresh();
    struct err e = {0};
    struct store_model m = {.sha256 = "abc", .name = "n", .parameters = 7344384, .bytes = 1};
    OK(store_model_put(s, &m, why));
    OK(store_model_put(s, &m, why));
    begin_run(s, "r", "abc", false);
    OK(store_event(s, "r", "phase", "{\"p\":1}", why));
    OK(store_event(s, "r", "phase", NULL, why));
    assert_int_equal(store_event(s, "nobody", "phase", NULL, &e), -1);
    assert_null(store_fact_get(s, "bandwidth", "here"));
    store_fact_keep(s, "bandwidth", "here", json_pack("{s:i}", "gbs", 20));
    store_fact_keep(s, "bandwidth", "here", json_pack("{s:i}", "gbs", 21));
    store_fact_keep(s, "other", "here", json_object());
    json_t *fact = store_fact_get(s, "bandwidth", "here");
    assert_int_equal(json_opt_i64(fact, "gbs", 0), 21);
    json_decref(fact);
    OK(store_fact_put(s, "bandwidth", "here", NULL, why));
    assert_null(store_fact_get(s, "bandwidth", "here"));
    assert_non_null(fact = store_fact_get(s, "other", "here"));
    json_decref(fact);
    store_fact_keep(NULL, "other", "here", json_object());
    assert_null(store_fact_get(NULL, "other", "here"));
    store_close(s);
}

static int nested_see(void *ud, const struct store_run *r)
{
    struct store *s = ud;
    struct seen v = {0};
    OK(store_trials(s, r->id, see_trial, &v, why));
    OK(store_event(s, r->id, "seen", NULL, why));
    assert_int_equal(v.count, 1);
    return 0;
}

static void callbacks_may_use_the_store(void **state)
{
    (void)state;
    struct store *s = open_fresh();
    begin_run(s, "a", "m", false);
    begin_run(s, "b", "m", false);
    begin_trial(s, "a", "k");
    begin_trial(s, "b", "k");
    OK(store_runs(s, false, 0, nested_see, s, why));
    store_close(s);
}

static int in_child(int (*fn)(void))
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(fn());
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static int work_and_die(void)
{
    struct store *s = open_file();
    begin_run(s, "killed", "sha", false);
    struct store_trial t = begin_trial(s, "killed", "k1");
    end_trial(s, &t, "done");
    begin_trial(s, "killed", "k2");
    raise(SIGKILL);
    return 0;
}

static void a_kill_loses_the_trial_in_flight_only(void **state)
{
    (void)state;
    struct seen v = {0};
    bool found;
    assert_int_equal(in_child(work_and_die), 1000 + SIGKILL);
    struct store *s = open_file();
    OK(store_runs(s, true, 0, see_run, &v, why));
    assert_int_equal(v.count, 1);
    assert_string_equal(v.state, "interrupted");
    assert_int_equal(v.run.trials, 1);
    OK(store_run_claim(s, "killed", why));
    v = (struct seen){0};
    OK(store_run_get(s, "killed", see_run, &v, why));
    assert_string_equal(v.state, "running");
    assert_int_equal(v.run.pid, getpid());
    OK(store_trial_find(s, "killed", "k1", &found, NULL, NULL, why));
    assert_true(found);
    v = (struct seen){0};
    OK(store_trials(s, "killed", see_trial, &v, why));
    assert_string_equal(v.ids, "k1 k2 ");
    assert_string_equal(v.state, "failed");
    assert_string_equal(v.error, "interrupted");
    OK(store_run_end(s, "killed", "met", "{}", why));
    struct err e = {0};
    assert_int_equal(store_run_claim(s, "killed", &e), -1);
    assert_int_equal(e.code, ERR_INPUT);
    assert_int_equal(store_run_claim(s, "none", &e), -1);
    assert_int_equal(e.code, ERR_MISSING);
    store_close(s);
}

static int claim_taken_run(void)
{
    struct store *s = open_file();
    struct err e = {0};
    char expected[64];
    snprintf(expected, sizeof(expected), "process %ld", (long)getppid());
    int rc = store_run_claim(s, "owned", &e);
    store_close(s);
    return rc == -1 && e.code == ERR_BUSY && strstr(e.message, expected) ? 0 : 1;
}

static void a_living_owner_keeps_its_run(void **state)
{
    (void)state;
    struct store *s = open_file();
    struct seen v = {0};
    begin_run(s, "owned", "sha", false);
    assert_int_equal(in_child(claim_taken_run), 0);
    OK(store_run_claim(s, "owned", why)); /* it is ours */
    OK(store_run_get(s, "owned", see_run, &v, why));
    assert_string_equal(v.state, "running");
    OK(store_run_end(s, "owned", "met", NULL, why));
    store_close(s);
}

/* Of many that want a dead owner's run at once, one gets it. */
static void one_claim_wins(void **state)
{
    (void)state;
    struct store *s = open_file();
    begin_run(s, "prize", "sha", false);
    OK(store_run_end(s, "prize", "interrupted", NULL, why));
    store_close(s);
    enum { RIVALS = 6 };
    pid_t pids[RIVALS];
    int go[2], hold[2], won = 0;
    assert_int_equal(pipe(go), 0);
    assert_int_equal(pipe(hold), 0);
    for (int i = 0; i < RIVALS; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            char byte;
            close(hold[1]);
            struct store *mine = open_file();
            if (read(go[0], &byte, 1) != 1)
                _exit(3);
            struct err e = {0};
            int rc = store_run_claim(mine, "prize", &e);
            if (rc == 0 && read(hold[0], &byte, 1) >= 0) /* live on until all have tried */
                _exit(0);
            _exit(e.code == ERR_BUSY ? 1 : 2);
        }
    }
    for (int i = 0; i < RIVALS; i++)
        assert_int_equal(write(go[1], "x", 1), 1);
    int lost = 0, status;
    while (lost < RIVALS - 1) {
        assert_true(waitpid(-1, &status, 0) > 0);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 1);
        lost++;
    }
    close(hold[1]);
    assert_true(waitpid(-1, &status, 0) > 0);
    won += WIFEXITED(status) && WEXITSTATUS(status) == 0;
    assert_int_equal(won, 1);
    close(go[0]);
    close(go[1]);
    close(hold[0]);
}

static void raw_sql(const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    char *why = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s", why);
    sqlite3_close(db);
}

/* Not while it lay interrupted. */
static void a_run_lasts_while_it_is_worked_on(void **state)
{
    (void)state;
    struct store *s = open_file();
    double seconds = -1;
    begin_run(s, "lasting", "m", false);
    OK(store_run_seconds(s, "lasting", &seconds, why));
    assert_true(seconds == 0);
    OK(store_event(s, "lasting", "phase", NULL, why));
    OK(store_event(s, "lasting", "phase", NULL, why));
    OK(store_run_end(s, "lasting", "interrupted", NULL, why));
    OK(store_run_claim(s, "lasting", why));
    OK(store_event(s, "lasting", "phase", NULL, why));
    raw_sql("UPDATE event SET time_ms = 1000 * n * n FROM (SELECT id AS at, row_number() OVER "
            "(ORDER BY id) AS n FROM event WHERE run_id = 'lasting') WHERE id = at");
    OK(store_run_seconds(s, "lasting", &seconds, why));
    assert_true(seconds == (9 - 1) + (25 - 16));
    store_close(s);
}

/* Owners that cannot be asked: a reused pid, a rebooted host, another host that is silent or not.
 */
static void owners_elsewhere(void **state)
{
    (void)state;
    static const struct {
        const char *change;
        bool alive;
    } cases[] = {
        {"pid_start = pid_start + 1", false},
        {"pid = 2147483000", false},
        {"boot = 'before'", false},
        {"boot = 'other', host = 'elsewhere'", true},
        {"boot = 'other', host = 'elsewhere', active_ms = active_ms - 3600000", false},
        {"namespace = 'container'", true},
        {"namespace = 'container', active_ms = active_ms - 3600000", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char id[27], sql[256];
        rng_id(id);
        struct store *s = open_file();
        begin_run(s, id, "sha", false);
        store_close(s);
        snprintf(sql, sizeof(sql), "UPDATE run SET %s WHERE id = '%s'", cases[i].change, id);
        raw_sql(sql);
        s = open_file();
        struct seen v = {0};
        OK(store_run_get(s, id, see_run, &v, why));
        assert_string_equal(v.state, cases[i].alive ? "running" : "interrupted");
        OK(store_run_end(s, id, "met", NULL, why));
        store_close(s);
    }
}

static void two_writers_take_turns(void **state)
{
    (void)state;
    struct store *s = open_file();
    begin_run(s, "shared", "sha", false);
    store_close(s);
    enum { WRITERS = 4, EACH = 25 };
    fflush(NULL);
    for (int w = 0; w < WRITERS; w++) {
        if (fork() != 0)
            continue;
        struct store *mine = open_file();
        for (int i = 0; i < EACH; i++) {
            char key[32];
            snprintf(key, sizeof(key), "w%d.%d", w, i);
            struct store_trial t = begin_trial(mine, "shared", key);
            end_trial(mine, &t, "done");
        }
        store_close(mine);
        _exit(0);
    }
    for (int w = 0; w < WRITERS; w++) {
        int status;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    struct seen v = {0};
    s = open_file();
    OK(store_run_get(s, "shared", see_run, &v, why));
    assert_int_equal(v.run.trials, WRITERS * EACH);
    OK(store_run_end(s, "shared", "met", NULL, why));
    store_close(s);
}

static void a_newer_schema_is_refused(void **state)
{
    (void)state;
    struct err e = {0};
    struct store *s = open_file();
    store_close(s);
    raw_sql("PRAGMA user_version = 99");
    assert_int_equal(store_open(&s, path, &e), -1);
    assert_int_equal(e.code, ERR_UNSUPPORTED);
    assert_non_null(strstr(e.message, "99"));
    assert_non_null(strstr(e.message, "version 1"));
    raw_sql("PRAGMA user_version = 1");
    s = open_file();
    store_close(s);
}

static void other_files_are_refused(void **state)
{
    (void)state;
    struct err e = {0};
    struct store *s = NULL;
    char other[300];
    snprintf(other, sizeof(other), "%s/other.db", dir);
    static const char text[] =
        "This is a letter, not a database, and it must stay one. ............";
    OK(fs_write_all(other, text, sizeof(text), why));
    assert_int_equal(store_open(&s, other, &e), -1);
    assert_int_equal(e.code, ERR_INPUT);
    assert_true(e.hint[0] != 0);
    char *kept;
    size_t n;
    OK(fs_read_all(other, 1000, &kept, &n, why));
    assert_memory_equal(kept, text, sizeof(text));
    xfree(kept);
    OK(fs_remove(other, why));
    sqlite3 *db;
    assert_int_equal(sqlite3_open(other, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE letters (x)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(store_open(&s, other, &e), -1);
    assert_int_equal(e.code, ERR_INPUT);
    assert_non_null(strstr(e.message, "another program"));
    assert_int_equal(store_open(&s, dir, &e), -1); /* a directory */
    assert_int_equal(e.code, ERR_IO);
    assert_null(s);
}

enum { SKIPPED = 77 };

static int fill_small_tmpfs(void)
{
    struct err e = {0};
    struct store *s;
    char small[300];
    static char big[100000];
    memset(big, 'x', sizeof(big) - 1);
    if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return SKIPPED;
    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    if (mount("none", dir, "tmpfs", 0, "size=1m") < 0)
        return SKIPPED;
    snprintf(small, sizeof(small), "%s/s.db", dir);
    if (store_open(&s, small, &e))
        return 1;
    begin_run(s, "r", "sha", false);
    int rc = 0;
    for (int i = 0; i < 50 && rc == 0; i++)
        rc = store_event(s, "r", "big", big, &e);
    if (rc == 0)
        return 2;
    if (e.code != ERR_IO || !strstr(e.hint, "full"))
        return 3;
    struct seen v = {0};
    if (store_run_get(s, "r", see_run, &v, &e)) /* still readable */
        return 4;
    store_close(s);
    return 0;
}

static void a_full_disk_is_an_error(void **state)
{
    (void)state;
    int rc = in_child(fill_small_tmpfs);
    if (rc == SKIPPED) {
        print_message("SKIP: no right to mount a tmpfs\n");
        skip();
    }
    assert_int_equal(rc, 0);
}

static void the_journal_is_wal(void **state)
{
    (void)state;
    struct store *s = open_file();
    char wal[320];
    begin_run(s, "wal", "sha", false);
    snprintf(wal, sizeof(wal), "%s-wal", path);
    assert_true(fs_exists(wal));
    OK(store_run_end(s, "wal", "met", NULL, why));
    store_close(s);
    assert_false(fs_exists(wal)); /* folded into the file by the last one out */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_have_a_life),
        cmocka_unit_test(a_run_cannot_begin_twice),
        cmocka_unit_test(runs_are_found),
        cmocka_unit_test(trials_have_a_life),
        cmocka_unit_test(history_is_real_and_newest_first),
        cmocka_unit_test(models_events_and_facts),
        cmocka_unit_test(callbacks_may_use_the_store),
        cmocka_unit_test(a_kill_loses_the_trial_in_flight_only),
        cmocka_unit_test(a_living_owner_keeps_its_run),
        cmocka_unit_test(one_claim_wins),
        cmocka_unit_test(a_run_lasts_while_it_is_worked_on),
        cmocka_unit_test(owners_elsewhere),
        cmocka_unit_test(two_writers_take_turns),
        cmocka_unit_test(a_newer_schema_is_refused),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(a_full_disk_is_an_error),
        cmocka_unit_test(the_journal_is_wal),
    };
    return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
