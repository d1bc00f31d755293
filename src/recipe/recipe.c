/* The recipe as a value and as JSON.
 *
 * Parsing is strict: a key this version does not know, a value of the wrong kind, or a wish it
 * cannot carry out (pruning) is an error that names the key,
 * never ignored. Names of mixes and types are kept in their canonical spelling, so two recipes
 * that mean the same print the same. Owns: copies of all strings. The published form is
 * docs/recipe.schema.json. */
#include "recipe/recipe_int.h"

#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/banned.h"

enum { RECIPE_VERSION = 1, SHA256_HEX = 64 };

/* ---- value ---- */

/* "q4_k" → "Q4_K_M", "mxfp4" → "MXFP4"; NULL: neither a mix nor a type that can be written. */
static const char *canonical_base(const char *name)
{
    const struct stock_mix *m = stock_find(name);
    enum dtype t = dtype_by_name(name);

    if (m)
        return stock_name(m);
    return t != DT_NONE && dtype_info(t)->encodable ? dtype_name(t) : NULL;
}

void recipe_init(struct recipe *r, const char *base)
{
    const char *canonical = canonical_base(base);

    *r = (struct recipe){.base = xstrdup(canonical ? canonical : base)};
}

void recipe_add_rule(struct recipe *r, const char *match, enum dtype type)
{
    r->rules = xreallocarray(r->rules, r->n_rules + 1, sizeof *r->rules);
    r->rules[r->n_rules++] = (struct recipe_rule){xstrdup(match), type};
}

void recipe_copy(struct recipe *to, const struct recipe *from)
{
    *to = (struct recipe){.base = xstrdup(from->base), .cache = from->cache};
    to->rules = from->n_rules ? xcalloc(from->n_rules, sizeof *to->rules) : NULL;
    for (; to->n_rules < from->n_rules; to->n_rules++) {
        to->rules[to->n_rules].match = xstrdup(from->rules[to->n_rules].match);
        to->rules[to->n_rules].type = from->rules[to->n_rules].type;
    }
    to->importance = from->importance ? xstrdup(from->importance) : NULL;
    to->feedback = from->feedback ? xstrdup(from->feedback) : NULL;
    for (size_t i = 0; i < from->n_drop_layers; i++)
        recipe_drop_layer(to, from->drop_layers[i]);
}

void recipe_release(struct recipe *r)
{
    for (size_t k = 0; k < r->n_rules; k++)
        xfree(r->rules[k].match);
    xfree(r->rules);
    xfree(r->base);
    xfree(r->drop_layers);
    xfree(r->importance);
    xfree(r->feedback);
    *r = (struct recipe){0};
}

bool recipe_drop_layer(struct recipe *r, uint32_t layer)
{
    size_t at = r->n_drop_layers;
    while (at > 0 && r->drop_layers[at - 1] > layer)
        at--;
    if (at > 0 && r->drop_layers[at - 1] == layer)
        return false;
    r->drop_layers = xreallocarray(r->drop_layers, r->n_drop_layers + 1, sizeof(*r->drop_layers));
    memmove(r->drop_layers + at + 1, r->drop_layers + at,
            (r->n_drop_layers - at) * sizeof(*r->drop_layers));
    r->drop_layers[at] = layer;
    r->n_drop_layers++;
    return true;
}

/* Types that are no mix carry the number of the file type upstream guesses from them. */
uint32_t recipe_file_type(const struct recipe *r)
{
    const struct stock_mix *m = stock_find(r->base);
    enum dtype t = dtype_by_name(r->base);

    if (m)
        return stock_file_type(m);
    return t == DT_MXFP4 ? 38 : t == DT_NVFP4 ? 39 : 0;
}

/* ---- from JSON ---- */

static const char *kind_name(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    default:
        return "null";
    }
}

static int wrong_kind(const char *name, const char *key, const char *expected, const json_t *v,
                      struct err *e)
{
    return err_set(e, ERR_INPUT, NULL, "%s: recipe key '%s': expected %s, found %s", name, key,
                   expected, kind_name(v));
}

static int unable(const char *name, const char *what, struct err *e)
{
    return err_set(e, ERR_UNSUPPORTED, "remove the key or set it to its neutral value",
                   "%s: recipe asks for %s, which this version cannot do", name, what);
}

/* A number that must be zero: the only value this version can carry out. */
static int parse_zero(const json_t *v, const char *key, const char *name, struct err *e)
{
    if (!json_is_number(v))
        return wrong_kind(name, key, "a number", v, e);
    return json_number_value(v) == 0.0 ? 0 : unable(name, "pruning", e);
}

static int parse_layers(struct recipe *r, const json_t *v, const char *key, const char *name,
                        struct err *e)
{
    if (!json_is_array(v))
        return wrong_kind(name, key, "an array", v, e);
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *item = json_array_get(v, i);
        json_int_t layer = json_integer_value(item);
        if (!json_is_integer(item) || layer < 0 || layer >= RECIPE_LAYERS_MAX)
            return err_set(e, ERR_INPUT, "list numbers of blocks, from 0",
                           "%s: recipe key '%s': item %zu is not the number of a block", name, key,
                           i + 1);
        if (!recipe_drop_layer(r, (uint32_t)layer))
            return err_set(e, ERR_INPUT, NULL, "%s: recipe key '%s': block %d is there twice", name,
                           key, (int)layer);
    }
    return 0;
}

static int parse_version(struct recipe *r, const json_t *v, const char *name, struct err *e)
{
    (void)r;
    if (!json_is_integer(v))
        return wrong_kind(name, "sintra_recipe", "the number 1", v, e);
    if (json_integer_value(v) != RECIPE_VERSION)
        return err_set(e, ERR_UNSUPPORTED, NULL,
                       "%s: recipe version %lld is unknown, this program reads version %d", name,
                       (long long)json_integer_value(v), RECIPE_VERSION);
    return 0;
}

static int parse_container(struct recipe *r, const json_t *v, const char *name, struct err *e)
{
    (void)r;
    if (!json_is_string(v))
        return wrong_kind(name, "container", "a string", v, e);
    if (strcmp(json_string_value(v), "gguf") != 0)
        return err_set(e, ERR_UNSUPPORTED, "use \"gguf\"", "%s: recipe container '%s' is unknown",
                       name, json_string_value(v));
    return 0;
}

static int parse_base(struct recipe *r, const json_t *v, const char *name, struct err *e)
{
    const char *base;

    if (!json_is_string(v))
        return wrong_kind(name, "base", "a string", v, e);
    base = canonical_base(json_string_value(v));
    if (!base)
        return err_set(e, ERR_INPUT,
                       "use a stock mix such as Q4_K_M, or a tensor type such as MXFP4",
                       "%s: recipe base '%s' is neither a stock mix nor a type that can be written",
                       name, json_string_value(v));
    xfree(r->base);
    r->base = xstrdup(base);
    return 0;
}

static int parse_rule(struct recipe *r, const json_t *rule, size_t k, const char *name,
                      struct err *e)
{
    const json_t *match = json_object_get(rule, "match"), *type = json_object_get(rule, "type");
    const char *fault;
    enum dtype t;

    if (!json_is_object(rule) || json_object_size(rule) != 2 || !json_is_string(match) ||
        !json_is_string(type))
        return err_set(
            e, ERR_INPUT, "write {\"match\":\"blk.*.ffn_down.weight\",\"type\":\"Q6_K\"}",
            "%s: recipe rule %zu: expected an object with the strings 'match' and 'type' "
            "and nothing else",
            name, k + 1);
    fault = json_string_length(match) > RECIPE_MATCH_MAX ? "it is too long"
                                                         : glob_fault(json_string_value(match));
    if (fault)
        return err_set(e, ERR_INPUT, "'*' any run, '?' one character, '{a,b,0-3}' alternatives",
                       "%s: recipe rule %zu: bad pattern '%.100s': %s", name, k + 1,
                       json_string_value(match), fault);
    t = dtype_by_name(json_string_value(type));
    if (t == DT_NONE || !dtype_info(t)->encodable)
        return err_set(e, ERR_INPUT,
                       stock_find(json_string_value(type))
                           ? "a rule takes one tensor type (Q4_K, Q6_K, IQ4_XS, ...), not a mix"
                           : "use a type such as Q4_K, Q6_K, IQ4_XS, Q8_0 or F16",
                       "%s: recipe rule %zu: '%.100s' is not a type that can be written", name,
                       k + 1, json_string_value(type));
    recipe_add_rule(r, json_string_value(match), t);
    return 0;
}

static int parse_rules(struct recipe *r, const json_t *v, const char *name, struct err *e)
{
    if (!json_is_array(v))
        return wrong_kind(name, "rules", "an array", v, e);
    if (json_array_size(v) > RECIPE_RULES_MAX)
        return err_set(e, ERR_LIMIT, NULL, "%s: recipe has %zu rules, at most %d are read", name,
                       json_array_size(v), RECIPE_RULES_MAX);
    for (size_t k = 0; k < json_array_size(v); k++) {
        if (parse_rule(r, json_array_get(v, k), k, name, e) != 0)
            return -1;
    }
    return 0;
}

static int parse_drop_layers(struct recipe *r, const json_t *v, const char *name, struct err *e)
{
    return parse_layers(r, v, "drop_layers", name, e);
}

static int parse_prune(struct recipe *r, const json_t *v, const char *name, struct err *e)
{
    json_t *object = json_incref((json_t *)(uintptr_t)v), *value;
    const char *key;
    int rc = 0;

    (void)r;
    if (!json_is_object(v))
        rc = wrong_kind(name, "prune", "an object", v, e);
    json_object_foreach(object, key, value)
    {
        if (rc == 0 && strcmp(key, "ffn_ratio") != 0 && strcmp(key, "heads_ratio") != 0)
            rc = err_set(e, ERR_INPUT, "known are ffn_ratio and heads_ratio",
                         "%s: recipe key 'prune.%s' is unknown", name, key);
        if (rc == 0)
            rc = parse_zero(value, key, name, e);
    }
    json_decref(object);
    return rc;
}

static int parse_kv(struct recipe *r, const json_t *v, const char *name, struct err *e)
{
    enum cache_type *const to[2] = {&r->cache.k, &r->cache.v};
    static const char *const keys[2] = {"k", "v"};
    size_t known = 0;

    if (!json_is_object(v))
        return wrong_kind(name, "kv", "an object", v, e);
    for (int i = 0; i < 2; i++) {
        const json_t *type = json_object_get(v, keys[i]);
        if (!type)
            continue;
        known++;
        if (!json_is_string(type))
            return wrong_kind(name, "kv", "strings in 'k' and 'v'", type, e);
        if (!cache_type_find(json_string_value(type), to[i]))
            return err_set(e, ERR_INPUT,
                           "use f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0 or iq4_nl",
                           "%s: recipe key 'kv.%s': '%.100s' is not a type of a KV cache", name,
                           keys[i], json_string_value(type));
    }
    if (json_object_size(v) != known)
        return err_set(e, ERR_INPUT, "known are k and v", "%s: recipe key 'kv' has unknown members",
                       name);
    return 0;
}

static int parse_sha256(char **to, const char *key, const json_t *v, const char *name,
                        struct err *e)
{
    const char *hex = json_string_value(v);

    if (json_is_null(v))
        return 0;
    if (!hex)
        return wrong_kind(name, key, "a SHA-256 or null", v, e);
    if (strlen(hex) != SHA256_HEX || strspn(hex, "0123456789abcdef") != SHA256_HEX)
        return err_set(e, ERR_INPUT, "it is what sha256sum prints for the file",
                       "%s: recipe key '%s': expected 64 lower-case hexadecimal digits", name, key);
    xfree(*to);
    *to = xstrdup(hex);
    return 0;
}

static int parse_importance(struct recipe *r, const json_t *v, const char *name, struct err *e)
{
    return parse_sha256(&r->importance, "importance", v, name, e);
}

static int parse_feedback(struct recipe *r, const json_t *v, const char *name, struct err *e)
{
    return parse_sha256(&r->feedback, "feedback", v, name, e);
}

/* The shorthand's three keys. */
static int parse_bits(struct recipe *r, const json_t *v, const char *name, struct err *e)
{
    static const char *const by_bits[17] = {
        [2] = "Q2_K", [3] = "Q3_K_M", [4] = "Q4_K_M", [5] = "Q5_K_M",
        [6] = "Q6_K", [8] = "Q8_0",   [16] = "F16"};
    json_int_t bits = json_integer_value(v);

    if (!json_is_integer(v))
        return wrong_kind(name, "bits", "an integer", v, e);
    if (bits < 0 || bits > 16 || !by_bits[bits])
        return err_set(e, ERR_INPUT, "use 2, 3, 4, 5, 6, 8 or 16",
                       "%s: recipe has no base for %lld bits", name, (long long)bits);
    xfree(r->base);
    r->base = xstrdup(by_bits[bits]);
    return 0;
}

static int parse_pruning_ratio(struct recipe *r, const json_t *v, const char *name, struct err *e)
{
    (void)r;
    return parse_zero(v, "pruning_ratio", name, e);
}

static int parse_layers_to_drop(struct recipe *r, const json_t *v, const char *name, struct err *e)
{
    return parse_layers(r, v, "layers_to_drop", name, e);
}

struct recipe_key {
    const char *key;
    bool shorthand;
    int (*parse)(struct recipe *r, const json_t *v, const char *name, struct err *e);
};
static const struct recipe_key recipe_keys[] = {
    {"sintra_recipe", false, parse_version},
    {"container", false, parse_container},
    {"base", false, parse_base},
    {"rules", false, parse_rules},
    {"drop_layers", false, parse_drop_layers},
    {"prune", false, parse_prune},
    {"kv", false, parse_kv},
    {"importance", false, parse_importance},
    {"feedback", false, parse_feedback},
    {"bits", true, parse_bits},
    {"pruning_ratio", true, parse_pruning_ratio},
    {"layers_to_drop", true, parse_layers_to_drop},
};

static int parse_key(struct recipe *r, const char *key, const json_t *value, bool shorthand,
                     const char *name, struct err *e)
{
    for (size_t k = 0; k < sizeof recipe_keys / sizeof recipe_keys[0]; k++) {
        if (strcmp(recipe_keys[k].key, key) == 0 && recipe_keys[k].shorthand == shorthand)
            return recipe_keys[k].parse(r, value, name, e);
    }
    return err_set(e, ERR_INPUT,
                   shorthand
                       ? "the shorthand has bits, pruning_ratio and layers_to_drop"
                       : "known are sintra_recipe, container, base, rules, drop_layers, prune, kv, "
                         "importance and feedback",
                   "%s: recipe key '%.100s' is unknown", name, key);
}

int recipe_parse(struct recipe *r, const json_t *doc, const char *name, struct err *e)
{
    bool shorthand = json_object_get(doc, "bits") && !json_object_get(doc, "sintra_recipe");
    json_t *object = (json_t *)(uintptr_t)doc,
           *value; /* foreach wants it so, and changes nothing */
    const char *key;
    int rc = 0;

    *r = (struct recipe){0};
    if (!json_is_object(doc))
        return err_set(e, ERR_INPUT, NULL, "%s: a recipe is a JSON object, found %s", name,
                       doc ? kind_name(doc) : "nothing");
    if (!shorthand && !json_object_get(doc, "sintra_recipe"))
        return err_set(e, ERR_INPUT, "begin it with \"sintra_recipe\":1",
                       "%s: not a recipe: the key 'sintra_recipe' is missing", name);
    json_object_foreach(object, key, value)
    {
        rc = parse_key(r, key, value, shorthand, name, e);
        if (rc != 0)
            break;
    }
    if (rc == 0 && !r->base)
        rc = err_set(e, ERR_INPUT, "name a stock mix or a type, for example \"base\":\"Q4_K_M\"",
                     "%s: recipe key 'base' is missing", name);
    if (rc != 0)
        recipe_release(r);
    return rc;
}

/* ---- to JSON ---- */

json_t *recipe_json_new(const struct recipe *r)
{
    json_t *doc = json_object(), *rules = json_array();

    for (size_t k = 0; k < r->n_rules; k++) {
        json_t *rule = json_object();
        json_object_set_new(rule, "match", json_string(r->rules[k].match));
        json_object_set_new(rule, "type", json_string(dtype_name(r->rules[k].type)));
        json_array_append_new(rules, rule);
    }
    json_object_set_new(doc, "sintra_recipe", json_integer(RECIPE_VERSION));
    json_object_set_new(doc, "container", json_string("gguf"));
    json_object_set_new(doc, "base", json_string(r->base));
    json_object_set_new(doc, "rules", rules);
    json_t *layers = json_array();
    for (size_t k = 0; k < r->n_drop_layers; k++)
        json_array_append_new(layers, json_integer((json_int_t)r->drop_layers[k]));
    json_object_set_new(doc, "drop_layers", layers);
    json_object_set_new(doc, "prune", json_pack("{s:i,s:i}", "ffn_ratio", 0, "heads_ratio", 0));
    json_object_set_new(
        doc, "kv",
        json_pack("{s:s,s:s}", "k", cache_type_name(r->cache.k), "v", cache_type_name(r->cache.v)));
    json_object_set_new(doc, "importance",
                        r->importance ? json_string(r->importance) : json_null());
    if (r->feedback)
        json_object_set_new(doc, "feedback", json_string(r->feedback));
    return doc;
}
