/* One chunk of a file over the network, into its place in the partial file.
 *
 * The first request goes to the hub with the token; where the hub redirects to another host, that
 * address is kept for the file's other chunks and asked without the token, until it expires. Bytes
 * are written where they belong, block by block, and then counted in the journal, so that a retry,
 * or the next run, asks only for the rest. An answer that does not say what was asked for (another
 * range, another size) is refused before a byte of it is written.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/stop.h"
#include "hub/fetch_int.h"

#include "base/banned.h"

enum { HOPS_MAX = 5, EXPIRED_MAX = 3 };
static const double write_every_s = 0.2;

struct piece {
    struct fetch *all;
    struct fetch_file *f;
    uint32_t chunk;
    uint64_t from, end; /* of the chunk, or of the file in mode WHOLE */
    uint64_t at;        /* the next byte to write */
    uint64_t best;      /* how far any attempt came */
    bool begun;         /* the headers of this answer were looked at */
    bool gained;        /* this attempt came further than all before it */
    char *block;        /* bytes that have come, and are not written yet */
    size_t held;
    double written_s; /* when something was written last */
};

uint64_t fetch_chunk_bytes(const struct fetch_file *f, uint32_t i)
{
    uint64_t from = (uint64_t)i * f->journal.chunk_bytes, left = f->file->size - from;
    return left < f->journal.chunk_bytes ? left : f->journal.chunk_bytes;
}

uint64_t fetch_chunk_done(const struct fetch_file *f, uint32_t i)
{
    return __atomic_load_n(&f->journal.done[i], __ATOMIC_ACQUIRE);
}

bool fetch_chunk_whole(const struct fetch_file *f, uint32_t i)
{
    return fetch_chunk_done(f, i) == fetch_chunk_bytes(f, i);
}

void fetch_chunk_count(struct fetch_file *f, uint32_t i, uint64_t bytes)
{
    __atomic_store_n(&f->journal.done[i], (uint32_t)bytes, __ATOMIC_RELEASE);
}

static void settle(struct piece *p, enum fetch_mode mode)
{
    pthread_mutex_lock(&p->all->lock);
    if (p->f->mode == FETCH_ASKING) {
        p->f->mode = mode;
        pthread_cond_broadcast(&p->all->changed);
    }
    pthread_mutex_unlock(&p->all->lock);
}

static int wrong_size(const struct piece *p, struct err *e)
{
    return err_set(e, ERR_INPUT, "run the same command again; the file may have been replaced",
                   "%s: the server sends a file of another size than the hub lists (%" PRIu64
                   " bytes)",
                   p->f->file->path, p->f->file->size);
}

/* Bytes that were counted and will come again. */
static void forget_kept(struct piece *p)
{
    const struct journal *j = &p->f->journal;
    uint64_t kept = p->f->mode == FETCH_WHOLE ? p->at : 0;
    for (uint32_t i = 0; p->f->mode != FETCH_WHOLE && i < j->n; i++)
        kept += j->done[i];
    atomic_fetch_sub(&p->all->kept, kept);
    journal_reset(&p->f->journal);
}

/* The server sends all of the file, whatever was asked for. */
static int begin_whole(struct piece *p, struct err *e)
{
    struct fetch_file *f = p->f;
    if (f->mode == FETCH_RANGES && f->journal.n > 1)
        return err_set(e, ERR_IO, "run the same command again",
                       "%s: the server no longer serves parts of the file", f->file->path);
    forget_kept(p);
    pthread_mutex_lock(&p->all->lock);
    f->mode = FETCH_WHOLE;
    pthread_mutex_unlock(&p->all->lock);
    p->from = p->at = 0;
    p->end = f->file->size;
    return 0;
}

/* Looks at the headers before the first byte is taken. */
static int begin(struct piece *p, const struct net_answer *a, struct err *e)
{
    const char *range = net_header(a, "Content-Range");
    uint64_t from = 0, last = 0, size = 0;
    p->begun = true;
    if (a->status != 206)
        return begin_whole(p, e);
    if (!range ||
        sscanf(range, "bytes %" SCNu64 "-%" SCNu64 "/%" SCNu64, &from, &last, &size) != 3 ||
        from != p->at || last >= p->end)
        return err_set(e, ERR_IO, "run the same command again",
                       "%s: the server sends another part of the file than was asked for (%.60s)",
                       p->f->file->path, range ? range : "no Content-Range");
    if (size != p->f->file->size)
        return wrong_size(p, e);
    if (p->f->mode == FETCH_ASKING)
        settle(p, FETCH_RANGES);
    return 0;
}

static int write_at(struct piece *p, const char *data, size_t n, struct err *e)
{
    for (size_t done = 0; done < n;) {
        ssize_t wrote = pwrite(p->f->journal.fd, data + done, n - done, (off_t)(p->at + done));
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return err_set_errno(e, errno, NULL, "cannot write %s", p->f->partial);
        done += (size_t)wrote;
    }
    return 0;
}

/* Writes what is held, and counts it. */
static int flush(struct piece *p, struct err *e)
{
    size_t n = p->held;
    p->held = 0;
    p->written_s = clock_seconds();
    if (n == 0)
        return 0;
    if (write_at(p, p->block, n, e))
        return -1;
    p->at += n;
    if (p->at > p->best) {
        p->best = p->at;
        p->gained = true;
    }
    atomic_fetch_add(&p->all->moved, n);
    atomic_fetch_add(&p->all->kept, n);
    pthread_mutex_lock(&p->all->lock);
    /* In mode WHOLE there is nothing to go on with later: the server would send all again. */
    if (p->f->mode != FETCH_WHOLE || p->f->journal.n == 1)
        fetch_chunk_count(p->f, p->chunk, p->at - p->from);
    pthread_cond_signal(&p->all->arrived);
    pthread_mutex_unlock(&p->all->lock);
    return 0;
}

/* libcurl hands over 16 KiB at a time, and writers of one file wait for each other: a block is
 * written at a time, on a slow link what has come, several times a second. */
static int on_data(void *ud, const struct net_answer *a, const void *data, size_t n, struct err *e)
{
    struct piece *p = ud;
    if (p->all->failed)
        return err_set(e, ERR_INTERRUPTED, NULL, "another file failed");
    if (!p->begun && begin(p, a, e))
        return -1;
    if (n > p->end - p->at - p->held)
        return wrong_size(p, e);
    for (const char *from = data; n > 0;) {
        size_t room = FETCH_BLOCK - p->held, some = n < room ? n : room;
        memcpy(p->block + p->held, from, some);
        p->held += some;
        from += some;
        n -= some;
        if ((p->held == FETCH_BLOCK || clock_seconds() - p->written_s > write_every_s) &&
            flush(p, e))
            return -1;
    }
    return 0;
}

/* The address to ask: the kept one, or the hub's. xfree. */
static char *address(struct piece *p, bool *direct)
{
    pthread_mutex_lock(&p->all->lock);
    *direct = p->f->direct != NULL;
    char *url = xstrdup(*direct ? p->f->direct : p->f->url);
    pthread_mutex_unlock(&p->all->lock);
    return url;
}

static void keep_direct(struct piece *p, const char *location)
{
    pthread_mutex_lock(&p->all->lock);
    xfree(p->f->direct);
    p->f->direct = location ? xstrdup(location) : NULL;
    pthread_mutex_unlock(&p->all->lock);
}

/* One request, through redirects to other hosts. *expired: the kept address is not good any more.
 */
static int ask(struct piece *p, struct net *net, struct net_answer *a, bool *expired, struct err *e)
{
    *expired = false;
    for (int hops = 0; hops < HOPS_MAX; hops++) {
        bool direct;
        char *url = address(p, &direct);
        struct net_request q = {
            .method = "GET",
            .url = url,
            .token = direct ? NULL : hub_bearer(p->all->hub),
            .ranged = p->f->journal.n > 1 || p->at > p->from,
            .from = p->at,
            .to = p->end,
            .sink = on_data,
            .ud = p,
        };
        p->begun = p->gained = false;
        int rc = net_send(net, &q, a, e);
        xfree(url);
        if (flush(p, rc ? NULL : e)) /* also what came before the link broke */
            rc = -1;
        if (rc || !a->location) {
            *expired = rc == 0 && direct && (a->status == 401 || a->status == 403);
            return rc;
        }
        keep_direct(p, a->location);
        net_answer_release(a);
    }
    *a = (struct net_answer){0};
    return err_set(e, ERR_INPUT, NULL, "%s: the server redirects in circles", p->f->file->path);
}

static int judge(struct piece *p, const struct net_answer *a, struct err *e)
{
    if (a->status == 416)
        return wrong_size(p, e);
    if (a->status != 200 && a->status != 206)
        return hub_refuse(p->all->hub, p->all->ref, p->f->file->path, a, e);
    if (p->at == p->end)
        return 0;
    return wrong_size(p, e);
}

/* Attempts until the piece is whole or the failure is final. */
static int piece_fetch(struct piece *p, struct net *net, struct err *e)
{
    struct net_pace pace = {0};
    int expirations = 0;
    for (;;) {
        struct err why = {0};
        struct net_answer a;
        bool expired;
        int rc = ask(p, net, &a, &expired, &why);
        if (expired && ++expirations < EXPIRED_MAX) {
            keep_direct(p, NULL);
            net_answer_release(&a);
            continue;
        }
        if (p->gained)
            pace = (struct net_pace){0};
        bool again = net_pace_again(net, &pace, &a);
        if (!again) {
            rc = rc ? rc : judge(p, &a, &why);
            net_answer_release(&a);
            if (stop_requested())
                return stop_check(e);
            if (rc && e)
                *e = why;
            return rc;
        }
        net_answer_release(&a);
    }
}

int fetch_chunk(struct fetch *all, struct fetch_file *f, uint32_t i, struct net *net, char *block,
                struct err *e)
{
    struct piece p = {.all = all, .f = f, .chunk = i, .block = block};
    p.written_s = clock_seconds();
    p.from = (uint64_t)i * f->journal.chunk_bytes;
    p.end = p.from + fetch_chunk_bytes(f, i);
    p.at = p.best = p.from + fetch_chunk_done(f, i);
    if (p.at == p.end) {
        settle(&p, FETCH_RANGES);
        return 0;
    }
    return piece_fetch(&p, net, e);
}
