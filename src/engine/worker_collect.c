/* Mean-square activations: what meets each weight matrix, per input column.
 *
 * ggml's scheduler calls back around every node of the graph. We ask for multiplications whose
 * first source is a weight of the model and add the squares of the other source's columns. The head
 * and the last layer see every token because every token's output is asked for. Counts are tokens
 * (routed tokens, per expert), as llama-imatrix counts them. A tied head is multiplied under the
 * embedding's name, so it is collected as that.
 *
 * Sums of one graph (at most 512 tokens) are float; sums over graphs are 128-bit fixed point, 60
 * bits after the point: lanes finish in any order, and integers add up the same in any order. So
 * the matrix, which decides the bytes of quantized files, depends on neither threads nor luck.
 * Callbacks take the worker's lock; what they do is a thousandth of the model's own work.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/num.h"
#include "engine/worker_int.h"
#include "base/banned.h"

enum { MATRICES_MAX = 1 << 16 };
static const double sum_unit = 0x1p60;
static const float sum_max = 0x1p50f; /* of one callback; 2^17 of them still fit into 127 bits */

struct matrix {
    char *name;
    uint64_t n_in, n_mat;
    __int128 *sum;    // (n_mat, n_in), in units of 2^-60
    float *part;      // (n_mat, n_in), of one callback
    uint64_t *counts; // (n_mat)
};

struct collector {
    struct matrix *matrices;
    size_t n, capacity;
    struct map by_name;
    uint8_t *copy; /* of activations and ids that lie on a device */
    size_t copy_bytes;
    char error[256]; /* the first thing that went wrong; "" = nothing */
};

void collector_free(struct collector *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->n; i++) {
        xfree(c->matrices[i].name);
        xfree(c->matrices[i].sum);
        xfree(c->matrices[i].part);
        xfree(c->matrices[i].counts);
    }
    xfree(c->matrices);
    xfree(c->copy);
    map_release(&c->by_name);
    xfree(c);
}

/* Schedulers decorate names of weights they copy: "CUDA0#blk.0.attn_k.weight#0". */
static void plain_name(const char *name, char out[static GGML_MAX_NAME])
{
    const char *from = strchr(name, '#');
    from = from ? from + 1 : name;
    size_t n = strcspn(from, "#");
    if (n >= GGML_MAX_NAME)
        n = GGML_MAX_NAME - 1;
    memcpy(out, from, n);
    out[n] = 0;
}

static bool is_weight(const char *name)
{
    size_t n = strlen(name);
    static const char suffix[] = ".weight";
    return n >= sizeof(suffix) && strcmp(name + n - (sizeof(suffix) - 1), suffix) == 0;
}

static bool wanted(const struct ggml_tensor *t)
{
    char name[GGML_MAX_NAME];
    if (t->op != GGML_OP_MUL_MAT && t->op != GGML_OP_MUL_MAT_ID)
        return false;
    if (!t->src[0] || !t->src[1] || t->src[1]->type != GGML_TYPE_F32)
        return false;
    plain_name(t->src[0]->name, name);
    return is_weight(name);
}

static struct matrix *find_matrix(struct collector *c, const char *name, uint64_t n_in,
                                  uint64_t n_mat)
{
    uint64_t index, n;
    if (map_get_str(&c->by_name, name, &index)) {
        struct matrix *m = &c->matrices[index];
        if (m->n_in == n_in && m->n_mat == n_mat)
            return m;
        snprintf(c->error, sizeof(c->error), "%s is multiplied in two sizes", name);
        return NULL;
    }
    if (c->n == MATRICES_MAX || !num_mul_u64(n_in, n_mat, &n)) {
        snprintf(c->error, sizeof(c->error), "too many weight matrices");
        return NULL;
    }
    c->matrices = xgrow(c->matrices, &c->capacity, c->n + 1, sizeof(*c->matrices));
    map_add(&c->by_name, name, strlen(name), c->n);
    struct matrix *m = &c->matrices[c->n++];
    *m = (struct matrix){.name = xstrdup(name), .n_in = n_in, .n_mat = n_mat};
    m->sum = xcalloc((size_t)n, sizeof(*m->sum));
    m->part = xcalloc((size_t)n, sizeof(*m->part));
    m->counts = xcalloc((size_t)n_mat, sizeof(*m->counts));
    return m;
}

/* A tensor's bytes where the CPU can read them. */
static const uint8_t *host_data(struct collector *c, const struct ggml_tensor *t, size_t at)
{
    if (!t->buffer || ggml_backend_buffer_is_host(t->buffer))
        return t->data;
    size_t bytes = ggml_nbytes(t);
    if (at + bytes > c->copy_bytes) {
        c->copy = xrealloc(c->copy, at + bytes);
        c->copy_bytes = at + bytes;
    }
    ggml_backend_tensor_get(t, c->copy + at, 0, bytes);
    return c->copy + at;
}

/* sum[i] += x[i]², four at a time: -O2 would leave this loop scalar. */
static void add_squares(float *restrict sum, const float *restrict x, size_t n)
{
    typedef float vf __attribute__((vector_size(16)));
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        vf s, v;
        memcpy(&s, sum + i, sizeof(s));
        memcpy(&v, x + i, sizeof(v));
        s += v * v;
        memcpy(sum + i, &s, sizeof(s));
    }
    for (; i < n; i++)
        sum[i] += x[i] * x[i];
}

static void flush(struct collector *c, struct matrix *m)
{
    bool fits = true;
    size_t n = (size_t)(m->n_in * m->n_mat);
    for (size_t i = 0; i < n; i++) {
        if (m->part[i] < sum_max)
            m->sum[i] += (__int128)((double)m->part[i] * sum_unit);
        else
            fits = false; /* too large, infinite or NaN */
        m->part[i] = 0;
    }
    if (!fits && !c->error[0])
        snprintf(c->error, sizeof(c->error), "activations that meet %s are not finite numbers",
                 m->name);
}

/* x: (n_in, rows, i2, i3); several 2-D weights stacked are met in turn. */
static void add_dense(struct collector *c, const struct ggml_tensor *t, const char *name)
{
    const struct ggml_tensor *weight = t->src[0], *x = t->src[1];
    uint64_t n_mat = (uint64_t)(weight->ne[2] * weight->ne[3]);
    struct matrix *m = find_matrix(c, name, (uint64_t)x->ne[0], n_mat);
    if (!m)
        return;
    const uint8_t *data = host_data(c, x, 0);
    for (int64_t i3 = 0; i3 < x->ne[3]; i3++) {
        for (int64_t i2 = 0; i2 < x->ne[2]; i2++) {
            uint64_t mat = (uint64_t)((i3 % weight->ne[3]) * weight->ne[2] + i2 % weight->ne[2]);
            for (int64_t row = 0; row < x->ne[1]; row++) {
                const void *at =
                    data + (size_t)row * x->nb[1] + (size_t)i2 * x->nb[2] + (size_t)i3 * x->nb[3];
                add_squares(m->part + mat * m->n_in, at, (size_t)m->n_in);
            }
        }
    }
    for (uint64_t i = 0; i < n_mat; i++)
        m->counts[i] += (uint64_t)ggml_nrows(x) / n_mat;
    flush(c, m);
}

/* x: (n_in, used or 1, tokens), ids: (used, tokens): expert ids[u, t] meets x[:, u, t]. */
static void add_experts(struct collector *c, const struct ggml_tensor *t, const char *name)
{
    const struct ggml_tensor *weight = t->src[0], *x = t->src[1], *ids = t->src[2];
    struct matrix *m = find_matrix(c, name, (uint64_t)x->ne[0], (uint64_t)weight->ne[2]);
    if (!m || x->ne[3] != 1 || ids->ne[1] != x->ne[2] || ids->type != GGML_TYPE_I32)
        return;
    /* A copy of both when they lie on a device; the second must not move the first. */
    size_t x_bytes = (ggml_nbytes(x) + 63) / 64 * 64, all = x_bytes + ggml_nbytes(ids);
    if (all > c->copy_bytes) {
        c->copy = xrealloc(c->copy, all);
        c->copy_bytes = all;
    }
    const uint8_t *data = host_data(c, x, 0), *id_data = host_data(c, ids, x_bytes);
    for (int64_t token = 0; token < x->ne[2]; token++) {
        for (int64_t use = 0; use < ids->ne[0]; use++) {
            int32_t expert;
            memcpy(&expert, id_data + (size_t)token * ids->nb[1] + (size_t)use * ids->nb[0],
                   sizeof(expert));
            if (expert < 0 || expert >= weight->ne[2])
                continue;
            const void *at = data + (size_t)(use % x->ne[1]) * x->nb[1] + (size_t)token * x->nb[2];
            add_squares(m->part + (size_t)expert * m->n_in, at, (size_t)m->n_in);
            m->counts[expert]++;
        }
    }
    flush(c, m);
}

bool collect_callback(struct ggml_tensor *t, bool ask, void *ud)
{
    struct worker *w = ud;
    char name[GGML_MAX_NAME];
    if (ask && (w->collector || w->grams) && wanted(t)) {
        plain_name(t->src[0]->name, name);
        return w->collector || (t->op == GGML_OP_MUL_MAT && gram_wants(w->grams, name));
    }
    if (ask || (!w->collector && !w->grams))
        return !ask;
    plain_name(t->src[0]->name, name);
    if (w->grams && t->op == GGML_OP_MUL_MAT)
        gram_meet(w, name, t->src[1]);
    if (!w->collector)
        return true;
    pthread_mutex_lock(&w->lock);
    if (!w->collector->error[0] && t->op == GGML_OP_MUL_MAT_ID)
        add_experts(w->collector, t, name);
    else if (!w->collector->error[0])
        add_dense(w->collector, t, name);
    pthread_mutex_unlock(&w->lock);
    return true;
}

/* ---- the answer ------------------------------------------------------------------------------ */

/* By name: the order of first callbacks depends on the lanes. */
static int by_name(const void *a, const void *b)
{
    const struct matrix *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static uint64_t matrix_floats(const struct matrix *m)
{
    return m->n_in * m->n_mat + m->n_mat;
}

struct collector *collector_new(void)
{
    return xcalloc(1, sizeof(struct collector));
}

int collector_end(struct collector *c, uint64_t *floats, struct err *e)
{
    if (c->error[0])
        return err_set(e, ERR_INPUT, "the model is damaged or of an unknown kind", "%s", c->error);
    qsort(c->matrices, c->n, sizeof(struct matrix), by_name);
    *floats = 0;
    for (size_t i = 0; i < c->n; i++)
        *floats += matrix_floats(&c->matrices[i]);
    return 0;
}

void collector_write(const struct collector *c, json_t *answer, float *at)
{
    json_t *list = json_array();
    json_object_set_new(answer, "activations", list);
    for (size_t i = 0; i < c->n; i++) {
        const struct matrix *m = &c->matrices[i];
        uint64_t n = m->n_in * m->n_mat;
        for (uint64_t k = 0; k < n; k++)
            *at++ = (float)((double)m->sum[k] / sum_unit);
        for (uint64_t k = 0; k < m->n_mat; k++)
            *at++ = (float)m->counts[k];
        json_array_append_new(list,
                              json_pack("{s:o, s:I, s:I}", "name", wire_text_new(m->name), "n_in",
                                        (json_int_t)m->n_in, "n_mat", (json_int_t)m->n_mat));
    }
}

int worker_collect(struct worker *w, const json_t *request, json_t *answer, int *fd, struct err *e)
{
    struct engine_windows windows;
    uint64_t floats;
    void *data;
    if (worker_windows(w, request, &windows, e))
        return -1;
    w->collector = collector_new();
    int rc = worker_run_collecting(w, &windows, e);
    if (rc == 0)
        rc = collector_end(w->collector, &floats, e);
    if (rc == 0)
        rc = fs_memfd("activations", (size_t)floats * sizeof(float), fd, &data, e);
    if (rc == 0) {
        collector_write(w->collector, answer, data);
        fs_memfd_close(-1, data, (size_t)floats * sizeof(float));
    }
    collector_free(w->collector);
    w->collector = NULL;
    return rc;
}
