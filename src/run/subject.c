/* The model as the loop sees it: groups, types, exact sizes, and how much text it takes.
 *
 * Owns the opened model. A mock without a model gets a description with the shapes of a 1.1
 * B-parameter Llama (TinyLlama), so that targets and scripts can be tried with nothing at hand.
 * Sizes are exact: the file of one recipe is planned by bake and what the groups account for is
 * taken off; the rest (header, norms, padding) is the same for every recipe.
 */
#include "run/run_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/banned.h"

/* ---- a description for mocks ---- */

enum { MOCK_LAYERS = 22, MOCK_PER_LAYER = 9, MOCK_TENSORS = 3 + MOCK_LAYERS * MOCK_PER_LAYER };
enum { MOCK_HEADER_BYTES = 730000 }; /* tokenizer of 32,000 pieces and tensor names */

struct mock_desc {
    struct model_desc desc;
    struct model_tensor tensors[MOCK_TENSORS];
    char names[MOCK_TENSORS][48];
};

static void mock_tensor(struct mock_desc *m, const char *name, uint64_t ne0, uint64_t ne1)
{
    size_t i = m->desc.n_tensors++;
    snprintf(m->names[i], sizeof(m->names[i]), "%s", name);
    m->tensors[i] = (struct model_tensor){.name = m->names[i],
                                          .role = model_role_of(name),
                                          .layer = model_layer_of(name),
                                          .dtype = ne1 > 1 ? DT_BF16 : DT_F32,
                                          .dtype_min = ne1 > 1 ? DT_NONE : DT_F32,
                                          .shape = {ne1 > 1 ? 2 : 1, {ne0, ne1, 1, 1}}};
    m->desc.parameters += ne0 * ne1;
}

static struct model_desc *mock_desc_new(void)
{
    static const struct {
        const char *stem;
        uint64_t ne0, ne1;
    } parts[MOCK_PER_LAYER] = {
        {"attn_norm", 2048, 1},   {"attn_q", 2048, 2048},      {"attn_k", 2048, 256},
        {"attn_v", 2048, 256},    {"attn_output", 2048, 2048}, {"ffn_norm", 2048, 1},
        {"ffn_gate", 2048, 5632}, {"ffn_up", 2048, 5632},      {"ffn_down", 5632, 2048},
    };
    struct mock_desc *m = xcalloc(1, sizeof(*m));
    m->desc = (struct model_desc){
        .architecture = "llama",
        .name = "mock-1.1B",
        .n_layer = MOCK_LAYERS,
        .n_head = 32,
        .n_head_kv = 4,
        .n_embd = 2048,
        .n_ff = 5632,
        .n_vocab = 32000,
        .n_ctx_train = 2048,
        .head_dim = 64,
        .cache = {
            .k = MOCK_LAYERS * 4 * 64, .v = MOCK_LAYERS * 4 * 64, .head_k = 64, .head_v = 64}};
    m->desc.tensors = m->tensors;
    mock_tensor(m, "token_embd.weight", 2048, 32000);
    for (int layer = 0; layer < MOCK_LAYERS; layer++)
        for (int p = 0; p < MOCK_PER_LAYER; p++) {
            char name[48];
            snprintf(name, sizeof(name), "blk.%d.%s.weight", layer, parts[p].stem);
            mock_tensor(m, name, parts[p].ne0, parts[p].ne1);
        }
    mock_tensor(m, "output_norm.weight", 2048, 1);
    mock_tensor(m, "output.weight", 2048, 32000);
    return &m->desc;
}

/* ---- which types and mixes ---- */

/* Largest first; each with the average bits of the weights above which it is left out, because
 * other types do all that it could (and building its tables costs seconds). */
static const struct {
    enum dtype type;
    double needed_below;
} ladder[] = {
    {DT_Q8_0, INFINITY},   {DT_Q6_K, INFINITY},   {DT_Q5_K, INFINITY}, {DT_Q4_K, INFINITY},
    {DT_IQ4_NL, INFINITY}, {DT_IQ4_XS, INFINITY}, {DT_Q3_K, INFINITY}, {DT_IQ3_S, INFINITY},
    {DT_IQ3_XXS, 4.3},     {DT_Q2_K, INFINITY},   {DT_IQ2_S, 3.5},     {DT_IQ2_XS, 3.2},
    {DT_IQ2_XXS, 3.0},     {DT_IQ1_M, 2.3},       {DT_IQ1_S, 2.0},
};
enum { LADDER = sizeof(ladder) / sizeof(ladder[0]) };
/* Below these, what is left of a group's error in eight bits is lost among that of the others. */
static const double precise_bits = 6, precise_accuracy = 0.98;

/* A profile lists types and mixes by name; a type is allowed by its own name or as base of a
 * mix. */
static bool profile_allows(const struct settings *s, enum dtype type)
{
    char *const *list = s->has_profile ? s->profile.quantizations : NULL;
    for (size_t i = 0; list && list[i]; i++) {
        const struct stock_mix *m = stock_find(list[i]);
        if (dtype_by_name(list[i]) == type || (m && stock_base_type(m) == type))
            return true;
    }
    return !list;
}

static bool preset_allows(const struct settings *s, enum dtype type)
{
    const struct preset *p = preset_find(s->preset);
    if (!p || !p->only)
        return true;
    for (size_t i = 0; p->only[i] != DT_NONE; i++)
        if (p->only[i] == type)
            return true;
    return false;
}

static bool allows(const struct settings *s, enum dtype type)
{
    return profile_allows(s, type) && preset_allows(s, type);
}

static uint64_t group_elements(const struct subject *m)
{
    uint64_t n = 0;
    for (size_t g = 0; g < m->groups.n; g++)
        n += m->groups.items[g].elements;
    return n;
}

/* What a group is left in that is not quantized: the original's type; DT_NONE where it has none
 * that is half as large as F32, or is quantized itself. */
static enum dtype unquantized(const struct subject *m)
{
    enum dtype type =
        m->groups.n > 0 ? m->desc->tensors[m->groups.items[0].tensors[0]].dtype : DT_NONE;
    for (size_t g = 0; g < m->groups.n; g++)
        for (size_t i = 0; i < m->groups.items[g].n_tensors; i++)
            if (m->desc->tensors[m->groups.items[g].tensors[i]].dtype != type)
                return DT_NONE;
    return type == DT_BF16 || type == DT_F16 ? type : DT_NONE;
}

void subject_choose_types(struct subject *m, const struct settings *s, uint64_t bytes_limit)
{
    double bits = 3.5; /* without a limit: the ladder of the search begins at three bits */
    uint64_t elements = group_elements(m);
    if (bytes_limit != UINT64_MAX && elements > 0)
        bits = bytes_limit > m->fixed_bytes
                   ? (double)(bytes_limit - m->fixed_bytes) * 8 / (double)elements
                   : 0;
    m->n_types = 0;
    bool precise = s->targets.accuracy_min > precise_accuracy ||
                   (bytes_limit != UINT64_MAX && bits > precise_bits);
    if (precise && unquantized(m) != DT_NONE && allows(s, unquantized(m)))
        m->types[m->n_types++] = unquantized(m);
    for (int i = 0; i < LADDER; i++)
        if (bits < ladder[i].needed_below && allows(s, ladder[i].type))
            m->types[m->n_types++] = ladder[i].type;
}

/* Mixes whose base is allowed. A mix may use larger types in places, as the profile's owner
 * expects. */
static void choose_mixes(struct subject *m, const struct settings *s)
{
    size_t n = 0;
    const struct preset *p = preset_find(s->preset);
    bool restricted = (s->has_profile && s->profile.quantizations) || (p && p->only);
    if (!restricted)
        return;
    for (int i = 0; stock_at(i); i++)
        n++;
    m->stock_names = xcalloc(n + 1, sizeof(*m->stock_names));
    n = 0;
    for (int i = 0; stock_at(i); i++)
        if (allows(s, stock_base_type(stock_at(i))))
            m->stock_names[n++] = stock_name(stock_at(i));
}

/* ---- exact sizes ---- */

const char *subject_dataset(const struct settings *s)
{
    return strcmp(s->corpus, "self") == 0 ? "self" : fs_basename(s->corpus);
}

/* An importance matrix that says nothing, with one entry per tensor: sizes of files made with one
 * are asked for before there is one. */
static void unit_imatrix(struct imatrix *out, const struct model_desc *d, const char *dataset)
{
    *out = (struct imatrix){.chunk_count = 1, .chunk_size = 1};
    for (size_t i = 0; i < d->n_tensors; i++) {
        const struct shape *shape = &d->tensors[i].shape;
        uint64_t mats = shape->ne[2] * shape->ne[3], n = mats * shape->ne[0];
        if (!recipe_tensor_quantizable(d, i))
            continue;
        float *ones = xcalloc(n, sizeof(*ones));
        for (uint64_t k = 0; k < n; k++)
            ones[k] = 1;
        imatrix_add(out, d->tensors[i].name, shape->ne[0], mats, ones, ones);
        xfree(ones);
    }
    out->datasets = xcalloc(1, sizeof(*out->datasets));
    out->datasets[0] = dataset;
    out->n_datasets = 1;
}

static void unit_imatrix_release(struct imatrix *m)
{
    xfree(m->datasets);
    m->datasets = NULL;
    m->n_datasets = 0;
    imatrix_release(m);
}

static int mock_file_bytes(const struct subject *m, const struct recipe *r, uint64_t *bytes,
                           struct err *e)
{
    struct plan plan;
    struct recipe_options o = RECIPE_OPTIONS_DEFAULT;
    o.have_importance = true;
    if (recipe_resolve(r, m->desc, &o, &plan, e) != 0)
        return -1;
    *bytes = MOCK_HEADER_BYTES;
    for (size_t i = 0; i < plan.n; i++) {
        uint64_t padded;
        if (!num_align_u64(plan.tensors[i].bytes, 32, &padded) ||
            !num_add_u64(*bytes, padded, bytes)) {
            plan_release(&plan);
            return err_set(e, ERR_INPUT, NULL, "the sizes of the model's tensors overflow");
        }
    }
    plan_release(&plan);
    return 0;
}

int subject_file_bytes(const struct subject *m, const struct recipe *r,
                       const struct imatrix *imatrix, const char *dataset, uint64_t *bytes,
                       struct err *e)
{
    struct imatrix unit = {0};
    if (!m->model)
        return mock_file_bytes(m, r, bytes, e);
    if (!imatrix)
        unit_imatrix(&unit, m->desc, dataset);
    struct bake_job job = {.model = m->model,
                           .recipe = r,
                           .imatrix = imatrix ? imatrix : &unit,
                           .imatrix_name = "imatrix.gguf",
                           .allow_requantize = true};
    int rc = bake_plan_bytes(&job, bytes, e);
    if (!imatrix)
        unit_imatrix_release(&unit);
    return rc;
}

/* ---- opening ---- */

enum { PROBE_RUNS = 4, FRONT_WINDOWS = 4 };

/* Small models are read much text, since it costs seconds; of large ones every token costs. Without
 * a target the candidates of a ladder differ by so much that few windows tell them apart; and a
 * joined probe may be rough, as what a wrong sensitivity costs grows with the square of its error.
 */
static void choose_scale(struct subject *m, const struct settings *s)
{
    uint32_t trained = m->desc->n_ctx_train > 0 ? m->desc->n_ctx_train : 512;
    struct scale *c = &m->scale;
    c->n_ctx = trained < 512 ? trained : 512;
    c->large = m->desc->parameters >= 100000000;
    bool joined = c->large && strcmp(s->effort, "max") != 0;
    c->calibration = c->large ? 32 : 64;
    c->search = c->large ? 8 : 16;
    c->search_read = c->large && !targets_any(&s->targets) ? 2 : c->search;
    c->probe = !c->large ? 8 : joined ? 1 : 2;
    c->final = c->large ? 16 : 64;
    c->runs = joined ? PROBE_RUNS : 0;
    c->search_first = c->n_ctx / 16;
    size_t scored = c->n_ctx - 1 - c->n_ctx / 2;
    if (s->tokens > 0 && scored > 0)
        c->final = (s->tokens + scored - 1) / scored;
    if (c->final < 2)
        c->final = 2;
    c->front = c->large && c->final > FRONT_WINDOWS ? FRONT_WINDOWS : c->final;
}

int subject_fixed_bytes(const struct subject *m, const struct imatrix *imatrix, const char *dataset,
                        uint64_t *bytes, struct err *e)
{
    struct recipe r;
    uint64_t file;
    enum dtype *types = xcalloc(m->groups.n + 1, sizeof(*types));
    for (size_t g = 0; g < m->groups.n; g++)
        types[g] = DT_Q8_0;
    int rc = search_recipe(&r, m->desc, &m->groups, types, e);
    xfree(types);
    if (rc != 0)
        return -1;
    rc = subject_file_bytes(m, &r, imatrix, dataset, &file, e);
    recipe_release(&r);
    if (rc != 0)
        return -1;
    static const enum dtype q8_0[] = {DT_Q8_0};
    struct probe_table t;
    if (probe_table_sizes(&t, m->desc, &m->groups, q8_0, 1, true, e) != 0)
        return -1;
    uint64_t groups = allocate_smallest(&t);
    probe_table_release(&t);
    if (groups > file)
        return err_set(e, ERR_BUG, NULL, "tensor groups are larger than the file they are in");
    *bytes = file - groups;
    return 0;
}

static int find_sizes(struct subject *m, const struct settings *s, struct err *e)
{
    enum dtype all[PROBE_TYPES_MAX];
    int n = 0;
    for (int i = 0; i < LADDER; i++)
        if (allows(s, ladder[i].type))
            all[n++] = ladder[i].type;
    if (n > 0 && unquantized(m) != DT_NONE && allows(s, unquantized(m)))
        all[n++] = unquantized(m);
    if (n == 0)
        return err_set(e, ERR_UNSUPPORTED, "list other types in the profile, or use another preset",
                       "the profile and the preset leave no quantization type to choose from");
    return probe_table_sizes(&m->sizes, m->desc, &m->groups, all, n, true, e);
}

static int open_model(struct subject *m, const struct settings *s, struct err *e)
{
    if (!s->model_path) {
        m->own_desc = mock_desc_new();
        m->desc = m->own_desc;
        hash_sha256_text(m->desc->name, strlen(m->desc->name), m->sha256);
        m->source_bytes = m->desc->parameters * 2;
        return 0;
    }
    if (model_open(&m->model, s->model_path, e) != 0 || model_check_generates(m->model, e) != 0)
        return -1;
    m->desc = model_desc(m->model);
    m->source_bytes = model_source_bytes(m->model);
    return 0;
}

int subject_open(struct subject *m, const struct settings *s, struct err *e)
{
    *m = (struct subject){0};
    int rc = open_model(m, s, e);
    if (rc == 0)
        choose_scale(m, s);
    if (rc == 0)
        rc = probe_groups_make(&m->groups, m->desc, m->scale.runs, e);
    if (rc == 0)
        rc = subject_fixed_bytes(m, NULL, subject_dataset(s), &m->fixed_bytes, e);
    if (rc == 0)
        rc = find_sizes(m, s, e);
    if (rc != 0) {
        subject_release(m);
        return -1;
    }
    choose_mixes(m, s);
    subject_choose_types(m, s, UINT64_MAX);
    return 0;
}

void subject_release(struct subject *m)
{
    probe_table_release(&m->sizes);
    probe_groups_release(&m->groups);
    xfree(m->stock_names);
    model_close(m->model);
    xfree(m->own_desc);
    *m = (struct subject){0};
}
