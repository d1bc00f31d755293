/* A download under way: files, their chunks, and what the workers share. Private to fetch.c and
 * chunk.c. */
#ifndef HUB_FETCH_INT_H
#define HUB_FETCH_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/hash.h"
#include "hub/hub_int.h"

/* How a file can be had: the first answer tells whether its server serves ranges. */
enum fetch_mode {
    FETCH_ASK,    /* nobody has asked yet */
    FETCH_ASKING, /* one worker does; the others wait */
    FETCH_RANGES, /* chunks in any order, by any worker */
    FETCH_WHOLE,  /* the server ignores ranges: one worker takes all */
    FETCH_DONE    /* verified, under its final name */
};

struct fetch_file {
    const struct hub_file *file;
    char *url, *blob, *partial;
    char *direct; /* where the hub redirects to: an address of another host, good for some time */
    int lock_fd;
    struct journal journal;
    enum fetch_mode mode;
    bool ours;       /* not in the cache when the lock was had */
    uint32_t next;   /* chunks below are finished or handed out */
    uint64_t hashed; /* bytes in the hash; of the thread that checks the file */
    int restarts;    /* after wrong bytes */
    struct hash_sha256 *sha256;
    struct hash_git *git;
};

struct fetch {
    struct hub *hub;
    const struct hub_ref *ref;
    struct fetch_file *files;
    size_t n;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* for the workers */
    pthread_cond_t arrived; /* for the checker: there are more bytes */
    _Atomic uint64_t moved; /* bytes from the network */
    _Atomic uint64_t kept;  /* bytes of the files that are there */
    _Atomic bool failed;
    struct err why; /* the first failure */
    int running;    /* workers */
};

/* Bytes of chunk i. */
uint64_t fetch_chunk_bytes(const struct fetch_file *f, uint32_t i);
/* How many of them are in the partial file, from its beginning on; the checker reads them as soon
 * as they are counted. In mode WHOLE they are counted when all have come. */
uint64_t fetch_chunk_done(const struct fetch_file *f, uint32_t i);
bool fetch_chunk_whole(const struct fetch_file *f, uint32_t i);
void fetch_chunk_count(struct fetch_file *f, uint32_t i, uint64_t bytes);
/* What is written at a time, and what is read back and hashed at a time: with what is received at a
 * time (net/http.c) it fits a processor's own cache. */
enum { FETCH_BLOCK = 256 * 1024 };
/* Fetches what is missing of chunk i, or, where the server ignores ranges, of the whole file. The
 * mode of the file is settled when it returns 0. block has room for FETCH_BLOCK bytes. */
int fetch_chunk(struct fetch *all, struct fetch_file *f, uint32_t i, struct net *net, char *block,
                struct err *e);
/* Begins a file again from nothing. */
void fetch_file_restart(struct fetch *all, struct fetch_file *f);

#endif
