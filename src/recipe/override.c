/* What the command line forces on single tensors, with llama-quantize's meaning.
 *
 * --tensor-type PATTERN=TYPE searches a regular expression, lower-cased, in the tensor's name;
 * the first that is found wins. --embedding-type is for the token embedding
 * (per_layer_token_embd only where no pattern names it), --output-type for output.weight; both
 * win over patterns. Upstream's expressions are ECMAScript's; here they are POSIX extended ones
 * with the two spellings that differ in practice, \d and (?:, translated. Unlike upstream,
 * patterns also hold when the base is F32, F16 or BF16, and one that names no tensor is warned
 * about. Source: llama_tensor_get_type in src/llama-quant.cpp of llama.cpp 0.5.0. */
#include "recipe/recipe_int.h"

#include <ctype.h>
#include <regex.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/banned.h"

enum { OVERRIDES_MAX = 4096, PATTERN_MAX = 4096 };

struct compiled {
    regex_t *regex;
    size_t n;
};

static void compiled_release(struct compiled *c)
{
    for (size_t k = 0; k < c->n; k++)
        regfree(&c->regex[k]);
    xfree(c->regex);
}

/* ECMAScript spelling → POSIX, in lower case. */
static void pattern_translate(struct buf *b, const char *pattern)
{
    bool bracket = false;

    for (const char *c = pattern; *c; c++) {
        if (c[0] == '\\' && tolower((unsigned char)c[1]) == 'd') {
            buf_adds(b, bracket ? "0-9" : "[0-9]");
            c++;
        } else if (c[0] == '\\' && c[1] != '\0') {
            buf_addf(b, "%c%c", c[0], tolower((unsigned char)c[1]));
            c++;
        } else if (!bracket && c[0] == '(' && c[1] == '?' && c[2] == ':') {
            buf_addc(b, '(');
            c += 2;
        } else {
            bracket = *c == '[' ? true : *c == ']' ? false : bracket;
            buf_addc(b, (char)tolower((unsigned char)*c));
        }
    }
}

static int pattern_compile(regex_t *regex, const char *pattern, struct err *e)
{
    struct buf b;
    char why[256];
    int rc = -1, fault;

    buf_init(&b, PATTERN_MAX);
    pattern_translate(&b, pattern);
    if (b.overflow || b.len == 0) {
        err_set(e, ERR_USAGE, "write PATTERN=TYPE, for example ffn_down=q6_k",
                "tensor type pattern is %s", b.overflow ? "too long" : "empty");
        goto out;
    }
    fault = regcomp(regex, buf_str(&b), REG_EXTENDED | REG_NOSUB);
    if (fault != 0) {
        regerror(fault, regex, why, sizeof why);
        err_set(e, ERR_USAGE, "patterns are extended regular expressions",
                "tensor type pattern '%s' is not a regular expression: %s", pattern, why);
        goto out;
    }
    rc = 0;
out:
    buf_release(&b);
    return rc;
}

static int compiled_init(struct compiled *c, const struct recipe_options *options, struct err *e)
{
    *c = (struct compiled){0};
    if (options->n_overrides > OVERRIDES_MAX)
        return err_set(e, ERR_LIMIT, NULL, "%zu tensor type patterns, at most %d are taken",
                       options->n_overrides, OVERRIDES_MAX);
    c->regex = xcalloc(options->n_overrides + 1, sizeof *c->regex);
    for (; c->n < options->n_overrides; c->n++) {
        if (pattern_compile(&c->regex[c->n], options->overrides[c->n].pattern, e) != 0) {
            compiled_release(c);
            return -1;
        }
    }
    return 0;
}

/* Index of the first pattern found in the name, or n. */
static size_t compiled_find(const struct compiled *c, const char *name)
{
    size_t k = 0;

    while (k < c->n && regexec(&c->regex[k], name, 0, NULL, 0) != 0)
        k++;
    return k;
}

int override_types(const struct model_desc *d, const struct recipe_options *options,
                   enum dtype *forced, struct err *e)
{
    struct compiled c;
    bool *used;

    if (compiled_init(&c, options, e) != 0)
        return -1;
    used = xcalloc(c.n + 1, sizeof *used);
    for (size_t i = 0; i < d->n_tensors; i++) {
        const char *name = d->tensors[i].name;
        size_t k = compiled_find(&c, name);
        bool per_layer = strcmp(name, "per_layer_token_embd.weight") == 0;
        used[k] = true;
        if (options->embedding_type != DT_NONE && stock_is_embedding(name) &&
            !(per_layer && k < c.n))
            forced[i] = options->embedding_type;
        else if (options->output_type != DT_NONE && stock_is_output(name))
            forced[i] = options->output_type;
        else
            forced[i] = k < c.n ? options->overrides[k].type : DT_NONE;
    }
    for (size_t k = 0; k < c.n && !options->silent; k++) {
        if (!used[k])
            log_warn("tensor type pattern '%s' names no tensor of the model, or only such as an "
                     "earlier pattern names",
                     options->overrides[k].pattern);
    }
    xfree(used);
    compiled_release(&c);
    return 0;
}
