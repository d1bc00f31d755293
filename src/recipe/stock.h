/* The stock mixes of llama-quantize 0.5.0 as data: which type each tensor gets, as a function of
 * architecture, layer, grouped-query ratio, experts, tied head and presence of an importance
 * matrix. Source of the facts: src/llama-quant.cpp of llama.cpp 0.5.0. A mix is a list of rows
 * {parts, conditions, type}; the first row that holds wins, no row means the base type; see
 * stock.c for the conditions. */
#ifndef RECIPE_STOCK_H
#define RECIPE_STOCK_H

#include "base/err.h"
#include "model/model.h"

struct stock_mix; /* static data */

/* Names and aliases of llama-quantize, any case ("q4_k" is Q4_K_M); NULL: not a mix. */
const struct stock_mix *stock_find(const char *name);
const struct stock_mix *stock_at(int i); /* in order of nominal size, largest first; NULL ends */
const char *stock_name(const struct stock_mix *m);
enum dtype stock_base_type(const struct stock_mix *m);
uint32_t stock_file_type(const struct stock_mix *m); /* general.file_type (llama_ftype) */
/* Is the mix refused for this model without an importance matrix? */
bool stock_needs_importance(const struct stock_mix *m, const struct model_desc *d);
/* Does a tensor of this name and type need importance weights in this mix (NULL: in no mix)? */
bool stock_tensor_needs_importance(const struct stock_mix *m, const char *name, enum dtype type);

struct recipe_options;
/* types[n_tensors] before the row-length fallback; DT_NONE where a tensor is never quantized. */
int stock_types(const struct stock_mix *m, const struct model_desc *d,
                const struct recipe_options *options, enum dtype *types, struct err *e);

#endif
