/* View → view: what a recipe takes out of a model before anything is encoded. Lazy: no weight is
 * read or copied, tensors only get other names, and metadata follows. */
#ifndef SURGERY_SURGERY_H
#define SURGERY_SURGERY_H

#include "format/factors.h"
#include "format/imatrix.h"
#include "model/model.h"
#include "recipe/recipe.h"

/* Carries out r->drop_layers: the blocks go, those after them move down, block_count and metadata
 * with a value per block follow, so that the file loads in stock libllama. Rules and mixes then see
 * the blocks as the file numbers them. Refuses a block that is not there, all blocks, and models
 * whose blocks differ by a pattern that only their number tells. m: freshly opened, used by nobody
 * else yet; after a failure only to be closed. */
int surgery_apply(struct model *m, const struct recipe *r, struct err *e);
/* An importance matrix of the whole model, renamed for what is left; one that has no block beyond
 * those left is taken to be of the result already and stays. n_layer: of the whole model. */
void surgery_imatrix(struct imatrix *m, const struct recipe *r, uint32_t n_layer);

/* The factors of the whole model under the names that the weights have in what is left. `to`
 * borrows the floats of `from`; factors_close(to) first. The blocks behind a dropped one get other
 * inputs than those the factors know, so what they are worth then is for a measurement to say. */
void surgery_factors(struct factors *to, const struct factors *from, const struct recipe *r);

#endif
