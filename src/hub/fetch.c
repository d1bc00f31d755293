/* Files of a repository into the cache: in parallel, resumable, verified.
 *
 * All wanted files are cut into chunks; workers with a connection each take chunk after chunk.
 * One more thread, the checker, reads the files back in order, as they grow, and feeds their
 * hashes; a file of one chunk is checked by the worker that fetched it. A blob gets its name after
 * its hash was found right and its bytes are on the disk. Locks of the files are taken in the order
 * of their names and held together, so two programs cannot wait for each other. Invariant:
 * everything in struct fetch is changed under its lock, but the bytes of a chunk, which belong to
 * the worker that took it and are counted when they are in the file.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/stop.h"
#include "base/thread.h"
#include "hub/fetch_int.h"

#include "base/banned.h"

enum { CONNECTIONS_DEFAULT = 8, CONNECTIONS_MAX = 64, RESTARTS_MAX = 1, TICK_MS = 100 };
/* Processors at work, above which a further connection only takes turns with the others. */
static const double busy_enough = 1.0;
static const uint64_t chunk_bytes_max = 16u << 20;
static const double speed_memory_s = 3;

/* ---- verification ------------------------------------------------------------------------------
 */

static void hash_begin(struct fetch_file *f)
{
    char unused[HASH_HEX_MAX];
    if (f->sha256)
        hash_sha256_finish(f->sha256, unused);
    if (f->git)
        hash_git_finish(f->git, unused);
    bool git = strlen(f->file->etag) == HASH_GIT_HEX_MAX - 1;
    f->sha256 = git ? NULL : hash_sha256_new();
    f->git = git ? hash_git_new(f->file->size) : NULL;
    f->hashed = 0;
}

/* Bytes of the file that are there and not in the hash, without a gap. */
static uint64_t unhashed(const struct fetch_file *f)
{
    uint64_t end = f->hashed;
    while (end < f->file->size) {
        uint32_t i = (uint32_t)(end / f->journal.chunk_bytes);
        end = i * f->journal.chunk_bytes + fetch_chunk_done(f, i);
        if (!fetch_chunk_whole(f, i))
            break;
    }
    return end - f->hashed;
}

/* Up to n bytes from where the hash is, out of the partial file: mostly out of memory, where they
 * were just written. */
static int read_back(const struct fetch_file *f, char *block, uint64_t n, size_t *got,
                     struct err *e)
{
    ssize_t some;
    do {
        some = pread(f->journal.fd, block, n < FETCH_BLOCK ? n : FETCH_BLOCK, (off_t)f->hashed);
    } while (some < 0 && errno == EINTR);
    if (some < 0)
        return err_set_errno(e, errno, NULL, "cannot read %s", f->partial);
    if (some == 0)
        return err_set(e, ERR_IO, NULL, "%s became shorter", f->partial);
    *got = (size_t)some;
    return 0;
}

/* The next of the n bytes that are there and not in the hash. With the lock held, which is dropped
 * in between. */
static int hash_some(struct fetch *all, struct fetch_file *f, char *block, uint64_t n,
                     struct err *e)
{
    size_t got = 0;
    pthread_mutex_unlock(&all->lock);
    int rc = stop_check(e);
    if (rc == 0)
        rc = read_back(f, block, n, &got, e);
    if (rc == 0 && f->git)
        hash_git_add(f->git, block, got);
    else if (rc == 0)
        hash_sha256_add(f->sha256, block, got);
    pthread_mutex_lock(&all->lock);
    f->hashed += rc ? 0 : got;
    return rc;
}

void fetch_file_restart(struct fetch *all, struct fetch_file *f)
{
    journal_reset(&f->journal);
    atomic_fetch_sub(&all->kept, f->file->size);
    f->next = 0;
    f->mode = FETCH_ASK;
    xfree(f->direct);
    f->direct = NULL;
    hash_begin(f);
}

static int wrong_bytes(const struct fetch *all, const struct fetch_file *f, const char *found,
                       struct err *e)
{
    return err_set(e, ERR_INPUT,
                   "run the same command again; if it repeats, the server or a proxy in between "
                   "changes the file",
                   "%s/%s: wrong bytes: the hub lists the hash %.12s..., what was received has "
                   "%.12s...",
                   all->ref->repo, f->file->path, f->file->etag, found);
}

/* The file is complete: compare, give it its name. With the lock held, which is dropped while the
 * disk works. */
static int complete(struct fetch *all, struct fetch_file *f, struct err *e)
{
    char found[HASH_HEX_MAX];
    if (f->git)
        hash_git_finish(f->git, found);
    else
        hash_sha256_finish(f->sha256, found);
    f->git = NULL;
    f->sha256 = NULL;
    if (strcmp(found, f->file->etag) != 0) {
        bool again = f->restarts++ < RESTARTS_MAX;
        fetch_file_restart(all, f);
        if (again)
            log_warn("%s: wrong bytes; fetching it again", f->file->path);
        pthread_cond_broadcast(&all->changed);
        return again ? 0 : wrong_bytes(all, f, found, e);
    }
    f->mode = FETCH_DONE;
    pthread_mutex_unlock(&all->lock);
    int rc = 0;
    if (ftruncate(f->journal.fd, (off_t)f->file->size) < 0 || fdatasync(f->journal.fd) < 0 ||
        rename(f->partial, f->blob) < 0)
        rc = err_set_errno(e, errno, NULL, "cannot finish %s", f->blob);
    journal_close(&f->journal, rc == 0);
    pthread_mutex_lock(&all->lock);
    return rc;
}

/* ---- workers -----------------------------------------------------------------------------------
 */

/* The next chunk that a worker may take; NULL: none now. *later: there may be one. */
static struct fetch_file *take(struct fetch *all, uint32_t *chunk, bool *later)
{
    *later = false;
    for (size_t i = 0; i < all->n; i++) {
        struct fetch_file *f = &all->files[i];
        if (f->mode == FETCH_DONE)
            continue;
        *later = true;
        if (f->mode != FETCH_ASK && f->mode != FETCH_RANGES)
            continue;
        while (f->next < f->journal.n && fetch_chunk_whole(f, f->next))
            f->next++;
        if (f->next == f->journal.n)
            continue;
        if (f->mode == FETCH_ASK)
            f->mode = FETCH_ASKING;
        *chunk = f->next++;
        return f;
    }
    return NULL;
}

/* Hashes what is there of the file, and ends it when that was all. With the lock held. */
static int check(struct fetch *all, struct fetch_file *f, char *block, struct err *e)
{
    int rc = 0;
    for (uint64_t n; rc == 0 && (n = unhashed(f)) > 0;)
        rc = hash_some(all, f, block, n, e);
    if (rc || f->hashed < f->file->size)
        return rc;
    rc = complete(all, f, e);
    pthread_cond_broadcast(&all->changed);
    return rc;
}

/* With the lock held, before and after. */
static int work_on(struct fetch *all, struct fetch_file *f, uint32_t chunk, struct net *net,
                   char *block, struct err *e)
{
    pthread_mutex_unlock(&all->lock);
    int rc = fetch_chunk(all, f, chunk, net, block, e);
    pthread_mutex_lock(&all->lock);
    if (rc)
        return rc;
    if (f->mode == FETCH_WHOLE)
        for (uint32_t i = 0; i < f->journal.n; i++)
            fetch_chunk_count(f, i, fetch_chunk_bytes(f, i));
    pthread_cond_signal(&all->arrived);
    return f->journal.n == 1 ? check(all, f, block, e) : 0;
}

static void fail(struct fetch *all, const struct err *why)
{
    if (!all->failed)
        all->why = *why;
    all->failed = true;
}

static void leave(struct fetch *all)
{
    all->running--;
    pthread_cond_broadcast(&all->changed);
    pthread_cond_signal(&all->arrived);
    pthread_mutex_unlock(&all->lock);
}

/* A file of several chunks of which more is there than in the hash; NULL: none now. *later: there
 * may be one. What an earlier run left waits until a server is found to go on with it. */
static struct fetch_file *to_check(struct fetch *all, bool *later)
{
    *later = false;
    for (size_t i = 0; i < all->n; i++) {
        struct fetch_file *f = &all->files[i];
        if (f->mode == FETCH_DONE || f->journal.n < 2)
            continue;
        *later = true;
        if ((f->mode == FETCH_RANGES || f->mode == FETCH_WHOLE) && unhashed(f) > 0)
            return f;
    }
    return NULL;
}

static void *checker(void *ud)
{
    struct fetch *all = ud;
    char *block = xmalloc(FETCH_BLOCK);
    struct err e = {0};
    pthread_mutex_lock(&all->lock);
    while (!all->failed) {
        bool later;
        struct fetch_file *f = to_check(all, &later);
        if (!f && !later)
            break;
        if (!f)
            pthread_cond_wait(&all->arrived, &all->lock);
        else if (check(all, f, block, &e))
            fail(all, &e);
    }
    leave(all);
    xfree(block);
    return NULL;
}

static void *worker(void *ud)
{
    struct fetch *all = ud;
    struct net_options o;
    hub_net_options(all->hub, &o);
    struct net *net = net_open(&o);
    char *block = xmalloc(FETCH_BLOCK);
    struct err e = {0};
    pthread_mutex_lock(&all->lock);
    while (!all->failed) {
        uint32_t chunk;
        bool later;
        struct fetch_file *f = take(all, &chunk, &later);
        if (!f && !later)
            break;
        if (!f) {
            pthread_cond_wait(&all->changed, &all->lock);
            continue;
        }
        if (work_on(all, f, chunk, net, block, &e))
            fail(all, &e);
    }
    leave(all);
    xfree(block);
    net_close(net);
    return NULL;
}

/* ---- progress ----------------------------------------------------------------------------------
 */

struct speed {
    double rate, at;
    uint64_t moved;
};

/* Bytes per second, an average that forgets over a few seconds. */
static void speed_update(struct speed *s, uint64_t moved)
{
    double now = clock_seconds(), passed = now - s->at;
    if (passed <= 0)
        return;
    double rate = (double)(moved - s->moved) / passed;
    double weight = s->rate > 0 ? passed / (passed + speed_memory_s) : 1;
    s->rate += (rate - s->rate) * weight;
    s->at = now;
    s->moved = moved;
}

static void report(const struct fetch *all, const struct progress *p, struct speed *s,
                   uint64_t total)
{
    char phase[64], size[NUM_TEXT_MAX], detail[128], whole[NUM_TEXT_MAX];
    uint64_t kept = atomic_load(&all->kept);
    speed_update(s, atomic_load(&all->moved));
    snprintf(phase, sizeof(phase), "pull %.50s", all->ref->repo);
    snprintf(detail, sizeof(detail), "%s/s of %s", num_format_size((uint64_t)s->rate, size),
             num_format_size(total, whole));
    progress_report(p, phase, (double)kept, (double)total, detail);
}

static void tick(struct fetch *all)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += TICK_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_cond_timedwait(&all->changed, &all->lock, &until);
}

struct crew {
    pthread_t threads[CONNECTIONS_MAX + 1]; /* the first is the checker */
    int n, wanted;
    double busy_s, at, enough;
};

/* What the threads ran, and what they waited for a processor that others had: neither is waiting
 * for the network. Without the kernel's figures for each thread, what they ran. */
static double busy_seconds(void)
{
    struct timespec t;
    char **names = NULL;
    size_t n = 0;
    double sum = 0;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    if (fs_list("/proc/self/task", &names, &n, NULL))
        n = 0;
    for (size_t i = 0; i < n; i++) {
        char *path = xasprintf("/proc/self/task/%s/schedstat", names[i]), text[96] = "";
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        unsigned long long ran = 0, waited = 0;
        if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 &&
            sscanf(text, "%llu %llu", &ran, &waited) == 2)
            sum += (double)(ran + waited) / 1e9;
        if (fd >= 0)
            close(fd);
        xfree(path);
    }
    if (names)
        fs_list_free(names, n);
    return sum > 0 ? sum : (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* With the lock held. */
static void crew_add(struct fetch *all, struct crew *c, void *(*run)(void *ud))
{
    if (pthread_create(&c->threads[c->n], NULL, run, all) == 0) {
        c->n++;
        all->running++;
    } else if (c->n < 2) {
        all->failed = true;
        err_set(&all->why, ERR_MEMORY, NULL, "cannot start a thread for the download");
    } else {
        c->wanted = c->n;
    }
}

/* Connections are added while this machine mostly waits for the network: where the network is
 * faster than the hash, more of them would only leave the hash behind. With the lock held. */
static void crew_grow(struct fetch *all, struct crew *c)
{
    double now = clock_seconds(), passed = now - c->at, busy;
    if (passed < TICK_MS / 1000.0)
        return;
    busy = busy_seconds();
    if (c->n < c->wanted && !all->failed && all->running == c->n &&
        (busy - c->busy_s) / passed < c->enough)
        crew_add(all, c, worker);
    c->at = now;
    c->busy_s = busy;
}

static void run_workers(struct fetch *all, const struct hub_fetch *o, uint64_t total)
{
    struct crew c = {.busy_s = busy_seconds(), .at = clock_seconds()};
    struct speed s = {.at = clock_seconds()};
    uint64_t chunks = 0;
    c.enough = thread_count_default() > 1 ? busy_enough : busy_enough / 2;
    for (size_t i = 0; i < all->n; i++)
        chunks += all->files[i].journal.n;
    c.wanted = o->connections > 0 ? o->connections : CONNECTIONS_DEFAULT;
    c.wanted = c.wanted > CONNECTIONS_MAX ? CONNECTIONS_MAX : c.wanted;
    c.wanted = 1 + (chunks < (uint64_t)c.wanted ? (int)chunks : c.wanted);
    pthread_mutex_lock(&all->lock);
    crew_add(all, &c, checker);
    if (!all->failed)
        crew_add(all, &c, worker);
    while (all->running > 0) {
        tick(all);
        crew_grow(all, &c);
        pthread_mutex_unlock(&all->lock);
        report(all, o->progress, &s, total);
        pthread_mutex_lock(&all->lock);
    }
    pthread_mutex_unlock(&all->lock);
    for (int i = 0; i < c.n; i++)
        pthread_join(c.threads[i], NULL);
}

/* ---- before and after --------------------------------------------------------------------------
 */

/* Waits for the lock that huggingface_hub takes for the same blob. */
static int lock_blob(const struct hub *h, const struct hub_ref *ref, struct fetch_file *f,
                     struct err *e)
{
    char *path = hub_cache_lock(h, ref->repo, f->file->etag);
    const struct timespec pause = {.tv_nsec = TICK_MS * 1000000L};
    int rc = 0;
    bool said = false;
    f->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (f->lock_fd < 0)
        rc = err_set_errno(e, errno, NULL, "cannot open the lock %s", path);
    while (rc == 0 && flock(f->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            break; /* a file system without locks: the hash still decides */
        if (!said)
            log_warn("%s is being downloaded by another program; waiting for it", f->file->path);
        said = true;
        rc = stop_check(e);
        nanosleep(&pause, NULL);
    }
    xfree(path);
    return rc;
}

static int file_open(struct fetch *all, struct fetch_file *f, struct err *e)
{
    const char *repo = all->ref->repo;
    if (lock_blob(all->hub, all->ref, f, e))
        return -1;
    if (hub_cache_has(all->hub, repo, f->file)) {
        f->mode = FETCH_DONE; /* made by another while we waited */
        return 0;
    }
    if (journal_open(&f->journal, f->partial, f->file->size, chunk_bytes_max, e))
        return -1;
    f->ours = true;
    for (uint32_t i = 0; i < f->journal.n; i++)
        atomic_fetch_add(&all->kept, f->journal.done[i]);
    hash_begin(f);
    return 0;
}

static void file_close(struct fetch_file *f)
{
    char unused[HASH_HEX_MAX];
    if (f->sha256)
        hash_sha256_finish(f->sha256, unused);
    if (f->git)
        hash_git_finish(f->git, unused);
    if (f->journal.map)
        journal_close(&f->journal, false);
    if (f->lock_fd >= 0)
        close(f->lock_fd);
    xfree(f->url);
    xfree(f->blob);
    xfree(f->partial);
    xfree(f->direct);
}

/* Before anything is made. What partial files have been given by the file system counts as there.
 */
static int check_space(const struct fetch *all, struct err *e)
{
    uint64_t need = 0, free_bytes = 0;
    char a[NUM_TEXT_MAX], b[NUM_TEXT_MAX];
    for (size_t i = 0; i < all->n; i++) {
        struct stat st;
        const struct fetch_file *f = &all->files[i];
        uint64_t there = stat(f->partial, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
        uint64_t rest = f->file->size > there ? f->file->size - there : 0;
        if (!num_add_u64(need, rest, &need))
            need = UINT64_MAX;
    }
    if (fs_free_bytes(all->hub->cache, &free_bytes, e))
        return -1;
    if (need <= free_bytes)
        return 0;
    return err_set(e, ERR_IO, "make room, or name another folder in HF_HUB_CACHE",
                   "%s needs %s more, and %s has %s free", all->ref->repo, num_format_size(need, a),
                   all->hub->cache, num_format_size(free_bytes, b));
}

static int by_etag(const void *a, const void *b)
{
    const struct fetch_file *x = a, *y = b;
    return strcmp(x->file->etag, y->file->etag);
}

/* The files that are not in the cache, each content once. */
static void collect(struct fetch *all, const struct hub_fetch *o)
{
    all->files = xcalloc(o->repo->n ? o->repo->n : 1, sizeof(*all->files));
    for (size_t i = 0; i < o->repo->n; i++) {
        const struct hub_file *f = &o->repo->files[i];
        if (f->wanted && !hub_cache_has(o->hub, o->ref->repo, f))
            all->files[all->n++] = (struct fetch_file){.file = f, .lock_fd = -1};
    }
    qsort(all->files, all->n, sizeof(*all->files), by_etag);
    size_t kept = 0;
    for (size_t i = 0; i < all->n; i++)
        if (kept == 0 || strcmp(all->files[kept - 1].file->etag, all->files[i].file->etag) != 0)
            all->files[kept++] = all->files[i];
    all->n = kept;
    for (size_t i = 0; i < all->n; i++) {
        struct fetch_file *f = &all->files[i];
        f->url = hub_resolve_url(o->hub, o->ref->repo, o->repo->commit, f->file->path);
        f->blob = hub_cache_blob(o->hub, o->ref->repo, f->file->etag);
        f->partial = xasprintf("%s.sintra.incomplete", f->blob);
    }
}

static int open_all(struct fetch *all, uint64_t *total, struct err *e)
{
    if (check_space(all, e))
        return -1;
    for (size_t i = 0; i < all->n; i++) {
        struct fetch_file *f = &all->files[i];
        if (file_open(all, f, e))
            return -1;
        *total += f->mode == FETCH_DONE ? 0 : f->file->size;
    }
    return 0;
}

/* Files of which nothing is missing any more need no worker: empty ones, and those that a killed
 * program had completed but not named. */
static int finish_complete(struct fetch *all, struct err *e)
{
    int rc = 0;
    char *block = xmalloc(FETCH_BLOCK);
    pthread_mutex_lock(&all->lock);
    for (size_t i = 0; rc == 0 && i < all->n; i++) {
        struct fetch_file *f = &all->files[i];
        uint32_t whole = 0;
        while (whole < f->journal.n && fetch_chunk_whole(f, whole))
            whole++;
        if (f->mode != FETCH_DONE && whole == f->journal.n)
            rc = check(all, f, block, e);
    }
    pthread_mutex_unlock(&all->lock);
    xfree(block);
    return rc;
}

static int point_all(const struct hub_fetch *o, struct hub_pulled *sum, struct err *e)
{
    for (size_t i = 0; i < o->repo->n; i++) {
        const struct hub_file *f = &o->repo->files[i];
        if (!f->wanted)
            continue;
        if (hub_cache_point(o->hub, o->ref->repo, o->repo->commit, f, e))
            return -1;
        sum->files++;
        sum->bytes += f->size;
    }
    return 0;
}

int hub_fetch(const struct hub_fetch *o, struct hub_pulled *sum, struct err *e)
{
    struct fetch all = {.hub = o->hub, .ref = o->ref};
    uint64_t total = 0;
    pthread_mutex_init(&all.lock, NULL);
    pthread_cond_init(&all.changed, NULL);
    pthread_cond_init(&all.arrived, NULL);
    collect(&all, o);
    int rc = all.n > 0 ? hub_cache_make(o->hub, o->ref->repo, e) : 0;
    if (rc == 0 && all.n > 0)
        rc = open_all(&all, &total, e) || finish_complete(&all, e) ? -1 : 0;
    if (rc == 0) {
        run_workers(&all, o, total);
        if (all.failed && e)
            *e = all.why;
        rc = all.failed ? -1 : 0;
    }
    for (size_t i = 0; i < all.n; i++) {
        sum->files_fetched += all.files[i].mode == FETCH_DONE && all.files[i].ours;
        file_close(&all.files[i]);
    }
    sum->bytes_fetched += atomic_load(&all.moved);
    xfree(all.files);
    pthread_cond_destroy(&all.changed);
    pthread_cond_destroy(&all.arrived);
    pthread_mutex_destroy(&all.lock);
    return rc ? rc : point_all(o, sum, e);
}
