/* JSON: a thin layer over jansson, the only header that names it.
 *
 * Strict RFC 8259; duplicate keys are errors; integers outside int64 are read as reals (real-world
 * tokenizer_config.json has model_max_length = 1e30); depth and size are bounded.
 * Getters take a dotted `where` only for error text. Ownership is jansson's reference counting:
 * functions whose name has `_new`/`_parse`/`_read` return a new reference (json_decref). */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* `name` (a path, "line from worker", ...) appears in the error, with line and column. */
json_t *json_parse(const char *text, size_t len, const char *name, struct err *e);
json_t *json_read(const char *path, size_t bytes_max, struct err *e);
/* A file that Python may have written, whose json has NaN and Infinity: null here. */
json_t *json_read_python(const char *path, size_t bytes_max, struct err *e);

/* Required fields: error names `name` and the key, expected and found type. */
int json_need_i64(const json_t *object, const char *key, const char *name, int64_t *out,
                  struct err *e);
int json_need_real(const json_t *object, const char *key, const char *name, double *out,
                   struct err *e);
int json_need_str(const json_t *object, const char *key, const char *name, const char **out,
                  struct err *e);
/* Optional fields: default when absent, null or of another type. */
int64_t json_opt_i64(const json_t *object, const char *key, int64_t fallback);
double json_opt_real(const json_t *object, const char *key, double fallback);
bool json_opt_bool(const json_t *object, const char *key, bool fallback);
const char *json_opt_str(const json_t *object, const char *key, const char *fallback);

/* Compact one-line text; pretty = two-space indent, keys in insertion order; reals as the shortest
 * text that reads back the same (never "inf"/"nan": those become null). Result to xfree. */
char *json_text(const json_t *value, bool pretty);
/* Real that is null when not finite. New reference. */
json_t *json_real_new(double value);

#endif
