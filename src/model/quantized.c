/* quantization_config: how the weights of a checkpoint are stored, if not as floats.
 *
 * Refuses what packed.c cannot read exactly (other methods, other layouts of a known method), with
 * the remedy that always works: the float checkpoint. Keys and their defaults are those of
 * transformers' quantization classes (4.57), GPTQModel and AutoAWQ. */
#include <stdio.h>
#include <string.h>

#include "model/config_int.h"
#include "base/banned.h"

enum { BLOCK_MAX = 1 << 24 };

static const char remedy[] =
    "use the float checkpoint (BF16, F16 or F32) it was made of; of quantized ones FP8, MXFP4, "
    "GPTQ, AWQ and bitsandbytes can be read";

static int bad_field(const struct config *c, const char *what, struct err *e)
{
    return err_set(e, ERR_INPUT, "compare config.json with the one of the original model", "%s: %s",
                   c->where, what);
}

static int unreadable(const struct config *c, const char *method, const char *key,
                      const char *value, const char *known, struct err *e)
{
    char hint[ERR_HINT_MAX];
    snprintf(hint, sizeof hint, "use the float checkpoint it was made of, or one with %s %s", key,
             known);
    return err_set(e, ERR_UNSUPPORTED, hint,
                   "%s: the checkpoint is quantized by %s with %s %.60s, which cannot be read",
                   c->where, method, key, value);
}

/* A scale for each block of weights, or for each tensor. */
static int read_fp8(struct config *c, const json_t *q, struct err *e)
{
    const json_t *size = json_object_get(q, "weight_block_size");
    json_int_t rows = json_integer_value(json_array_get(size, 0));
    json_int_t cols = json_integer_value(json_array_get(size, 1));
    c->quant.packing = PACKING_FP8;
    if (!size || json_is_null(size))
        return 0;
    if (rows < 1 || cols < 1 || rows > BLOCK_MAX || cols > BLOCK_MAX)
        return bad_field(c, "weight_block_size is not two positive numbers", e);
    c->quant.block_rows = (uint32_t)rows;
    c->quant.block_cols = (uint32_t)cols;
    return 0;
}

static int read_mxfp4(struct config *c, const json_t *q, struct err *e)
{
    (void)q;
    (void)e;
    c->quant.packing = PACKING_MXFP4;
    return 0;
}

/* AutoAWQ's own file calls them w_bit and q_group_size. A group of -1 is the whole row. */
static int read_bits(struct config *c, const json_t *q, const char *method, const char *known,
                     struct err *e)
{
    int64_t bits = json_opt_i64(q, "bits", json_opt_i64(q, "w_bit", 4));
    int64_t group = json_opt_i64(q, "group_size", json_opt_i64(q, "q_group_size", -1));
    char found[32];
    snprintf(found, sizeof found, "%lld", (long long)bits);
    if (bits < 1 || bits > 16 || !strchr(known, found[0]) || found[1])
        return unreadable(c, method, "bits", found, known, e);
    if (group != -1 && (group < 1 || group > BLOCK_MAX))
        return bad_field(c, "group_size is neither positive nor -1", e);
    c->quant.bits = (uint32_t)bits;
    c->quant.group = group > 0 ? (uint32_t)group : 0;
    return 0;
}

/* Version 1 stores zero points less one. "dynamic" states other bits for some layers; theirs are
 * seen from the shapes. */
static int read_gptq(struct config *c, const json_t *q, struct err *e)
{
    const char *format = json_opt_str(q, "checkpoint_format", json_opt_str(q, "format", "gptq"));
    const json_t *dynamic = json_object_get(q, "dynamic");
    c->quant.packing = PACKING_GPTQ;
    if (strcmp(format, "gptq") != 0 && strcmp(format, "gptq_v2") != 0)
        return unreadable(c, "GPTQ", "checkpoint_format", format, "gptq or gptq_v2", e);
    c->quant.zero_add = strcmp(format, "gptq") == 0 ? 1 : 0;
    c->quant.mixed = json_is_object(dynamic) && json_object_size(dynamic) > 0;
    return read_bits(c, q, "GPTQ", "2, 3, 4 or 8", e);
}

static int read_awq(struct config *c, const json_t *q, struct err *e)
{
    const char *version = json_opt_str(q, "version", "gemm");
    c->quant.packing = PACKING_AWQ;
    if (strcmp(version, "gemm") != 0 && strcmp(version, "GEMM") != 0)
        return unreadable(c, "AWQ", "version", version, "gemm", e);
    return read_bits(c, q, "AWQ", "4", e);
}

static int read_bitsandbytes(struct config *c, const json_t *q, struct err *e)
{
    bool four = json_opt_bool(q, "load_in_4bit", json_opt_bool(q, "_load_in_4bit", false));
    bool eight = json_opt_bool(q, "load_in_8bit", json_opt_bool(q, "_load_in_8bit", false));
    if (four == eight)
        return bad_field(c,
                         "quantization_config says neither or both of load_in_4bit and "
                         "load_in_8bit",
                         e);
    c->quant.packing = four ? PACKING_BNB4 : PACKING_BNB8;
    return 0;
}

int quantized_read(struct config *c, const json_t *quantized, struct err *e)
{
    static const struct {
        const char *method;
        int (*read)(struct config *c, const json_t *q, struct err *e);
    } methods[] = {{"fp8", read_fp8},
                   {"mxfp4", read_mxfp4},
                   {"gptq", read_gptq},
                   {"awq", read_awq},
                   {"bitsandbytes", read_bitsandbytes}};
    if (!json_is_object(quantized))
        return 0;
    const char *method = json_opt_str(quantized, "quant_method", "unnamed method");
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (strcmp(method, methods[i].method) == 0)
            return methods[i].read(c, quantized, e);
    return err_set(e, ERR_UNSUPPORTED, remedy, "%s: the checkpoint is already quantized (%.60s)",
                   c->where, method);
}

void quantized_name(const struct config_quant *q, char text[static 96])
{
    static const char *const names[] = {[PACKING_NONE] = "",
                                        [PACKING_FP8] = "FP8",
                                        [PACKING_MXFP4] = "MXFP4",
                                        [PACKING_GPTQ] = "GPTQ",
                                        [PACKING_AWQ] = "AWQ",
                                        [PACKING_BNB4] = "bitsandbytes, 4 bits",
                                        [PACKING_BNB8] = "bitsandbytes, 8 bits"};
    int n = snprintf(text, 96, "%s", names[q->packing]);
    if (q->mixed)
        snprintf(text + n, 96 - (size_t)n, ", several sizes");
    else if (q->bits && q->group)
        snprintf(text + n, 96 - (size_t)n, ", %u bits in groups of %u", q->bits, q->group);
    else if (q->bits)
        snprintf(text + n, 96 - (size_t)n, ", %u bits", q->bits);
}
