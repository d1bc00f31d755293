/* `quantize`: one type, mix or recipe, straight from safetensors or GGUF.
 *
 * Knows what users of llama-quantize know: types in any case (or by number), --pure, --tensor-type
 * where the first match wins, separate types for head and embedding, --allow-requantize, --dry-run.
 * Owns the recipe, the importance matrix and the overrides for the time of the call; what they mean
 * is recipe's and bake's business.
 */
#include <string.h>

#include "bake/bake.h"
#include "base/fs.h"
#include "base/mem.h"
#include "cmd/cmd_int.h"
#include "run/run.h"
#include "surgery/surgery.h"

#include "base/banned.h"

enum { RECIPE_BYTES_MAX = 16 << 20, FALLBACKS_SHOWN = 8 };

static const struct arg_spec quantize_args[] = {
    ARG_LINE_MODEL_POSITION,
    {.name = "output",
     .letter = 'o',
     .type = ARG_PATH,
     .value = "FILE",
     .help = "GGUF file to write"},
    {.name = "type",
     .type = ARG_TEXT,
     .value = "TYPE",
     .help = "mix or type in any case: Q4_K_M, iq4_xs"},
    {.name = "recipe", .type = ARG_PATH, .value = "FILE", .help = "recipe.json instead of --type"},
    {.name = "imatrix",
     .type = ARG_PATH,
     .value = "FILE",
     .help = "importance matrix (GGUF or .dat)"},
    {.name = "factors",
     .type = ARG_PATH,
     .value = "FILE",
     .help = "for error feedback (calibrate); known ones of runs are found"},
    {.name = "pure", .type = ARG_FLAG, .help = "the same type for every tensor of the mix"},
    {.name = "tensor-type",
     .type = ARG_TEXT,
     .value = "PATTERN=TYPE",
     .repeat = true,
     .help = "for matching names; the first match wins"},
    {.name = "output-type",
     .alias = "output-tensor-type",
     .type = ARG_TEXT,
     .value = "TYPE",
     .help = "type of the head (output.weight)"},
    {.name = "embedding-type",
     .alias = "token-embedding-type",
     .type = ARG_TEXT,
     .value = "TYPE",
     .help = "type of the token embedding"},
    {.name = "drop-layers",
     .type = ARG_TEXT,
     .value = "N,N,...",
     .help = "leave these blocks out, counted from 0"},
    {.name = "allow-requantize", .type = ARG_FLAG, .help = "also encode what is quantized already"},
    {.name = "card",
     .type = ARG_PATH,
     .value = "FILE",
     .help = "also write a model card for the hub (README.md)"},
    {.name = "dry-run", .type = ARG_FLAG, .help = "print types and exact size, write nothing"},
    ARG_LINE_THREADS,
    ARG_LINE_END,
};

/* Everything a bake needs, owned. */
struct work {
    struct model *model;
    struct recipe recipe;
    bool have_recipe;
    struct imatrix imatrix;
    bool have_imatrix;
    struct factors factors, left; /* left: by the names in what is left of the model */
    bool have_factors;
    struct recipe_options options;
    struct recipe_override *overrides;
    char **patterns;
    struct plan plan;
};

static void work_release(struct work *w)
{
    for (size_t i = 0; i < w->options.n_overrides; i++)
        xfree(w->patterns[i]);
    xfree(w->patterns);
    xfree(w->overrides);
    if (w->have_recipe)
        recipe_release(&w->recipe);
    if (w->have_imatrix)
        imatrix_release(&w->imatrix);
    factors_close(&w->left);
    if (w->have_factors)
        factors_close(&w->factors);
    plan_release(&w->plan);
    model_close(w->model);
}

static enum dtype dtype_of_base(const char *name)
{
    const struct stock_mix *mix = stock_find(name);
    return mix ? stock_base_type(mix) : dtype_by_name(name);
}

static int read_recipe(struct work *w, const struct cmd_args *a, struct err *e)
{
    const char *type = cmd_text(a, "type"), *path = cmd_text(a, "recipe"), *name;
    if ((type != NULL) == (path != NULL))
        return err_set(e, ERR_USAGE, "for example --type Q4_K_M", "%s",
                       type ? "--type and --recipe exclude each other"
                            : "--type TYPE or --recipe FILE is missing: what the weights become");
    if (type) {
        if (cmd_type_name("--type", type, &name, e))
            return -1;
        recipe_init(&w->recipe, name);
        w->have_recipe = true;
        /* As `convert` does; a recipe says itself what every tensor becomes. */
        w->options.keep_blocks = !dtype_info(dtype_of_base(name))->quantized;
        return 0;
    }
    json_t *doc = json_read(path, RECIPE_BYTES_MAX, e);
    if (!doc)
        return -1;
    int rc = recipe_parse(&w->recipe, doc, path, e);
    w->have_recipe = rc == 0;
    json_decref(doc);
    return rc;
}

/* "ffn_down=Q6_K": the pattern may hold '=', the type not. */
static int read_override(struct work *w, const char *text, struct err *e)
{
    const char *equal = strrchr(text, '=');
    size_t i = w->options.n_overrides;
    if (!equal || equal == text || !equal[1])
        return err_set(e, ERR_USAGE, "for example --tensor-type 'ffn_down=Q6_K'",
                       "--tensor-type: expected PATTERN=TYPE, found \"%.80s\"", text);
    if (cmd_tensor_type("--tensor-type", equal + 1, &w->overrides[i].type, e))
        return -1;
    w->patterns[i] = xstrndup(text, (size_t)(equal - text));
    w->overrides[i].pattern = w->patterns[i];
    w->options.n_overrides++;
    return 0;
}

static int read_options(struct work *w, const struct cmd_args *a, struct err *e)
{
    int n = cmd_count(a, "tensor-type");
    const char *head = cmd_text(a, "output-type"), *embedding = cmd_text(a, "embedding-type");
    w->overrides = xcalloc((size_t)n + 1, sizeof(*w->overrides));
    w->patterns = xcalloc((size_t)n + 1, sizeof(*w->patterns));
    w->options.overrides = w->overrides;
    w->options.output_type = DT_NONE;
    w->options.embedding_type = DT_NONE;
    w->options.pure = cmd_flag(a, "pure");
    for (int i = 0; i < n; i++)
        if (read_override(w, cmd_text_at(a, "tensor-type", i), e))
            return -1;
    if (head && cmd_tensor_type("--output-type", head, &w->options.output_type, e))
        return -1;
    if (embedding && cmd_tensor_type("--embedding-type", embedding, &w->options.embedding_type, e))
        return -1;
    return 0;
}

/* "3,7": added to what the recipe says. */
static int read_drop_layers(struct work *w, const struct cmd_args *a, struct err *e)
{
    const char *text = cmd_text(a, "drop-layers"), *at = text;
    while (at && *at) {
        uint32_t layer = 0;
        const char *digit = at;
        for (; *digit >= '0' && *digit <= '9' && digit - at < 5; digit++)
            layer = layer * 10 + (uint32_t)(*digit - '0');
        bool ends = *digit == 0 || (*digit == ',' && digit[1]);
        if (digit == at || !ends || layer >= RECIPE_LAYERS_MAX ||
            !recipe_drop_layer(&w->recipe, layer))
            return err_set(e, ERR_USAGE, "for example --drop-layers 3,7",
                           "--drop-layers: expected different numbers of blocks with commas "
                           "between, found \"%.80s\"",
                           text);
        at = *digit ? digit + 1 : digit;
    }
    return 0;
}

/* Takes out what the recipe says; importance and error feedback follow. */
static int operate(struct work *w, struct err *e)
{
    uint32_t n_layer = model_desc(w->model)->n_layer;
    if (surgery_apply(w->model, &w->recipe, e) != 0)
        return -1;
    if (w->have_imatrix)
        surgery_imatrix(&w->imatrix, &w->recipe, n_layer);
    if (w->have_factors)
        surgery_factors(&w->left, &w->factors, &w->recipe);
    return 0;
}

static int read_imatrix(struct work *w, const struct cmd_args *a, struct err *e)
{
    const char *path = cmd_text(a, "imatrix");
    if (!path)
        return 0;
    if (imatrix_read(&w->imatrix, path, e))
        return -1;
    w->have_imatrix = true;
    w->options.have_importance = true;
    return 0;
}

/* Where the run that made a recipe left the factors it names; NULL when this home has none.
 * xfree. */
static char *factors_of_run(const struct cmd_context *c, const char *sha256)
{
    struct store *s = NULL;
    char *base = cmd_home_path(c, "sintra.db"), *path = NULL;
    if (fs_exists(base) && cmd_store_open(c, &s, NULL) == 0) {
        json_t *doc = store_fact_get(s, "factors", sha256);
        const char *stored = json_opt_str(doc, "path", NULL);
        path = stored && fs_exists(stored) ? xstrdup(stored) : NULL;
        json_decref(doc);
    }
    store_close(s);
    xfree(base);
    return path;
}

static int read_factors(struct work *w, const struct cmd_context *c, const struct cmd_args *a,
                        struct err *e)
{
    const char *asked = cmd_text(a, "factors");
    char *path = asked                ? xstrdup(asked)
                 : w->recipe.feedback ? factors_of_run(c, w->recipe.feedback)
                                      : NULL;
    int rc = path ? factors_open(&w->factors, path, e) : 0;
    w->have_factors = path && rc == 0;
    xfree(path);
    return rc;
}

/* [{"type","tensors","bytes"}], in the order of dtype's table. */
static json_t *types_json_new(const struct plan *p)
{
    json_t *list = json_array();
    const struct dtype_info *d;
    for (int t = 0; (d = dtype_at(t)); t++) {
        uint64_t bytes = 0;
        json_int_t tensors = 0;
        for (size_t i = 0; i < p->n; i++) {
            if (p->tensors[i].type == d->id) {
                tensors++;
                bytes += p->tensors[i].bytes;
            }
        }
        if (tensors > 0)
            json_array_append_new(list, json_pack("{s:s,s:I,s:o}", "type", d->name, "tensors",
                                                  tensors, "bytes", cmd_bytes_json_new(bytes)));
    }
    return list;
}

static json_t *fallbacks_json_new(const struct plan *p, const struct model_desc *d)
{
    json_t *list = json_array();
    for (size_t i = 0; i < p->n && json_array_size(list) < FALLBACKS_SHOWN; i++)
        if (p->tensors[i].fallback)
            json_array_append_new(list, json_pack("{s:s,s:s,s:s}", "tensor", d->tensors[i].name,
                                                  "asked", dtype_name(p->tensors[i].asked), "type",
                                                  dtype_name(p->tensors[i].type)));
    return list;
}

static json_t *result_new(const struct work *w, const struct cmd_args *a, uint64_t bytes)
{
    const struct model_desc *d = model_desc(w->model);
    json_t *o = json_object();
    const char *output = cmd_text(a, "output");
    if (output)
        json_object_set_new(o, "output", json_string(output));
    json_object_set_new(o, "base", json_string(w->recipe.base));
    json_object_set_new(o, "bytes", cmd_bytes_json_new(bytes));
    json_object_set_new(o, "bpw", json_real_new((double)bytes * 8 / (double)d->parameters));
    json_object_set_new(o, "source_bytes", cmd_bytes_json_new(model_source_bytes(w->model)));
    json_object_set_new(o, "types", types_json_new(&w->plan));
    json_object_set_new(o, "fallback_count", json_integer(w->plan.n_fallback));
    json_object_set_new(o, "fallbacks", fallbacks_json_new(&w->plan, d));
    if (w->recipe.n_drop_layers > 0)
        json_object_set_new(o, "layers", json_integer((json_int_t)d->n_layer));
    if (w->have_imatrix)
        json_object_set_new(o, "imatrix_sha256", json_string(w->imatrix.sha256));
    return o;
}

/* The path without links and detours, as far as it is there. xfree. */
static char *place_of(const char *path)
{
    char *whole = realpath(path, NULL);
    if (whole)
        return whole;
    const char *name = fs_basename(path);
    char *folder = name == path ? xstrdup(".") : xstrndup(path, (size_t)(name - path));
    char *real = realpath(folder, NULL);
    whole = fs_join(real ? real : folder, name);
    xfree(real);
    xfree(folder);
    return whole;
}

/* Would writing b write over a? Neither need be there. */
static bool same_place(const char *a, const char *b)
{
    char *place_a = place_of(a), *place_b = place_of(b);
    bool same = strcmp(place_a, place_b) == 0;
    xfree(place_a);
    xfree(place_b);
    return same;
}

/* Where the card will go, before anything that takes time. */
static int check_card(const struct cmd_args *a, struct err *e)
{
    const char *path = cmd_text(a, "card");
    if (!path || cmd_flag(a, "dry-run"))
        return 0;
    const char *name = fs_basename(path);
    char *folder = name == path ? xstrdup(".") : xstrndup(path, (size_t)(name - path));
    char *original = fs_join(cmd_text(a, "MODEL"), "README.md");
    int rc = 0;
    if (fs_is_dir(path) || !*name)
        rc = err_set(e, ERR_USAGE, "for example --card README.md", "--card: %s is a folder", path);
    else if (!fs_is_dir(folder))
        rc = err_set(e, ERR_MISSING, NULL, "--card: there is no folder %s", folder);
    else if (same_place(path, cmd_text(a, "output")) || same_place(path, cmd_text(a, "MODEL")) ||
             same_place(path, original))
        rc = err_set(e, ERR_USAGE, "for example --card README.md beside the new file",
                     "--card: %s is %s", path,
                     same_place(path, original) ? "the original's own card" : "the model itself");
    xfree(original);
    xfree(folder);
    return rc;
}

/* What was asked for beside the type or the recipe, as it was typed. */
static json_t *options_json_new(const struct cmd_args *a)
{
    static const char *const names[] = {"tensor-type", "output-type", "embedding-type"};
    json_t *list = json_array();
    if (cmd_flag(a, "pure"))
        json_array_append_new(list, json_string("--pure"));
    for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
        for (int i = 0; i < cmd_count(a, names[k]); i++) {
            char *text = xasprintf("--%s %s", names[k], cmd_text_at(a, names[k], i));
            json_array_append_new(list, json_string(text));
            xfree(text);
        }
    }
    return list;
}

/* The card says what the result says, and of which model by which recipe. */
static int write_card(const struct work *w, const struct cmd_args *a, json_t *result, struct err *e)
{
    const char *path = cmd_text(a, "card");
    if (!path)
        return 0;
    json_t *doc = json_copy(result), *model = cmd_model_json_new(w->model);
    json_object_set_new(model, "encoder", json_boolean(model_desc(w->model)->encoder));
    json_object_set_new(doc, "model", model);
    json_t *recipe = recipe_json_new(&w->recipe);
    if (w->have_imatrix)
        json_object_set_new(recipe, "importance", json_string(w->imatrix.sha256));
    json_object_set_new(doc, "recipe", recipe);
    json_object_set_new(doc, "options", options_json_new(a));
    char *card = run_card_of_file(doc);
    int rc = fs_write_all(path, card, strlen(card), e);
    if (rc == 0)
        json_object_set_new(result, "card", json_string(path));
    xfree(card);
    json_decref(doc);
    return rc;
}

static int plan_and_bake(struct work *w, struct cmd_context *c, const struct cmd_args *a,
                         json_t **result, struct err *e)
{
    struct bake_job job = {
        .model = w->model,
        .recipe = &w->recipe,
        .options = &w->options,
        .imatrix = w->have_imatrix ? &w->imatrix : NULL,
        .factors = w->have_factors ? &w->left : NULL,
        /* Without its folder: that is no part of what the file is. */
        .imatrix_name = w->have_imatrix ? fs_basename(cmd_text(a, "imatrix")) : NULL,
        .output = cmd_text(a, "output"),
        .threads = (int)cmd_integer(a, "threads"),
        .allow_requantize = cmd_flag(a, "allow-requantize"),
        .progress = c->progress,
    };
    uint64_t bytes = 0;
    const struct model_desc *d = model_desc(w->model);
    if (recipe_resolve(&w->recipe, d, &w->options, &w->plan, e) ||
        plan_check_importance(&w->plan, d, w->have_imatrix, e) || bake_plan_bytes(&job, &bytes, e))
        return -1;
    if (cmd_flag(a, "dry-run")) {
        *result = result_new(w, a, bytes);
        json_object_set_new(*result, "dry_run", json_true());
        return 0;
    }
    struct bake_result done = {0};
    if (bake_gguf(&job, &done, e))
        return -1;
    *result = result_new(w, a, done.bytes);
    json_object_set_new(*result, "sha256", json_string(done.sha256));
    if (write_card(w, a, *result, e)) {
        json_decref(*result);
        *result = NULL;
        return -1;
    }
    json_object_set_new(*result, "seconds", json_real_new(done.seconds));
    return 0;
}

static int quantize_run(struct cmd_context *c, const struct cmd_args *a, json_t **result,
                        struct err *e)
{
    struct work w = {0};
    char *path = NULL;
    int rc = -1;
    if (!cmd_text(a, "output") && !cmd_flag(a, "dry-run")) {
        err_set(e, ERR_USAGE, "--dry-run shows the plan without a file",
                "--output FILE is missing: the GGUF file to write");
        goto out;
    }
    if (check_card(a, e) || read_recipe(&w, a, e) || read_options(&w, a, e) ||
        cmd_model_path(c, cmd_text(a, "MODEL"), &path, e) || read_imatrix(&w, a, e) ||
        read_drop_layers(&w, a, e) || read_factors(&w, c, a, e) || model_open(&w.model, path, e) ||
        operate(&w, e))
        goto out;
    rc = plan_and_bake(&w, c, a, result, e);
out:
    work_release(&w);
    xfree(path);
    return rc;
}

const struct cmd cmd_quantize = {
    .name = "quantize",
    .group = CMD_MAKE,
    .summary = "write a quantized GGUF by one type, mix or recipe",
    .description =
        "One pass, no intermediate file, all processors, little memory. Types are those of "
        "llama-quantize, with the same choice per tensor. IQ types below 3 bits need --imatrix."
        "\n\n"
        "PATTERN of --tensor-type is a regular expression searched in the tensor's name. A type "
        "that does not fit the length of a tensor's rows falls back to a neighbour, and the result "
        "says so. Encoding what is quantized already loses quality twice."
        "\n\n"
        "--drop-layers leaves blocks out: the others move down, and rules count them as the file "
        "does. The loss is large and does not add up: measure it with 'sintra eval', or let "
        "'sintra optimize' choose, which tries it below 3 bits per weight."
        "\n\n"
        "--card writes what the hub shows of a model: license and base model as the original "
        "states them, the types, the recipe, how to run the file. Nothing in it names a folder "
        "of this machine. It takes the place of FILE if there is one.",
    .example = "sintra quantize ./TinyLlama-1.1B -o tiny.gguf --type Q4_K_M\n"
               "sintra quantize sample -o s.gguf --type q4_k_s --imatrix sample.imatrix\n"
               "sintra quantize sample --dry-run --type Q4_K --tensor-type ffn_down=Q6_K\n"
               "sintra quantize big.gguf -o small.gguf --type IQ4_XS --allow-requantize",
    .args = quantize_args,
    .run = quantize_run,
};
