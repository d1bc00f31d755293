/* The stock mixes of llama-quantize 0.5.0, as tables.
 *
 * Owns the facts and the one pass that applies them. A mix is a base type and rows {parts,
 * conditions, type}: for each tensor the first row whose parts contain the tensor and whose
 * conditions all hold gives the type; without such a row the tensor gets the base type. The
 * 8-expert, 70B and head rows that most mixes share are macros.
 *
 * Two invariants are upstream's and easy to lose. Tensors are visited in the loader's order:
 * outside blocks first, then by layer, then by name in byte order; "the first two" and "every
 * third" count tensors in this order, not layers (only in expert models FFN rows go by the layer in
 * the name). And a tensor whose type is forced from outside is not counted.
 *
 * Refuses: an FFN tensor of an expert model whose name has no layer inside the model, as
 * upstream does. Source of the facts: src/llama-quant.cpp of llama.cpp 0.5.0
 * (llama_tensor_get_type_impl and its callers) and the 70B detection of
 * src/models/{llama,qwen2,deci,olmo,jais2}.cpp. Nothing here allocates beyond a call. */
#include "recipe/recipe_int.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/banned.h"

/* ---- vocabulary of the rows ---- */

enum part {
    HEAD = 1 << 0, /* output.weight, or the token embedding when it is also the head */
    EMBD = 1 << 1, /* token embedding of a model with its own head */
    V = 1 << 2,    /* attn_v, fused qkv, MLA's kv_b: the sensitive ones */
    K = 1 << 3,
    Q = 1 << 4,
    O = 1 << 5,
    DOWN = 1 << 6,
    GATE = 1 << 7,
    UP = 1 << 8,
    OTHER = 1 << 9,
    ANY = (1 << 10) - 1
};

/* i = how many tensors of the part came before (in expert models its layer), n = of how many. */
enum condition {
    ALWAYS = 0,
    FIRST_2 = 1 << 0,    /* i < 2 */
    FIRST_4 = 1 << 1,    /* i < 4 */
    FIRST_16TH = 1 << 2, /* i < n/16 */
    FIRST_8TH = 1 << 3,  /* i < n/8 */
    MIDDLE = 1 << 4,     /* n/8 <= i < 7n/8 */
    MORE_BITS = 1 << 5,  /* first and last eighth, and every third between */
    GQA_4 = 1 << 6,      /* four or more query heads share a key head */
    EXPERTS_4 = 1 << 7,  /* four experts or more */
    EXPERTS_8 = 1 << 8,  /* eight experts exactly */
    NOT_EXPERTS_8 = 1 << 9,
    FALCON = 1 << 10, /* that architecture */
    NOT_FALCON = 1 << 11,
    WEIGHTED = 1 << 12,     /* an importance matrix is given */
    UNWEIGHTED = 1 << 13,   /* none is */
    ODD_ROW = 1 << 14,      /* the row length is no multiple of the base type's block */
    STACKED = 1 << 15,      /* three-dimensional: the experts of a layer in one tensor */
    NOT_BAILING_3 = 1 << 16 /* not architecture bailingmoe3, whose MLA tensors are 3-D too */
};

struct stock_row {
    unsigned parts, when;
    enum dtype type;
};

struct stock_mix {
    const char *name, *alias;
    enum dtype base;
    uint32_t file_type;
    bool flat; /* FFN rows count tensors even with experts, and the 70B rule is not applied */
    const struct stock_row *rows; /* end with parts 0 */
};

/* ---- the facts ---- */

/* clang-format off */
#define END              {0, ALWAYS, DT_NONE}
#define HEAD_AS(type)    {HEAD, FALCON, DT_Q8_0}, {HEAD, ODD_ROW, DT_Q8_0}, {HEAD, ALWAYS, type}
#define KV_OF_8_EXPERTS  {V | K, EXPERTS_8, DT_Q8_0}
#define OUT_OF_8_EXPERTS {O, EXPERTS_8 | NOT_FALCON, DT_Q5_K}
#define USUAL            HEAD_AS(DT_Q6_K), KV_OF_8_EXPERTS
/* One and two bits: `few` where such a mix spends a little more. */
#define LOW(few) \
    HEAD_AS(DT_Q5_K), \
    {EMBD, ALWAYS, few}, \
    {V, GQA_4, DT_Q4_K}, {V, EXPERTS_4, DT_Q4_K}, {V, ALWAYS, few}, \
    {K, EXPERTS_8, DT_Q4_K}, \
    {DOWN, FIRST_8TH, few}, \
    {O, EXPERTS_8, DT_Q5_K}

static const struct stock_row
    rows_none[] = {END},
    rows_q8_0[] = {END}, /* 8 bits everywhere, the head too */
    rows_plain[] = {USUAL, END},
    rows_q4_0[] = {USUAL, {DOWN, FIRST_8TH | WEIGHTED, DT_Q4_1}, END},
    rows_q5_0[] = {USUAL, {DOWN, FIRST_8TH | WEIGHTED, DT_Q5_1}, END},
    rows_q2_k[] = {USUAL,
        {V, GQA_4, DT_Q4_K}, {V, ALWAYS, DT_Q3_K},
        {DOWN, ALWAYS, DT_Q3_K},
        OUT_OF_8_EXPERTS, {O, NOT_FALCON, DT_Q3_K}, END},
    rows_q2_k_s[] = {USUAL,
        {V, GQA_4, DT_Q4_K},
        {DOWN, FIRST_8TH, DT_Q4_K}, END},
    rows_q3_k_s[] = {USUAL, OUT_OF_8_EXPERTS, END},
    rows_q3_k_m[] = {USUAL,
        {V, FIRST_2, DT_Q5_K}, {V, ALWAYS, DT_Q4_K},
        {DOWN, FIRST_16TH, DT_Q5_K}, {DOWN, NOT_FALCON, DT_Q4_K}, {DOWN, MORE_BITS, DT_Q4_K},
        OUT_OF_8_EXPERTS, {O, NOT_FALCON, DT_Q4_K}, END},
    rows_q3_k_l[] = {USUAL,
        {V, ALWAYS, DT_Q5_K},
        {DOWN, FALCON, DT_Q4_K}, {DOWN, ALWAYS, DT_Q5_K},
        {O, FALCON, DT_Q4_K}, {O, NOT_EXPERTS_8, DT_Q5_K}, END},
    rows_q4_k_s[] = {USUAL,
        {V, FIRST_4, DT_Q5_K},
        {DOWN, FIRST_8TH | NOT_FALCON, DT_Q5_K},
        OUT_OF_8_EXPERTS, END},
    rows_q4_k_m[] = {USUAL,
        {V, MORE_BITS, DT_Q6_K},
        {DOWN, FALCON | FIRST_16TH, DT_Q6_K}, {DOWN, FALCON | MORE_BITS, DT_Q5_K},
        {DOWN, NOT_FALCON | MORE_BITS, DT_Q6_K},
        OUT_OF_8_EXPERTS, END},
    rows_q5_k_m[] = {USUAL, {V | DOWN, MORE_BITS, DT_Q6_K}, END},
    rows_iq4[] = {USUAL,
        {V, GQA_4, DT_Q5_K},
        {DOWN, FIRST_8TH | UNWEIGHTED, DT_Q5_K},
        OUT_OF_8_EXPERTS, END},
    rows_iq3_m[] = {USUAL,
        {V, ALWAYS, DT_Q4_K},
        {DOWN, FIRST_8TH, DT_Q4_K}, {DOWN, EXPERTS_8 | MORE_BITS, DT_Q4_K},
        OUT_OF_8_EXPERTS, {O, NOT_FALCON, DT_Q4_K}, END},
    rows_iq3_s[] = {USUAL, {V, GQA_4, DT_Q4_K}, OUT_OF_8_EXPERTS, END},
    rows_iq3_xs[] = {USUAL,
        {V, GQA_4, DT_Q4_K},
        {K | Q, ALWAYS, DT_IQ3_XXS},
        {GATE | UP, MIDDLE, DT_IQ3_XXS},
        OUT_OF_8_EXPERTS, END},
    rows_iq3_xxs[] = {HEAD_AS(DT_Q5_K), KV_OF_8_EXPERTS,
        {EMBD, ALWAYS, DT_IQ3_S},
        {V, GQA_4, DT_Q4_K}, {V, UNWEIGHTED, DT_IQ3_S},
        {K | Q, ALWAYS, DT_IQ2_S},
        {DOWN, UNWEIGHTED | FIRST_8TH, DT_Q4_K}, {DOWN, UNWEIGHTED, DT_Q3_K},
        OUT_OF_8_EXPERTS, {O, NOT_FALCON, DT_IQ3_S}, END},
    rows_iq2_s[] = {LOW(DT_IQ3_S), {O, ALWAYS, DT_IQ3_S}, END},
    rows_iq2_xs[] = {LOW(DT_Q2_K), END},
    rows_iq1[] = {LOW(DT_Q2_K), {O, ALWAYS, DT_IQ2_XXS}, END},
    rows_ternary[] = {USUAL, {EMBD, ALWAYS, DT_Q4_K}, END},
    rows_mxfp4_moe[] = {
        {HEAD, ALWAYS, DT_Q8_0},
        {DOWN | GATE | UP, STACKED, DT_MXFP4}, {ANY, STACKED | NOT_BAILING_3, DT_MXFP4},
        {ANY, ALWAYS, DT_Q8_0}, END};

/* By size on the shapes of Llama-3-8B, largest first. Numbers are llama_ftype's. */
static const struct stock_mix mixes[] = {
    {"F32",       NULL,   DT_F32,      0,  false, rows_none},
    {"F16",       NULL,   DT_F16,      1,  false, rows_none},
    {"BF16",      NULL,   DT_BF16,     32, false, rows_none},
    {"Q8_0",      NULL,   DT_Q8_0,     7,  false, rows_q8_0},
    {"Q6_K",      NULL,   DT_Q6_K,     18, false, rows_plain},
    {"Q5_1",      NULL,   DT_Q5_1,     9,  false, rows_plain},
    {"Q5_K_M",    "Q5_K", DT_Q5_K,     17, false, rows_q5_k_m},
    {"Q5_K_S",    NULL,   DT_Q5_K,     16, false, rows_plain},
    {"Q5_0",      NULL,   DT_Q5_0,     8,  false, rows_q5_0},
    {"Q4_1",      NULL,   DT_Q4_1,     3,  false, rows_plain},
    {"Q4_K_M",    "Q4_K", DT_Q4_K,     15, false, rows_q4_k_m},
    {"IQ4_NL",    NULL,   DT_IQ4_NL,   25, false, rows_iq4},
    {"Q4_K_S",    NULL,   DT_Q4_K,     14, false, rows_q4_k_s},
    {"Q4_0",      NULL,   DT_Q4_0,     2,  false, rows_q4_0},
    {"IQ4_XS",    NULL,   DT_IQ4_XS,   30, false, rows_iq4},
    {"MXFP4_MOE", NULL,   DT_MXFP4,    38, true,  rows_mxfp4_moe},
    {"Q3_K_L",    NULL,   DT_Q3_K,     13, false, rows_q3_k_l},
    {"Q3_K_M",    "Q3_K", DT_Q3_K,     12, false, rows_q3_k_m},
    {"IQ3_M",     NULL,   DT_IQ3_S,    27, false, rows_iq3_m},
    {"IQ3_S",     NULL,   DT_IQ3_S,    26, false, rows_iq3_s},
    {"Q3_K_S",    NULL,   DT_Q3_K,     11, false, rows_q3_k_s},
    {"IQ3_XS",    NULL,   DT_IQ3_S,    22, false, rows_iq3_xs},
    {"IQ3_XXS",   NULL,   DT_IQ3_XXS,  23, false, rows_iq3_xxs},
    {"Q2_K",      NULL,   DT_Q2_K,     10, false, rows_q2_k},
    {"Q2_K_S",    NULL,   DT_Q2_K,     21, false, rows_q2_k_s},
    {"IQ2_M",     NULL,   DT_IQ2_S,    29, true,  rows_iq2_s},
    {"IQ2_S",     NULL,   DT_IQ2_XS,   28, true,  rows_iq2_s},
    {"Q2_0",      NULL,   DT_Q2_0,     41, false, rows_ternary},
    {"IQ2_XS",    NULL,   DT_IQ2_XS,   20, true,  rows_iq2_xs},
    {"TQ2_0",     NULL,   DT_TQ2_0,    37, false, rows_ternary},
    {"IQ2_XXS",   NULL,   DT_IQ2_XXS,  19, true,  rows_iq2_xs},
    {"TQ1_0",     NULL,   DT_TQ1_0,    36, false, rows_ternary},
    {"IQ1_M",     NULL,   DT_IQ1_M,    31, true,  rows_iq1},
    {"IQ1_S",     NULL,   DT_IQ1_S,    24, true,  rows_iq1},
    {"Q1_0",      NULL,   DT_Q1_0,     40, false, rows_plain},
};
/* clang-format on */

/* Which part a tensor is goes by the first of these that its name contains. */
static const struct {
    const char *text;
    enum part part;
} parts_by_name[] = {
    {"attn_qkv.weight", V}, {"attn_kv_b.weight", V}, {"attn_v.weight", V},
    {"attn_k.weight", K},   {"attn_q.weight", Q},    {"attn_output.weight", O},
    {"ffn_up", UP},         {"ffn_gate", GATE},      {"ffn_down", DOWN},
};

/* The models that upstream knows as its 70B type; there eight query heads share one narrow
 * attn_v. */
static const struct {
    const char *architecture;
    uint32_t n_layer;
    bool only_grouped;
} models_70b[] = {
    {"llama", 80, true}, {"llama-embed", 80, true}, {"qwen2", 80, false},
    {"deci", 80, false}, {"olmo", 80, false},       {"jais2", 68, false},
};

/* ---- lookups ---- */

enum { MIX_COUNT = sizeof mixes / sizeof mixes[0] };

const struct stock_mix *stock_find(const char *name)
{
    for (int i = 0; i < MIX_COUNT; i++) {
        const struct stock_mix *m = &mixes[i];
        if (strcasecmp(m->name, name) == 0 || (m->alias && strcasecmp(m->alias, name) == 0))
            return m;
    }
    return NULL;
}

const struct stock_mix *stock_at(int i)
{
    return i >= 0 && i < MIX_COUNT ? &mixes[i] : NULL;
}

const char *stock_name(const struct stock_mix *m)
{
    return m->name;
}

enum dtype stock_base_type(const struct stock_mix *m)
{
    return m->base;
}

uint32_t stock_file_type(const struct stock_mix *m)
{
    return m->file_type;
}

bool stock_is_output(const char *name)
{
    return strcmp(name, "output.weight") == 0;
}

bool stock_is_embedding(const char *name)
{
    return strcmp(name, "token_embd.weight") == 0 ||
           strcmp(name, "per_layer_token_embd.weight") == 0;
}

/* ---- one pass over a model ---- */

/* What is known about the model, and what has been counted so far. */
struct pass {
    const struct stock_mix *mix;
    bool falcon, bailing_3, big_70b, weighted, tied;
    uint32_t gqa, n_expert;
    int n_layer, n_v;
    int i_v, i_down, i_gate, i_up;
};

static bool model_is_70b(const struct model_desc *d)
{
    for (size_t k = 0; k < sizeof models_70b / sizeof models_70b[0]; k++) {
        if (strcmp(models_70b[k].architecture, d->architecture) == 0 &&
            models_70b[k].n_layer == d->n_layer)
            return (!models_70b[k].only_grouped || d->n_head != d->n_head_kv) && d->n_expert != 8;
    }
    return false;
}

static enum part part_of(const char *name, bool tied)
{
    if (stock_is_output(name))
        return HEAD;
    if (stock_is_embedding(name))
        return tied ? HEAD : EMBD;
    for (size_t k = 0; k < sizeof parts_by_name / sizeof parts_by_name[0]; k++) {
        if (strstr(name, parts_by_name[k].text))
            return parts_by_name[k].part;
    }
    return OTHER;
}

static void pass_init(struct pass *s, const struct stock_mix *m, const struct model_desc *d,
                      bool weighted)
{
    *s = (struct pass){.mix = m, .weighted = weighted, .tied = true};
    s->falcon = strcmp(d->architecture, "falcon") == 0;
    s->bailing_3 = strcmp(d->architecture, "bailingmoe3") == 0;
    s->big_70b = model_is_70b(d);
    s->gqa = d->n_head_kv && !d->bare_first_layer ? d->n_head / d->n_head_kv : 0;
    s->n_expert = d->n_expert;
    s->n_layer = (int)d->n_layer;
    for (size_t i = 0; i < d->n_tensors; i++) {
        const char *name = d->tensors[i].name;
        s->n_v += part_of(name, true) == V;
        if (stock_is_output(name))
            s->tied = false;
    }
}

static bool more_bits(int i, int n)
{
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

static bool holds(const struct pass *s, unsigned when, const struct model_tensor *t, int i, int n)
{
    const bool facts[] = {
        /* in the order of enum condition */
        i < 2,
        i < 4,
        i < n / 16,
        i < n / 8,
        i >= n / 8 && i<7 * n / 8, more_bits(i, n), s->gqa >= 4, s->n_expert >= 4, s->n_expert == 8,
                        s->n_expert != 8, s->falcon, !s->falcon, s->weighted, !s->weighted,
                        t->shape.ne[0] % dtype_info(s->mix->base)->block != 0, t->shape.ne[2]> 1,
        !s->bailing_3,
    };
    _Static_assert(1 << (sizeof facts / sizeof facts[0] - 1) == NOT_BAILING_3, "one per condition");
    for (unsigned k = 0; k < sizeof facts / sizeof facts[0]; k++) {
        if ((when >> k & 1u) && !facts[k])
            return false;
    }
    return true;
}

/* Counter of a part and how many of it there are; the counter moves on. */
static int pass_index(struct pass *s, enum part part, int *n)
{
    *n = s->n_layer;
    switch (part) {
    case V:
        *n = s->n_v;
        return s->i_v++;
    case DOWN:
        return s->i_down++;
    case GATE:
        return s->i_gate++;
    case UP:
        return s->i_up++;
    default:
        return 0;
    }
}

static int pass_choose(struct pass *s, const struct model_tensor *t, enum dtype *type,
                       struct err *e)
{
    enum part part = part_of(t->name, s->tied);
    int n, i = pass_index(s, part, &n);

    if ((part & (DOWN | GATE | UP)) && s->n_expert > 1 && !s->mix->flat) {
        i = t->layer; /* experts of one layer may be several tensors */
        if (i < 0 || i >= n)
            return err_set(e, ERR_INPUT, "check the model's block_count",
                           "tensor %s belongs to layer %d, but the model has layers 0 to %d",
                           t->name, i, n - 1);
    }
    *type = s->mix->base;
    for (const struct stock_row *r = s->mix->rows; r->parts; r++) {
        if ((r->parts & part) && holds(s, r->when, t, i, n)) {
            *type = r->type;
            break;
        }
    }
    if (part == V && s->big_70b && !s->mix->flat && (*type == DT_Q3_K || *type == DT_Q4_K))
        *type = DT_Q5_K;
    return 0;
}

static int order_compare(const void *a, const void *b)
{
    const struct model_tensor *x = *(const struct model_tensor *const *)a;
    const struct model_tensor *y = *(const struct model_tensor *const *)b;

    if (x->layer != y->layer)
        return x->layer < y->layer ? -1 : 1;
    return strcmp(x->name, y->name);
}

static const struct model_tensor **visiting_order(const struct model_desc *d)
{
    const struct model_tensor **order = xcalloc(d->n_tensors + 1, sizeof *order);

    for (size_t i = 0; i < d->n_tensors; i++)
        order[i] = &d->tensors[i];
    qsort(order, d->n_tensors, sizeof *order, order_compare);
    return order;
}

int stock_choose(const struct stock_mix *m, const struct model_desc *d,
                 const struct recipe_options *options, const enum dtype *forced, enum dtype *types,
                 struct err *e)
{
    const struct model_tensor **order = visiting_order(d);
    bool by_rows = dtype_info(m->base)->quantized && !options->pure;
    struct pass s;
    int rc = 0;

    pass_init(&s, m, d, options->have_importance);
    for (size_t k = 0; rc == 0 && k < d->n_tensors; k++) {
        size_t i = (size_t)(order[k] - d->tensors);
        if (!recipe_tensor_quantizable(d, i))
            types[i] = DT_NONE;
        else if (forced[i] != DT_NONE)
            types[i] = forced[i];
        else if (!by_rows)
            types[i] = m->base;
        else if (part_of(order[k]->name, s.tied) == HEAD && options->output_type != DT_NONE)
            types[i] = options->output_type; /* a tied embedding is the output tensor */
        else
            rc = pass_choose(&s, order[k], &types[i], e);
    }
    xfree(order);
    return rc;
}

int stock_types(const struct stock_mix *m, const struct model_desc *d,
                const struct recipe_options *options, enum dtype *types, struct err *e)
{
    static const struct recipe_options none = RECIPE_OPTIONS_DEFAULT;
    enum dtype *forced = xcalloc(d->n_tensors + 1, sizeof *forced);
    int rc;

    options = options ? options : &none;
    rc = override_types(d, options, forced, e);
    if (rc == 0)
        rc = stock_choose(m, d, options, forced, types, e);
    xfree(forced);
    return rc;
}

/* ---- importance ---- */

bool stock_tensor_needs_importance(const struct stock_mix *m, const char *name, enum dtype type)
{
    if (stock_is_embedding(name) || stock_is_output(name))
        return dtype_info(type)->needs_importance; /* only what no encoder does without */
    switch (type) {
    case DT_IQ3_XXS:
    case DT_IQ2_XXS:
    case DT_IQ2_XS:
    case DT_IQ2_S:
    case DT_IQ1_M:
    case DT_IQ1_S:
        return true;
    case DT_Q2_K:
        return m && strcmp(m->name, "Q2_K_S") == 0;
    default:
        return false;
    }
}

bool stock_needs_importance(const struct stock_mix *m, const struct model_desc *d)
{
    struct recipe r;
    struct plan p;
    bool needs = false;

    recipe_init(&r, m->name);
    if (recipe_resolve(&r, d, NULL, &p, NULL) == 0) {
        needs = plan_check_importance(&p, d, false, NULL) != 0;
        plan_release(&p);
    }
    recipe_release(&r);
    return needs;
}
