-- Version 1 of the store. A later version is a new file of changes, applied after this one; nothing here
-- is ever edited once released. Times are milliseconds since 1970 in UTC, documents are JSON text.
--
-- Facts are rows that are only added to. Three things change in place: the state of a run, the state of a
-- trial (its change to 'done' is the checkpoint), and the values of `fact`, which are measured anew.

CREATE TABLE model (
    sha256       TEXT    PRIMARY KEY,
    name         TEXT    NOT NULL,
    architecture TEXT,
    path         TEXT,
    parameters   INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    first_ms     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- host, boot, namespace, pid and pid_start together name the process that owns a running run; active_ms is
-- its last sign of life, for owners whose process cannot be seen from here.
CREATE TABLE run (
    id           TEXT    PRIMARY KEY,
    model_sha256 TEXT    NOT NULL,
    model_name   TEXT,
    model_path   TEXT,
    config       TEXT,
    state        TEXT    NOT NULL CHECK (state IN
                 ('running', 'interrupted', 'met', 'best_effort', 'infeasible', 'failed')),
    report       TEXT,
    started_ms   INTEGER NOT NULL,
    ended_ms     INTEGER NOT NULL DEFAULT 0,
    mock         INTEGER NOT NULL CHECK (mock IN (0, 1)),
    pid          INTEGER NOT NULL,
    pid_start    INTEGER NOT NULL,
    host         TEXT    NOT NULL,
    boot         TEXT    NOT NULL,
    namespace    TEXT    NOT NULL,
    active_ms    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX run_by_start ON run (started_ms, id);

CREATE TABLE trial (
    id         INTEGER PRIMARY KEY,
    run_id     TEXT    NOT NULL REFERENCES run (id),
    key        TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('running', 'done', 'failed')),
    recipe     TEXT,
    score      TEXT,
    error      TEXT,
    extra      TEXT,
    bytes      INTEGER NOT NULL,
    seconds    REAL    NOT NULL,
    started_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX trial_by_run ON trial (run_id, id);

-- Finished work is never repeated.
CREATE UNIQUE INDEX trial_done_once ON trial (run_id, key) WHERE state = 'done';

CREATE TABLE event (
    id      INTEGER PRIMARY KEY,
    run_id  TEXT    NOT NULL REFERENCES run (id),
    time_ms INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    json    TEXT
) STRICT;

CREATE INDEX event_by_run ON event (run_id, id);

CREATE TABLE fact (
    kind    TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    json    TEXT    NOT NULL,
    time_ms INTEGER NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
