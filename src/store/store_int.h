/* Inside the store: statements in one call, and who owns a run. Not for other modules. */
#ifndef STORE_STORE_INT_H
#define STORE_STORE_INT_H

#include <sqlite3.h>
#include <stdarg.h>

#include "store/store.h"

struct store {
    sqlite3 *db;
    char *path; /* for error texts */
};

/* Fills e from the database's last error: "DOING in PATH: reason". Returns -1. */
int store_refuse(struct store *s, const char *doing, struct err *e);

/* Prepares sql and binds its parameters by `types`, one letter each: 't' const char * (NULL = SQL
 * NULL), 'i' int64_t (cast it!), 'r' double. NULL and e on failure; the caller finalizes. */
sqlite3_stmt *store_prepare(struct store *s, const char *doing, struct err *e, const char *sql,
                            const char *types, ...);
/* The same, run to its end. Returns the number of rows changed, or -1. */
int store_execute(struct store *s, const char *doing, struct err *e, const char *sql,
                  const char *types, ...);
/* Moves to the next row: 1 there is one, 0 the end, -1 error. */
int store_step(struct store *s, const char *doing, sqlite3_stmt *st, struct err *e);

/* Transactions. BEGIN takes the write lock at once, so that nothing inside can find it taken. */
int store_begin(struct store *s, struct err *e);
int store_commit(struct store *s, struct err *e);
void store_rollback(struct store *s);

/* The process that owns a run, as far as it can be told from another one. */
struct store_owner {
    int64_t pid, pid_start; /* start time in clock ticks since boot, tells a reused pid */
    char host[65];          /* host name */
    char boot[40];          /* the kernel's boot id */
    char space[40];         /* pid namespace: pids of another one mean nothing here */
};
void store_owner_self(struct store_owner *o);
/* active_ms: its last sign of life, now_ms: the time now. */
bool store_owner_alive(const struct store_owner *o, int64_t active_ms, int64_t now_ms);

/* What a trial or an event leaves on its run. */
int store_touch(struct store *s, const char *run_id, struct err *e);

#endif
