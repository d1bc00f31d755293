/* Documents that several commands give: a model, a run.
 *
 * Owns nothing; every function returns a new reference. Numbers that do not exist are left out or
 * null, never zero by accident.
 */
#include <string.h>

#include "base/mem.h"
#include "cmd/cmd_int.h"

#include "base/banned.h"

enum { BASE_MODELS_MAX = 16 }; /* shown; cards of merged models may list many */

json_t *cmd_bytes_json_new(uint64_t bytes)
{
    return json_integer(bytes > INT64_MAX ? INT64_MAX : (json_int_t)bytes);
}

static void set_count(json_t *o, const char *key, uint64_t n)
{
    if (n > 0)
        json_object_set_new(o, key, cmd_bytes_json_new(n));
}

/* "org/name" of a model on the hub, its address elsewhere, or what there is of a name. */
static const char *base_model_name(const struct gguf_kvs *k, uint64_t i)
{
    static const char hub[] = "https://huggingface.co/";
    static const char *const suffixes[] = {"repo_url", "url", "name"};
    const char *found = NULL;
    for (size_t s = 0; s < sizeof suffixes / sizeof *suffixes && !found; s++) {
        char *key = xasprintf("general.base_model.%llu.%s", (unsigned long long)i, suffixes[s]);
        found = gguf_get_str(k, key);
        xfree(key);
    }
    return found && strncmp(found, hub, sizeof hub - 1) == 0 ? found + sizeof hub - 1 : found;
}

/* What the model card says, as far as a GGUF file carries it. */
static void add_card(json_t *o, const struct gguf_kvs *k)
{
    const char *license = gguf_get_str(k, "general.license");
    const char *license_name = gguf_get_str(k, "general.license.name");
    uint64_t n = 0;
    json_t *bases = json_array();
    gguf_get_u64(k, "general.base_model.count", &n);
    for (uint64_t i = 0; i < n && i < BASE_MODELS_MAX; i++) {
        const char *name = base_model_name(k, i);
        if (name)
            json_array_append_new(bases, json_string(name));
    }
    if (license)
        json_object_set_new(o, "license", json_string(license));
    if (license_name)
        json_object_set_new(o, "license_name", json_string(license_name));
    if (json_array_size(bases))
        json_object_set(o, "base_models", bases);
    json_decref(bases);
}

/* KV bytes per token: of the default, and of the smaller types that the model can have. */
static void add_cache(json_t *o, const struct model_desc *d)
{
    static const struct {
        const char *key;
        struct cache_types types;
    } rows[] = {{"kv_bytes_per_token", {CACHE_F16, CACHE_F16}},
                {"kv_bytes_per_token_q8_0", {CACHE_Q8_0, CACHE_Q8_0}},
                {"kv_bytes_per_token_q4_0", {CACHE_Q4_0, CACHE_Q4_0}}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (model_check_cache(d, rows[i].types, NULL) == 0)
            set_count(o, rows[i].key, model_kv_bytes_per_token(d, rows[i].types));
}

json_t *cmd_model_json_new(const struct model *m)
{
    const struct model_desc *d = model_desc(m);
    json_t *o = json_object();
    json_object_set_new(o, "name", json_string(d->name ? d->name : ""));
    json_object_set_new(o, "architecture", json_string(d->architecture));
    json_object_set_new(o, "path", json_string(model_path(m)));
    json_object_set_new(o, "source", json_string(model_is_gguf(m) ? "gguf" : "huggingface"));
    json_object_set_new(o, "quantized", json_boolean(model_is_quantized(m)));
    if (model_quantization(m))
        json_object_set_new(o, "quantization", json_string(model_quantization(m)));
    json_object_set_new(o, "parameters", cmd_bytes_json_new(d->parameters));
    json_object_set_new(o, "tensors", cmd_bytes_json_new(d->n_tensors));
    json_object_set_new(o, "bytes", cmd_bytes_json_new(model_source_bytes(m)));
    set_count(o, "layers", d->n_layer);
    set_count(o, "embedding", d->n_embd);
    set_count(o, "heads", d->n_head);
    set_count(o, "heads_kv", d->n_head_kv);
    set_count(o, "head_dim", d->head_dim);
    set_count(o, "feed_forward", d->n_ff);
    set_count(o, "experts", d->n_expert);
    set_count(o, "vocabulary", d->n_vocab);
    set_count(o, "context", d->n_ctx_train);
    add_cache(o, d);
    json_object_set_new(o, "tied", json_boolean(d->tied));
    add_card(o, model_kvs(m));
    return o;
}

/* What the stored report says about the winner, and what was asked for. */
static void add_outcome(json_t *o, const char *report)
{
    json_t *doc = report ? json_parse(report, strlen(report), "stored report", NULL) : NULL;
    if (!doc)
        return;
    json_t *best = json_object_get(doc, "best"), *score = json_object_get(best, "score");
    json_t *targets = json_object_get(doc, "targets");
    if (json_is_object(targets))
        json_object_set(o, "targets", targets);
    static const char *const from_best[] = {"bytes", "bpw", "file"};
    static const char *const from_score[] = {"kld_mean", "top1", "tps_decode"};
    for (size_t i = 0; i < sizeof(from_best) / sizeof(from_best[0]); i++)
        if (json_object_get(best, from_best[i]))
            json_object_set(o, from_best[i], json_object_get(best, from_best[i]));
    for (size_t i = 0; i < sizeof(from_score) / sizeof(from_score[0]); i++)
        if (json_object_get(score, from_score[i]))
            json_object_set(o, from_score[i], json_object_get(score, from_score[i]));
    json_decref(doc);
}

/* The targets of a run that has no report yet, as its configuration says. */
static void add_config_targets(json_t *o, const char *config)
{
    json_t *doc = config ? json_parse(config, strlen(config), "stored configuration", NULL) : NULL;
    json_t *targets = json_object_get(doc, "targets");
    if (json_is_object(targets))
        json_object_set(o, "targets", targets);
    json_decref(doc);
}

json_t *cmd_run_json_new(const struct store_run *r)
{
    json_t *o = json_object();
    json_object_set_new(o, "id", json_string(r->id));
    json_object_set_new(o, "model", json_string(r->model_name ? r->model_name : ""));
    json_object_set_new(o, "state", json_string(r->state));
    json_object_set_new(o, "mock", json_boolean(r->mock));
    json_object_set_new(o, "started_ms", json_integer(r->started_ms));
    json_object_set_new(o, "ended_ms", r->ended_ms ? json_integer(r->ended_ms) : json_null());
    json_object_set_new(o, "trials", json_integer(r->trials));
    add_config_targets(o, r->config);
    add_outcome(o, r->report);
    return o;
}
