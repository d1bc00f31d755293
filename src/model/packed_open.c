/* Which stored tensors make up a quantized one, and whether they fit together.
 *
 * Names, types and lengths of every piece are compared with what the shape in the table implies
 * before anything is read, so that packed.c needs no checks. Pieces are looked for in all files of
 * the folder: shards are cut anywhere. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/num.h"
#include "model/config_int.h"
#include "base/banned.h"

enum { STATE_BYTES_MAX = 1 << 16, BLOCK_MAX = 1 << 24 };

static const char mismatch[] = "config.json and the weights are of different models";

struct opening {
    const struct model *m;
    const struct config_quant *quant;
    const struct safetensors *file;
    const struct safetensors_tensor *t;
    char *stem; /* of the names beside it; owned */
    const uint64_t *dims;
    int n;
    struct model_packed *k;
};

/* ---- names ---- */

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), k = strlen(tail);
    return n > k && strcmp(s + n - k, tail) == 0;
}

static const struct safetensors_tensor *find_beside(const struct model *m, const char *stem,
                                                    const char *tail,
                                                    const struct safetensors **file)
{
    const struct safetensors_tensor *t = NULL;
    char *name = xasprintf("%s%s", stem, tail);
    for (size_t i = 0; i < m->n_shards && !t; i++) {
        t = safetensors_find(&m->shards[i], name);
        if (t && file)
            *file = &m->shards[i];
    }
    xfree(name);
    return t;
}

#define STATE_NF4 ".quant_state.bitsandbytes__nf4"
#define STATE_FP4 ".quant_state.bitsandbytes__fp4"

/* Tensors that are read with their codes, or only for computing with them; '|' between. */
static const char *const beside[] = {
    [PACKING_FP8] = "weight_scale_inv|activation_scale|input_scale",
    [PACKING_MXFP4] = "_scales",
    [PACKING_GPTQ] = ".qzeros|.scales|.g_idx",
    [PACKING_AWQ] = ".qzeros|.scales",
    [PACKING_BNB4] = ".absmax|.quant_map|.nested_absmax|.nested_quant_map|" STATE_NF4 "|" STATE_FP4,
    [PACKING_BNB8] = ".SCB|.weight_format",
};

static bool is_beside(enum packing packing, const char *name)
{
    for (const char *s = beside[packing]; s && *s; s += *s == '|') {
        size_t k = strcspn(s, "|"), n = strlen(name);
        if (n > k && memcmp(name + n - k, s, k) == 0)
            return true;
        s += k;
    }
    return false;
}

static char *renamed(const char *name, const char *tail, const char *to)
{
    return xasprintf("%.*s%s", (int)(strlen(name) - strlen(tail)), name, to);
}

static bool has_codes(const struct model *m, enum packing packing,
                      const struct safetensors_tensor *t)
{
    switch (packing) {
    case PACKING_FP8:
        return t->dtype == DT_F8_E4M3 && t->n_dims == 2;
    case PACKING_MXFP4:
        return ends_with(t->name, "_blocks");
    case PACKING_GPTQ:
    case PACKING_AWQ:
        return ends_with(t->name, ".qweight");
    case PACKING_BNB4:
        return find_beside(m, t->name, STATE_NF4, NULL) || find_beside(m, t->name, STATE_FP4, NULL);
    case PACKING_BNB8:
        return t->dtype == DT_I8 && t->n_dims == 2 && ends_with(t->name, ".weight");
    default:
        return false;
    }
}

enum packed_role packed_role_of(const struct model *m, const struct config *c,
                                const struct safetensors_tensor *t, char **name)
{
    enum packing packing = c->quant.packing;
    *name = NULL;
    if (packing == PACKING_NONE)
        return PACKED_PLAIN;
    if (is_beside(packing, t->name))
        return PACKED_BESIDE;
    if (!has_codes(m, packing, t))
        return PACKED_PLAIN;
    *name = packing == PACKING_MXFP4 ? renamed(t->name, "_blocks", "")
            : packing == PACKING_GPTQ || packing == PACKING_AWQ
                ? renamed(t->name, ".qweight", ".weight")
                : xstrdup(t->name);
    return PACKED_CODES;
}

bool packed_is_idle_bias(const struct model *m, const struct config *c,
                         const struct safetensors *file, const struct safetensors_tensor *t)
{
    bool packs = c->quant.packing == PACKING_GPTQ || c->quant.packing == PACKING_AWQ;
    if (!packs || !ends_with(t->name, ".bias") || t->n_dims != 1)
        return false;
    char *stem = renamed(t->name, ".bias", "");
    bool idle = find_beside(m, stem, ".qweight", NULL) != NULL;
    for (uint64_t i = 0; i < t->bytes && idle; i++)
        idle = file->map.data[t->offset + i] == 0;
    xfree(stem);
    return idle;
}

/* ---- pieces ---- */

static void shape_add(struct buf *b, const uint64_t *dims, int n)
{
    buf_addc(b, '[');
    for (int i = 0; i < n; i++)
        buf_addf(b, "%s%llu", i ? ", " : "", (unsigned long long)dims[i]);
    buf_addc(b, ']');
}

static int wrong_piece(const struct opening *o, const struct safetensors *file,
                       const struct safetensors_tensor *t, const char *types, const uint64_t *want,
                       int n, struct err *e)
{
    struct buf b;
    char name[96];
    quantized_name(o->quant, name);
    buf_init(&b, 1024);
    buf_adds(&b, dtype_name(t->dtype));
    buf_addc(&b, ' ');
    shape_add(&b, t->dims, t->n_dims);
    buf_addf(&b, ", expected %s ", types);
    shape_add(&b, want, n);
    buf_adds(&b, " for weights of ");
    shape_add(&b, o->dims, o->n);
    err_set(e, ERR_INPUT, mismatch, "tensor %.200s in %s is %s (%s)", t->name, file->map.path,
            buf_str(&b), name);
    buf_release(&b);
    return -1;
}

/* Of one of the types, and of that shape: leading or trailing ones do not matter. */
static bool fits(const struct safetensors_tensor *t, const char *types, const uint64_t *want, int n)
{
    const char *name = dtype_name(t->dtype);
    uint64_t all = 1, count = 1;
    for (int i = 0; i < n; i++)
        if (!num_mul_u64(all, want[i], &all))
            return false;
    for (int i = 0; i < t->n_dims; i++)
        count *= t->dims[i]; /* the reader has checked the product */
    const char *at = strstr(types, name);
    size_t k = strlen(name);
    bool typed = at && (at == types || at[-1] == ' ') && (at[k] == ' ' || at[k] == '\0');
    bool flat = n == 1 || t->n_dims != n;
    bool same = count == all;
    for (int i = 0; i < n && same && !flat; i++)
        same = t->dims[i] == want[i];
    /* Another number of dimensions is a vector, or one wrapped in ones. */
    for (int i = 0; i < t->n_dims && same && flat; i++)
        same = t->dims[i] == all || t->dims[i] == 1;
    return typed && same;
}

static int piece_missing(const struct opening *o, const char *tail, struct err *e)
{
    char name[96];
    quantized_name(o->quant, name);
    return err_set(e, ERR_MISSING, "the download is incomplete",
                   "%s: tensor %.200s%s is missing, without which %.200s cannot be read (%s)",
                   o->m->path, o->stem, tail, o->t->name, name);
}

static int take(const struct opening *o, const char *tail, const char *types, const uint64_t *want,
                int n, struct packed_piece *p, struct err *e)
{
    const struct safetensors *file = NULL;
    const struct safetensors_tensor *t = find_beside(o->m, o->stem, tail, &file);
    if (!t)
        return piece_missing(o, tail, e);
    if (!fits(t, types, want, n))
        return wrong_piece(o, file, t, types, want, n, e);
    *p = (struct packed_piece){file->map.data + t->offset, t->bytes, t->dtype};
    return 0;
}

#define FLOATS "F16 BF16 F32"
#define TAKE(o, tail, types, piece, e, ...)                                                        \
    take(o, tail, types, (const uint64_t[]){__VA_ARGS__},                                          \
         (int)(sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t)), piece, e)

static int codes_are(const struct opening *o, const char *types, const uint64_t *want, int n,
                     struct err *e)
{
    return fits(o->t, types, want, n) ? 0 : wrong_piece(o, o->file, o->t, types, want, n, e);
}

static uint64_t ceil_div(uint64_t n, uint64_t by)
{
    return n / by + (n % by != 0);
}

static int only_matrices(const struct opening *o, struct err *e)
{
    return o->n == 2 ? 0
                     : err_set(e, ERR_UNSUPPORTED, "use the float checkpoint it was made of",
                               "tensor %.200s in %s has %d dimensions; only matrices can be read "
                               "quantized like this",
                               o->t->name, o->file->map.path, o->n);
}

/* ---- kinds ---- */

/* Scales stand in a tensor that is called like the weights. One for all may have any shape. */
static int open_fp8(struct opening *o, struct err *e)
{
    struct model_packed *k = o->k;
    const struct config_quant *q = o->quant;
    if (codes_are(o, "F8_E4M3", o->dims, o->n, e))
        return -1;
    k->block_rows = q->block_rows ? q->block_rows : k->rows;
    k->block_cols = q->block_cols ? q->block_cols : k->cols;
    return TAKE(o, "_scale_inv", FLOATS, &k->scales, e, ceil_div(k->rows, k->block_rows),
                ceil_div(k->cols, k->block_cols));
}

static int open_mxfp4(struct opening *o, struct err *e)
{
    uint64_t want[EXPR_DIMS_MAX + 1];
    int n = o->n;
    memcpy(want, o->dims, (size_t)n * sizeof *want);
    want[n - 1] /= 32;
    want[n] = 16;
    if (o->k->cols % 32 != 0 || codes_are(o, "U8", want, n + 1, e))
        return o->k->cols % 32 ? wrong_piece(o, o->file, o->t, "U8", want, n + 1, e) : -1;
    return take(o, "_scales", "U8", want, n, &o->k->scales, e);
}

/* The bits of a layer of their own follow from the shape of its codes. */
static uint32_t gptq_bits(const struct opening *o)
{
    static const uint32_t known[] = {2, 3, 4, 8};
    for (int i = 0; i < 4 && o->quant->mixed && o->t->n_dims == 2; i++)
        if (o->t->dims[0] == ceil_div(o->dims[1] * known[i], 32))
            return known[i];
    return o->quant->bits;
}

/* Scales tell how many groups there are; with g_idx any column may be of any. */
static int count_groups(const struct opening *o, uint64_t *groups, struct err *e)
{
    const struct safetensors_tensor *t = find_beside(o->m, o->stem, ".scales", NULL);
    if (!t)
        return piece_missing(o, ".scales", e);
    *groups = t->n_dims == 2 ? t->dims[0] : 1;
    return 0;
}

static int check_index(const struct opening *o, struct err *e)
{
    const struct model_packed *k = o->k;
    for (uint64_t i = 0; i < k->cols; i++) {
        int32_t g;
        memcpy(&g, k->index.data + i * sizeof g, sizeof g);
        if (g < 0 || (uint64_t)g >= k->groups)
            return err_set(e, ERR_INPUT, mismatch,
                           "%s: %.200s.g_idx puts column %llu into group %d of %llu", o->m->path,
                           o->stem, (unsigned long long)i, (int)g, (unsigned long long)k->groups);
    }
    return 0;
}

static int open_gptq(struct opening *o, struct err *e)
{
    struct model_packed *k = o->k;
    if (only_matrices(o, e))
        return -1;
    k->bits = gptq_bits(o);
    k->zero_add = o->quant->zero_add;
    k->group = o->quant->group ? o->quant->group : k->cols;
    k->groups = ceil_div(k->cols, k->group);
    uint64_t codes[] = {ceil_div(k->cols * k->bits, 32), k->rows};
    bool index = find_beside(o->m, o->stem, ".g_idx", NULL) != NULL;
    if (codes_are(o, "I32 U32", codes, 2, e) || (index && count_groups(o, &k->groups, e)) ||
        TAKE(o, ".scales", FLOATS, &k->scales, e, k->groups, k->rows) ||
        TAKE(o, ".qzeros", "I32 U32", &k->zeros, e, k->groups, ceil_div(k->rows * k->bits, 32)) ||
        (index && TAKE(o, ".g_idx", "I32 U32", &k->index, e, k->cols)))
        return -1;
    return index ? check_index(o, e) : 0;
}

static int open_awq(struct opening *o, struct err *e)
{
    struct model_packed *k = o->k;
    if (only_matrices(o, e))
        return -1;
    uint64_t words = ceil_div(k->rows, 8), codes[] = {k->cols, words};
    k->group = o->quant->group ? o->quant->group : k->cols;
    k->groups = ceil_div(k->cols, k->group);
    if (k->rows % 8 != 0)
        return wrong_piece(o, o->file, o->t, "I32", codes, 2, e);
    return codes_are(o, "I32 U32", codes, 2, e) ||
                   TAKE(o, ".scales", FLOATS, &k->scales, e, k->groups, k->rows) ||
                   TAKE(o, ".qzeros", "I32 U32", &k->zeros, e, k->groups, words)
               ? -1
               : 0;
}

/* ---- bitsandbytes ---- */

static int bad_state(const struct opening *o, const char *what, struct err *e)
{
    return err_set(e, ERR_INPUT, "fetch the file again, or use the float checkpoint",
                   "%s: the quant_state of %.200s %s", o->m->path, o->t->name, what);
}

static int check_state(struct opening *o, const json_t *state, struct err *e)
{
    const json_t *shape = json_object_get(state, "shape");
    int64_t block = json_opt_i64(state, "blocksize", 0);
    int64_t nested = json_opt_i64(state, "nested_blocksize", 256);
    double offset = json_opt_real(state, "nested_offset", 0);
    bool same = json_array_size(shape) == (size_t)o->n;
    for (int i = 0; i < o->n && same; i++)
        same = json_integer_value(json_array_get(shape, (size_t)i)) == (json_int_t)o->dims[i];
    if (!same)
        return bad_state(o, "has another shape than config.json implies", e);
    if (block < 1 || block > BLOCK_MAX || nested < 1 || nested > BLOCK_MAX)
        return bad_state(o, "has a blocksize that is not a positive number", e);
    if (!isfinite((float)offset))
        return bad_state(o, "has a nested_offset that is no number", e);
    o->k->block = (uint64_t)block;
    o->k->nested_block = (uint64_t)nested;
    o->k->nested_offset = (float)offset;
    return 0;
}

static int read_state(struct opening *o, struct err *e)
{
    const struct safetensors *file = NULL;
    const struct safetensors_tensor *t = find_beside(o->m, o->stem, STATE_NF4, &file);
    if (!t)
        t = find_beside(o->m, o->stem, STATE_FP4, &file);
    if (t->dtype != DT_U8 || t->bytes > STATE_BYTES_MAX)
        return bad_state(o, "is not a short text", e);
    char *name = xasprintf("%s (%s)", file->map.path, t->name);
    json_t *state = json_parse((const char *)file->map.data + t->offset, (size_t)t->bytes, name, e);
    xfree(name);
    if (!state)
        return -1;
    int failed =
        json_is_object(state) ? check_state(o, state, e) : bad_state(o, "is not a JSON object", e);
    json_decref(state);
    return failed;
}

/* Codes may be called bytes or anything else of the same length (bnb_4bit_quant_storage). */
static int open_bnb4(struct opening *o, struct err *e)
{
    struct model_packed *k = o->k;
    uint64_t n = k->rows * k->cols, bytes[] = {ceil_div(n, 2), 1};
    bool nested = find_beside(o->m, o->stem, ".nested_absmax", NULL) != NULL;
    if (o->t->bytes != bytes[0])
        return wrong_piece(o, o->file, o->t, "U8", bytes, 2, e);
    if (read_state(o, e))
        return -1;
    uint64_t blocks = ceil_div(n, k->block);
    if (TAKE(o, ".absmax", nested ? "U8" : "F32", &k->scales, e, blocks) ||
        TAKE(o, ".quant_map", "F32", &k->table, e, 16))
        return -1;
    return nested && (TAKE(o, ".nested_absmax", "F32", &k->nested_scales, e,
                           ceil_div(blocks, k->nested_block)) ||
                      TAKE(o, ".nested_quant_map", "F32", &k->nested_table, e, 256))
               ? -1
               : 0;
}

static int open_bnb8(struct opening *o, struct err *e)
{
    const struct safetensors *file = NULL;
    const struct safetensors_tensor *t = find_beside(o->m, o->stem, ".weight_format", &file);
    if (codes_are(o, "I8", o->dims, o->n, e) ||
        TAKE(o, ".SCB", "F32", &o->k->scales, e, o->k->rows))
        return -1;
    if (t && (t->dtype != DT_U8 || t->bytes != 1 || file->map.data[t->offset] != 0))
        return err_set(e, ERR_UNSUPPORTED, "use the float checkpoint it was made of",
                       "tensor %.200s in %s says that the rows are shuffled for a GPU", t->name,
                       file->map.path);
    return 0;
}

/* ---- all of them ---- */

static const struct {
    int (*open)(struct opening *o, struct err *e);
    enum dtype dtype;
    const char *tail; /* of the codes' name, that the names beside have not */
} kinds[] = {
    [PACKING_FP8] = {open_fp8, DT_F8_E4M3, ""},
    [PACKING_MXFP4] = {open_mxfp4, DT_HF_MXFP4, "_blocks"},
    [PACKING_GPTQ] = {open_gptq, DT_GPTQ, ".qweight"},
    [PACKING_AWQ] = {open_awq, DT_AWQ, ".qweight"},
    [PACKING_BNB4] = {open_bnb4, DT_BNB4, ""},
    [PACKING_BNB8] = {open_bnb8, DT_BNB8, ".weight"},
};

int packed_open(struct model *m, const struct config *c, const struct safetensors *file,
                const struct safetensors_tensor *t, const uint64_t *dims, int n,
                struct model_part *part, struct err *e)
{
    enum packing packing = c->quant.packing;
    struct model_packed *k = arena_alloc(&m->arena, sizeof *k);
    struct opening o = {
        .m = m, .quant = &c->quant, .file = file, .t = t, .dims = dims, .n = n, .k = k};
    uint64_t elements = 1, bits;
    for (int i = 0; i < n; i++)
        if (dims[i] == 0 || !num_mul_u64(elements, dims[i], &elements))
            return err_set(e, ERR_INPUT, mismatch,
                           "tensor %.200s in %s would be empty or too large", t->name,
                           file->map.path);
    /* So that no product below overflows. */
    if (n == 0 || !num_mul_u64(elements, 64, &bits))
        return err_set(e, ERR_INPUT, mismatch, "tensor %.200s in %s would be empty or too large",
                       t->name, file->map.path);
    *k = (struct model_packed){.packing = packing,
                               .codes = file->map.data + t->offset,
                               .cols = dims[n - 1],
                               .rows = elements / dims[n - 1]};
    o.stem = renamed(t->name, kinds[packing].tail, "");
    int failed = kinds[packing].open(&o, e);
    xfree(o.stem);
    *part = (struct model_part){.data = k->codes,
                                .map = &file->map,
                                .offset = t->offset,
                                .bytes = t->bytes,
                                .stored_name = t->name,
                                .dtype = kinds[packing].dtype,
                                .stored_row = k->cols,
                                .packed = k,
                                .elements = elements,
                                .n_axes = 1,
                                .axes = {{elements, 1}}};
    return failed;
}
