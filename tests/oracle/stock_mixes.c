/* Our stock mixes against upstream's own choice, tensor by tensor.
 *
 * First in memory: a grid of made-up models (architecture, layers, heads, experts, tied or not,
 * fused attention, row lengths) times every mix, against the functions that libllama exports for
 * its own schema test (C++ names of the pinned build). Then through llama-quantize --dry-run on
 * small files of zeros, for what those functions leave out: importance, --pure, --tensor-type
 * and the other options, and how it recognises 70B models. The second half is skipped where
 * deps/peers/bin/llama-quantize is missing (make peers). */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* llama.h brings ggml's own gguf.h, whose enum has the name of ours. */
#define gguf_type up_gguf_type
#include "llama.h"
#undef gguf_type

#include "base/mem.h"
#include "format/gguf.h"
#include "format/imatrix.h"
#include "recipe/recipe.h"

/* ---- libllama's exported but unpublished functions (src/llama-ext.h of 0.5.0) ---- */

struct quant_model_desc {
    const char *architecture;
    uint32_t n_embd, n_ff, n_layer, n_head, n_head_kv, n_expert, n_embd_head_k, n_embd_head_v;
};
struct quantize_state;
struct quantize_state *up_init(
    const struct llama_model *m,
    const struct llama_model_quantize_params
        *p) __asm__("_Z16llama_quant_initPK11llama_modelPK27llama_model_quantize_params");
void up_free(struct quantize_state *s) __asm__("_Z16llama_quant_freeP19quantize_state_impl");
struct llama_model *up_model(const struct quant_model_desc *d) __asm__(
    "_Z31llama_quant_model_from_metadataPK22llama_quant_model_desc");
bool up_allows(const struct quantize_state *s, const struct ggml_tensor *t) __asm__(
    "_Z38llama_quant_tensor_allows_quantizationPK19quantize_state_implPK11ggml_tensor");
void up_types(
    struct quantize_state *s, enum llama_ftype f, struct ggml_tensor **t, enum ggml_type *types,
    size_t
        n) __asm__("_Z25llama_quant_compute_typesP19quantize_state_impl11llama_ftypePP11ggml_tensor"
                   "P9ggml_typem");

static long passed, failed;

static void verdict(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void verdict(bool ok, const char *format, ...)
{
    va_list ap;

    passed += ok;
    failed += !ok;
    if (ok || failed > 40)
        return;
    va_start(ap, format);
    vprintf(format, ap);
    va_end(ap);
    printf("\n");
}

/* ---- made-up models ---- */

enum { TENSORS_MAX = 2000 };

struct made {
    struct model_desc d;
    struct model_tensor tensors[TENSORS_MAX];
    char names[TENSORS_MAX][64];
};

struct shape_of {
    const char *arch;
    uint32_t n_layer, n_head, n_head_kv, n_expert;
    bool tied, fused, shared_experts;
    uint64_t row;
};

static void add(struct made *m, const char *name, uint64_t row, uint64_t rows, uint64_t depth)
{
    struct model_tensor *t = &m->tensors[m->d.n_tensors];

    snprintf(m->names[m->d.n_tensors], sizeof m->names[0], "%s", name);
    *t = (struct model_tensor){.name = m->names[m->d.n_tensors], .dtype = DT_F32};
    t->layer = -1;
    sscanf(t->name, "blk.%d.", &t->layer);
    t->dtype_min = DT_NONE;
    t->shape = (struct shape){depth > 1 ? 3 : rows > 1 ? 2 : 1, {row, rows, depth, 1}};
    m->d.n_tensors++;
    m->d.parameters += row * rows * depth;
}

static void add_block(struct made *m, const struct shape_of *s, uint32_t layer, const char *kind,
                      uint64_t row, uint64_t rows, uint64_t depth)
{
    char name[64];

    (void)s;
    snprintf(name, sizeof name, "blk.%u.%s.weight", layer, kind);
    add(m, name, row, rows, depth);
}

static void make(struct made *m, const struct shape_of *s)
{
    m->d = (struct model_desc){.architecture = s->arch,
                               .n_layer = s->n_layer,
                               .n_head = s->n_head,
                               .n_head_kv = s->n_head_kv,
                               .n_expert = s->n_expert,
                               .tensors = m->tensors};
    add(m, "token_embd.weight", s->row, 64, 1);
    add(m, "output_norm.weight", s->row, 1, 1);
    if (!s->tied)
        add(m, "output.weight", s->row, 64, 1);
    for (uint32_t l = 0; l < s->n_layer; l++) {
        add_block(m, s, l, "attn_norm", s->row, 1, 1);
        if (s->fused) {
            add_block(m, s, l, "attn_qkv", s->row, 64, 1);
        } else {
            add_block(m, s, l, "attn_q", s->row, 64, 1);
            add_block(m, s, l, "attn_k", s->row, 32, 1);
            add_block(m, s, l, "attn_v", s->row, 32, 1);
        }
        add_block(m, s, l, "attn_output", 64, 64, 1);
        if (s->n_expert > 0) {
            add_block(m, s, l, "ffn_gate_inp", s->row, s->n_expert, 1);
            add_block(m, s, l, "ffn_gate_exps", s->row, 64, s->n_expert);
            add_block(m, s, l, "ffn_up_exps", s->row, 64, s->n_expert);
            add_block(m, s, l, "ffn_down_exps", 512, 64, s->n_expert);
        }
        if (s->n_expert == 0 || s->shared_experts) {
            add_block(m, s, l, s->n_expert ? "ffn_gate_shexp" : "ffn_gate", s->row, 64, 1);
            add_block(m, s, l, s->n_expert ? "ffn_up_shexp" : "ffn_up", s->row, 64, 1);
            add_block(m, s, l, s->n_expert ? "ffn_down_shexp" : "ffn_down", 768, 64, 1);
        }
    }
}

/* The loader's order, by which upstream counts. */
static int loader_order(const void *a, const void *b)
{
    const struct ggml_tensor *x = *(struct ggml_tensor *const *)a,
                             *y = *(struct ggml_tensor *const *)b;
    int lx = -1, ly = -1;

    sscanf(x->name, "blk.%d.", &lx);
    sscanf(y->name, "blk.%d.", &ly);
    return lx != ly ? lx - ly : strcmp(x->name, y->name);
}

/* ---- in memory ---- */

static void compare_mix(const struct made *m, const struct shape_of *s, struct quantize_state *qs,
                        struct ggml_tensor **t, size_t n, const struct stock_mix *mix)
{
    static enum ggml_type theirs[TENSORS_MAX];
    struct recipe r;
    struct plan p;
    struct err e = {0};
    size_t wrong = 0;

    up_types(qs, (enum llama_ftype)stock_file_type(mix), t, theirs, n);
    recipe_init(&r, stock_name(mix));
    if (recipe_resolve(&r, &m->d, NULL, &p, &e) != 0) {
        verdict(false, "%s %s: %s", s->arch, stock_name(mix), e.message);
        recipe_release(&r);
        return;
    }
    for (size_t k = 0; k < n; k++) {
        size_t i = 0;
        while (strcmp(m->tensors[i].name, t[k]->name) != 0)
            i++;
        if ((int)p.tensors[i].type != (int)theirs[k] && wrong++ == 0)
            printf("%s l=%u h=%u/%u x=%u tied=%d row=%llu %s: %s is %s, upstream %s\n", s->arch,
                   s->n_layer, s->n_head, s->n_head_kv, s->n_expert, s->tied,
                   (unsigned long long)s->row, stock_name(mix), t[k]->name,
                   dtype_name(p.tensors[i].type), ggml_type_name(theirs[k]));
    }
    verdict(wrong == 0, "  and %zu more", wrong);
    plan_release(&p);
    recipe_release(&r);
}

static void compare_model(const struct shape_of *s)
{
    static struct made m;
    struct quant_model_desc d = {s->arch,      (uint32_t)s->row, 768, s->n_layer, s->n_head,
                                 s->n_head_kv, s->n_expert,      64,  64};
    struct llama_model *model = up_model(&d);
    struct llama_model_quantize_params params = llama_model_quantize_default_params();
    struct quantize_state *qs = up_init(model, &params);
    struct ggml_init_params init = {TENSORS_MAX * ggml_tensor_overhead(), NULL, true};
    struct ggml_context *ctx = ggml_init(init);
    static struct ggml_tensor *t[TENSORS_MAX];
    size_t n = 0;

    make(&m, s);
    for (size_t i = 0; i < m.d.n_tensors; i++) {
        const uint64_t *ne = m.tensors[i].shape.ne;
        t[n] = ggml_new_tensor_4d(ctx, GGML_TYPE_F32, (int64_t)ne[0], (int64_t)ne[1],
                                  (int64_t)ne[2], 1);
        ggml_set_name(t[n], m.tensors[i].name);
        if (up_allows(qs, t[n]) != recipe_tensor_quantizable(&m.d, i))
            verdict(false, "%s: quantizable or not?", t[n]->name);
        n += up_allows(qs, t[n]);
    }
    qsort(t, n, sizeof *t, loader_order);
    for (int k = 0; stock_at(k); k++) {
        /* Upstream throws for rows that its Q1_0 blocks do not divide: attn_output has rows of
         * 64. */
        if (stock_base_type(stock_at(k)) == DT_Q1_0)
            continue;
        compare_mix(&m, s, qs, t, n, stock_at(k));
    }
    ggml_free(ctx);
    up_free(qs);
    llama_model_free(model);
}

static void compare_grid(void)
{
    static const char *const archs[] = {"llama",  "falcon",   "qwen2",      "qwen3",
                                        "gemma3", "qwen3moe", "bailingmoe3"};
    static const uint32_t layers[] = {1, 5, 22, 32, 61, 80};
    static const uint32_t heads[][2] = {{8, 8}, {8, 2}, {9, 3}, {32, 0}};
    static const uint32_t experts[] = {0, 2, 4, 8, 16};
    static const uint64_t rows[] = {256, 288, 100};
    size_t a = 0, combination = 0;

    for (; a < sizeof archs / sizeof archs[0]; a++) {
        for (size_t l = 0; l < 6; l++) {
            for (size_t x = 0; x < 5; x++, combination++) {
                /* Upstream's stand-in knows 70B for one architecture only; the files below have
                 * the rest. */
                if (layers[l] == 80 && strcmp(archs[a], "qwen2") == 0)
                    continue;
                for (size_t h = 0; h < 4; h++) {
                    struct shape_of s = {archs[a],
                                         layers[l],
                                         heads[h][0],
                                         heads[h][1],
                                         experts[x],
                                         .tied = (combination + h) % 2,
                                         .fused = (combination / 2 + h) % 3 == 0,
                                         .shared_experts = combination % 3 == 0,
                                         .row = rows[(combination + h) % 3]};
                    compare_model(&s);
                }
            }
        }
    }
}

static void compare_quantizable(void)
{
    static const char *const names[] = {
        "output.weight",
        "position_embd.weight",
        "token_types.weight",
        "x.position_embd.weight",
        "blk.0.attn_norm.weight",
        "blk.0.attn_q_norm.weight",
        "blk.0.ffn_gate_inp.weight",
        "blk.0.ffn_gate_inp_shexp.weight",
        "blk.0.ffn_gate_tid2eid.weight",
        "blk.0.altup_proj.weight",
        "blk.0.laurel_l.weight",
        "per_layer_model_proj.weight",
        "blk.0.ssm_conv1d.weight",
        "blk.0.ssm_conv1d_q.weight",
        "blk.0.shortconv.conv.weight",
        "blk.0.shortconv.in_proj.weight",
        "blk.0.indexer.k_proj.weight",
        "blk.0.indexer.q_proj.weight",
        "blk.0.time_mix_w1.weight",
        "blk.0.time_mix_key.weight",
        "blk.0.time_mix_a2.weight",
        "blk.0.attn_rel_b.weight",
        "sam.neck.0.weight",
        "sam.net_2.weight",
        "v.blk.0.attn_rel_pos_h.weight",
        "v.patch_embd.weight",
        "mm.patch_merger.weight",
        "a.rvq.codebook.0.weight",
        "mm.a.code_embd.weight",
        "blk.0.ssm_in.weight",
        "blk.0.attn_q.bias",
        "blk.0.ffn_norm_exps.weight",
        "token_embd.weight",
        "per_layer_token_embd.weight",
        "token_embd_norm.weight",
        "blk.0.ssm_a",
        "rope_freqs.weight",
    };
    static const uint64_t shapes[][3] = {{64, 64, 1}, {64, 1, 1}, {64, 4, 4}, {64, 1, 4}};
    struct quant_model_desc d = {"llama", 256, 768, 2, 8, 8, 0, 64, 64};
    struct llama_model *model = up_model(&d);
    struct llama_model_quantize_params params = llama_model_quantize_default_params();
    struct quantize_state *qs = up_init(model, &params);
    struct ggml_init_params init = {1000 * ggml_tensor_overhead(), NULL, true};
    struct ggml_context *ctx = ggml_init(init);

    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        for (size_t j = 0; j < 4; j++) {
            const uint64_t *ne = shapes[j];
            struct model_tensor mine = {.name = names[k], .shape = {3, {ne[0], ne[1], ne[2], 1}}};
            struct model_desc one = {.architecture = "llama", .tensors = &mine, .n_tensors = 1};
            struct ggml_tensor *t = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, (int64_t)ne[0],
                                                       (int64_t)ne[1], (int64_t)ne[2]);
            ggml_set_name(t, names[k]);
            verdict(up_allows(qs, t) == recipe_tensor_quantizable(&one, 0),
                    "%s %llux%llux%llu: quantizable or not?", names[k], (unsigned long long)ne[0],
                    (unsigned long long)ne[1], (unsigned long long)ne[2]);
        }
    }
    ggml_free(ctx);
    up_free(qs);
    llama_model_free(model);
}

/* ---- through llama-quantize ---- */

static char folder[4096];

static void key(char out[128], const char *arch, const char *rest)
{
    snprintf(out, 128, "%s.%s", arch, rest);
}

/* A GGUF of zeros (a sparse file) that upstream's loader takes for such a model. */
static void write_zeros(const char *path, const struct made *m, const struct shape_of *s)
{
    struct gguf_kvs kvs = {0};
    struct gguf_writer_tensor *t = xcalloc(m->d.n_tensors, sizeof *t);
    struct gguf_writer w;
    struct err e = {0};
    char k[128];

    gguf_set_str(&kvs, "general.architecture", s->arch);
    key(k, s->arch, "context_length"), gguf_set_u32(&kvs, k, 128);
    key(k, s->arch, "embedding_length"), gguf_set_u32(&kvs, k, (uint32_t)s->row);
    key(k, s->arch, "block_count"), gguf_set_u32(&kvs, k, s->n_layer);
    key(k, s->arch, "feed_forward_length"), gguf_set_u32(&kvs, k, 768);
    key(k, s->arch, "attention.head_count"), gguf_set_u32(&kvs, k, s->n_head);
    key(k, s->arch, "attention.head_count_kv"), gguf_set_u32(&kvs, k, s->n_head_kv);
    key(k, s->arch, "attention.layer_norm_rms_epsilon"), gguf_set_f32(&kvs, k, 1e-5f);
    key(k, s->arch, "attention.layer_norm_epsilon"), gguf_set_f32(&kvs, k, 1e-5f);
    if (s->n_expert) {
        key(k, s->arch, "expert_count"), gguf_set_u32(&kvs, k, s->n_expert);
        key(k, s->arch, "expert_used_count"), gguf_set_u32(&kvs, k, 2);
    }
    for (size_t i = 0; i < m->d.n_tensors; i++)
        t[i] = (struct gguf_writer_tensor){m->tensors[i].name, DT_F32, m->tensors[i].shape, 0, 0};
    if (gguf_writer_open(&w, path, &kvs, t, m->d.n_tensors, &e) != 0 ||
        gguf_writer_commit(&w, &e) != 0) {
        printf("cannot write %s: %s\n", path, e.message);
        exit(1);
    }
    gguf_kvs_release(&kvs);
    xfree(t);
}

static void write_importance(const char *path, const struct made *m)
{
    struct imatrix x = {0};
    struct err e = {0};
    static float ones[1 << 20];
    float counts[256];

    for (size_t k = 0; k < sizeof ones / sizeof ones[0]; k++)
        ones[k] = 1.0f;
    for (size_t k = 0; k < 256; k++)
        counts[k] = 1.0f;
    for (size_t i = 0; i < m->d.n_tensors; i++) {
        const struct shape *s = &m->tensors[i].shape;
        if (s->n_dims > 1)
            imatrix_add(&x, m->tensors[i].name, s->ne[0], s->ne[2], ones, counts);
    }
    x.chunk_count = 1;
    x.chunk_size = 128;
    if (imatrix_write(&x, path, &e) != 0) {
        printf("cannot write %s: %s\n", path, e.message);
        exit(1);
    }
    imatrix_release(&x);
}

/* "[  3/ 12] blk.0.attn_q.weight - [...], type = f32, size = 0.06 MiB -> 0.01 MiB (q4_K)" */
static bool parse_line(const char *line, char name[64], char type[32])
{
    const char *bracket = strchr(line, ']'), *arrow = strstr(line, "->"), *paren;

    if (line[0] != '[' || !bracket || sscanf(bracket + 1, " %63s", name) != 1)
        return false;
    if (!arrow)
        return sscanf(strstr(line, "type = "), "type = %31[^,]", type) == 1;
    paren = strchr(arrow, '(');
    return paren && sscanf(paren, "(%31[^)])", type) == 1;
}

static void compare_run(const struct made *m, const char *mix, const struct recipe_options *o,
                        const char *arguments, const char *label)
{
    char command[12000], line[4096], name[64], type[32];
    struct recipe r;
    struct plan p;
    struct err e = {0};
    size_t seen = 0, wrong = 0;
    FILE *f;

    recipe_init(&r, mix);
    if (recipe_resolve(&r, &m->d, o, &p, &e) != 0) {
        verdict(false, "%s: %s", label, e.message);
        return;
    }
    snprintf(command, sizeof command,
             "deps/peers/bin/llama-quantize --dry-run %s %s/zeros.gguf %s 2>&1", arguments, folder,
             mix);
    f = popen(command, "r");
    while (f && fgets(line, sizeof line, f)) {
        size_t i = 0;
        if (!parse_line(line, name, type))
            continue;
        while (i < m->d.n_tensors && strcmp(m->tensors[i].name, name) != 0)
            i++;
        if (i == m->d.n_tensors)
            continue;
        seen++;
        if (p.tensors[i].type != dtype_by_name(type) && wrong++ == 0)
            printf("%s %s %s: %s is %s, upstream %s\n", label, mix, arguments, name,
                   dtype_name(p.tensors[i].type), type);
    }
    if (f)
        pclose(f);
    verdict(wrong == 0 && seen == m->d.n_tensors,
            "%s %s %s: %zu of %zu tensors differ, %zu in the model", label, mix, arguments, wrong,
            seen, m->d.n_tensors);
    plan_release(&p);
    recipe_release(&r);
}

static void compare_options(const struct made *m, const char *label)
{
    struct recipe_override several[] = {
        {"blk\\.0\\.attn_v", DT_Q8_0}, {"ffn_(up|gate)", DT_IQ4_NL}, {"ffn", DT_Q5_1}};
    struct recipe_options o = RECIPE_OPTIONS_DEFAULT;

    o.pure = true;
    compare_run(m, "Q4_K_M", &o, "--pure", label);
    o.output_type = DT_Q5_0;
    o.embedding_type = DT_Q4_1;
    compare_run(m, "Q4_K_M", &o, "--pure --output-tensor-type q5_0 --token-embedding-type q4_1",
                label);
    o.pure = false;
    compare_run(m, "Q4_K_M", &o, "--output-tensor-type q5_0 --token-embedding-type q4_1", label);
    o.embedding_type = DT_NONE;
    compare_run(m, "IQ3_M", &o, "--output-tensor-type q5_0", label);
    o.output_type = DT_NONE;
    o.overrides = several;
    o.n_overrides = 3;
    compare_run(m, "Q3_K_M", &o,
                "--tensor-type 'blk\\.0\\.attn_v=q8_0' --tensor-type 'ffn_(up|gate)=iq4_nl' "
                "--tensor-type ffn=q5_1",
                label);
}

static void compare_files(void)
{
    static const struct shape_of models[] = {
        {"llama", 22, 32, 4, 0, .row = 256},
        {"llama", 8, 4, 2, 0, .tied = true, .row = 256},
        {"llama", 80, 64, 8, 0, .row = 256},
        {"llama", 80, 64, 64, 0, .row = 256},
        {"qwen2", 80, 64, 8, 0, .row = 288},
        {"qwen2", 80, 8, 8, 0, .row = 256},
        {"deci", 80, 64, 8, 0, .row = 256},
        {"olmo", 80, 64, 8, 0, .row = 256},
        {"jais2", 68, 64, 8, 0, .row = 256},
        {"llama", 32, 32, 8, 8, .row = 256},
        {"llama", 80, 32, 8, 8, .row = 256},
        {"falcon", 32, 71, 1, 0, .fused = true, .row = 576},
        {"qwen3", 28, 16, 8, 0, .tied = true, .row = 1024},
        {"qwen2moe", 24, 16, 16, 60, .shared_experts = true, .row = 256},
    };
    static struct made m;
    char zeros[5000], importance[5000], arguments[6000];
    struct recipe_options weighted = RECIPE_OPTIONS_DEFAULT;

    weighted.have_importance = true;
    snprintf(zeros, sizeof zeros, "%s/zeros.gguf", folder);
    snprintf(importance, sizeof importance, "%s/importance.gguf", folder);
    snprintf(arguments, sizeof arguments, "--imatrix %s", importance);
    for (size_t k = 0; k < sizeof models / sizeof models[0]; k++) {
        char label[64];
        make(&m, &models[k]);
        write_zeros(zeros, &m, &models[k]);
        write_importance(importance, &m);
        snprintf(label, sizeof label, "%s-%u", models[k].arch, models[k].n_layer);
        for (int i = 0; stock_at(i); i++) {
            if (stock_base_type(stock_at(i)) == DT_Q1_0)
                continue;
            compare_run(&m, stock_name(stock_at(i)), NULL, "", label);
            compare_run(&m, stock_name(stock_at(i)), &weighted, arguments, label);
        }
        compare_options(&m, label);
    }
    unlink(zeros);
    unlink(importance);
}

static void silent(enum ggml_log_level level, const char *text, void *ud)
{
    (void)level, (void)text, (void)ud;
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");

    llama_log_set(silent, NULL);
    compare_quantizable();
    compare_grid();
    printf("in memory: %ld comparisons, %ld failed\n", passed + failed, failed);
    if (access("deps/peers/bin/llama-quantize", X_OK) != 0) {
        printf("skipped: llama-quantize --dry-run (make peers)\n");
    } else {
        snprintf(folder, sizeof folder, "%s/sintra-mixes-XXXXXX", tmp ? tmp : "/tmp");
        if (!mkdtemp(folder))
            return 1;
        compare_files();
        rmdir(folder);
    }
    printf("%ld passed, %ld failed\n", passed, failed);
    return failed > 0;
}
