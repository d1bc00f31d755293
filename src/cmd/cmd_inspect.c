/* `inspect`: what a model is, what each stock mix would weigh, and where it would fit.
 *
 * Sizes are exact (the plan of the file that would be written). "Fits" is arithmetic: file + KV
 * cache at the context against memory; compute buffers, which only libllama knows, are left to
 * `optimize`, so a share of the memory is kept free. Speeds are predictions from bandwidth, and
 * labelled so.
 */
#include <math.h>
#include <string.h>

#include "bake/bake.h"
#include "base/mem.h"
#include "base/num.h"
#include "cmd/cmd_int.h"

#include "base/banned.h"

/* Of the memory, what weights and KV cache may take: the rest is buffers, the system, other
 * programs. */
static const double usable_share_ram = 0.9, usable_share_profile = 0.8;
enum { CONTEXT_DEFAULT = 4096, GGUF_ALIGNMENT = 32 };

/* This machine first, then those of the profiles. */
struct machine {
    const char *name;
    uint64_t memory, room, file_max;
    const struct hw_profile *profile; /* NULL: this one */
};

struct machines {
    struct machine *items;
    size_t n;
    struct hw_profile *profiles;
    size_t n_profiles;
};

static const struct arg_spec inspect_args[] = {
    {.name = "MODEL",
     .type = ARG_PATH,
     .positional = true,
     .value = "MODEL",
     .help = ARG_HELP_MODEL},
    ARG_LINE_CONTEXT("context to leave room for (default: 4096 or less)"),
    {.name = "tensors", .type = ARG_FLAG, .help = "list every tensor"},
    {.name = "architectures",
     .type = ARG_FLAG,
     .help = "list what llama.cpp converts and Sintra does not, with reasons"},
    ARG_LINE_END,
};

static json_t *roles_json_new(const struct model_desc *d)
{
    json_t *list = json_array();
    for (int role = ROLE_OTHER; role <= ROLE_ROPE; role++) {
        uint64_t parameters = 0;
        json_int_t tensors = 0;
        for (size_t i = 0; i < d->n_tensors; i++) {
            uint64_t n = 0;
            if ((int)d->tensors[i].role != role || !shape_elements(&d->tensors[i].shape, &n))
                continue;
            parameters += n;
            tensors++;
        }
        if (tensors == 0)
            continue;
        json_array_append_new(
            list,
            json_pack("{s:s,s:I,s:o,s:f}", "role", model_role_name((enum model_role)role),
                      "tensors", tensors, "parameters", cmd_bytes_json_new(parameters), "share",
                      d->parameters ? (double)parameters / (double)d->parameters : 0.0));
    }
    return list;
}

static json_t *tensors_json_new(const struct model_desc *d)
{
    json_t *list = json_array();
    for (size_t i = 0; i < d->n_tensors; i++) {
        char shape[96];
        const struct model_tensor *t = &d->tensors[i];
        json_array_append_new(
            list, json_pack("{s:s,s:s,s:s,s:s}", "name", t->name, "role", model_role_name(t->role),
                            "type", dtype_name(t->dtype), "shape", shape_text(&t->shape, shape)));
    }
    return list;
}

/* Σ of the padded tensors of a mix as it is with an importance matrix. */
static int tensor_bytes(const struct model *m, const char *mix, uint64_t *bytes, struct err *e)
{
    struct recipe r;
    struct plan plan = {0};
    struct recipe_options options = RECIPE_OPTIONS_DEFAULT;
    options.have_importance = true;
    recipe_init(&r, mix);
    int rc = recipe_resolve(&r, model_desc(m), &options, &plan, e);
    *bytes = 0;
    for (size_t i = 0; rc == 0 && i < plan.n; i++) {
        uint64_t padded = 0;
        if (!num_align_u64(plan.tensors[i].bytes, GGUF_ALIGNMENT, &padded) ||
            !num_add_u64(*bytes, padded, bytes))
            rc =
                err_set(e, ERR_INPUT, NULL, "%s: the sizes of the tensors overflow", model_path(m));
    }
    plan_release(&plan);
    recipe_release(&r);
    return rc;
}

/* As `quantize` writes it. */
static int file_bytes(const struct model *m, const char *mix, uint64_t *bytes, struct err *e)
{
    struct recipe r;
    struct recipe_options options = RECIPE_OPTIONS_DEFAULT;
    options.keep_blocks = !dtype_info(stock_base_type(stock_find(mix)))->quantized;
    recipe_init(&r, mix);
    struct bake_job job = {.model = m, .recipe = &r, .options = &options, .allow_requantize = true};
    int rc = bake_plan_bytes(&job, bytes, e);
    recipe_release(&r);
    return rc;
}

/* Exact size of the file of a mix. What needs an importance matrix cannot be planned without one:
 * its tensors, and the header that a file without one has (the matrix adds its name). */
static int mix_bytes(const struct model *m, const struct stock_mix *mix, uint64_t *bytes,
                     struct err *e)
{
    uint64_t whole = 0, tensors = 0;
    if (!stock_needs_importance(mix, model_desc(m)))
        return file_bytes(m, stock_name(mix), bytes, e);
    if (file_bytes(m, "Q8_0", &whole, e) || tensor_bytes(m, "Q8_0", &tensors, e) ||
        tensor_bytes(m, stock_name(mix), bytes, e))
        return -1;
    *bytes += whole > tensors ? whole - tensors : 0;
    return 0;
}

/* Largest first; mixes of one size stay in their order. */
static void sort_by_bytes(json_t *list)
{
    for (size_t i = 1; i < json_array_size(list); i++) {
        for (size_t j = i; j > 0; j--) {
            json_t *a = json_array_get(list, j - 1), *b = json_array_get(list, j);
            if (json_opt_i64(a, "bytes", 0) >= json_opt_i64(b, "bytes", 0))
                break;
            json_incref(a);
            json_incref(b);
            json_array_set_new(list, j - 1, b);
            json_array_set_new(list, j, a);
        }
    }
}

static bool fits_on(const struct machine *at, uint64_t bytes, uint64_t memory)
{
    return memory <= at->room && bytes <= at->file_max;
}

static json_t *mix_json_new(const struct stock_mix *mix, const struct model_desc *d, uint64_t bytes,
                            uint64_t kv_bytes, const struct machines *all)
{
    json_t *o = json_object(), *where = json_array();
    for (size_t k = 0; k < all->n; k++)
        if (fits_on(&all->items[k], bytes, bytes + kv_bytes))
            json_array_append_new(where, json_string(all->items[k].name));
    json_object_set_new(o, "name", json_string(stock_name(mix)));
    json_object_set_new(o, "bytes", cmd_bytes_json_new(bytes));
    json_object_set_new(o, "bpw", json_real_new((double)bytes * 8 / (double)d->parameters));
    json_object_set_new(o, "memory_bytes", cmd_bytes_json_new(bytes + kv_bytes));
    json_object_set_new(o, "fits", json_boolean(fits_on(&all->items[0], bytes, bytes + kv_bytes)));
    json_object_set_new(o, "fits_on", where);
    json_object_set_new(o, "needs_importance", json_boolean(stock_needs_importance(mix, d)));
    return o;
}

static int stock_json_make(const struct model *m, uint64_t kv_bytes, const struct machines *all,
                           json_t **list, struct err *e)
{
    *list = json_array();
    for (int i = 0; stock_at(i); i++) {
        uint64_t bytes = 0;
        if (mix_bytes(m, stock_at(i), &bytes, e)) {
            json_decref(*list);
            *list = NULL;
            return -1;
        }
        json_array_append_new(*list,
                              mix_json_new(stock_at(i), model_desc(m), bytes, kv_bytes, all));
    }
    sort_by_bytes(*list);
    return 0;
}

/* A float type other than the source's own costs bytes and brings nothing. */
static bool pointless(const char *mix, const char *source_type)
{
    bool is_float = strcmp(mix, "F32") == 0 || strcmp(mix, "F16") == 0 || strcmp(mix, "BF16") == 0;
    return is_float && strcmp(mix, source_type) != 0;
}

/* The largest of the mixes that fits, or NULL. */
static const json_t *largest_fitting(const json_t *stock, const char *source_type,
                                     const struct machine *at)
{
    size_t i;
    const json_t *o, *best = NULL;
    int64_t most = 0;
    json_array_foreach(stock, i, o)
    {
        int64_t memory = json_opt_i64(o, "memory_bytes", INT64_MAX);
        int64_t bytes = json_opt_i64(o, "bytes", 0);
        if (fits_on(at, (uint64_t)bytes, (uint64_t)memory) && bytes > most &&
            !pointless(json_opt_str(o, "name", ""), source_type)) {
            most = bytes;
            best = o;
        }
    }
    return best;
}

static json_t *place_json_new(const struct machine *at, const struct model *m, const json_t *stock,
                              uint64_t kv_bytes)
{
    const struct model_desc *d = model_desc(m);
    const json_t *mix = largest_fitting(stock, cmd_source_type(d), at);
    json_t *o = json_object();
    json_object_set_new(o, "machine", json_string(at->name));
    json_object_set_new(o, "memory_bytes", cmd_bytes_json_new(at->memory));
    json_object_set_new(o, "mix", mix ? json_string(json_opt_str(mix, "name", "")) : json_null());
    if (!mix)
        return o;
    uint64_t bytes = (uint64_t)json_opt_i64(mix, "bytes", 0);
    json_object_set_new(o, "bytes", cmd_bytes_json_new(bytes));
    if (at->profile) {
        struct hw_prediction s = hw_predict(at->profile, bytes, kv_bytes, d->parameters);
        if (s.tps_decode > 0)
            json_object_set_new(o, "tps_predicted", json_real_new(s.tps_decode));
    }
    return o;
}

/* Memory that a profile's machine has for a model. */
static uint64_t profile_memory(const struct hw_profile *p)
{
    double gib = p->vram_gb > 0 ? p->vram_gb : p->ram_gb;
    return gib > 0 ? (uint64_t)(gib * 1073741824.0) : 0;
}

static int machines_make(struct machines *all, const struct cmd_context *c, struct err *e)
{
    struct hw h;
    struct err why = {0};
    if (hw_detect(&h, false, e))
        return -1;
    char *dirs = cmd_profile_dirs(c);
    if (hw_profiles(&all->profiles, &all->n_profiles, dirs, &why))
        log_warn("%s", why.message);
    xfree(dirs);
    all->items = xcalloc(all->n_profiles + 1, sizeof *all->items);
    all->items[all->n++] =
        (struct machine){.name = "this machine",
                         .memory = h.ram_usable,
                         .room = (uint64_t)((double)h.ram_usable * usable_share_ram),
                         .file_max = UINT64_MAX};
    for (size_t i = 0; i < all->n_profiles; i++) {
        const struct hw_profile *p = &all->profiles[i];
        uint64_t memory = profile_memory(p);
        if (memory > 0)
            all->items[all->n++] =
                (struct machine){.name = p->name,
                                 .memory = memory,
                                 .room = (uint64_t)((double)memory * usable_share_profile),
                                 .file_max = p->max_model_bytes ? p->max_model_bytes : UINT64_MAX,
                                 .profile = p};
    }
    return 0;
}

static void machines_release(struct machines *all)
{
    for (size_t i = 0; i < all->n_profiles; i++)
        hw_profile_release(&all->profiles[i]);
    xfree(all->profiles);
    xfree(all->items);
}

static uint64_t context_asked(const struct cmd_args *a, const struct model_desc *d)
{
    uint64_t context = (uint64_t)cmd_integer(a, "context");
    if (context)
        return context;
    return d->n_ctx_train && d->n_ctx_train < CONTEXT_DEFAULT ? d->n_ctx_train : CONTEXT_DEFAULT;
}

static int inspect_model(const struct cmd_args *a, const struct model *m,
                         const struct machines *all, json_t **result, struct err *e)
{
    const struct model_desc *d = model_desc(m);
    json_t *stock, *places = json_array();
    uint64_t context = context_asked(a, d), kv_bytes = 0;
    model_kv_bytes(d, (struct cache_types){0}, context, &kv_bytes);
    if (stock_json_make(m, kv_bytes, all, &stock, e)) {
        json_decref(places);
        return -1;
    }
    for (size_t k = 0; k < all->n; k++)
        json_array_append_new(places, place_json_new(&all->items[k], m, stock, kv_bytes));
    *result = json_object();
    json_object_set_new(*result, "model", cmd_model_json_new(m));
    json_object_set_new(*result, "context", cmd_bytes_json_new(context));
    json_object_set_new(*result, "kv_bytes", cmd_bytes_json_new(kv_bytes));
    json_object_set_new(*result, "roles", roles_json_new(d));
    json_object_set_new(*result, "stock", stock);
    json_object_set_new(*result, "fits", places);
    if (cmd_flag(a, "tensors"))
        json_object_set_new(*result, "tensors", tensors_json_new(d));
    return 0;
}

/* The table of architectures, not of a model. */
static json_t *architectures_json_new(void)
{
    json_t *list = json_array();
    struct model_architecture a;
    json_int_t converted = 0;
    for (size_t i = 0; model_architecture_at(i, &a); i++) {
        converted += !a.why;
        json_array_append_new(list, json_pack("{s:o,s:o,s:b,s:s*}", "name",
                                              json_stringn(a.name, a.name_len), "libllama",
                                              json_stringn(a.gguf, a.gguf_len), "converted",
                                              a.why == NULL, "reason", a.why));
    }
    json_int_t all = (json_int_t)json_array_size(list);
    return json_pack("{s:I,s:I,s:o}", "converted", converted, "all", all, "architectures", list);
}

static int inspect_run(struct cmd_context *c, const struct cmd_args *a, json_t **result,
                       struct err *e)
{
    char *path = NULL;
    struct model *m = NULL;
    struct machines all = {0};
    int rc = -1;
    if (cmd_flag(a, "architectures") && !cmd_given(a, "MODEL")) {
        *result = architectures_json_new();
        return 0;
    }
    if (cmd_flag(a, "architectures"))
        return err_set(e, ERR_USAGE, "leave one of the two out",
                       "--architectures lists all of them and takes no MODEL");
    if (!cmd_given(a, "MODEL"))
        return err_set(e, ERR_USAGE, "'sintra help inspect' shows how", "MODEL is missing: %s",
                       ARG_HELP_MODEL);
    if (cmd_model_path(c, cmd_text(a, "MODEL"), &path, e) || model_open(&m, path, e) ||
        machines_make(&all, c, e))
        goto out;
    rc = inspect_model(a, m, &all, result, e);
out:
    machines_release(&all);
    model_close(m);
    xfree(path);
    return rc;
}

const struct cmd cmd_inspect = {
    .name = "inspect",
    .group = CMD_LOOK,
    .summary = "show what a model is, what each mix weighs, where it fits",
    .description =
        "Reads headers only, no weights. Sizes are those of the files that 'quantize' writes; an "
        "importance matrix adds its name and changes some mixes. A mix fits when its file and the "
        "KV cache at --context leave a tenth of the free memory for buffers (a fifth of all "
        "memory on other machines). Tokens per second on other machines are predicted from their "
        "memory bandwidth. --architectures lists every architecture that llama.cpp 0.5.0 "
        "converts: its name in config.json, its name in libllama, and for those that Sintra does "
        "not convert the reason.",
    .example = "sintra inspect sample\nsintra inspect ./Mistral-7B-v0.3 --context 8192\n"
               "sintra inspect --architectures",
    .args = inspect_args,
    .run = inspect_run,
};
