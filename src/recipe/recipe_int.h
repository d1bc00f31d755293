/* Private to recipe/: what the command line forces on a tensor, shared by stock mixes and plans. */
#ifndef RECIPE_RECIPE_INT_H
#define RECIPE_RECIPE_INT_H

#include "recipe/recipe.h"

/* forced[i] = the type that --embedding-type, --output-type or --tensor-type gives tensor i,
 * else DT_NONE. */
int override_types(const struct model_desc *d, const struct recipe_options *options,
                   enum dtype *forced, struct err *e);
/* As stock_types, with the forced types known. */
int stock_choose(const struct stock_mix *m, const struct model_desc *d,
                 const struct recipe_options *options, const enum dtype *forced, enum dtype *types,
                 struct err *e);

bool stock_is_output(const char *name);
bool stock_is_embedding(const char *name);

/* NULL when the glob is well-formed, else what is wrong with it. */
const char *glob_fault(const char *glob);

#endif
