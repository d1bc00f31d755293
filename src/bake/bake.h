/* bake(model, recipe) → candidate file. Knows nothing of scores.
 *
 * One pass: rows are read from the mapped source in bands, converted to F32, encoded in parallel
 * and written at their final offset, reading ahead and writing behind; no intermediate file;
 * peak anonymous memory is a few bands, whatever the model's size. The file appears under its
 * name only complete, re-opened and re-validated. Same model + recipe + importance +
 * QUANT_VERSION ⇒ same bytes for any thread count. */
#ifndef BAKE_BAKE_H
#define BAKE_BAKE_H

#include "base/log.h"
#include "format/factors.h"
#include "format/imatrix.h"
#include "model/model.h"
#include "quant/quant.h"
#include "recipe/recipe.h"

struct bake_job {
    const struct model *model;
    const struct recipe *recipe;
    const struct recipe_options *options; /* NULL = defaults; have_importance is set from imatrix */
    const struct imatrix *imatrix;        /* NULL = none */
    const struct factors *factors; /* error feedback where a tensor has an entry; NULL = none */
    const char *imatrix_name;      /* for quantize.imatrix.file, may be NULL */
    const char *output;            /* final path; unused by bake_plan_bytes */
    int threads;                   /* ≤ 0: all */
    bool allow_requantize;         /* source tensors that are already quantized may be re-encoded */
    bool want_errors;              /* fill bake_result.errors */
    bool no_hash;         /* leave bake_result.sha256 empty: hashing costs more than copying */
    const char *memo_dir; /* folder of encoded bands to use and add to (memo.h), NULL = none */
    const struct progress *progress; /* phase "bake", bytes of the file done and in total, tensor */
};
struct bake_result {
    uint64_t bytes;        /* of the file */
    uint64_t tensor_bytes; /* of tensor data without padding */
    double bpw;            /* file bytes * 8 / parameters, the whole file counts */
    char sha256[65];       /* of the file; empty when not asked for */
    double seconds;
    int n_fallback;             /* tensors whose row length did not fit the type asked for */
    uint64_t memo_bytes;        /* of the tensor data that came from memo_dir */
    struct quant_error *errors; /* per tensor (n_tensors), NULL unless asked; bake_result_release */
};
/* Exact file size without writing. Refuses what bake_gguf refuses before it writes. */
int bake_plan_bytes(const struct bake_job *job, uint64_t *bytes, struct err *e);
int bake_gguf(const struct bake_job *job, struct bake_result *result, struct err *e);
void bake_result_release(struct bake_result *result);

#endif
