/* Our bake against llama-quantize, byte by byte in every tensor, with and without importance.
 *
 * The source is the sample model and a made-up mixture of experts, written as BF16 GGUF by us;
 * llama-quantize reads that file, we read the Hugging Face folder (or the same file for the
 * experts). Every mix upstream can make is compared. Skipped without deps/peers/bin/
 * llama-quantize (make peers). */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bake/bake.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/rng.h"
#include "tensor/convert.h"

static long passed, failed;
static char folder[512];

static void die(const char *what, const struct err *e)
{
    printf("%s: %s\n", what, e->message);
    exit(1);
}

static void bake_to(const char *model, const char *base, const struct imatrix *x, const char *name,
                    const char *output)
{
    struct model *m;
    struct recipe r;
    struct bake_result result;
    struct err e = {0};
    struct bake_job job = {.recipe = &r, .imatrix = x, .imatrix_name = name, .output = output};

    if (model_open(&m, model, &e) != 0)
        die(model, &e);
    recipe_init(&r, base);
    job.model = m;
    if (bake_gguf(&job, &result, &e) != 0)
        die(base, &e);
    bake_result_release(&result);
    recipe_release(&r);
    model_close(m);
}

static void compare_files(const char *ours, const char *theirs, const char *label)
{
    struct gguf a, b;
    struct err e = {0};
    size_t wrong = 0;

    if (gguf_open(&a, ours, GGUF_CHECK_MODEL, &e) != 0)
        die(ours, &e);
    if (gguf_open(&b, theirs, GGUF_CHECK_MODEL, &e) != 0)
        die(theirs, &e);
    for (size_t i = 0; i < a.n_tensors; i++) {
        const struct gguf_tensor *x = &a.tensors[i], *y = gguf_find(&b, x->name);
        bool same = y && x->dtype == y->dtype && x->bytes == y->bytes &&
                    memcmp(gguf_tensor_data(&a, x), gguf_tensor_data(&b, y), x->bytes) == 0;
        if (!same && wrong++ < 3)
            printf("%s: %s differs (%s, %s)\n", label, x->name, dtype_name(x->dtype),
                   y ? dtype_name(y->dtype) : "missing");
    }
    for (size_t k = 0; k < a.kvs.n; k++) {
        const struct gguf_kv *kv = &a.kvs.items[k], *other = gguf_kvs_find(&b.kvs, kv->key);
        if ((strncmp(kv->key, "quantize.", 9) == 0 || strncmp(kv->key, "general.file", 12) == 0 ||
             strncmp(kv->key, "general.quant", 13) == 0) &&
            (!other || other->type != kv->type || other->u != kv->u ||
             other->str.len != kv->str.len ||
             memcmp(other->str.data ? other->str.data : "", kv->str.data ? kv->str.data : "",
                    kv->str.len) != 0)) {
            printf("%s: key %s differs\n", label, kv->key);
            wrong++;
        }
    }
    if (a.n_tensors != b.n_tensors || a.kvs.n != b.kvs.n)
        printf("%s: %zu and %zu tensors, %zu and %zu keys\n", label, a.n_tensors, b.n_tensors,
               a.kvs.n, b.kvs.n);
    if (wrong == 0 && a.n_tensors == b.n_tensors && a.kvs.n == b.kvs.n)
        passed++;
    else
        failed++;
    gguf_close(&a);
    gguf_close(&b);
}

/* Random weights for every matrix, as a file that llama-quantize reads. */
static void importance_write(const char *model, const char *path)
{
    struct imatrix x = {0};
    struct model *m;
    struct rng rng;
    struct err e = {0};

    rng_seed(&rng, 5);
    if (model_open(&m, model, &e) != 0)
        die(model, &e);
    for (size_t i = 0; i < model_desc(m)->n_tensors; i++) {
        const struct model_tensor *t = &model_desc(m)->tensors[i];
        uint64_t n = t->shape.ne[0] * t->shape.ne[2];
        float *w = xcalloc(n, sizeof *w), *counts = xcalloc(t->shape.ne[2], sizeof *counts);
        for (uint64_t k = 0; k < n; k++)
            w[k] = (float)(rng_unit(&rng) * rng_unit(&rng) * 3);
        for (uint64_t k = 0; k < t->shape.ne[2]; k++)
            counts[k] = 64;
        if (recipe_tensor_quantizable(model_desc(m), i) &&
            strcmp(t->name, "token_embd.weight") != 0)
            imatrix_add(&x, t->name, t->shape.ne[0], t->shape.ne[2], w, counts);
        xfree(w);
        xfree(counts);
    }
    imatrix_add_dataset(&x, "made-up");
    x.chunk_count = 2;
    x.chunk_size = 32;
    if (imatrix_write(&x, path, &e) != 0)
        die(path, &e);
    imatrix_release(&x);
    model_close(m);
}

/* Two layers of four experts with rows that do and do not fit super-blocks. */
static void experts_write(const char *path)
{
    static const struct {
        const char *name;
        uint64_t row, rows, depth;
    } list[] = {
        {"token_embd.weight", 256, 500, 1},          {"output.weight", 256, 500, 1},
        {"output_norm.weight", 256, 1, 1},           {"blk.0.attn_q.weight", 256, 256, 1},
        {"blk.0.attn_k.weight", 256, 64, 1},         {"blk.0.attn_v.weight", 256, 64, 1},
        {"blk.0.attn_output.weight", 256, 256, 1},   {"blk.0.ffn_gate_inp.weight", 256, 4, 1},
        {"blk.0.ffn_gate_exps.weight", 256, 288, 4}, {"blk.0.ffn_up_exps.weight", 256, 288, 4},
        {"blk.0.ffn_down_exps.weight", 288, 256, 4}, {"blk.1.ffn_down_exps.weight", 512, 256, 4},
    };
    enum { N = sizeof list / sizeof list[0] };
    struct gguf_writer_tensor t[N];
    struct gguf_kvs kvs = {0};
    struct gguf_writer w;
    struct rng rng;
    struct err e = {0};

    rng_seed(&rng, 21);
    gguf_set_str(&kvs, "general.architecture", "llama");
    gguf_set_u32(&kvs, "llama.context_length", 64);
    gguf_set_u32(&kvs, "llama.embedding_length", 256);
    gguf_set_u32(&kvs, "llama.block_count", 2);
    gguf_set_u32(&kvs, "llama.feed_forward_length", 288);
    gguf_set_u32(&kvs, "llama.attention.head_count", 4);
    gguf_set_u32(&kvs, "llama.attention.head_count_kv", 1);
    gguf_set_u32(&kvs, "llama.expert_count", 4);
    gguf_set_u32(&kvs, "llama.expert_used_count", 2);
    gguf_set_f32(&kvs, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    for (int i = 0; i < N; i++)
        t[i] =
            (struct gguf_writer_tensor){.name = list[i].name,
                                        .dtype = list[i].rows > 1 ? DT_BF16 : DT_F32,
                                        .shape = {list[i].depth > 1  ? 3
                                                  : list[i].rows > 1 ? 2
                                                                     : 1,
                                                  {list[i].row, list[i].rows, list[i].depth, 1}}};
    if (gguf_writer_open(&w, path, &kvs, t, N, &e) != 0)
        die(path, &e);
    for (int i = 0; i < N; i++) {
        uint64_t n = list[i].row * list[i].rows * list[i].depth;
        float *f = xcalloc(n, sizeof *f);
        void *bytes = xcalloc(t[i].bytes, 1);
        for (uint64_t k = 0; k < n; k++)
            f[k] = (float)(rng_normal(&rng) * 0.04 * (1 + rng_unit(&rng)));
        convert_from_f32(t[i].dtype, f, bytes, n);
        if (fs_atomic_write_at(&w.file, t[i].offset, bytes, t[i].bytes, &e) != 0)
            die(path, &e);
        xfree(f);
        xfree(bytes);
    }
    if (gguf_writer_commit(&w, &e) != 0)
        die(path, &e);
    gguf_kvs_release(&kvs);
}

static void compare_mix(const char *model, const char *gguf, const char *mix, const char *x_path,
                        const char *label)
{
    char command[4096], *ours = fs_join(folder, "ours.gguf"),
                        *theirs = fs_join(folder, "theirs.gguf");
    struct imatrix x = {0};
    struct err e = {0};

    if (x_path && imatrix_read(&x, x_path, &e) != 0)
        die(x_path, &e);
    snprintf(command, sizeof command, "deps/peers/bin/llama-quantize %s %s %s %s %s 2 >%s/log 2>&1",
             x_path ? "--imatrix" : "", x_path ? x_path : "", gguf, theirs, mix, folder);
    if (system(command) != 0) {
        printf("%s: llama-quantize failed\n", label);
        failed++;
    } else {
        bake_to(model, mix, x_path ? &x : NULL, x_path, ours);
        compare_files(ours, theirs, label);
    }
    imatrix_release(&x);
    fs_remove(ours, NULL);
    fs_remove(theirs, NULL);
    xfree(ours);
    xfree(theirs);
}

static bool is_slow(const char *mix)
{
    return strncmp(mix, "IQ", 2) == 0 && strcmp(mix, "IQ4_XS") != 0 && strcmp(mix, "IQ3_M") != 0;
}

/* quick: of the i-quants only two. */
static void compare_model(const char *model, const char *gguf, const char *label, bool quick)
{
    char *x_path = fs_join(folder, "importance.gguf"), text[128];
    struct model *m;
    struct err e = {0};

    importance_write(gguf, x_path);
    if (model_open(&m, gguf, &e) != 0)
        die(gguf, &e);
    for (int k = 0; stock_at(k); k++) {
        const struct stock_mix *mix = stock_at(k);
        for (int weighted = 0; weighted < 2; weighted++) {
            if (!weighted && stock_needs_importance(mix, model_desc(m)))
                continue;
            if (stock_base_type(mix) == DT_Q1_0)
                continue; /* upstream throws on rows that its blocks do not divide */
            if (quick && is_slow(stock_name(mix)))
                continue;
            snprintf(text, sizeof text, "%s %s%s", label, stock_name(mix),
                     weighted ? " with importance" : "");
            compare_mix(model, gguf, stock_name(mix), weighted ? x_path : NULL, text);
        }
    }
    model_close(m);
    xfree(x_path);
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");
    char *gguf, *experts;

    if (access("deps/peers/bin/llama-quantize", X_OK) != 0) {
        printf("skipped: no deps/peers/bin/llama-quantize (make peers)\n");
        return 77;
    }
    snprintf(folder, sizeof folder, "%s/sintra-bytes-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(folder))
        return 1;
    gguf = fs_join(folder, "sample.gguf");
    experts = fs_join(folder, "experts.gguf");
    bake_to("models/sample", "BF16", NULL, NULL, gguf);
    experts_write(experts);
    compare_model("models/sample", gguf, "sample", true);
    compare_model(experts, experts, "experts", false);
    fs_remove_tree(folder, NULL);
    xfree(gguf);
    xfree(experts);
    printf("%ld passed, %ld failed\n", passed, failed);
    return failed > 0;
}
