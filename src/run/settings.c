/* What was asked of a run, as a value: checked, completed by the preset, stored, read back.
 *
 * Owns copies of everything, so that a run outlives the caller's strings and a resumed run needs
 * only the stored document; of a hardware profile the figures are stored, so a profile file that
 * changed later does not change a run. Refuses: an unknown preset, negative or contradictory
 * numbers. A preset speaks only where the user did not: its limits count when no target is given.
 */
#include "run/run_int.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/banned.h"

/* Types whose matrices the CPU backend of ggml 0.5.0 interleaves for prompt processing (ggml-cpu's
 * repack.cpp); others are several times slower there. */
static const enum dtype fast_types[] = {DT_Q2_K, DT_Q4_K, DT_IQ4_NL, DT_Q5_K,
                                        DT_Q6_K, DT_Q8_0, DT_NONE};

static const struct preset presets[] = {
    {.name = "auto", .what = "nothing beyond the targets; without targets the front and its knee"},
    {.name = "chatbot",
     .what = "lowest divergence in the size of Q4_K_M, memory counted at 4096 tokens",
     .context = 4096,
     .size_of = "Q4_K_M"},
    {.name = "batch",
     .what = "lowest divergence in the size of Q4_K_M from types with fast prompt processing",
     .context = 2048,
     .size_of = "Q4_K_M",
     .only = fast_types},
    {.name = "smallest",
     .what = "smallest file that agrees with the original on 90 % of next tokens",
     .accuracy_min = 0.9},
    {.name = "quality", .what = "lowest divergence in the size of Q6_K", .size_of = "Q6_K"},
};
static const double memory_share = 0.85; /* of a profile's memory; the rest is the system's */
enum { PRESETS = sizeof(presets) / sizeof(presets[0]), CONTEXT_DEFAULT = 4096 };

const struct preset *preset_at(int i)
{
    return i >= 0 && i < PRESETS ? &presets[i] : NULL;
}

const struct preset *preset_find(const char *name)
{
    for (int i = 0; i < PRESETS; i++)
        if (strcmp(presets[i].name, name) == 0)
            return &presets[i];
    return NULL;
}

static char *copy_or_null(const char *s)
{
    return s ? xstrdup(s) : NULL;
}

/* ---- the profile ---- */

static void profile_copy(struct hw_profile *to, const struct hw_profile *from)
{
    size_t n = 0;
    *to = *from;
    to->quantizations = NULL;
    while (from->quantizations && from->quantizations[n])
        n++;
    if (!from->quantizations)
        return;
    to->quantizations = xcalloc(n + 1, sizeof(*to->quantizations));
    for (size_t i = 0; i < n; i++)
        to->quantizations[i] = xstrdup(from->quantizations[i]);
}

static json_t *profile_json_new(const struct hw_profile *p)
{
    json_t *o = json_object();
    json_object_set_new(o, "name", json_string(p->name));
    json_object_set_new(o, "remote", json_boolean(p->remote));
    json_object_set_new(o, "ram_gb", json_real_new(p->ram_gb));
    json_object_set_new(o, "vram_gb", json_real_new(p->vram_gb));
    json_object_set_new(o, "memory_bandwidth_gbs", json_real_new(p->bandwidth_gbs));
    json_object_set_new(o, "efficiency", json_real_new(p->efficiency));
    json_object_set_new(o, "overhead_ms", json_real_new(p->overhead_ms));
    json_object_set_new(o, "gflops", json_real_new(p->gflops));
    json_object_set_new(o, "cores", json_integer(p->cores));
    json_t *factors = json_object();
    for (int i = 0; i < p->n_factors; i++)
        json_object_set_new(factors, p->factors[i].type, json_real_new(p->factors[i].factor));
    json_object_set_new(o, "type_factors", factors);
    json_t *list = p->quantizations ? json_array() : json_null();
    for (size_t i = 0; p->quantizations && p->quantizations[i]; i++)
        json_array_append_new(list, json_string(p->quantizations[i]));
    json_object_set_new(o, "supported_quantizations", list);
    return o;
}

static void factors_parse(struct hw_profile *p, json_t *doc)
{
    const char *type;
    json_t *value;
    json_object_foreach(doc, type, value)
    {
        struct hw_type_factor *f = &p->factors[p->n_factors];
        if (p->n_factors == HW_TYPES_MAX || strlen(type) >= sizeof(f->type))
            return;
        snprintf(f->type, sizeof(f->type), "%s", type);
        f->factor = json_number_value(value);
        p->n_factors += f->factor > 0;
    }
}

static void profile_parse(struct hw_profile *p, const json_t *doc)
{
    const json_t *list = json_object_get(doc, "supported_quantizations");
    *p = (struct hw_profile){
        .remote = json_opt_bool(doc, "remote", false),
        .ram_gb = json_opt_real(doc, "ram_gb", 0),
        .vram_gb = json_opt_real(doc, "vram_gb", 0),
        .bandwidth_gbs = json_opt_real(doc, "memory_bandwidth_gbs", 0),
        .efficiency = json_opt_real(doc, "efficiency", 0),
        .overhead_ms = json_opt_real(doc, "overhead_ms", 0),
        .gflops = json_opt_real(doc, "gflops", 0),
        .cores = (int)json_opt_i64(doc, "cores", 0),
    };
    snprintf(p->name, sizeof(p->name), "%s", json_opt_str(doc, "name", ""));
    factors_parse(p, json_object_get(doc, "type_factors"));
    if (!json_is_array(list))
        return;
    p->quantizations = xcalloc(json_array_size(list) + 1, sizeof(*p->quantizations));
    for (size_t i = 0, n = 0; i < json_array_size(list); i++)
        if (json_is_string(json_array_get(list, i)))
            p->quantizations[n++] = xstrdup(json_string_value(json_array_get(list, i)));
}

/* ---- the settings ---- */

static int check_numbers(const struct targets *t, struct err *e)
{
    if (t->accuracy_min < 0 || t->accuracy_min > 1)
        return err_set(e, ERR_USAGE, "give a share such as 0.95",
                       "the target accuracy is %g, expected 0 to 1", t->accuracy_min);
    if (t->bpw_max < 0 || t->tps_min < 0 || t->latency_ms_max < 0)
        return err_set(e, ERR_USAGE, NULL, "a target is negative, expected a positive number");
    return 0;
}

/* The preset's part of the targets that can be said without knowing the model. */
static int apply_preset(struct settings *s, struct err *e)
{
    const struct preset *p = preset_find(s->preset);
    if (!p)
        return err_set(e, ERR_USAGE, "use auto, chatbot, batch, smallest or quality",
                       "there is no preset \"%.60s\"", s->preset);
    s->targets = s->asked;
    if (s->targets.context == 0)
        s->targets.context = p->context > 0 ? p->context : CONTEXT_DEFAULT;
    if (!targets_any(&s->asked))
        s->targets.accuracy_min = p->accuracy_min;
    /* Nothing but another machine is named: the best that its memory holds. */
    double gb = s->profile.vram_gb > 0 ? s->profile.vram_gb : s->profile.ram_gb;
    if (!targets_any(&s->targets) && !p->size_of && s->has_profile && gb > 0)
        s->targets.memory_max = (uint64_t)(memory_share * gb * 1024 * 1024 * 1024);
    return 0;
}

int settings_init(struct settings *s, const struct run_config *c, struct err *e)
{
    *s = (struct settings){
        .model_path = copy_or_null(c->model_path),
        .out_dir = copy_or_null(c->out_dir),
        .home = copy_or_null(c->home),
        .corpus = xstrdup(c->corpus ? c->corpus : "self"),
        .corpus_bytes = c->corpus_bytes,
        .sibling_sensitivities = c->sibling_sensitivities,
        .preset = xstrdup(c->preset ? c->preset : "auto"),
        .tokens = c->tokens,
        .seed = c->seed,
        .asked = c->targets,
        .effort = xstrdup(c->effort ? c->effort : "normal"),
        .max_iters = c->max_iters,
        .budget_minutes = c->budget_minutes,
        .threads = c->threads,
        .gpu_layers = c->gpu_layers,
        .cache = c->cache,
        .cache_fixed = c->cache_fixed,
        .mock = c->mock,
        .contest = copy_or_null(c->contest),
        .has_profile = c->profile != NULL,
    };
    if (c->profile)
        profile_copy(&s->profile, c->profile);
    if (!s->model_path && !s->mock) {
        err_set(e, ERR_USAGE, "give --model", "no model is given");
    } else if (check_numbers(&s->asked, e) == 0 && apply_preset(s, e) == 0) {
        return 0;
    }
    settings_release(s);
    return -1;
}

static void set_text(json_t *o, const char *key, const char *value)
{
    json_object_set_new(o, key, value ? json_string(value) : json_null());
}

json_t *settings_json_new(const struct settings *s)
{
    json_t *o = json_object();
    json_object_set_new(o, "sintra_run", json_integer(1));
    set_text(o, "model", s->model_path);
    set_text(o, "out", s->out_dir);
    set_text(o, "corpus", s->corpus);
    json_object_set_new(o, "corpus_bytes", json_integer((json_int_t)s->corpus_bytes));
    json_object_set_new(o, "sibling_sensitivities", json_boolean(s->sibling_sensitivities));
    set_text(o, "preset", s->preset);
    json_object_set_new(o, "tokens", json_integer((json_int_t)s->tokens));
    /* As text: a seed may use all 64 bits, and JSON integers here are signed. */
    char seed[24];
    snprintf(seed, sizeof(seed), "%llu", (unsigned long long)s->seed);
    json_object_set_new(o, "seed", json_string(seed));
    json_object_set_new(o, "targets", targets_json_new(&s->targets));
    json_object_set_new(o, "asked", targets_json_new(&s->asked));
    set_text(o, "effort", s->effort);
    json_object_set_new(o, "max_iters", json_integer(s->max_iters));
    json_object_set_new(o, "budget_minutes", json_real_new(s->budget_minutes));
    json_object_set_new(o, "threads", json_integer(s->threads));
    json_object_set_new(o, "gpu_layers", json_integer(s->gpu_layers));
    json_object_set_new(o, "cache", s->cache_fixed ? cache_json_new(s->cache) : json_null());
    json_object_set_new(o, "mock", json_boolean(s->mock));
    if (s->contest)
        set_text(o, "contest", s->contest);
    json_object_set_new(o, "profile", s->has_profile ? profile_json_new(&s->profile) : json_null());
    return o;
}

static uint64_t parse_u64(const char *text)
{
    uint64_t v = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        v = v * 10 + (uint64_t)(*text - '0');
    return v;
}

int settings_parse(struct settings *s, const char *home, const char *config, struct err *e)
{
    json_t *o = json_parse(config, strlen(config), "stored run configuration", e);
    const json_t *profile;
    if (!o)
        return -1;
    if (json_opt_i64(o, "sintra_run", 0) != 1) {
        json_decref(o);
        return err_set(e, ERR_UNSUPPORTED, "start a new run",
                       "the stored run was configured by another version of the program");
    }
    profile = json_object_get(o, "profile");
    *s = (struct settings){
        .model_path = copy_or_null(json_opt_str(o, "model", NULL)),
        .out_dir = copy_or_null(json_opt_str(o, "out", NULL)),
        .home = xstrdup(home),
        .corpus = xstrdup(json_opt_str(o, "corpus", "self")),
        .corpus_bytes = (uint64_t)json_opt_i64(o, "corpus_bytes", 0),
        .sibling_sensitivities = json_opt_bool(o, "sibling_sensitivities", false),
        .preset = xstrdup(json_opt_str(o, "preset", "auto")),
        .tokens = (size_t)json_opt_i64(o, "tokens", 0),
        .seed = parse_u64(json_opt_str(o, "seed", "0")),
        .effort = xstrdup(json_opt_str(o, "effort", "normal")),
        .max_iters = (int)json_opt_i64(o, "max_iters", 0),
        .budget_minutes = json_opt_real(o, "budget_minutes", 0),
        .threads = (int)json_opt_i64(o, "threads", 0),
        .gpu_layers = (int)json_opt_i64(o, "gpu_layers", 0),
        .mock = json_opt_bool(o, "mock", false),
        .contest = copy_or_null(json_opt_str(o, "contest", NULL)),
        .has_profile = json_is_object(profile),
    };
    s->cache_fixed = cache_from_json(&s->cache, json_object_get(o, "cache"));
    targets_from_json(&s->targets, json_object_get(o, "targets"));
    targets_from_json(&s->asked, json_object_get(o, "asked"));
    if (s->has_profile)
        profile_parse(&s->profile, profile);
    json_decref(o);
    return 0;
}

void settings_release(struct settings *s)
{
    xfree(s->model_path);
    xfree(s->out_dir);
    xfree(s->home);
    xfree(s->corpus);
    xfree(s->preset);
    xfree(s->effort);
    xfree(s->contest);
    if (s->has_profile)
        hw_profile_release(&s->profile);
    *s = (struct settings){0};
}
