/* Encoding and decoding, with everything checked that the encoders underneath assert or ignore.
 *
 * Owns one table: how large a number a type can hold at all, and where a block keeps its scales.
 * Plain floats are converted here, blocks are made by the kernels (dispatch.c) and read by the
 * decoders (decode.c). Refused before an encoder sees them: NaN, infinity, values far beyond what
 * an F16 scale reaches (some of ggml's encoders abort on them, others silently write zeros),
 * importance that is negative or extreme, or missing where it is needed. Refused afterwards: blocks
 * with a scale that is not finite. No state: every function is thread-safe.
 * Block layouts: ggml-common.h of ggml 0.5.0. The rule for scales is that of
 * ggml_validate_row_data, which cannot be called because it prints. */
#include "quant/quant.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "quant/codebook_int.h"
#include "quant/kernel_int.h"
#include "quant/decode_int.h"
#include "quant/feedback_int.h"
#include "tensor/convert.h"

#include "base/banned.h"

/* The largest value that any type with F16 scales holds is 65504·127·32 (Q6_K, IQ4_XS). */
#define QUANT_VALUE_MAX 1e9f
/* Mean squares of activations: ggml's searches square sums of weights in float. */
#define QUANT_IMPORTANCE_MAX 1e15f

enum { NOWHERE = -1, SCALE_BYTES = 2 };

/* How the finiteness of a block is seen. */
enum scale_kind {
    SCALE_F16,      /* an F16 at d, another at m unless NOWHERE */
    SCALE_F32,      /* a float at d */
    SCALE_E8M0,     /* an exponent byte at d, 255 is NaN */
    SCALE_IQ1_M,    /* an F16 in the top nibbles of four 16-bit words at d */
    SCALE_ANY,      /* every bit pattern is a number */
    SCALE_ELEMENTS, /* the elements themselves: F16, BF16, F32, F64 */
};

struct codec {
    enum dtype type;
    enum scale_kind kind;
    int d, m; /* byte offsets in the block */
};

/* clang-format off */
static const struct codec codecs[] = {
    {DT_F32, SCALE_ELEMENTS, 0, 0},       {DT_F16, SCALE_ELEMENTS, 0, 0},
    {DT_BF16, SCALE_ELEMENTS, 0, 0},      {DT_F64, SCALE_ELEMENTS, 0, 0},
    {DT_I8, SCALE_ANY, 0, 0},             {DT_I16, SCALE_ANY, 0, 0},
    {DT_I32, SCALE_ANY, 0, 0},            {DT_I64, SCALE_ANY, 0, 0},
    {DT_Q1_0, SCALE_F16, 0, NOWHERE},     {DT_Q2_0, SCALE_F16, 0, NOWHERE},
    {DT_Q4_0, SCALE_F16, 0, NOWHERE},     {DT_Q4_1, SCALE_F16, 0, 2},
    {DT_Q5_0, SCALE_F16, 0, NOWHERE},     {DT_Q5_1, SCALE_F16, 0, 2},
    {DT_Q8_0, SCALE_F16, 0, NOWHERE},
    {DT_Q2_K, SCALE_F16, 80, 82},         {DT_Q3_K, SCALE_F16, 108, NOWHERE},
    {DT_Q4_K, SCALE_F16, 0, 2},           {DT_Q5_K, SCALE_F16, 0, 2},
    {DT_Q6_K, SCALE_F16, 208, NOWHERE},   {DT_Q8_K, SCALE_F32, 0, NOWHERE},
    {DT_IQ1_S, SCALE_F16, 0, NOWHERE},    {DT_IQ1_M, SCALE_IQ1_M, 48, NOWHERE},
    {DT_IQ2_XXS, SCALE_F16, 0, NOWHERE},  {DT_IQ2_XS, SCALE_F16, 0, NOWHERE},
    {DT_IQ2_S, SCALE_F16, 0, NOWHERE},    {DT_IQ3_XXS, SCALE_F16, 0, NOWHERE},
    {DT_IQ3_S, SCALE_F16, 0, NOWHERE},    {DT_IQ4_NL, SCALE_F16, 0, NOWHERE},
    {DT_IQ4_XS, SCALE_F16, 0, NOWHERE},   {DT_TQ1_0, SCALE_F16, 52, NOWHERE},
    {DT_TQ2_0, SCALE_F16, 64, NOWHERE},   {DT_MXFP4, SCALE_E8M0, 0, NOWHERE},
    {DT_NVFP4, SCALE_ANY, 0, 0},
};
/* clang-format on */

static const struct codec *codec_of(enum dtype type)
{
    for (size_t i = 0; i < sizeof codecs / sizeof codecs[0]; i++) {
        if (codecs[i].type == type)
            return &codecs[i];
    }
    return NULL;
}

static bool is_float(enum dtype type)
{
    return type == DT_F32 || type == DT_F16 || type == DT_BF16 || type == DT_F64;
}

/* ---- finiteness of blocks -------------------------------------------------------------------- */

/* All ones in the exponent: infinity or NaN. */
static bool f16_finite(uint16_t h)
{
    return (h & 0x7c00) != 0x7c00;
}

static uint16_t load16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static bool f16_scales_finite(const uint8_t *p, uint64_t blocks, size_t step, int d, int m)
{
    int other = m == NOWHERE ? d : m;
    bool good = true;
    for (uint64_t i = 0; i < blocks; i++, p += step)
        good &= f16_finite(load16(p + d)) && f16_finite(load16(p + other));
    return good;
}

static bool f32_scales_finite(const uint8_t *p, uint64_t blocks, size_t step, int d)
{
    for (uint64_t i = 0; i < blocks; i++, p += step) {
        float f;
        memcpy(&f, p + d, sizeof f);
        if (!isfinite(f))
            return false;
    }
    return true;
}

static bool e8m0_scales_finite(const uint8_t *p, uint64_t blocks, size_t step, int d)
{
    bool bad = false;
    for (uint64_t i = 0; i < blocks; i++, p += step)
        bad |= p[d] == 0xff;
    return !bad;
}

static bool iq1m_scales_finite(const uint8_t *p, uint64_t blocks, size_t step, int d)
{
    for (uint64_t i = 0; i < blocks; i++, p += step) {
        unsigned scale = 0;
        for (int w = 0; w < 4; w++)
            scale |= (unsigned)(load16(p + d + 2 * w) >> 12) << (4 * w);
        if (!f16_finite((uint16_t)scale))
            return false;
    }
    return true;
}

/* Elements of n bytes whose exponent field, in the topmost 16 bits, is mask. */
static bool top_bits_finite(const uint8_t *p, uint64_t bytes, size_t each, uint16_t mask)
{
    bool bad = false;
    for (uint64_t i = each - SCALE_BYTES; i < bytes; i += each)
        bad |= (load16(p + i) & mask) == mask;
    return !bad;
}

/* As F32, which is what becomes of them. */
static bool doubles_finite(const uint8_t *p, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes; i += sizeof(double)) {
        double v;
        memcpy(&v, p + i, sizeof v);
        if (!isfinite((float)v))
            return false;
    }
    return true;
}

static bool elements_finite(enum dtype type, const uint8_t *p, uint64_t bytes)
{
    switch (type) {
    case DT_F16:
        return top_bits_finite(p, bytes, 2, 0x7c00);
    case DT_BF16:
        return top_bits_finite(p, bytes, 2, 0x7f80);
    case DT_F32:
        return top_bits_finite(p, bytes, 4, 0x7f80);
    default:
        return doubles_finite(p, bytes);
    }
}

bool quant_blocks_finite(enum dtype type, const void *data, uint64_t bytes)
{
    const struct codec *c = codec_of(type);
    const struct dtype_info *info = dtype_info(type);
    if (!c || !info || bytes % info->bytes != 0)
        return false;
    uint64_t blocks = bytes / info->bytes;
    switch (c->kind) {
    case SCALE_F16:
        return f16_scales_finite(data, blocks, info->bytes, c->d, c->m);
    case SCALE_F32:
        return f32_scales_finite(data, blocks, info->bytes, c->d);
    case SCALE_E8M0:
        return e8m0_scales_finite(data, blocks, info->bytes, c->d);
    case SCALE_IQ1_M:
        return iq1m_scales_finite(data, blocks, info->bytes, c->d);
    case SCALE_ELEMENTS:
        return elements_finite(type, data, bytes);
    case SCALE_ANY:
        break;
    }
    return true;
}

/* ---- what may go in -------------------------------------------------------------------------- */

/* Index of the first value that is NaN or larger than max, or n. The loop of constant length is
 * there to be vectorised. */
static uint64_t find_beyond(const float *v, uint64_t n, float max)
{
    enum { CHUNK = 64 };
    uint64_t i = 0;
    for (; i + CHUNK <= n; i += CHUNK) {
        int bad = 0;
        for (int j = 0; j < CHUNK; j++)
            bad |= !(fabsf(v[i + (uint64_t)j]) <= max);
        if (bad)
            break;
    }
    while (i < n && fabsf(v[i]) <= max)
        i++;
    return i;
}

static float value_max(const struct codec *c)
{
    return c->kind == SCALE_F16 || c->kind == SCALE_IQ1_M ? QUANT_VALUE_MAX : FLT_MAX;
}

static int refuse_value(const struct dtype_info *info, float value, uint64_t column, struct err *e)
{
    if (!isfinite(value))
        return err_set(e, ERR_INPUT, "the weights are damaged: download the model again",
                       "a weight in column %llu is %s", (unsigned long long)column,
                       isnan(value) ? "NaN" : "infinite");
    return err_set(e, ERR_INPUT, "keep this tensor in BF16 or F32",
                   "a weight in column %llu is %g, too large for %s", (unsigned long long)column,
                   (double)value, info->name);
}

static int refuse_block(const struct dtype_info *info, struct err *e)
{
    return err_set(e, ERR_INPUT, "keep this tensor in BF16 or F32",
                   "a weight is too large for %s: a block would not be finite", info->name);
}

static int check_values(const struct dtype_info *info, const struct codec *c, const float *src,
                        uint64_t n, uint64_t n_per_row, struct err *e)
{
    uint64_t at = find_beyond(src, n, value_max(c));
    return at == n ? 0 : refuse_value(info, src[at], at % n_per_row, e);
}

static int check_importance(const float *importance, uint64_t n, struct err *e)
{
    for (uint64_t i = 0; i < n; i++) {
        if (!(importance[i] >= 0 && importance[i] <= QUANT_IMPORTANCE_MAX))
            return err_set(e, ERR_INPUT, "make the importance matrix again",
                           "the importance of column %llu is %g, expected 0 to %g",
                           (unsigned long long)i, (double)importance[i],
                           (double)QUANT_IMPORTANCE_MAX);
    }
    return 0;
}

static int check_shape(const struct dtype_info *info, uint64_t rows, uint64_t n_per_row,
                       uint64_t *bytes, struct err *e)
{
    uint64_t n;
    if (n_per_row == 0 || n_per_row % info->block != 0)
        return err_set(e, ERR_INPUT, "choose a type whose block divides the rows",
                       "rows of %llu elements cannot be %s, which has blocks of %u",
                       (unsigned long long)n_per_row, info->name, info->block);
    if (!num_mul_u64(rows, n_per_row, &n) || n > INT64_MAX / sizeof(double) ||
        !dtype_bytes(info->id, n, n_per_row, bytes))
        return err_set(e, ERR_LIMIT, NULL, "%llu rows of %llu elements are too many for one call",
                       (unsigned long long)rows, (unsigned long long)n_per_row);
    return 0;
}

static const struct codec *encoder_of(enum dtype type, const struct dtype_info **info,
                                      struct err *e)
{
    const struct codec *c = codec_of(type);
    *info = dtype_info(type);
    if (c && *info && (*info)->encodable)
        return c;
    err_set(e, ERR_UNSUPPORTED, NULL, "type %s cannot be written", dtype_name(type));
    return NULL;
}

/* ---- the error of an encode ------------------------------------------------------------------ */

static int decode(enum dtype type, const void *src, float *dst, uint64_t n, struct err *e)
{
    const struct dtype_info *info = dtype_info(type);
    if (info && !info->quantized && convert_to_f32(type, src, dst, (size_t)n) == 0)
        return 0;
    if (info && info->quantized && decode_blocks(type, src, dst, n))
        return 0;
    return err_set(e, ERR_UNSUPPORTED, NULL, "type %s cannot be read as numbers", dtype_name(type));
}

static void add_errors(const float *x, const float *y, const float *importance, uint64_t n,
                       struct quant_error *error)
{
    double plain = 0, weighted = 0;
    for (uint64_t i = 0; i < n; i++) {
        double d = (double)x[i] - (double)y[i];
        plain += d * d;
        weighted += (importance ? (double)importance[i] : 1.0) * d * d;
    }
    error->squared += plain;
    error->weighted += weighted;
}

/* Decodes a piece of a row at a time, so that no row length needs more than this much stack. */
static int measure_row(const struct dtype_info *info, const float *src, const uint8_t *blocks,
                       uint64_t n_per_row, const float *importance, struct quant_error *error,
                       struct err *e)
{
    enum { PIECE = 2048 }; /* a multiple of every block */
    float decoded[PIECE];
    for (uint64_t at = 0; at < n_per_row; at += PIECE) {
        uint64_t n = n_per_row - at < PIECE ? n_per_row - at : PIECE;
        if (decode(info->id, blocks + at / info->block * info->bytes, decoded, n, e))
            return -1;
        add_errors(src + at, decoded, importance ? importance + at : NULL, n, error);
    }
    return 0;
}

static int measure(const struct dtype_info *info, const float *src, const void *dst, uint64_t rows,
                   uint64_t n_per_row, const float *importance, struct quant_error *error,
                   struct err *e)
{
    uint64_t row_bytes = n_per_row / info->block * info->bytes;
    for (uint64_t r = 0; r < rows; r++) {
        if (measure_row(info, src + r * n_per_row, (const uint8_t *)dst + r * row_bytes, n_per_row,
                        importance, error, e))
            return -1;
    }
    return 0;
}

/* ---- the public face ------------------------------------------------------------------------- */

int quant_prepare(enum dtype type, struct err *e)
{
    const struct dtype_info *info;
    if (!encoder_of(type, &info, e))
        return -1;
    if (!info->quantized)
        return 0;
    codebook_prepare(type);
    return 0;
}

/* Blocks, by kernels that measure as they go. */
static int write_blocks(const struct dtype_info *info, const float *src, void *dst, uint64_t rows,
                        uint64_t n_per_row, const float *importance, struct quant_error *error,
                        struct err *e)
{
    bool infinite = false;
    if (!kernel_encode(kernel_set_best(), info->id, src, dst, rows, n_per_row, importance, error,
                       &infinite))
        return err_set(e, ERR_UNSUPPORTED, NULL, "type %s cannot be written", info->name);
    return infinite ? refuse_block(info, e) : 0;
}

/* Says which weight made an encoder of stored rows report that something is not finite. */
static int refuse_stored(const struct dtype_info *info, const struct codec *c, enum dtype stored,
                         const uint8_t *src, uint64_t n, uint64_t n_per_row, struct err *e)
{
    enum { PIECE = 2048 };
    float x[PIECE];
    for (uint64_t first = 0; first < n; first += PIECE) {
        uint64_t take = n - first < PIECE ? n - first : PIECE;
        convert_to_f32(stored, src + first * dtype_info(stored)->bytes, x, take);
        uint64_t at = find_beyond(x, take, value_max(c));
        if (at < take)
            return refuse_value(info, x[at], (first + at) % n_per_row, e);
    }
    return refuse_block(info, e);
}

/* Blocks of types without a search: the kernel sees by itself whether its weights are finite. */
static int write_stored(const struct dtype_info *info, enum dtype stored, const void *src,
                        void *dst, uint64_t rows, uint64_t n_per_row, const float *importance,
                        struct quant_error *error, struct err *e)
{
    bool unfit = false;
    kernel_encode_stored(kernel_set_best(), info->id, stored, src, dst, rows, n_per_row, importance,
                         error, &unfit);
    return unfit ? refuse_stored(info, codec_of(info->id), stored, src, rows * n_per_row, n_per_row,
                                 e)
                 : 0;
}

/* Floats: rounded, never scaled; what is too large for F16 is refused. */
static int write_floats(const struct dtype_info *info, const float *src, void *dst, uint64_t rows,
                        uint64_t n_per_row, const float *importance, struct quant_error *error,
                        struct err *e)
{
    convert_from_f32(info->id, src, dst, (size_t)(rows * n_per_row));
    if (!quant_blocks_finite(info->id, dst, rows * n_per_row * info->bytes))
        return refuse_block(info, e);
    return error ? measure(info, src, dst, rows, n_per_row, importance, error, e) : 0;
}

/* What the rows themselves may not be, for one type. Sets the bytes of one row. */
static int check_want(const struct quant_want *w, uint64_t rows, uint64_t n_per_row,
                      const float *importance, uint64_t *row_bytes, struct err *e)
{
    const struct dtype_info *info;
    uint64_t bytes = 0;
    if (!encoder_of(w->type, &info, e) || check_shape(info, rows, n_per_row, &bytes, e))
        return -1;
    if (info->needs_importance && !importance)
        return err_set(e, ERR_INPUT, "make one with 'sintra calibrate', or choose a larger type",
                       "%s needs an importance matrix", info->name);
    *row_bytes = n_per_row / info->block * info->bytes;
    return 0;
}

static int encode_rows(const struct quant_want *w, const float *src, void *dst, uint64_t rows,
                       uint64_t n_per_row, const float *importance, struct quant_error *error,
                       struct err *e)
{
    const struct dtype_info *info;
    const struct codec *c = encoder_of(w->type, &info, e);
    if (!c)
        return -1;
    if (quant_reads_stored(w->type, DT_F32, importance != NULL))
        return write_stored(info, DT_F32, src, dst, rows, n_per_row, importance, error, e);
    if (check_values(info, c, src, rows * n_per_row, n_per_row, e))
        return -1;
    return is_float(w->type) ? write_floats(info, src, dst, rows, n_per_row, importance, error, e)
                             : write_blocks(info, src, dst, rows, n_per_row, importance, error, e);
}

/* As many rows as a second-level cache holds are checked and encoded in every type before the
 * next. */
static int encode_groups(struct quant_want *wants, const uint64_t *row_bytes, int n,
                         const float *src, uint64_t rows, uint64_t n_per_row,
                         const float *importance, uint8_t *scratch, uint64_t group, bool measured,
                         struct err *e)
{
    for (uint64_t at = 0; at < rows; at += group) {
        uint64_t take = rows - at < group ? rows - at : group;
        for (int i = 0; i < n; i++) {
            struct quant_want *w = &wants[i];
            void *dst = w->dst ? (uint8_t *)w->dst + at * row_bytes[i] : scratch;
            if (encode_rows(w, src + at * n_per_row, dst, take, n_per_row, importance,
                            measured ? &w->error : NULL, e))
                return -1;
        }
    }
    return 0;
}

static uint64_t group_rows(uint64_t rows, uint64_t n_per_row)
{
    enum { GROUP_WEIGHTS = 1 << 16 };
    uint64_t group = n_per_row < GROUP_WEIGHTS ? GROUP_WEIGHTS / n_per_row : 1;
    return group < rows ? group : rows;
}

static int encode_many(struct quant_want *wants, int n, const float *src, uint64_t rows,
                       uint64_t n_per_row, const float *importance, bool measured, struct err *e)
{
    uint64_t row_bytes[KERNEL_TYPES], widest = 0;
    if (n > KERNEL_TYPES)
        return err_set(e, ERR_LIMIT, NULL, "%d types are too many for one call", n);
    for (int i = 0; i < n; i++) {
        if (check_want(&wants[i], rows, n_per_row, importance, &row_bytes[i], e))
            return -1;
        if (!wants[i].dst && row_bytes[i] > widest)
            widest = row_bytes[i];
    }
    if (importance && check_importance(importance, n_per_row, e))
        return -1;
    if (rows == 0)
        return 0;
    uint64_t group = group_rows(rows, n_per_row);
    uint8_t *scratch = widest ? xreallocarray(NULL, group, widest) : NULL;
    int rc = encode_groups(wants, row_bytes, n, src, rows, n_per_row, importance, scratch, group,
                           measured, e);
    xfree(scratch);
    return rc;
}

int quant_encode_many(struct quant_want *wants, int n, const float *src, uint64_t rows,
                      uint64_t n_per_row, const float *importance, struct err *e)
{
    return encode_many(wants, n, src, rows, n_per_row, importance, true, e);
}

int quant_encode(enum dtype type, const float *src, void *dst, uint64_t rows, uint64_t n_per_row,
                 const float *importance, struct quant_error *error, struct err *e)
{
    struct quant_want want = {.type = type, .dst = dst};
    if (encode_many(&want, 1, src, rows, n_per_row, importance, error != NULL, e))
        return -1;
    if (error) {
        error->squared += want.error.squared;
        error->weighted += want.error.weighted;
    }
    return 0;
}

int quant_encode_feedback(enum dtype type, const float *src, void *dst, uint64_t rows,
                          uint64_t n_per_row, const struct quant_feedback *feedback,
                          struct quant_error *error, struct err *e)
{
    struct quant_want want = {.type = type, .dst = dst};
    const struct dtype_info *info;
    const struct codec *c = encoder_of(type, &info, e);
    uint64_t row_bytes;
    bool infinite = false;
    if (!c || check_want(&want, rows, n_per_row, feedback->weight, &row_bytes, e) ||
        check_importance(feedback->weight, n_per_row, e) ||
        check_values(info, c, src, rows * n_per_row, n_per_row, e))
        return -1;
    if (!info->quantized)
        return err_set(e, ERR_BUG, NULL, "type %s has no error feedback", info->name);
    if (feedback->span != n_per_row && (feedback->span == 0 || feedback->span % QUANT_SPAN != 0))
        return err_set(e, ERR_BUG, NULL, "error feedback in spans of %llu columns",
                       (unsigned long long)feedback->span);
    if (feedback_encode(type, src, dst, rows, n_per_row, feedback, &want.error, &infinite, e))
        return -1;
    if (error) {
        error->squared += want.error.squared;
        error->weighted += want.error.weighted;
    }
    if (infinite)
        return err_set(e, ERR_INPUT, "calibrate again, or keep this tensor in BF16 or F32",
                       "a weight, with the feedback of others, is too large for %s", info->name);
    return 0;
}

bool quant_reads_stored(enum dtype type, enum dtype stored, bool important)
{
    return (stored == DT_F32 || stored == DT_F16 || stored == DT_BF16) &&
           kernel_reads_stored(kernel_set_best(), type, important);
}

int quant_encode_stored(enum dtype type, enum dtype stored, const void *src, void *dst,
                        uint64_t rows, uint64_t n_per_row, const float *importance,
                        struct quant_error *error, struct err *e)
{
    const struct quant_want want = {.type = type};
    uint64_t out_bytes;
    if (!quant_reads_stored(type, stored, importance != NULL))
        return err_set(e, ERR_UNSUPPORTED, NULL, "%s cannot be encoded straight from %s",
                       dtype_name(type), dtype_name(stored));
    if (check_want(&want, rows, n_per_row, importance, &out_bytes, e) ||
        (importance && check_importance(importance, n_per_row, e)))
        return -1;
    uint64_t in_bytes = n_per_row * dtype_info(stored)->bytes, group = group_rows(rows, n_per_row);
    for (uint64_t at = 0; at < rows; at += group) {
        uint64_t take = rows - at < group ? rows - at : group;
        if (write_stored(dtype_info(type), stored, (const uint8_t *)src + at * in_bytes,
                         (uint8_t *)dst + at * out_bytes, take, n_per_row, importance, error, e))
            return -1;
    }
    return 0;
}

int quant_decode(enum dtype type, const void *src, float *dst, uint64_t rows, uint64_t n_per_row,
                 struct err *e)
{
    const struct dtype_info *info = dtype_info(type);
    uint64_t bytes = 0;
    if (!info)
        return err_set(e, ERR_UNSUPPORTED, NULL, "type %d is unknown", (int)type);
    if (check_shape(info, rows, n_per_row, &bytes, e))
        return -1;
    return rows == 0 ? 0 : decode(type, src, dst, rows * n_per_row, e);
}
