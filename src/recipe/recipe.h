/* A recipe says what to do to a model; a plan, what that means for every tensor, in exact bytes.
 *
 * {"sintra_recipe":1,"container":"gguf","base":"Q4_K",
 *  "rules":[{"match":"token_embd.weight","type":"Q6_K"},
 *           {"match":"blk.{0-3,28-31}.ffn_down.weight","type":"Q5_K"}],
 *  "drop_layers":[],"prune":{"ffn_ratio":0,"heads_ratio":0},"kv":{"k":"f16","v":"f16"},
 *  "importance":null,"feedback":null}
 * `base` is a stock mix (llama-quantize's names and aliases: "Q4_K" is Q4_K_M) or, where no mix
 * has that name, a tensor type. The last matching rule wins. `match` is a glob: '*' any run, '?'
 * one character, '{a,b,0-3}' alternatives with integer ranges. drop_layers names blocks of the
 * source, from 0 (surgery/ carries it out); rules name tensors as the file will have them. kv is no
 * part of a file: it says with which KV cache the file is to be run (tensor/cache.h). Unknown keys
 * and prune, which this version cannot carry out, are errors. Shorthand
 * {"bits":4,"layers_to_drop":[3]} is accepted. */
#ifndef RECIPE_RECIPE_H
#define RECIPE_RECIPE_H

#include "base/err.h"
#include "base/json.h"
#include "model/model.h"
#include "recipe/stock.h"

enum { RECIPE_RULES_MAX = 65536, RECIPE_MATCH_MAX = 4096, RECIPE_LAYERS_MAX = 4096 };

struct recipe_rule {
    char *match; /* glob over GGUF names of tensors that may be quantized */
    enum dtype type;
};
struct recipe {
    char *base; /* canonical name of a type or stock mix */
    struct recipe_rule *rules;
    size_t n_rules;
    uint32_t *drop_layers; /* ascending, each once */
    size_t n_drop_layers;
    struct cache_types cache; /* of keys and values while the file runs */
    char *importance;         /* sha256 of the imatrix the author had in mind, or NULL */
    char *feedback;           /* the same of the factors file of error feedback */
};

/* `name` (a path, "--recipe", ...) appears in errors. On failure r is left released. */
int recipe_parse(struct recipe *r, const json_t *doc, const char *name, struct err *e);
json_t *recipe_json_new(const struct recipe *r);
void recipe_init(struct recipe *r, const char *base);
void recipe_add_rule(struct recipe *r, const char *match, enum dtype type);
/* Adds a block to drop_layers, in its place; false when it is there already. */
bool recipe_drop_layer(struct recipe *r, uint32_t layer);
void recipe_copy(struct recipe *to, const struct recipe *from);
void recipe_release(struct recipe *r);
bool recipe_match(const char *glob, const char *name);
/* general.file_type of what the recipe makes: that of its base. */
uint32_t recipe_file_type(const struct recipe *r);

/* Options of `quantize` that modify a recipe as llama-quantize's modify a mix; they win over
 * rules. */
struct recipe_override {
    const char *pattern; /* extended regular expression, searched in the name as upstream does */
    enum dtype type;
};
struct recipe_options {
    bool have_importance; /* stock mixes ask whether there is an imatrix at all */
    bool pure;
    enum dtype output_type, embedding_type;  /* DT_NONE = as the mix says */
    const struct recipe_override *overrides; /* first match wins */
    size_t n_overrides;
    /* What a checkpoint stores in blocks that a GGUF has too (MXFP4) stays in them, unless a rule
     * or an override names its tensor. */
    bool keep_blocks;
    bool silent; /* no warnings about options without effect; bake sets it, having been told once */
};
/* DT_NONE is not zero: start from this. */
#define RECIPE_OPTIONS_DEFAULT                                                                     \
    {                                                                                              \
        .output_type = DT_NONE, .embedding_type = DT_NONE                                          \
    }

struct plan_tensor {
    enum dtype type;  /* as written */
    enum dtype asked; /* before the fallback for row length */
    uint64_t bytes;
    bool fallback;
};
struct plan {
    struct plan_tensor *tensors; /* parallel to desc->tensors */
    size_t n;
    uint64_t tensor_bytes; /* sum */
    double bpw;            /* tensor_bytes*8/parameters */
    int n_fallback;
    int n_kept;                  /* tensors that keep_blocks is about */
    const struct stock_mix *mix; /* NULL: the base is a plain type */
};
/* Resolves type per tensor and exact bytes; refuses a KV cache that the model cannot have. Tensors
 * that are never quantized (1-D, norms, routers, ...) keep the type of the source, or F32 where the
 * model demands it (dtype_min) or GGUF lacks the type. A rule that matches no tensor that may be
 * quantized is an error. options NULL = defaults. */
int recipe_resolve(const struct recipe *r, const struct model_desc *d,
                   const struct recipe_options *options, struct plan *p, struct err *e);
void plan_release(struct plan *p);
/* May this tensor be quantized at all (llama-quantize's tensor_allows_quantization)? */
bool recipe_tensor_quantizable(const struct model_desc *d, size_t i);
/* The documented chain for row lengths a type cannot take: e.g. Q4_K → Q5_0, IQ4_XS → IQ4_NL,
 * else F16. */
enum dtype recipe_fallback(enum dtype type, uint64_t n_per_row);
/* The float type whose recipe loses nothing of this model, and is smallest: "BF16" where all that
 * may get it is BF16, else "F32". */
const char *recipe_lossless_type(const struct model_desc *d);
/* Recipe that makes exactly these types (of quantizable tensors; others are ignored) on this
 * model, with or without importance, in few rules. r is initialised here. */
void recipe_from_types(struct recipe *r, const struct model_desc *d, const enum dtype *types);
/* Does any tensor of the plan need an importance matrix that is not there? Sets e naming tensor
 * and type. */
int plan_check_importance(const struct plan *p, const struct model_desc *d, bool have_importance,
                          struct err *e);

#endif
