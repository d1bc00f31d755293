/* Recipes: globs, JSON both ways with every refusal, plans with fallbacks and exact bytes, and
 * recipes made from types. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "recipe/recipe.h"

enum { LAYERS = 12 };

static struct model_tensor tensors[200];
static char names[200][64];

static void add(struct model_desc *d, uint64_t row, uint64_t rows, const char *format, int layer)
{
    struct model_tensor *t = &tensors[d->n_tensors];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(names[d->n_tensors], sizeof names[0], format, layer);
#pragma GCC diagnostic pop
    *t = (struct model_tensor){.name = names[d->n_tensors], .layer = layer, .dtype = DT_BF16};
    t->dtype_min = rows == 1 ? DT_F32 : DT_NONE;
    t->shape = (struct shape){rows == 1 ? 1 : 2, {row, rows, 1, 1}};
    d->n_tensors++;
    d->parameters += row * rows;
}

static struct model_desc desc_make(uint64_t width)
{
    struct model_desc d = {.architecture = "llama",
                           .n_layer = LAYERS,
                           .n_head = 4,
                           .n_head_kv = 4,
                           .tensors = tensors};

    add(&d, width, 4096, "token_embd.weight", -1);
    add(&d, width, 1, "output_norm.weight", -1);
    for (int l = 0; l < LAYERS; l++) {
        add(&d, width, 1, "blk.%d.attn_norm.weight", l);
        add(&d, width, 256, "blk.%d.attn_q.weight", l);
        add(&d, width, 128, "blk.%d.attn_k.weight", l);
        add(&d, width, 128, "blk.%d.attn_v.weight", l);
        add(&d, 256, 256, "blk.%d.attn_output.weight", l);
        add(&d, width, 768, "blk.%d.ffn_up.weight", l);
        add(&d, 768, 256, "blk.%d.ffn_down.weight", l);
    }
    return d;
}

static void parse_text(const char *text, struct recipe *r, int expect, struct err *e)
{
    json_t *doc;
    int rc;

    *e = (struct err){0};
    doc = json_parse(text, strlen(text), "r.json", e);
    if (!doc)
        fail_msg("%s", e->message);
    rc = recipe_parse(r, doc, "r.json", e);
    json_decref(doc);
    if (rc != expect)
        fail_msg("%s: %s", text, rc ? e->message : "was accepted");
}

/* ---- globs ---- */

static void test_match(void **state)
{
    static const struct {
        const char *glob, *name;
        bool matches;
    } cases[] = {
        {"token_embd.weight", "token_embd.weight", true},
        {"token_embd.weight", "token_embd.weights", false},
        {"*", "", true},
        {"*", "anything", true},
        {"blk.*.attn_?.weight", "blk.11.attn_q.weight", true},
        {"blk.*.attn_?.weight", "blk.11.attn_qkv.weight", false},
        {"blk.{0-3,28-31}.ffn_down.weight", "blk.3.ffn_down.weight", true},
        {"blk.{0-3,28-31}.ffn_down.weight", "blk.30.ffn_down.weight", true},
        {"blk.{0-3,28-31}.ffn_down.weight", "blk.4.ffn_down.weight", false},
        {"blk.{0-3,28-31}.ffn_down.weight", "blk.03.ffn_down.weight", false},
        {"blk.{0-3,28-31}.ffn_down.weight", "blk.33.ffn_down.weight", false},
        {"blk.{1}.x", "blk.1.x", true},
        {"{a,b*,c?}z", "az", true},
        {"{a,b*,c?}z", "bqqz", true},
        {"{a,b*,c?}z", "cz", false},
        {"{a,b*,c?}z", "czz", true},
        {"{,x}y", "y", true},
        {"{0-100}", "100", true},
        {"{0-100}", "101", false},
        {"{0-9}{0-9}", "12", true},
        {"{5-2}", "3", false},
        {"{a-c}", "b", false},
        {"{a-c}", "a-c", true},
        {"**a**", "bab", true},
    };

    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        if (recipe_match(cases[k].glob, cases[k].name) != cases[k].matches)
            fail_msg("'%s' on '%s'", cases[k].glob, cases[k].name);
    }
}

/* A backtracking matcher would need longer than the universe. */
static void test_match_is_linear(void **state)
{
    char glob[4001], name[201];

    (void)state;
    for (int i = 0; i < 2000; i++) {
        glob[2 * i] = '*';
        glob[2 * i + 1] = 'a';
    }
    glob[4000] = '\0';
    memset(name, 'a', 200);
    name[200] = '\0';
    assert_false(recipe_match(glob, name));
    assert_true(recipe_match("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*", name));
}

/* ---- JSON ---- */

static void test_round_trip(void **state)
{
    const char *text =
        "{\"sintra_recipe\":1,\"container\":\"gguf\",\"base\":\"q4_k\",\"rules\":["
        "{\"match\":\"token_embd.weight\",\"type\":\"q6_k\"},"
        "{\"match\":\"blk.{0-3}.ffn_down.weight\",\"type\":\"Q5_K\"}],\"drop_layers\":[],"
        "\"prune\":{\"ffn_ratio\":0.0,\"heads_ratio\":0},\"kv\":{\"k\":\"Q8_0\",\"v\":\"F16\"},"
        "\"importance\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"}";
    const char *canonical =
        "{\"sintra_recipe\":1,\"container\":\"gguf\",\"base\":\"Q4_K_M\",\"rules\":["
        "{\"match\":\"token_embd.weight\",\"type\":\"Q6_K\"},"
        "{\"match\":\"blk.{0-3}.ffn_down.weight\",\"type\":\"Q5_K\"}],\"drop_layers\":[],"
        "\"prune\":{\"ffn_ratio\":0,\"heads_ratio\":0},\"kv\":{\"k\":\"q8_0\",\"v\":\"f16\"},"
        "\"importance\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"}";
    struct recipe r, copy;
    struct err e;
    json_t *doc;
    char *out;

    (void)state;
    parse_text(text, &r, 0, &e);
    recipe_copy(&copy, &r);
    recipe_release(&r);
    doc = recipe_json_new(&copy);
    out = json_text(doc, false);
    assert_string_equal(out, canonical);
    xfree(out);
    recipe_release(&copy);
    assert_int_equal(recipe_parse(&r, doc, "again", &e), 0);
    assert_int_equal(r.n_rules, 2);
    assert_int_equal(recipe_file_type(&r), 15);
    recipe_release(&r);
    json_decref(doc);
}

static void test_shorthand(void **state)
{
    struct recipe r;
    struct err e;

    (void)state;
    parse_text("{\"bits\":4,\"pruning_ratio\":0.0,\"layers_to_drop\":[]}", &r, 0, &e);
    assert_string_equal(r.base, "Q4_K_M");
    recipe_release(&r);
    parse_text("{\"bits\":8}", &r, 0, &e);
    assert_string_equal(r.base, "Q8_0");
    recipe_release(&r);
}

static void test_plain_type_as_base(void **state)
{
    struct recipe r;
    struct err e;

    (void)state;
    parse_text("{\"sintra_recipe\":1,\"base\":\"mxfp4\"}", &r, 0, &e);
    assert_string_equal(r.base, "MXFP4");
    assert_int_equal(recipe_file_type(&r), 38);
    recipe_release(&r);
}

#define WITH(more)        "{\"sintra_recipe\":1,\"base\":\"Q4_K\"," more "}"
#define RULE(match, type) WITH("\"rules\":[{\"match\":\"" match "\",\"type\":\"" type "\"}]")

static void test_refusals(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"[]", "JSON object"},
        {"{}", "sintra_recipe"},
        {"{\"sintra_recipe\":2,\"base\":\"Q4_K\"}", "version 2"},
        {"{\"sintra_recipe\":\"1\",\"base\":\"Q4_K\"}", "sintra_recipe"},
        {"{\"sintra_recipe\":1}", "'base' is missing"},
        {"{\"sintra_recipe\":1,\"base\":4}", "expected a string"},
        {"{\"sintra_recipe\":1,\"base\":\"Q9\"}", "'Q9'"},
        {"{\"sintra_recipe\":1,\"base\":\"Q8_K\"}", "'Q8_K'"},
        {"{\"sintra_recipe\":1,\"base\":\"I32\"}", "'I32'"},
        {WITH("\"colour\":1"), "'colour' is unknown"},
        {WITH("\"bits\":4"), "'bits' is unknown"},
        {WITH("\"container\":\"onnx\""), "'onnx'"},
        {WITH("\"drop_layers\":[-3]"), "not the number of a block"},
        {WITH("\"drop_layers\":[3,1,3]"), "block 3 is there twice"},
        {WITH("\"prune\":{\"ffn_ratio\":0.1}"), "pruning"},
        {WITH("\"prune\":{\"depth\":0}"), "prune.depth"},
        {WITH("\"prune\":[]"), "expected an object"},
        {WITH("\"kv\":{\"k\":\"q6_k\"}"), "'q6_k' is not a type of a KV cache"},
        {WITH("\"kv\":{\"v\":8}"), "expected strings"},
        {WITH("\"kv\":{\"x\":\"f16\"}"), "unknown members"},
        {WITH("\"importance\":\"abc\""), "64"},
        {WITH("\"importance\":7"), "importance"},
        {WITH("\"rules\":{}"), "expected an array"},
        {WITH("\"rules\":[1]"), "rule 1"},
        {WITH("\"rules\":[{\"match\":\"*\"}]"), "rule 1"},
        {RULE("*", "Q4_K_M"), "'Q4_K_M'"},
        {RULE("", "Q6_K"), "empty"},
        {RULE("{a", "Q6_K"), "without '}'"},
        {RULE("a}", "Q6_K"), "without '{'"},
        {RULE("{{a}}", "Q6_K"), "nest"},
        {"{\"bits\":7}", "7 bits"},
        {"{\"bits\":4.5}", "an integer"},
        {"{\"bits\":-1}", "-1 bits"},
        {"{\"bits\":4,\"pruning_ratio\":0.1}", "pruning"},
        {"{\"bits\":4,\"layers_to_drop\":[-3]}", "not the number of a block"},
        {"{\"bits\":4,\"base\":\"Q4_K\"}", "'base' is unknown"},
    };

    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct recipe r;
        struct err e;
        parse_text(cases[k].text, &r, -1, &e);
        if (!strstr(e.message, cases[k].says) || !strstr(e.message, "r.json"))
            fail_msg("%s: '%s' does not say '%s'", cases[k].text, e.message, cases[k].says);
        assert_null(r.base);
    }
}

/* ---- plans ---- */

static void test_plan_bytes(void **state)
{
    struct model_desc d = desc_make(256);
    struct recipe r;
    struct plan p;
    uint64_t sum = 0;

    (void)state;
    recipe_init(&r, "Q4_K_S");
    recipe_add_rule(&r, "blk.*.attn_?.weight", DT_Q6_K);
    recipe_add_rule(&r, "blk.{0-1,11}.attn_q.weight", DT_Q8_0);
    assert_int_equal(recipe_resolve(&r, &d, NULL, &p, NULL), 0);
    assert_int_equal(p.tensors[0].type, DT_Q6_K); /* tied: it is the head */
    assert_int_equal(p.tensors[0].bytes, 4096 * 210);
    assert_int_equal(p.tensors[1].type, DT_F32);
    assert_int_equal(p.tensors[1].bytes, 1024);
    assert_int_equal(p.tensors[3].type, DT_Q8_0); /* the last rule wins */
    assert_int_equal(p.tensors[4].type, DT_Q6_K);
    assert_int_equal(p.tensors[2].type, DT_F32); /* norms are not for rules */
    for (size_t i = 0; i < p.n; i++)
        sum += p.tensors[i].bytes;
    assert_int_equal(sum, p.tensor_bytes);
    assert_float_equal((float)p.bpw, (float)((double)sum * 8 / (double)d.parameters), 1e-6);
    assert_int_equal(p.n_fallback, 0);
    plan_release(&p);
    recipe_release(&r);
}

static void test_fallbacks(void **state)
{
    struct model_desc d = desc_make(288); /* 288 = 9·32 */
    struct recipe r;
    struct plan p;

    (void)state;
    assert_int_equal(recipe_fallback(DT_Q4_K, 256), DT_Q4_K);
    assert_int_equal(recipe_fallback(DT_Q4_K, 288), DT_Q5_0);
    assert_int_equal(recipe_fallback(DT_Q5_K, 288), DT_Q5_1);
    assert_int_equal(recipe_fallback(DT_Q6_K, 288), DT_Q8_0);
    assert_int_equal(recipe_fallback(DT_Q3_K, 288), DT_Q4_0);
    assert_int_equal(recipe_fallback(DT_IQ4_XS, 288), DT_IQ4_NL);
    assert_int_equal(recipe_fallback(DT_IQ2_XXS, 288), DT_IQ4_NL);
    assert_int_equal(recipe_fallback(DT_Q4_0, 33), DT_F16);
    assert_int_equal(recipe_fallback(DT_Q4_K, 33), DT_F16);
    assert_int_equal(recipe_fallback(DT_BF16, 33), DT_BF16);
    recipe_init(&r, "Q4_K_S");
    assert_int_equal(recipe_resolve(&r, &d, NULL, &p, NULL), 0);
    assert_int_equal(p.tensors[0].type, DT_Q8_0);
    assert_int_equal(p.tensors[3].asked, DT_Q4_K);
    assert_int_equal(p.tensors[3].type, DT_Q5_0);
    assert_true(p.tensors[3].fallback);
    assert_int_equal(p.tensors[6].type, DT_Q4_K); /* attn_output has rows of 256 */
    assert_int_equal(p.n_fallback, LAYERS * 4);   /* q, k, v and up; the head asks for Q8_0 */
    plan_release(&p);
    recipe_release(&r);
}

static void test_rules_that_match_nothing(void **state)
{
    struct model_desc d = desc_make(256);
    static const struct {
        const char *match, *says;
    } cases[] = {
        {"output.weight", "no tensor"},
        {"blk.{12-20}.*", "no tensor"},
        {"*_norm.weight", "never quantized"},
    };

    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct recipe r;
        struct plan p;
        struct err e = {0};
        recipe_init(&r, "Q4_K_S");
        recipe_add_rule(&r, "*", DT_Q5_K);
        recipe_add_rule(&r, cases[k].match, DT_Q6_K);
        assert_int_equal(recipe_resolve(&r, &d, NULL, &p, &e), -1);
        assert_non_null(strstr(e.message, cases[k].says));
        assert_non_null(strstr(e.message, "rule 2"));
        recipe_release(&r);
    }
}

static void test_unknown_base(void **state)
{
    struct model_desc d = desc_make(256);
    struct recipe r;
    struct plan p;
    struct err e = {0};

    (void)state;
    recipe_init(&r, "Q44");
    assert_int_equal(recipe_resolve(&r, &d, NULL, &p, &e), -1);
    assert_non_null(strstr(e.message, "Q44"));
    recipe_release(&r);
}

static void test_check_importance(void **state)
{
    struct model_desc d = desc_make(256);
    struct recipe r;
    struct plan p;
    struct err e = {0};

    (void)state;
    recipe_init(&r, "Q4_K_S");
    recipe_add_rule(&r, "blk.5.ffn_up.weight", DT_IQ2_XS);
    assert_int_equal(recipe_resolve(&r, &d, NULL, &p, NULL), 0);
    assert_int_equal(plan_check_importance(&p, &d, true, &e), 0);
    assert_int_equal(plan_check_importance(&p, &d, false, &e), -1);
    assert_non_null(strstr(e.message, "blk.5.ffn_up.weight"));
    assert_non_null(strstr(e.message, "IQ2_XS"));
    plan_release(&p);
    recipe_release(&r);
}

static void test_quantizable(void **state)
{
    static const struct {
        const char *name;
        uint64_t rows;
        bool quantizable;
    } cases[] = {
        {"blk.0.attn_q.weight", 2, true},
        {"blk.0.attn_q.weight", 1, false},
        {"blk.0.attn_q.bias", 2, false},
        {"blk.0.attn_q_norm.weight", 2, false},
        {"blk.0.ffn_gate_inp.weight", 2, false},
        {"position_embd.weight", 2, false},
        {"token_types.weight", 2, false},
        {"output.weight", 2, true},
        {"blk.0.ssm_conv1d.weight", 2, false},
        {"v.patch_embd.weight", 2, false},
        {"weight", 2, true},
        {"x", 2, false},
    };

    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct model_tensor t = {.name = cases[k].name, .shape = {2, {32, cases[k].rows, 1, 1}}};
        struct model_desc d = {.architecture = "llama", .tensors = &t, .n_tensors = 1};
        if (recipe_tensor_quantizable(&d, 0) != cases[k].quantizable)
            fail_msg("%s", cases[k].name);
    }
}

/* ---- recipes from types ---- */

static void expect_types(const struct model_desc *d, const enum dtype *types, size_t rules_max)
{
    struct recipe r;
    struct recipe_options weighted = RECIPE_OPTIONS_DEFAULT;

    weighted.have_importance = true;
    recipe_from_types(&r, d, types);
    if (r.n_rules > rules_max)
        fail_msg("%zu rules, expected at most %zu", r.n_rules, rules_max);
    for (int with = 0; with < 2; with++) {
        struct plan p;
        struct err e = {0};
        if (recipe_resolve(&r, d, with ? &weighted : NULL, &p, &e) != 0)
            fail_msg("%s", e.message);
        for (size_t i = 0; i < d->n_tensors; i++) {
            if (recipe_tensor_quantizable(d, i) && p.tensors[i].type != types[i])
                fail_msg("%s: %s, not %s", d->tensors[i].name, dtype_name(p.tensors[i].type),
                         dtype_name(types[i]));
        }
        plan_release(&p);
    }
    recipe_release(&r);
}

static void test_from_types(void **state)
{
    struct model_desc d = desc_make(256);
    enum dtype types[200];

    (void)state;
    for (size_t i = 0; i < d.n_tensors; i++)
        types[i] = DT_Q4_K;
    expect_types(&d, types, 1);
    for (size_t i = 0; i < d.n_tensors; i++) {
        if (strstr(d.tensors[i].name, "attn_v") || strstr(d.tensors[i].name, "ffn_down"))
            types[i] = d.tensors[i].layer % 3 == 0 ? DT_Q6_K : DT_Q5_K;
    }
    expect_types(&d, types, 3);
    types[0] = DT_Q8_0;
    types[3] = DT_F16;
    expect_types(&d, types, 5);
}

static void test_from_random_types(void **state)
{
    static const enum dtype pool[] = {DT_Q2_K, DT_Q3_K, DT_Q4_K,   DT_Q5_K, DT_Q6_K,
                                      DT_Q8_0, DT_F16,  DT_IQ4_XS, DT_IQ2_S};
    struct model_desc d = desc_make(256);
    enum dtype types[200];
    struct rng rng;

    (void)state;
    rng_seed(&rng, 7);
    for (int round = 0; round < 50; round++) {
        for (size_t i = 0; i < d.n_tensors; i++)
            types[i] = pool[rng_below(&rng, 1 + (uint64_t)round % 9)];
        expect_types(&d, types, d.n_tensors);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_match_is_linear),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_shorthand),
        cmocka_unit_test(test_plain_type_as_base),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_plan_bytes),
        cmocka_unit_test(test_fallbacks),
        cmocka_unit_test(test_rules_that_match_nothing),
        cmocka_unit_test(test_unknown_base),
        cmocka_unit_test(test_check_importance),
        cmocka_unit_test(test_quantizable),
        cmocka_unit_test(test_from_types),
        cmocka_unit_test(test_from_random_types),
    };
    return cmocka_run_group_tests_name("recipe", tests, NULL, NULL);
}
