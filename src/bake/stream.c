/* The stream of row bands: read, encode and write in any order; hash in file order.
 *
 * All tensors together are one list of bands, so no thread waits at the end of a tensor. A band is
 * whole rows of one expert of one tensor, about BAND_ELEMENTS floats, the same whatever the number
 * of threads. Workers take bands in order, encode each into one of a ring of slots and write it at
 * its final place. Whoever completes the band at the front then hashes all that is ready there
 * while the others go on: the SHA-256 of the file costs no second reading, and sums of errors are
 * added in one order. A band waits when its slot still holds one that is not hashed: that bounds
 * memory, and the front band never waits, so nothing can lock up.
 *
 * Tensors that keep type and order are written straight from the source's map. Owns: the slots
 * and the workers' float buffers, within BUFFERS_MAX bytes. */
#include "bake/bake_int.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "bake/memo.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/stop.h"
#include "base/thread.h"
#include "base/banned.h"

enum {
    BAND_ELEMENTS = 1 << 18, /* 1 MiB of floats: stays in the second-level cache's neighbourhood */
    BUFFERS_MAX =
        192 << 20, /* of all slots and float buffers; fewer threads run when rows are huge */
    THREADS_MAX = 64,
    WRITE_BEHIND = 8 << 20,   /* dirty bytes after which the kernel is told to start writing */
    SWEEP_ELEMENTS = 8 << 20, /* of source between two calls to forget what was read */
    COPY_BYTES = 1 << 16
};

struct band {
    size_t tensor;
    uint64_t row0, rows;
};

/* A place in the source, in the order of the file. */
struct mark {
    size_t tensor;
    uint64_t row;
};

/* A band between encoding and hashing. */
struct slot {
    uint8_t *memory;
    const void *data; /* in memory, or in the source's map */
    size_t bytes;
    bool ready;
    bool remembered; /* came from the memo */
    struct quant_error error;
};

struct stream {
    const struct setup *setup;
    struct gguf_writer *writer;
    struct quant_error *errors; /* per tensor, or NULL */
    struct memo *memo;          /* or NULL */
    uint64_t remembered;        /* bytes that came from it; touched like `hash` */
    size_t *first;              /* (n_tensors + 1) index of a tensor's first band */
    size_t n_bands;
    int threads;
    float **floats; /* (threads) */
    size_t float_bytes, slot_bytes;
    struct slot *slots;
    size_t n_slots;

    pthread_mutex_t lock; /* guards what follows, and slots[].ready */
    pthread_cond_t moved; /* `front` moved, or something failed */
    size_t front;         /* bands before this one are done with */
    bool closing, failed;
    size_t failed_band;
    struct err error;

    /* Only who has set `closing` touches these. */
    struct hash_sha256 *hash;  /* NULL: nobody asked */
    uint64_t position, synced; /* hashed so far; handed to the disk so far */
    struct mark swept[2];      /* before the first all is forgotten twice, before the second once */
    uint64_t unswept;          /* elements of source since swept[1] */
};

/* ---- which band is what ---- */

static uint64_t rows_per_band(const struct shape *s)
{
    uint64_t rows = s->ne[0] < BAND_ELEMENTS ? BAND_ELEMENTS / s->ne[0] : 1;

    return rows < s->ne[1] ? rows : s->ne[1];
}

static uint64_t bands_per_matrix(const struct shape *s)
{
    uint64_t rows = rows_per_band(s);

    return (s->ne[1] - 1) / rows + 1;
}

static struct band band_at(const struct stream *st, size_t index)
{
    size_t low = 0, high = st->setup->desc->n_tensors;

    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (st->first[middle] <= index)
            low = middle;
        else
            high = middle;
    }
    const struct shape *s = &st->setup->desc->tensors[low].shape;
    uint64_t within = index - st->first[low], per_matrix = bands_per_matrix(s);
    uint64_t row = within % per_matrix * rows_per_band(s);
    uint64_t rows = rows_per_band(s) < s->ne[1] - row ? rows_per_band(s) : s->ne[1] - row;
    return (struct band){low, within / per_matrix * s->ne[1] + row, rows};
}

static size_t row_bytes(const struct stream *st, size_t tensor)
{
    const struct gguf_writer_tensor *t = &st->setup->tensors[tensor];

    return (size_t)(t->bytes / shape_rows(&t->shape));
}

static int layout(struct stream *st, struct err *e)
{
    const struct model_desc *d = st->setup->desc;
    uint64_t bands = 0;

    st->first = xcalloc(d->n_tensors + 1, sizeof *st->first);
    for (size_t i = 0; i < d->n_tensors; i++) {
        const struct shape *s = &d->tensors[i].shape;
        size_t rows = (size_t)rows_per_band(s);
        st->first[i] = (size_t)bands;
        bands += bands_per_matrix(s) * (shape_rows(s) / s->ne[1]);
        if (model_rows_raw(st->setup->job->model, (int)i, st->setup->tensors[i].dtype, 0, 1))
            continue;
        if (rows * s->ne[0] * sizeof(float) > st->float_bytes)
            st->float_bytes = rows * (size_t)s->ne[0] * sizeof(float);
        if (rows * row_bytes(st, i) > st->slot_bytes)
            st->slot_bytes = rows * row_bytes(st, i);
    }
    st->first[d->n_tensors] = st->n_bands = (size_t)bands;
    return bands > 0 ? 0 : err_set(e, ERR_INPUT, NULL, "the model has no tensors");
}

/* ---- buffers ---- */

static size_t slots_for(int threads)
{
    return 2 * (size_t)threads + 2;
}

static int buffers_make(struct stream *st, struct err *e)
{
    int threads = st->setup->job->threads;

    st->threads = threads > 0 ? threads : thread_count_default();
    if (st->threads > THREADS_MAX)
        st->threads = THREADS_MAX;
    if ((size_t)st->threads > st->n_bands)
        st->threads = (int)st->n_bands;
    while (st->threads > 1 &&
           (size_t)st->threads * st->float_bytes + slots_for(st->threads) * st->slot_bytes >
               BUFFERS_MAX)
        st->threads--;
    st->n_slots = st->threads > 1 ? slots_for(st->threads) : 1;
    st->slots = xcalloc(st->n_slots, sizeof *st->slots);
    st->floats = xcalloc((size_t)st->threads, sizeof *st->floats);
    for (int k = 0; k < st->threads && st->float_bytes; k++) {
        st->floats[k] = big_alloc(st->float_bytes, "rows as floats", e);
        if (!st->floats[k])
            return -1;
    }
    for (size_t k = 0; k < st->n_slots && st->slot_bytes; k++) {
        st->slots[k].memory = big_alloc(st->slot_bytes, "encoded rows", e);
        if (!st->slots[k].memory)
            return -1;
    }
    return 0;
}

static void buffers_release(struct stream *st)
{
    for (int k = 0; st->floats && k < st->threads; k++)
        big_free(st->floats[k], st->float_bytes);
    for (size_t k = 0; st->slots && k < st->n_slots; k++)
        big_free(st->slots[k].memory, st->slot_bytes);
    xfree(st->floats);
    xfree(st->slots);
    xfree(st->first);
}

/* ---- reading and encoding: any thread, any order ---- */

static void prefetch(const struct stream *st, size_t index)
{
    struct band b;

    if (index >= st->n_bands)
        return;
    b = band_at(st, index);
    model_rows_prefetch(st->setup->job->model, (int)b.tensor, b.row0, b.rows);
}

/* As many bands ahead as there are slots: the disk is busy while we encode. */
static void read_ahead(const struct stream *st, size_t index)
{
    size_t ahead = st->n_slots + 2;

    for (size_t k = 0; index == 0 && k < ahead; k++)
        prefetch(st, k);
    prefetch(st, index + ahead);
}

/* The stored bytes, checked where they lie. False: not to be had as they are, or not finite. */
static bool take_raw(const struct stream *st, const struct band *b, struct slot *slot)
{
    const struct gguf_writer_tensor *t = &st->setup->tensors[b->tensor];

    slot->bytes = (size_t)b->rows * row_bytes(st, b->tensor);
    slot->data = model_rows_raw(st->setup->job->model, (int)b->tensor, t->dtype, b->row0, b->rows);
    return slot->data && quant_blocks_finite(t->dtype, slot->data, slot->bytes);
}

/* Reading as floats names the element; blocks can be bad in ways that floats do not show. */
static int refuse_raw(const struct stream *st, const struct band *b, struct err *e)
{
    const struct gguf_writer_tensor *t = &st->setup->tensors[b->tensor];
    size_t bytes = (size_t)t->shape.ne[0] * sizeof(float);
    float *row = big_alloc(bytes, "a row as floats", e);
    int rc = row ? 0 : -1;

    for (uint64_t k = 0; rc == 0 && k < b->rows; k++)
        rc = model_rows(st->setup->job->model, (int)b->tensor, b->row0 + k, 1, row, e);
    if (row)
        big_free(row, bytes);
    if (rc != 0)
        return -1;
    return err_set(e, ERR_INPUT, "the weights are damaged; fetch the file again",
                   "tensor %s has a NaN or infinity in its %s blocks, in rows %llu to %llu",
                   t->name, dtype_name(t->dtype), (unsigned long long)b->row0,
                   (unsigned long long)(b->row0 + b->rows - 1));
}

/* Importance of the band's columns, or NULL. */
static const float *band_weights(const struct stream *st, const struct band *b)
{
    const struct gguf_writer_tensor *t = &st->setup->tensors[b->tensor];
    const float *weights = st->setup->importance[b->tensor];
    uint64_t expert = b->row0 / t->shape.ne[1] % t->shape.ne[2];

    return weights ? weights + expert * t->shape.ne[0] : NULL;
}

static int read_floats(const struct stream *st, const struct band *b, float *floats, struct err *e)
{
    return model_rows(st->setup->job->model, (int)b->tensor, b->row0, b->rows, floats, e);
}

/* What is known of the inputs that meet the tensor together, where its type can use it. */
static const struct factors_entry *feedback_of(const struct stream *st, const struct band *b)
{
    const struct gguf_writer_tensor *t = &st->setup->tensors[b->tensor];
    const struct factors *all = st->setup->job->factors;
    const struct factors_entry *x = all ? factors_find(all, t->name) : NULL;

    return x && x->n == t->shape.ne[0] && dtype_info(t->dtype)->quantized ? x : NULL;
}

static int encode_rows(const struct stream *st, const struct band *b, struct slot *slot,
                       const float *floats, struct quant_error *error, struct err *e)
{
    const struct gguf_writer_tensor *t = &st->setup->tensors[b->tensor];
    const struct factors_entry *x = feedback_of(st, b);

    if (x)
        return quant_encode_feedback(
            t->dtype, floats, slot->memory, b->rows, t->shape.ne[0],
            &(struct quant_feedback){.factor = x->factor, .span = x->span, .weight = x->weight},
            error, e);
    return quant_encode(t->dtype, floats, slot->memory, b->rows, t->shape.ne[0],
                        band_weights(st, b), error, e);
}

static int encode(const struct stream *st, const struct band *b, struct slot *slot,
                  const float *floats, bool measured, struct err *e)
{
    const struct gguf_writer_tensor *t = &st->setup->tensors[b->tensor];

    if (encode_rows(st, b, slot, floats, measured ? &slot->error : NULL, e) != 0)
        return err_context(e, "tensor %s, rows %llu to %llu", t->name, (unsigned long long)b->row0,
                           (unsigned long long)(b->row0 + b->rows - 1));
    return 0;
}

/* The same through the memo. The key is made from the rows as the source stores them where they lie
 * together, so that nothing is converted when the memo knows them. */
static int encode_once(const struct stream *st, const struct band *b, struct slot *slot,
                       float *floats, struct err *e)
{
    const struct gguf_writer_tensor *t = &st->setup->tensors[b->tensor];
    enum dtype stored = st->setup->desc->tensors[b->tensor].dtype;
    uint64_t columns = t->shape.ne[0], bytes = 0;
    const void *raw =
        model_rows_raw(st->setup->job->model, (int)b->tensor, stored, b->row0, b->rows);
    struct memo_key key;

    if (raw && !dtype_bytes(stored, b->rows * columns, columns, &bytes))
        raw = NULL;
    if (!raw) {
        stored = DT_F32;
        bytes = b->rows * columns * sizeof *floats;
        if (read_floats(st, b, floats, e) != 0)
            return -1;
    }
    memo_key_make(&key, t->dtype, stored, raw ? raw : floats, (size_t)bytes, columns,
                  band_weights(st, b));
    slot->remembered = memo_get(st->memo, &key, slot->memory, slot->bytes, &slot->error);
    if (slot->remembered)
        return 0;
    if ((raw && read_floats(st, b, floats, e) != 0) || encode(st, b, slot, floats, true, e) != 0)
        return -1;
    memo_put(st->memo, &key, slot->memory, slot->bytes, &slot->error);
    return 0;
}

/* Straight from the map, for types that are as fast as it: nothing is read twice. False, and
 * nothing is lost, when that cannot be or the rows are damaged, which reading as floats words
 * best. */
static bool encode_straight(const struct stream *st, const struct band *b, struct slot *slot)
{
    const struct gguf_writer_tensor *t = &st->setup->tensors[b->tensor];
    enum dtype stored = st->setup->desc->tensors[b->tensor].dtype;
    const float *weights = band_weights(st, b);
    const void *raw;

    if (!quant_reads_stored(t->dtype, stored, weights != NULL))
        return false;
    raw = model_rows_raw(st->setup->job->model, (int)b->tensor, stored, b->row0, b->rows);
    if (!raw)
        return false;
    if (quant_encode_stored(t->dtype, stored, raw, slot->memory, b->rows, t->shape.ne[0], weights,
                            &slot->error, NULL) == 0)
        return true;
    slot->error = (struct quant_error){0};
    return false;
}

/* Blocks that only lie in another order: nothing is encoded. */
static int move_blocks(const struct stream *st, const struct band *b, struct slot *slot,
                       struct err *e)
{
    const struct gguf_writer_tensor *t = &st->setup->tensors[b->tensor];

    if (model_rows_blocks(st->setup->job->model, (int)b->tensor, b->row0, b->rows, slot->memory,
                          e) != 0)
        return -1;
    return quant_blocks_finite(t->dtype, slot->memory, slot->bytes) ? 0 : refuse_raw(st, b, e);
}

static int make_band(const struct stream *st, const struct band *b, struct slot *slot,
                     float *floats, struct err *e)
{
    const struct gguf_writer_tensor *t = &st->setup->tensors[b->tensor];

    slot->data = slot->memory;
    slot->bytes = (size_t)b->rows * row_bytes(st, b->tensor);
    if (t->dtype == DT_F32) /* nothing is left to encode */
        return read_floats(st, b, (float *)(void *)slot->memory, e);
    if (model_has_blocks(st->setup->job->model, (int)b->tensor, t->dtype))
        return move_blocks(st, b, slot, e);
    if (st->memo && !feedback_of(st, b) && memo_worth(t->dtype, band_weights(st, b) != NULL))
        return encode_once(st, b, slot, floats, e);
    if (!feedback_of(st, b) && encode_straight(st, b, slot))
        return 0;
    if (read_floats(st, b, floats, e) != 0)
        return -1;
    return encode(st, b, slot, floats, st->errors != NULL, e);
}

static int prepare_band(const struct stream *st, const struct band *b, struct slot *slot,
                        float *floats, struct err *e)
{
    slot->error = (struct quant_error){0};
    slot->remembered = false;
    if (take_raw(st, b, slot))
        return 0;
    return slot->data ? refuse_raw(st, b, e) : make_band(st, b, slot, floats, e);
}

static uint64_t band_offset(const struct stream *st, const struct band *b)
{
    return st->setup->tensors[b->tensor].offset + b->row0 * row_bytes(st, b->tensor);
}

static int write_band(const struct stream *st, const struct band *b, const struct slot *slot,
                      struct err *e)
{
    return fs_atomic_write_at(&st->writer->file, band_offset(st, b), slot->data, slot->bytes, e);
}

/* ---- hashing and what else goes by order: one thread at a time ---- */

static void hash_add(const struct stream *st, const void *data, size_t n)
{
    if (st->hash)
        hash_sha256_add(st->hash, data, n);
}

static void hash_zeros(struct stream *st, uint64_t until)
{
    static const uint8_t zeros[256];

    while (st->position < until) {
        uint64_t n = until - st->position;
        n = n < sizeof zeros ? n : sizeof zeros;
        hash_add(st, zeros, (size_t)n);
        st->position += n;
    }
}

/* Starts the disk early, so that the final fsync finds little to do. Failure costs time only. */
static void write_behind(struct stream *st)
{
    if (st->position - st->synced < WRITE_BEHIND)
        return;
    sync_file_range(st->writer->file.fd, (off_t)st->synced, (off_t)(st->position - st->synced),
                    SYNC_FILE_RANGE_WRITE);
    st->synced = st->position;
}

static void forget_between(const struct stream *st, struct mark from, struct mark to)
{
    for (; from.tensor <= to.tensor; from = (struct mark){from.tensor + 1, 0}) {
        uint64_t end =
            from.tensor < to.tensor ? shape_rows(&st->setup->tensors[from.tensor].shape) : to.row;
        if (end > from.row)
            model_rows_forget(st->setup->job->model, (int)from.tensor, from.row, end - from.row);
    }
}

/* Gives back the pages of the map that are done with. Each is given back twice, some megabytes
 * apart: a page fault of a later band maps its neighbours too, among them pages already given
 * back. */
static void forget_behind(struct stream *st, const struct band *b)
{
    struct mark here = {b->tensor, b->row0 + b->rows};

    st->unswept += b->rows * st->setup->tensors[b->tensor].shape.ne[0];
    if (st->unswept < SWEEP_ELEMENTS)
        return;
    forget_between(st, st->swept[0], here);
    st->swept[0] = st->swept[1];
    st->swept[1] = here;
    st->unswept = 0;
}

static void close_band(struct stream *st, size_t index, const struct slot *slot)
{
    struct band b = band_at(st, index);

    hash_zeros(st, band_offset(st, &b));
    hash_add(st, slot->data, slot->bytes);
    st->position += slot->bytes;
    st->remembered += slot->remembered ? slot->bytes : 0;
    forget_behind(st, &b);
    if (st->errors) {
        st->errors[b.tensor].squared += slot->error.squared;
        st->errors[b.tensor].weighted += slot->error.weighted;
    }
    write_behind(st);
    progress_report(st->setup->job->progress, "bake", (double)st->position,
                    (double)st->writer->total_bytes, st->setup->tensors[b.tensor].name);
}

/* ---- the meeting of both ---- */

static int fail(struct stream *st, size_t index, const struct err *e)
{
    pthread_mutex_lock(&st->lock);
    if (!st->failed || index < st->failed_band) {
        st->failed = true;
        st->failed_band = index;
        st->error = *e;
    }
    pthread_cond_broadcast(&st->moved);
    pthread_mutex_unlock(&st->lock);
    return 1;
}

/* Waits until the slot of this band is free. False when another thread failed meanwhile. */
static bool wait_for_slot(struct stream *st, size_t index)
{
    bool failed;

    pthread_mutex_lock(&st->lock);
    while (index >= st->front + st->n_slots && !st->failed)
        pthread_cond_wait(&st->moved, &st->lock);
    failed = st->failed && index >= st->front + st->n_slots;
    pthread_mutex_unlock(&st->lock);
    return !failed;
}

/* Closes bands from the front as long as they are ready, unless another thread is at it. */
static void close_ready(struct stream *st, size_t index)
{
    pthread_mutex_lock(&st->lock);
    st->slots[index % st->n_slots].ready = true;
    while (!st->closing && st->slots[st->front % st->n_slots].ready) {
        struct slot *slot = &st->slots[st->front % st->n_slots];
        size_t front = st->front;
        st->closing = true;
        pthread_mutex_unlock(&st->lock);
        close_band(st, front, slot);
        pthread_mutex_lock(&st->lock);
        st->closing = slot->ready = false;
        st->front++;
        pthread_cond_broadcast(&st->moved);
    }
    pthread_mutex_unlock(&st->lock);
}

static int do_band(void *ud, size_t index, int worker)
{
    struct stream *st = ud;
    struct band b = band_at(st, index);
    struct slot *slot = &st->slots[index % st->n_slots];
    struct err e = {0};

    read_ahead(st, index);
    if (!wait_for_slot(st, index))
        return 1;
    if (stop_check(&e) != 0 || prepare_band(st, &b, slot, st->floats[worker], &e) != 0 ||
        write_band(st, &b, slot, &e) != 0)
        return fail(st, index, &e);
    close_ready(st, index);
    return 0;
}

/* The writer put the header into the file; its bytes are read back for the hash. */
static int hash_header(struct stream *st, struct err *e)
{
    uint64_t end = st->setup->tensors[0].offset;
    uint8_t bytes[COPY_BYTES];

    while (st->position < end) {
        size_t want =
            end - st->position < sizeof bytes ? (size_t)(end - st->position) : sizeof bytes;
        ssize_t got = pread(st->writer->file.fd, bytes, want, (off_t)st->position);
        if (got <= 0)
            return err_set(e, ERR_IO, NULL, "%s: cannot read back its header",
                           st->writer->file.path);
        hash_add(st, bytes, (size_t)got);
        st->position += (uint64_t)got;
    }
    return 0;
}

/* Of the types that are encoded; what is copied may have a type that nobody can write. */
static int prepare_types(const struct setup *s, struct err *e)
{
    bool done[DT_BOOL] = {false};

    for (size_t i = 0; i < s->desc->n_tensors; i++) {
        enum dtype type = s->tensors[i].dtype;
        if (type == s->desc->tensors[i].dtype || done[type])
            continue;
        if (quant_prepare(type, e) != 0)
            return -1;
        done[type] = true;
    }
    return 0;
}

int stream_run(const struct setup *s, struct gguf_writer *w, struct bake_result *result,
               struct err *e)
{
    struct stream st = {
        .setup = s,
        .writer = w,
        .errors = result->errors,
        .hash = s->job->no_hash ? NULL : hash_sha256_new(),
    };
    int rc = -1;

    pthread_mutex_init(&st.lock, NULL);
    pthread_cond_init(&st.moved, NULL);
    if (s->job->memo_dir)
        st.memo = memo_open(s->job->memo_dir, 0);
    if (prepare_types(s, e) != 0 || layout(&st, e) != 0 || buffers_make(&st, e) != 0 ||
        hash_header(&st, e) != 0)
        goto out;
    thread_parallel_for(st.threads, st.n_bands, do_band, &st);
    if (st.failed) {
        if (e)
            *e = st.error;
        goto out;
    }
    hash_zeros(&st, w->total_bytes);
    result->memo_bytes = st.remembered;
    rc = 0;
out:
    result->sha256[0] = '\0';
    if (st.hash)
        hash_sha256_finish(st.hash, result->sha256);
    memo_close(st.memo);
    buffers_release(&st);
    pthread_cond_destroy(&st.moved);
    pthread_mutex_destroy(&st.lock);
    return rc;
}
