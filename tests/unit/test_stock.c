/* Stock mixes against frozen facts of real models (the .txt files of tests/schema, from
 * upstream's own snapshots), and the rules that snapshots do not show: aliases, forced types,
 * importance, order, experts. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "recipe/recipe.h"

/* ---- models by hand ---- */

struct handmade {
    struct model_desc d;
    size_t capacity;
};

static void handmade_add(struct handmade *h, const char *name, uint64_t row, uint64_t rows,
                         uint64_t depth)
{
    struct model_desc *d = &h->d;
    struct model_tensor *t;

    d->tensors = xgrow(d->tensors, &h->capacity, d->n_tensors + 1, sizeof *d->tensors);
    t = &d->tensors[d->n_tensors++];
    *t = (struct model_tensor){.name = xstrdup(name), .layer = -1, .dtype = DT_F32};
    t->dtype_min = DT_NONE;
    sscanf(name, "blk.%d.", &t->layer);
    t->shape = (struct shape){depth > 1 ? 3 : rows > 1 ? 2 : 1, {row, rows, depth, 1}};
    d->parameters += row * rows * depth;
}

static void handmade_release(struct handmade *h)
{
    for (size_t i = 0; i < h->d.n_tensors; i++)
        xfree((void *)(uintptr_t)h->d.tensors[i].name);
    xfree(h->d.tensors);
    *h = (struct handmade){0};
}

/* The shapes of Llama-3-8B. */
static struct handmade llama_8b(void)
{
    struct handmade h = {
        .d = {.architecture = "llama", .n_layer = 32, .n_head = 32, .n_head_kv = 8}};
    static const struct {
        const char *kind;
        uint64_t row, rows;
    } kinds[] = {{"attn_q", 4096, 4096},      {"attn_k", 4096, 1024},    {"attn_v", 4096, 1024},
                 {"attn_output", 4096, 4096}, {"ffn_gate", 4096, 14336}, {"ffn_up", 4096, 14336},
                 {"ffn_down", 14336, 4096}};
    char name[64];

    handmade_add(&h, "token_embd.weight", 4096, 128256, 1);
    handmade_add(&h, "output.weight", 4096, 128256, 1);
    for (int l = 0; l < 32; l++) {
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
            snprintf(name, sizeof name, "blk.%d.%s.weight", l, kinds[k].kind);
            handmade_add(&h, name, kinds[k].row, kinds[k].rows, 1);
        }
    }
    return h;
}

/* A dense llama with rows of 256 in everything. */
static struct handmade small_llama(const char *arch, uint32_t layers, uint32_t heads, uint32_t kv)
{
    static const char *const kinds[] = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                        "ffn_gate", "ffn_up", "ffn_down"};
    struct handmade h = {
        .d = {.architecture = arch, .n_layer = layers, .n_head = heads, .n_head_kv = kv}};
    char name[64];

    handmade_add(&h, "token_embd.weight", 256, 512, 1);
    handmade_add(&h, "output.weight", 256, 512, 1);
    handmade_add(&h, "output_norm.weight", 256, 1, 1);
    for (uint32_t l = 0; l < layers; l++) {
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
            snprintf(name, sizeof name, "blk.%u.%s.weight", l, kinds[k]);
            handmade_add(&h, name, 256, 256, 1);
        }
        snprintf(name, sizeof name, "blk.%u.attn_norm.weight", l);
        handmade_add(&h, name, 256, 1, 1);
    }
    return h;
}

static enum dtype type_of(const struct plan *p, const struct model_desc *d, const char *name)
{
    for (size_t i = 0; i < d->n_tensors; i++) {
        if (strcmp(d->tensors[i].name, name) == 0)
            return p->tensors[i].type;
    }
    fail_msg("no tensor %s", name);
    return DT_NONE;
}

static enum dtype resolve_one(const char *base, const struct model_desc *d,
                              const struct recipe_options *o, const char *name)
{
    struct recipe r;
    struct plan p;
    struct err e = {0};
    enum dtype t;

    recipe_init(&r, base);
    if (recipe_resolve(&r, d, o, &p, &e) != 0)
        fail_msg("%s", e.message);
    t = type_of(&p, d, name);
    plan_release(&p);
    recipe_release(&r);
    return t;
}

/* ---- frozen facts ---- */

struct schema {
    struct handmade h;
    enum dtype *expected; /* of the mix being read */
    char mix[32], arch[32];
    size_t compared, mixes;
};

/* Calls fn for every layer of "0-3,7" or "-". */
static void each_layer(const char *text, void (*fn)(void *ud, int layer), void *ud)
{
    if (strcmp(text, "-") == 0) {
        fn(ud, -1);
        return;
    }
    while (*text) {
        char *end;
        long first = strtol(text, &end, 10), last = first;
        if (*end == '-')
            last = strtol(end + 1, &end, 10);
        for (long l = first; l <= last; l++)
            fn(ud, (int)l);
        text = *end == ',' ? end + 1 : end;
    }
}

struct tensor_line {
    struct schema *s;
    const char *suffix;
    uint64_t row, depth;
    enum dtype type;
};

static void tensor_name(char name[128], const char *suffix, int layer)
{
    if (layer < 0)
        snprintf(name, 128, "%s", suffix);
    else
        snprintf(name, 128, "blk.%d.%s", layer, suffix);
}

static void add_tensor(void *ud, int layer)
{
    struct tensor_line *l = ud;
    char name[128];

    tensor_name(name, l->suffix, layer);
    handmade_add(&l->s->h, name, l->row, 64, l->depth);
}

static void expect_type(void *ud, int layer)
{
    struct tensor_line *l = ud;
    char name[128];

    tensor_name(name, l->suffix, layer);
    for (size_t i = 0; i < l->s->h.d.n_tensors; i++) {
        if (strcmp(l->s->h.d.tensors[i].name, name) == 0) {
            l->s->expected[i] = l->type;
            return;
        }
    }
    fail_msg("schema speaks of %s, which it does not list", name);
}

static void schema_compare(struct schema *s)
{
    struct recipe r;
    struct plan p;
    struct err e = {0};

    if (s->mix[0] == '\0')
        return;
    recipe_init(&r, s->mix);
    if (recipe_resolve(&r, &s->h.d, NULL, &p, &e) != 0)
        fail_msg("%s: %s", s->mix, e.message);
    for (size_t i = 0; i < p.n; i++) {
        if (p.tensors[i].type != s->expected[i])
            fail_msg("%s %s: %s is %s, upstream has %s", s->arch, s->mix, s->h.d.tensors[i].name,
                     dtype_name(p.tensors[i].type), dtype_name(s->expected[i]));
        s->compared++;
    }
    s->mixes++;
    plan_release(&p);
    recipe_release(&r);
}

static void schema_line(struct schema *s, char *line)
{
    char *save = NULL, *word = strtok_r(line, " \n", &save);
    struct model_desc *d = &s->h.d;

    if (!word || word[0] == '#')
        return;
    if (strcmp(word, "model") == 0) {
        snprintf(s->arch, sizeof s->arch, "%s", strtok_r(NULL, " \n", &save));
        d->architecture = s->arch;
        d->n_layer = (uint32_t)strtoul(strtok_r(NULL, " \n", &save), NULL, 10);
        d->n_head = (uint32_t)strtoul(strtok_r(NULL, " \n", &save), NULL, 10);
        d->n_head_kv = (uint32_t)strtoul(strtok_r(NULL, " \n", &save), NULL, 10);
        d->n_expert = (uint32_t)strtoul(strtok_r(NULL, " \n", &save), NULL, 10);
    } else if (strcmp(word, "tensor") == 0) {
        char *layers = strtok_r(NULL, " \n", &save);
        struct tensor_line l = {.s = s, .suffix = strtok_r(NULL, " \n", &save)};
        l.row = strtoul(strtok_r(NULL, " \n", &save), NULL, 10);
        l.depth = strtoul(strtok_r(NULL, " \n", &save), NULL, 10);
        each_layer(layers, add_tensor, &l);
    } else if (strcmp(word, "mix") == 0) {
        schema_compare(s);
        snprintf(s->mix, sizeof s->mix, "%s", strtok_r(NULL, " \n", &save));
        s->expected = xreallocarray(s->expected, d->n_tensors, sizeof *s->expected);
        enum dtype base = dtype_by_name(strtok_r(NULL, " \n", &save));
        assert_int_not_equal(base, DT_NONE);
        for (size_t i = 0; i < d->n_tensors; i++)
            s->expected[i] = base;
    } else if (strcmp(word, "type") == 0) {
        struct tensor_line l = {.s = s, .type = dtype_by_name(strtok_r(NULL, " \n", &save))};
        char *layers = strtok_r(NULL, " \n", &save);
        assert_int_not_equal(l.type, DT_NONE);
        while ((l.suffix = strtok_r(NULL, " \n", &save)))
            each_layer(layers, expect_type, &l);
    } else {
        fail_msg("unknown word '%s' in schema", word);
    }
}

static size_t schema_file(const char *path)
{
    struct schema s = {0};
    char line[4096];
    FILE *f = fopen(path, "r");
    size_t compared;

    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        schema_line(&s, line);
    fclose(f);
    schema_compare(&s);
    assert_int_equal(s.mixes, 33);
    compared = s.compared;
    handmade_release(&s.h);
    xfree(s.expected);
    return compared;
}

static void test_frozen_models(void **state)
{
    const char *root = getenv("SINTRA_ROOT");
    char folder[4096], path[8192];
    size_t compared = 0, files = 0;
    struct dirent *entry;
    DIR *dir;

    (void)state;
    snprintf(folder, sizeof folder, "%s/tests/schema", root ? root : ".");
    dir = opendir(folder);
    assert_non_null(dir);
    while ((entry = readdir(dir))) {
        size_t len = strlen(entry->d_name);
        if (len < 4 || strcmp(entry->d_name + len - 4, ".txt") != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        compared += schema_file(path);
        files++;
    }
    closedir(dir);
    assert_int_equal(files, 12);
    assert_true(compared > 100000);
}

/* ---- names ---- */

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(stock_name(stock_find("q4_k")), "Q4_K_M");
    assert_string_equal(stock_name(stock_find("Q5_K")), "Q5_K_M");
    assert_string_equal(stock_name(stock_find("q3_K")), "Q3_K_M");
    assert_string_equal(stock_name(stock_find("iq4_xs")), "IQ4_XS");
    assert_null(stock_find("MXFP4"));
    assert_null(stock_find("Q4_K_XXL"));
    assert_int_equal(stock_file_type(stock_find("Q4_K_M")), 15);
    assert_int_equal(stock_file_type(stock_find("BF16")), 32);
    assert_int_equal(stock_base_type(stock_find("IQ2_S")), DT_IQ2_XS);
    assert_null(stock_at(-1));
    for (int i = 0; stock_at(i); i++)
        assert_ptr_equal(stock_find(stock_name(stock_at(i))), stock_at(i));
}

/* The list promises falling sizes: exactly so on the shapes of Llama-3-8B. */
static void test_order_of_size(void **state)
{
    struct handmade h = llama_8b();
    uint64_t last = UINT64_MAX;

    (void)state;
    for (int i = 0; stock_at(i); i++) {
        struct recipe r;
        struct plan p;
        const char *name = stock_name(stock_at(i));
        if (strcmp(name, "MXFP4_MOE") == 0)
            continue; /* 8 bits on a dense model */
        recipe_init(&r, name);
        assert_int_equal(recipe_resolve(&r, &h.d, NULL, &p, NULL), 0);
        print_message("%-8s %11llu bytes, %.3f bpw\n", name, (unsigned long long)p.tensor_bytes,
                      p.bpw);
        if (p.tensor_bytes > last)
            fail_msg("%s is larger than what is listed before it", name);
        last = p.tensor_bytes;
        plan_release(&p);
        recipe_release(&r);
    }
    handmade_release(&h);
}

/* ---- rules beyond the snapshots ---- */

static void test_importance_changes_the_mix(void **state)
{
    struct handmade h = small_llama("llama", 32, 8, 8);
    struct recipe_options weighted = RECIPE_OPTIONS_DEFAULT;

    (void)state;
    weighted.have_importance = true;
    assert_int_equal(resolve_one("Q4_0", &h.d, NULL, "blk.0.ffn_down.weight"), DT_Q4_0);
    assert_int_equal(resolve_one("Q4_0", &h.d, &weighted, "blk.0.ffn_down.weight"), DT_Q4_1);
    assert_int_equal(resolve_one("Q4_0", &h.d, &weighted, "blk.4.ffn_down.weight"), DT_Q4_0);
    assert_int_equal(resolve_one("Q5_0", &h.d, &weighted, "blk.3.ffn_down.weight"), DT_Q5_1);
    assert_int_equal(resolve_one("IQ4_XS", &h.d, NULL, "blk.3.ffn_down.weight"), DT_Q5_K);
    assert_int_equal(resolve_one("IQ4_XS", &h.d, &weighted, "blk.3.ffn_down.weight"), DT_IQ4_XS);
    assert_int_equal(resolve_one("IQ3_XXS", &h.d, NULL, "blk.9.attn_v.weight"), DT_IQ3_S);
    assert_int_equal(resolve_one("IQ3_XXS", &h.d, &weighted, "blk.9.attn_v.weight"), DT_IQ3_XXS);
    assert_int_equal(resolve_one("IQ3_XXS", &h.d, NULL, "blk.9.ffn_down.weight"), DT_Q3_K);
    assert_int_equal(resolve_one("IQ3_XXS", &h.d, &weighted, "blk.9.ffn_down.weight"), DT_IQ3_XXS);
    handmade_release(&h);
}

static void test_70b(void **state)
{
    static const struct {
        const char *arch;
        uint32_t layers, heads, kv;
        enum dtype v;
    } cases[] = {
        {"llama", 80, 64, 8, DT_Q5_K},  {"llama", 80, 64, 64, DT_Q4_K},
        {"llama", 79, 64, 8, DT_Q4_K},  {"qwen2", 80, 64, 8, DT_Q5_K},
        {"qwen2", 80, 64, 64, DT_Q5_K}, {"jais2", 68, 64, 8, DT_Q5_K},
        {"qwen3", 80, 64, 8, DT_Q4_K},
    };

    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct handmade h =
            small_llama(cases[k].arch, cases[k].layers, cases[k].heads, cases[k].kv);
        assert_int_equal(resolve_one("Q3_K_M", &h.d, NULL, "blk.40.attn_v.weight"), cases[k].v);
        handmade_release(&h);
    }
}

static void test_falcon(void **state)
{
    struct handmade h = small_llama("falcon", 32, 8, 8);

    (void)state;
    assert_int_equal(resolve_one("Q4_K_M", &h.d, NULL, "output.weight"), DT_Q8_0);
    assert_int_equal(resolve_one("Q4_K_M", &h.d, NULL, "blk.1.ffn_down.weight"), DT_Q6_K);
    assert_int_equal(resolve_one("Q4_K_M", &h.d, NULL, "blk.3.ffn_down.weight"), DT_Q5_K);
    assert_int_equal(resolve_one("Q4_K_M", &h.d, NULL, "blk.4.ffn_down.weight"), DT_Q4_K);
    assert_int_equal(resolve_one("Q3_K_M", &h.d, NULL, "blk.4.ffn_down.weight"), DT_Q3_K);
    assert_int_equal(resolve_one("Q3_K_L", &h.d, NULL, "blk.4.attn_output.weight"), DT_Q4_K);
    assert_int_equal(resolve_one("Q2_K", &h.d, NULL, "blk.4.attn_output.weight"), DT_Q2_K);
    handmade_release(&h);
}

static void test_tied_head(void **state)
{
    struct handmade h = small_llama("llama", 4, 8, 8);
    struct recipe_options o = RECIPE_OPTIONS_DEFAULT;

    (void)state;
    assert_int_equal(resolve_one("Q4_K_M", &h.d, NULL, "token_embd.weight"), DT_Q4_K);
    xfree((void *)(uintptr_t)h.d.tensors[1].name);
    h.d.tensors[1].name = xstrdup("other.weight");
    assert_int_equal(resolve_one("Q4_K_M", &h.d, NULL, "token_embd.weight"), DT_Q6_K);
    assert_int_equal(resolve_one("IQ2_M", &h.d, NULL, "token_embd.weight"), DT_Q5_K);
    o.output_type = DT_Q5_1;
    assert_int_equal(resolve_one("Q4_K_M", &h.d, &o, "token_embd.weight"), DT_Q5_1);
    o.embedding_type = DT_Q8_0;
    assert_int_equal(resolve_one("Q4_K_M", &h.d, &o, "token_embd.weight"), DT_Q8_0);
    handmade_release(&h);
}

static void test_eight_experts(void **state)
{
    struct handmade h = {
        .d = {.architecture = "llama", .n_layer = 8, .n_head = 8, .n_head_kv = 2, .n_expert = 8}};
    char name[64];

    (void)state;
    for (int l = 0; l < 8; l++) {
        static const char *const kinds[] = {"attn_q", "attn_k", "attn_v", "attn_output"};
        for (int k = 0; k < 4; k++) {
            snprintf(name, sizeof name, "blk.%d.%s.weight", l, kinds[k]);
            handmade_add(&h, name, 256, 256, 1);
        }
        snprintf(name, sizeof name, "blk.%d.ffn_gate_inp.weight", l);
        handmade_add(&h, name, 256, 8, 1);
        snprintf(name, sizeof name, "blk.%d.ffn_down_exps.weight", l);
        handmade_add(&h, name, 256, 256, 8);
    }
    assert_int_equal(resolve_one("Q4_K_M", &h.d, NULL, "blk.3.attn_v.weight"), DT_Q8_0);
    assert_int_equal(resolve_one("Q4_K_M", &h.d, NULL, "blk.3.attn_k.weight"), DT_Q8_0);
    assert_int_equal(resolve_one("Q4_K_M", &h.d, NULL, "blk.3.attn_output.weight"), DT_Q5_K);
    assert_int_equal(resolve_one("Q3_K_L", &h.d, NULL, "blk.3.attn_output.weight"), DT_Q3_K);
    assert_int_equal(resolve_one("Q4_K_M", &h.d, NULL, "blk.3.ffn_gate_inp.weight"), DT_F32);
    assert_int_equal(resolve_one("IQ2_XS", &h.d, NULL, "blk.3.attn_v.weight"), DT_Q4_K);
    assert_int_equal(resolve_one("IQ2_XS", &h.d, NULL, "blk.3.attn_k.weight"), DT_Q4_K);
    assert_int_equal(resolve_one("MXFP4_MOE", &h.d, NULL, "blk.3.ffn_down_exps.weight"), DT_MXFP4);
    assert_int_equal(resolve_one("MXFP4_MOE", &h.d, NULL, "blk.3.attn_q.weight"), DT_Q8_0);
    handmade_release(&h);
}

static void test_expert_layer_outside(void **state)
{
    struct handmade h = {.d = {.architecture = "llama", .n_layer = 2, .n_expert = 4}};
    struct recipe r;
    struct plan p;
    struct err e = {0};

    (void)state;
    handmade_add(&h, "blk.2.ffn_down_exps.weight", 256, 256, 4);
    recipe_init(&r, "Q4_K_M");
    assert_int_equal(recipe_resolve(&r, &h.d, NULL, &p, &e), -1);
    assert_non_null(strstr(e.message, "blk.2.ffn_down_exps.weight"));
    recipe_release(&r);
    handmade_release(&h);
}

/* What is forced from outside is not counted: the third attn_v then counts as the second. */
static void test_forced_types_are_not_counted(void **state)
{
    struct handmade h = small_llama("llama", 8, 8, 8);
    struct recipe_override v0 = {"blk\\.0\\.attn_v", DT_Q8_0};
    struct recipe_options o = RECIPE_OPTIONS_DEFAULT;

    (void)state;
    o.overrides = &v0;
    o.n_overrides = 1;
    assert_int_equal(resolve_one("Q3_K_M", &h.d, NULL, "blk.2.attn_v.weight"), DT_Q4_K);
    assert_int_equal(resolve_one("Q3_K_M", &h.d, &o, "blk.0.attn_v.weight"), DT_Q8_0);
    assert_int_equal(resolve_one("Q3_K_M", &h.d, &o, "blk.2.attn_v.weight"), DT_Q5_K);
    assert_int_equal(resolve_one("Q3_K_M", &h.d, &o, "blk.3.attn_v.weight"), DT_Q4_K);
    handmade_release(&h);
}

static void test_options(void **state)
{
    struct handmade h = small_llama("llama", 8, 8, 2);
    struct recipe_override several[] = {{"FFN_(up|down)", DT_Q6_K}, {"blk\\.\\d\\.ffn", DT_Q5_0}};
    struct recipe_options o = RECIPE_OPTIONS_DEFAULT;

    (void)state;
    o.pure = true;
    assert_int_equal(resolve_one("Q4_K_M", &h.d, &o, "blk.0.attn_v.weight"), DT_Q4_K);
    assert_int_equal(resolve_one("Q4_K_M", &h.d, &o, "output.weight"), DT_Q4_K);
    o.output_type = DT_F16;
    o.embedding_type = DT_Q8_0;
    assert_int_equal(resolve_one("Q4_K_M", &h.d, &o, "output.weight"), DT_F16);
    assert_int_equal(resolve_one("Q4_K_M", &h.d, &o, "token_embd.weight"), DT_Q8_0);
    o.pure = false;
    o.overrides = several;
    o.n_overrides = 2;
    assert_int_equal(resolve_one("Q4_K_M", &h.d, &o, "blk.0.ffn_down.weight"), DT_Q6_K);
    assert_int_equal(resolve_one("Q4_K_M", &h.d, &o, "blk.7.ffn_gate.weight"), DT_Q5_0);
    assert_int_equal(resolve_one("F16", &h.d, &o, "blk.7.ffn_gate.weight"), DT_Q5_0);
    handmade_release(&h);
}

static void test_bad_pattern(void **state)
{
    struct handmade h = small_llama("llama", 1, 8, 2);
    struct recipe_override bad = {"blk.(", DT_Q6_K};
    struct recipe_options o = RECIPE_OPTIONS_DEFAULT;
    enum dtype types[32];
    struct err e = {0};

    (void)state;
    o.overrides = &bad;
    o.n_overrides = 1;
    assert_int_equal(stock_types(stock_find("Q4_K_M"), &h.d, &o, types, &e), -1);
    assert_int_equal(e.code, ERR_USAGE);
    assert_non_null(strstr(e.message, "blk.("));
    handmade_release(&h);
}

static void test_needs_importance(void **state)
{
    struct handmade h = small_llama("llama", 8, 8, 2);
    static const char *const need[] = {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS",
                                       "IQ2_S", "IQ2_M", "IQ3_XXS", "Q2_K_S"};
    static const char *const free_of[] = {"Q2_K", "Q4_K_M", "IQ3_S", "IQ4_XS",
                                          "Q8_0", "F16",    "TQ1_0"};

    (void)state;
    for (size_t k = 0; k < sizeof need / sizeof need[0]; k++) {
        if (!stock_needs_importance(stock_find(need[k]), &h.d))
            fail_msg("%s needs importance", need[k]);
    }
    for (size_t k = 0; k < sizeof free_of / sizeof free_of[0]; k++) {
        if (stock_needs_importance(stock_find(free_of[k]), &h.d))
            fail_msg("%s does not need importance", free_of[k]);
    }
    handmade_release(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frozen_models),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_order_of_size),
        cmocka_unit_test(test_importance_changes_the_mix),
        cmocka_unit_test(test_70b),
        cmocka_unit_test(test_falcon),
        cmocka_unit_test(test_tied_head),
        cmocka_unit_test(test_eight_experts),
        cmocka_unit_test(test_expert_layer_outside),
        cmocka_unit_test(test_forced_types_are_not_counted),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_bad_pattern),
        cmocka_unit_test(test_needs_importance),
    };
    return cmocka_run_group_tests_name("stock", tests, NULL, NULL);
}
