/* From a job to everything that can be known before writing: plan, metadata, weights, places in the
 * file.
 *
 * Refuses here, before a byte is written: re-encoding of quantized tensors that was not allowed,
 * importance that is missing or foreign, rows longer than a band may be, an output that is the
 * source itself. Metadata is the model's with general.file_type, general.quantization_version
 * and quantize.imatrix.* as llama-quantize writes them, and without the keys of a split. Source
 * of these: src/llama-quant.cpp and tools/quantize of llama.cpp 0.5.0. setup_release frees all
 * that setup_make made; the job and what it points to stay the caller's. */
#include "bake/bake_int.h"

#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "recipe/stock.h"
#include "base/banned.h"

enum {
    QUANTIZATION_VERSION = 2,    /* GGML_QNT_VERSION */
    IMATRIX_TEXT_MAX = 127,      /* what llama-quantize keeps of a file or dataset name */
    ROW_ELEMENTS_MAX = 16 << 20, /* a row is encoded as a whole: 64 MiB of floats at most */
};

/* ---- refusals ---- */

static int check_source(const struct setup *s, struct err *e)
{
    for (size_t i = 0; i < s->desc->n_tensors; i++) {
        const struct model_tensor *t = &s->desc->tensors[i];
        if (s->plan.tensors[i].type == t->dtype)
            continue;
        if (dtype_info(t->dtype)->quantized && !s->job->allow_requantize)
            return err_set(e, ERR_USAGE,
                           "start from the original weights, or allow it with --allow-requantize "
                           "(quality suffers)",
                           "tensor %s is already quantized (%s) and would be encoded again as %s",
                           t->name, dtype_name(t->dtype), dtype_name(s->plan.tensors[i].type));
        if (t->shape.ne[0] > ROW_ELEMENTS_MAX)
            return err_set(e, ERR_LIMIT, NULL,
                           "tensor %s has rows of %llu elements, at most %d can be encoded",
                           t->name, (unsigned long long)t->shape.ne[0], ROW_ELEMENTS_MAX);
    }
    return 0;
}

static int check_output(const struct bake_job *job, struct err *e)
{
    struct stat in, out;

    if (job->output && stat(model_path(job->model), &in) == 0 && stat(job->output, &out) == 0 &&
        in.st_dev == out.st_dev && in.st_ino == out.st_ino)
        return err_set(e, ERR_USAGE, "choose another output",
                       "%s is the model itself and would be replaced", job->output);
    return 0;
}

/* A recipe that was made for certain importance weights means another file without them. */
static int check_recipe_importance(const struct bake_job *job, struct err *e)
{
    const char *asked = job->recipe->importance;

    if (!asked)
        return 0;
    if (!job->imatrix)
        return err_set(
            e, ERR_MISSING, "give the importance file, or set \"importance\" to null in the recipe",
            "the recipe was made with the importance file of SHA-256 %s, and none is given", asked);
    if (job->imatrix->sha256[0] && strcmp(job->imatrix->sha256, asked) != 0)
        return err_set(
            e, ERR_INPUT, "give that file, or set \"importance\" to null in the recipe",
            "the recipe was made with the importance file of SHA-256 %s, the one given has %s",
            asked, job->imatrix->sha256);
    return 0;
}

/* Factors of another model know none of the tensors, or other numbers of columns. */
static int check_factors(const struct factors *f, const struct model_desc *d, struct err *e)
{
    static const char hint[] = "calibrate this model";
    bool any = false;

    for (size_t i = 0; i < d->n_tensors; i++) {
        const struct model_tensor *t = &d->tensors[i];
        const struct factors_entry *x = factors_find(f, t->name);
        any = any || x;
        if (x && x->n != t->shape.ne[0])
            return err_set(e, ERR_INPUT, hint,
                           "the factors of tensor %s have %llu columns, the tensor has %llu",
                           t->name, (unsigned long long)x->n, (unsigned long long)t->shape.ne[0]);
    }
    if (!any)
        return err_set(e, ERR_INPUT, hint, "the factors file names no tensor of the model");
    return 0;
}

static int check_feedback(const struct bake_job *job, struct err *e)
{
    const char *asked = job->recipe->feedback;

    if (job->factors && check_factors(job->factors, model_desc(job->model), e) != 0)
        return -1;
    if (!asked || (job->factors && strcmp(job->factors->sha256, asked) == 0))
        return 0;
    return err_set(e, job->factors ? ERR_INPUT : ERR_MISSING,
                   "give that file, or remove \"feedback\" from the recipe",
                   "the recipe was made with the factors file of SHA-256 %s, %s%s", asked,
                   job->factors ? "the one given has " : "and none is given",
                   job->factors ? job->factors->sha256 : "");
}

/* ---- metadata ---- */

/* At most IMATRIX_TEXT_MAX bytes, not cutting a UTF-8 character. */
static void set_short_text(struct gguf_kvs *kvs, const char *key, const char *text)
{
    size_t n = strlen(text);

    if (n > IMATRIX_TEXT_MAX) {
        n = IMATRIX_TEXT_MAX;
        while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
            n--;
    }
    gguf_set_strn(kvs, key, text, n);
}

/* Floats around blocks that were kept: the file type is that of the blocks, as upstream has it. */
static uint32_t file_type(const struct setup *s)
{
    const struct stock_mix *mix = s->plan.mix;
    bool floats = mix && !dtype_info(stock_base_type(mix))->quantized;

    return s->plan.n_kept > 0 && floats ? stock_file_type(stock_find("MXFP4_MOE"))
                                        : recipe_file_type(s->job->recipe);
}

static void make_kvs(struct setup *s)
{
    const struct gguf_kvs *from = model_kvs(s->job->model);
    const struct imatrix *m = s->job->imatrix;

    for (size_t k = 0; k < from->n; k++) {
        if (strncmp(from->items[k].key, "split.", 6) != 0)
            gguf_set_copy(&s->kvs, &from->items[k]);
    }
    gguf_set_u32(&s->kvs, "general.quantization_version", QUANTIZATION_VERSION);
    gguf_set_u32(&s->kvs, "general.file_type", file_type(s));
    if (!m || m->n == 0)
        return;
    if (s->job->imatrix_name)
        set_short_text(&s->kvs, "quantize.imatrix.file", s->job->imatrix_name);
    if (m->n_datasets > 0)
        set_short_text(&s->kvs, "quantize.imatrix.dataset", m->datasets[0]);
    gguf_set_u32(&s->kvs, "quantize.imatrix.entries_count", (uint32_t)m->n);
    if (m->chunk_count > 0)
        gguf_set_u32(&s->kvs, "quantize.imatrix.chunks_count", m->chunk_count);
}

/* ---- all of it ---- */

static int resolve(struct setup *s, struct err *e)
{
    struct recipe_options options = RECIPE_OPTIONS_DEFAULT;

    if (s->job->options)
        options = *s->job->options;
    options.have_importance = s->job->imatrix && s->job->imatrix->n > 0;
    options.silent = true;
    return recipe_resolve(s->job->recipe, s->desc, &options, &s->plan, e);
}

static void describe_tensors(struct setup *s)
{
    size_t n = s->desc->n_tensors;

    s->importance = xcalloc(n + 1, sizeof *s->importance);
    s->tensors = xcalloc(n + 1, sizeof *s->tensors);
    for (size_t i = 0; i < n; i++)
        s->tensors[i] = (struct gguf_writer_tensor){.name = s->desc->tensors[i].name,
                                                    .dtype = s->plan.tensors[i].type,
                                                    .shape = s->desc->tensors[i].shape};
}

int setup_make(struct setup *s, const struct bake_job *job, struct err *e)
{
    *s = (struct setup){.job = job, .desc = model_desc(job->model)};
    if (check_output(job, e) != 0 || check_recipe_importance(job, e) != 0 ||
        check_feedback(job, e) != 0 || resolve(s, e) != 0)
        return -1;
    describe_tensors(s);
    if (check_source(s, e) != 0 || importance_bind(s, e) != 0) {
        setup_release(s);
        return -1;
    }
    make_kvs(s);
    return 0;
}

void setup_release(struct setup *s)
{
    plan_release(&s->plan);
    gguf_kvs_release(&s->kvs);
    xfree(s->tensors);
    xfree(s->importance);
    *s = (struct setup){0};
}
