/* The parent's end of the engine: one worker process, one conversation.
 *
 * A request is a JSON object with "op"; the worker answers {"ok":true,...} or {"error":{...}}, with
 * any number of {"progress":done,"total":n,"detail":text} lines before. Shared memory goes ahead of
 * the request by "attach", into one of three slots. */
#ifndef ENGINE_CLIENT_INT_H
#define ENGINE_CLIENT_INT_H

#include "base/buf.h"
#include "base/proc.h"
#include "engine/engine.h"
#include "engine/wire_int.h"

struct engine {
    struct proc proc;
    struct wire wire;
    struct engine_options options;
    struct buf log;   /* the last lines of the worker's stderr */
    struct err ended; /* why there is no worker any more; code ERR_NONE while there is one */
    char *model;      /* path of the loaded model, NULL = none */
    enum engine_mode mode;
    struct engine_info info;
    uint64_t reference_id; /* what the worker has in its reference slot; 0 = nothing */
};

struct engine_call {
    const char *doing; /* "scoring windows": for errors and as the progress' phase */
    const struct progress *progress;
};

/* Sends `request` (gives up its reference) and waits for the answer (new reference, may be NULL
 * when not wanted; *fd likewise). */
int engine_call(struct engine *g, const struct engine_call *call, json_t *request, json_t **answer,
                int *fd, struct err *e);

/* Shared memory of a call. */
struct engine_share {
    int fd;
    void *data;
    size_t bytes;
};
/* Makes memory and puts it into a slot: "in" (worker reads) or "out" (worker writes). */
int engine_share_open(struct engine *g, struct engine_share *s, const char *slot, uint64_t bytes,
                      struct err *e);
int engine_share_attach(struct engine *g, int fd, uint64_t bytes, const char *slot, struct err *e);
void engine_share_close(struct engine_share *s);

#endif
