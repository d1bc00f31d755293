/* The store: opening, upgrading, statements, models, events and facts. Runs are in store_run.c,
 * trials in store_trial.c, owners of runs in store_owner.c.
 *
 * Owns the database handle. Invariant: each public function is one statement or one transaction, so
 * a kill between any two instructions leaves the last finished row and nothing half. WAL keeps
 * readers and the one writer apart; it needs shared memory that network file systems do not give,
 * so there the rollback journal is used. Every commit is synced: a checkpoint that a power cut can
 * undo is none. Refuses databases of other programs and of newer versions. Limits of SQLite that
 * hostile files could reach are closed (defensive mode, no trusted schema).
 */
#include "store/store.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <sys/vfs.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/schema_sql.h"
#include "store/store_int.h"
#include "base/banned.h"

enum {
    STORE_APPLICATION = 0x53696e74, /* "Sint", in the file's header */
    STORE_BUSY_MS = 10000
};

/* changes[i] leads from version i to version i + 1. */
static const char *const changes[] = {schema_sql};

enum { STORE_VERSION = sizeof(changes) / sizeof(changes[0]) };

static enum err_code code_of(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return ERR_BUSY;
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        return ERR_INPUT;
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
        return ERR_IO;
    case SQLITE_NOMEM:
        return ERR_MEMORY;
    default:
        return ERR_BUG;
    }
}

static const char *hint_of(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return "another process is writing: wait for it and try again";
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        return "move the file away (a new one is made), or choose another home with --home DIR";
    case SQLITE_FULL:
        return "the disk or the quota is full: free some space or choose another home with --home";
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
        return "check the permissions of the file and its directory, or choose another --home DIR";
    default:
        return NULL;
    }
}

int store_refuse(struct store *s, const char *doing, struct err *e)
{
    int rc = s->db ? sqlite3_errcode(s->db) : SQLITE_NOMEM;
    const char *why = s->db ? sqlite3_errmsg(s->db) : "out of memory";
    int cause = s->db ? sqlite3_system_errno(s->db) : 0;
    bool io = (rc & 0xff) == SQLITE_IOERR || (rc & 0xff) == SQLITE_CANTOPEN;
    if (io && (cause == ENOSPC || cause == EDQUOT))
        rc = SQLITE_FULL;
    return err_set(e, code_of(rc), hint_of(rc), "cannot %s in %s: %s%s%s", doing, s->path, why,
                   io && cause ? ": " : "", io && cause ? strerror(cause) : "");
}

static void bind(sqlite3_stmt *st, const char *types, va_list ap)
{
    for (int i = 1; *types; types++, i++) {
        if (*types == 't')
            sqlite3_bind_text(st, i, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
        else if (*types == 'i')
            sqlite3_bind_int64(st, i, va_arg(ap, int64_t));
        else
            sqlite3_bind_double(st, i, va_arg(ap, double));
    }
}

static sqlite3_stmt *prepare(struct store *s, const char *doing, struct err *e, const char *sql,
                             const char *types, va_list ap)
{
    sqlite3_stmt *st;
    if (sqlite3_prepare_v2(s->db, sql, -1, &st, NULL) != SQLITE_OK) {
        store_refuse(s, doing, e);
        return NULL;
    }
    bind(st, types, ap);
    return st;
}

sqlite3_stmt *store_prepare(struct store *s, const char *doing, struct err *e, const char *sql,
                            const char *types, ...)
{
    va_list ap;
    va_start(ap, types);
    sqlite3_stmt *st = prepare(s, doing, e, sql, types, ap);
    va_end(ap);
    return st;
}

int store_step(struct store *s, const char *doing, sqlite3_stmt *st, struct err *e)
{
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW || rc == SQLITE_DONE)
        return rc == SQLITE_ROW;
    return store_refuse(s, doing, e);
}

int store_execute(struct store *s, const char *doing, struct err *e, const char *sql,
                  const char *types, ...)
{
    va_list ap;
    va_start(ap, types);
    sqlite3_stmt *st = prepare(s, doing, e, sql, types, ap);
    va_end(ap);
    if (!st)
        return -1;
    int rc;
    do
        rc = store_step(s, doing, st, e);
    while (rc == 1);
    int rows = sqlite3_changes(s->db);
    sqlite3_finalize(st);
    return rc < 0 ? -1 : rows;
}

/* Several statements without parameters or results. */
static int run_script(struct store *s, const char *doing, const char *sql, struct err *e)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : store_refuse(s, doing, e);
}

int store_begin(struct store *s, struct err *e)
{
    return run_script(s, "begin a transaction", "BEGIN IMMEDIATE", e);
}

int store_commit(struct store *s, struct err *e)
{
    if (run_script(s, "commit", "COMMIT", e) == 0)
        return 0;
    store_rollback(s);
    return -1;
}

void store_rollback(struct store *s)
{
    sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
}

/* An integer pragma, or -1. */
static int64_t pragma(struct store *s, const char *sql, struct err *e)
{
    sqlite3_stmt *st = store_prepare(s, "open the store", e, sql, "");
    if (!st)
        return -1;
    int64_t value = -1;
    if (store_step(s, "open the store", st, e) == 1)
        value = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return value;
}

/* File systems whose shared memory or locks cannot carry WAL (magic numbers of statfs(2)). */
static bool is_remote(const char *path)
{
    static const uint32_t magics[] = {
        0x6969,     /* NFS */
        0xff534d42, /* CIFS */
        0xfe534d42, /* SMB2 */
        0x517b,     /* SMB */
        0x0bd00bd0, /* Lustre */
        0x47504653, /* GPFS */
        0x19830326, /* BeeGFS */
        0x00c36400, /* Ceph */
        0x5346414f, /* AFS */
        0x65735546, /* FUSE: sshfs and others */
        0x01021997, /* 9P: virtual machines' shared folders */
    };
    struct statfs st;
    if (statfs(path, &st) < 0)
        return false;
    for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++)
        if ((uint32_t)st.f_type == magics[i])
            return true;
    return false;
}

/* SQLite does not wait for the lock that a change of journal needs (two processes that both hold a
 * shared one would wait for ever), so two first starts at once would fail: try again for a while.
 */
static int set_journal(struct store *s, const char *pragma_text, struct err *e)
{
    const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
    for (int tries = STORE_BUSY_MS / 20; tries > 0; tries--) {
        int rc = sqlite3_exec(s->db, pragma_text, NULL, NULL, NULL);
        if (rc == SQLITE_OK)
            return 0;
        if ((rc & 0xff) != SQLITE_BUSY)
            break;
        nanosleep(&pause, NULL);
    }
    return store_refuse(s, "open the store", e);
}

static int configure(struct store *s, bool in_memory, struct err *e)
{
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    if (run_script(
            s, "open the store",
            "PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; PRAGMA cell_size_check = ON", e))
        return -1;
    if (in_memory)
        return 0;
    bool remote = is_remote(s->path);
    const char *mode = remote ? "PRAGMA journal_mode = DELETE" : "PRAGMA journal_mode = WAL";
    if (set_journal(s, mode, e))
        return -1;
    if (remote)
        log_info("%s lies on a network file system: using a rollback journal", s->path);
    return 0;
}

/* Brings the schema to our version, one transaction per step; another process may be doing the
 * same, so the version is read again under the lock. */
static int upgrade(struct store *s, struct err *e)
{
    int64_t version = pragma(s, "PRAGMA user_version", e);
    while (version >= 0 && version < STORE_VERSION) {
        if (store_begin(s, e))
            return -1;
        version = pragma(s, "PRAGMA user_version", e);
        char stamp[96];
        snprintf(stamp, sizeof(stamp), "PRAGMA application_id = %d; PRAGMA user_version = %lld",
                 STORE_APPLICATION, (long long)version + 1);
        bool due = version >= 0 && version < STORE_VERSION;
        if (version < 0 || (due && (run_script(s, "create the store", changes[version], e) ||
                                    run_script(s, "create the store", stamp, e)))) {
            store_rollback(s);
            return -1;
        }
        if (store_commit(s, e))
            return -1;
        version += due;
    }
    return version < 0 ? -1 : 0;
}

/* Is this database ours, and not from the future? Another process may be making it meanwhile: the
 * mark that is written with everything else is read last. */
static int check_identity(struct store *s, struct err *e)
{
    int64_t tables = pragma(s, "SELECT count(*) FROM sqlite_schema", e);
    int64_t version = tables < 0 ? -1 : pragma(s, "PRAGMA user_version", e);
    int64_t application = version < 0 ? -1 : pragma(s, "PRAGMA application_id", e);
    if (application < 0)
        return -1;
    if (application != STORE_APPLICATION && (tables > 0 || version > 0 || application != 0))
        return err_set(e, ERR_INPUT, hint_of(SQLITE_NOTADB), "%s is a database of another program",
                       s->path);
    if (version > STORE_VERSION)
        return err_set(e, ERR_UNSUPPORTED, "use the newer Sintra, or another home with --home DIR",
                       "%s has schema version %lld, this program knows up to version %d", s->path,
                       (long long)version, STORE_VERSION);
    return 0;
}

static int make_parent(const char *path, struct err *e)
{
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path)
        return 0;
    char *dir = xstrndup(path, (size_t)(slash - path));
    int rc = fs_mkdirs(dir, e);
    xfree(dir);
    return rc;
}

static int make_ready(struct store *s, bool in_memory, struct err *e)
{
    sqlite3_extended_result_codes(s->db, 1);
    sqlite3_busy_timeout(s->db, STORE_BUSY_MS);
    if (check_identity(s, e) || configure(s, in_memory, e))
        return -1;
    return upgrade(s, e);
}

int store_open(struct store **out, const char *path, struct err *e)
{
    if (path && make_parent(path, e))
        return -1;
    struct store *s = xcalloc(1, sizeof(*s));
    s->path = xstrdup(path ? path : "memory");
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX;
    int rc;
    if (sqlite3_open_v2(path ? path : ":memory:", &s->db, flags, NULL) != SQLITE_OK)
        rc = store_refuse(s, "open the store", e);
    else
        rc = make_ready(s, !path, e);
    if (rc)
        store_close(s);
    else
        *out = s;
    return rc;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    sqlite3_close_v2(s->db);
    xfree(s->path);
    xfree(s);
}

int store_model_put(struct store *s, const struct store_model *m, struct err *e)
{
    int rc = store_execute(
        s, "record the model", e,
        "INSERT INTO model (sha256, name, architecture, path, parameters, bytes, first_ms) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (sha256) DO NOTHING",
        "ttttiii", m->sha256, m->name ? m->name : "", m->architecture, m->path,
        (int64_t)m->parameters, (int64_t)m->bytes, clock_unix_ms());
    return rc < 0 ? -1 : 0;
}

int store_event(struct store *s, const char *run_id, const char *kind, const char *json,
                struct err *e)
{
    int rc = store_execute(s, "record an event", e,
                           "INSERT INTO event (run_id, time_ms, kind, json) VALUES (?, ?, ?, ?)",
                           "titt", run_id, clock_unix_ms(), kind, json);
    return rc < 0 ? -1 : store_touch(s, run_id, e);
}

int store_run_seconds(struct store *s, const char *run_id, double *seconds, struct err *e)
{
    static const char doing[] = "read the events of a run";
    int64_t begin = 0, last = 0, sum = 0;
    int rc;
    sqlite3_stmt *st = store_prepare(
        s, doing, e, "SELECT kind = 'claim', time_ms FROM event WHERE run_id = ? ORDER BY id", "t",
        run_id);
    if (!st)
        return -1;
    while ((rc = store_step(s, doing, st, e)) > 0) {
        int64_t time = sqlite3_column_int64(st, 1);
        if (last == 0 || sqlite3_column_int(st, 0)) {
            sum += last - begin;
            begin = time;
        }
        last = time;
    }
    sqlite3_finalize(st);
    *seconds = (double)(sum + last - begin) / 1000;
    return rc;
}

int store_fact_put(struct store *s, const char *kind, const char *key, const json_t *value,
                   struct err *e)
{
    char *text = value ? json_text(value, false) : NULL;
    int rc;
    if (text)
        rc = store_execute(s, "keep a measurement", e,
                           "INSERT INTO fact (kind, key, json, time_ms) VALUES (?, ?, ?, ?) "
                           "ON CONFLICT (kind, key) DO UPDATE SET json = excluded.json, "
                           "time_ms = excluded.time_ms",
                           "ttti", kind, key, text, clock_unix_ms());
    else
        rc = store_execute(s, "drop a measurement", e,
                           "DELETE FROM fact WHERE kind = ? AND key = ?", "tt", kind, key);
    xfree(text);
    return rc < 0 ? -1 : 0;
}

void store_fact_keep(struct store *s, const char *kind, const char *key, json_t *value)
{
    struct err e = {0};
    if (s && store_fact_put(s, kind, key, value, &e) != 0)
        log_warn("%s not stored: %s", kind, e.message);
    json_decref(value);
}

json_t *store_fact_get(struct store *s, const char *kind, const char *key)
{
    static const char doing[] = "read a measurement";
    json_t *value = NULL;
    if (!s)
        return NULL;
    sqlite3_stmt *st = store_prepare(
        s, doing, NULL, "SELECT json FROM fact WHERE kind = ? AND key = ?", "tt", kind, key);
    if (st && store_step(s, doing, st, NULL) > 0) {
        const char *text = (const char *)sqlite3_column_text(st, 0);
        value = text ? json_parse(text, strlen(text), "stored fact", NULL) : NULL;
    }
    sqlite3_finalize(st);
    return value;
}
