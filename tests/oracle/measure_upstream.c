/* Our perplexity, KL divergence and importance against upstream's tools on the same files and text.
 *
 * Perplexity: llama-perplexity's own figure for each file. KL divergence: upstream keeps the
 * original's log-probabilities as 16-bit numbers down to −16, in a file; from that very file and
 * our logits of a candidate we compute its formula, which must give its figure, and print our exact
 * one beside it. Importance: counts and sums of llama-imatrix. One thread each, so that a busy
 * machine does not make them wait for themselves.
 *
 * Skipped without deps/peers/bin (make peers) and without text: WikiText-2's test set as
 * wikitext2-test.txt in $SINTRA_DATA. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bake/bake.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/rng.h"
#include "measure/measure.h"

enum { N_CTX = 256, WINDOWS = 24, TEXT_BYTES = 60000 };

static long passed, failed;
static char folder[512];
static const char *root;
static const struct measure_options options = {.threads = 1, .gpu_layers = -1};

static void die(const char *what, const char *why)
{
    printf("%s: %s\n", what, why);
    fs_remove_tree(folder, NULL);
    exit(1);
}

static void check(bool good, const char *what, double ours, double theirs)
{
    printf("%s %-34s ours %.6g upstream %.6g\n", good ? "ok  " : "FAIL", what, ours, theirs);
    if (good)
        passed++;
    else
        failed++;
}

static bool close_to(double a, double b, double relative)
{
    return fabs(a - b) <= relative * fabs(b);
}

/* ---- models, text, tools --------------------------------------------------------------------- */

static char *bake(const char *type)
{
    struct model *m;
    struct recipe r;
    struct bake_result result;
    struct err e = {0};
    char *source = fs_join(root, "models/sample"), *path = xasprintf("%s/%s.gguf", folder, type);
    if (model_open(&m, source, &e))
        die(source, e.message);
    recipe_init(&r, type);
    struct bake_job job = {.model = m, .recipe = &r, .output = path, .threads = 1};
    if (bake_gguf(&job, &result, &e))
        die(type, e.message);
    bake_result_release(&result);
    recipe_release(&r);
    model_close(m);
    xfree(source);
    return path;
}

/* The beginning of WikiText-2, whole lines; NULL when it is not there. */
static char *make_text(void)
{
    const char *data = getenv("SINTRA_DATA");
    char *from = data ? fs_join(data, "wikitext2-test.txt")
                      : fs_join(root, "../shared/data/wikitext2-test.txt");
    char *bytes, *path = xasprintf("%s/text", folder);
    size_t n;
    struct err e = {0};
    if (fs_read_all(from, 1 << 24, &bytes, &n, &e))
        return NULL;
    n = n < TEXT_BYTES ? n : TEXT_BYTES;
    while (n > 0 && bytes[n - 1] != '\n')
        n--;
    if (fs_write_all(path, bytes, n, &e))
        die(path, e.message);
    xfree(bytes);
    xfree(from);
    return path;
}

/* Runs a peer tool; what it wrote to stdout and then to stderr, xfree. Read apart: one is buffered
 * in blocks, the other in lines, and together they would cut each other's lines. */
static char *run_once(const char *tool, const char *arguments)
{
    char *command =
        xasprintf("'%s/deps/peers/bin/%s' %s 2>'%s/stderr'", root, tool, arguments, folder);
    char *errors_path = fs_join(folder, "stderr"), *errors = NULL;
    FILE *f = popen(command, "r");
    char *text = xcalloc(1, 1 << 20);
    size_t n = f ? fread(text, 1, (1 << 20) - 1, f) : 0, n_errors = 0;
    text[n] = 0;
    int rc = f ? pclose(f) : -1;
    if (fs_read_all(errors_path, 1 << 24, &errors, &n_errors, NULL))
        die(command, "cannot be run");
    if (rc != 0)
        die(command, n_errors > 400 ? errors + n_errors - 400 : errors);
    char *both = xasprintf("%s\n%s", text, errors);
    xfree(command);
    xfree(errors_path);
    xfree(errors);
    xfree(text);
    return both;
}

/* Until its output has this label: upstream's log is written by a thread of its own, whose last
 * lines are lost now and then when the program ends. */
static char *run_tool(const char *tool, const char *arguments, const char *label)
{
    char *out = run_once(tool, arguments);
    for (int tries = 1; tries < 8 && !strstr(out, label); tries++) {
        xfree(out);
        out = run_once(tool, arguments);
    }
    return out;
}

/* The number behind a label in a tool's output. */
static double number_after(const char *text, const char *label)
{
    const char *at = strstr(text, label);
    if (!at)
        die(label, "not in the tool's output");
    at += strlen(label);
    return strtod(at + strspn(at, " :="), NULL);
}

/* ---- the file of 16-bit log-probabilities ---------------------------------------------------- */

struct base_file {
    char *bytes;
    const char *rows; /* of all scored positions */
    size_t row_bytes;
    int32_t n_ctx, n_vocab, n_chunk;
    const char *tokens;
};

static void base_read(struct base_file *b, const char *path)
{
    size_t n;
    struct err e = {0};
    if (fs_read_all(path, 1u << 30, &b->bytes, &n, &e))
        die(path, e.message);
    if (n < 20 || memcmp(b->bytes, "_logits_", 8) != 0)
        die(path, "is not a file of log-probabilities");
    memcpy(&b->n_ctx, b->bytes + 8, 4);
    memcpy(&b->n_vocab, b->bytes + 12, 4);
    memcpy(&b->n_chunk, b->bytes + 16, 4);
    size_t tokens = (size_t)b->n_ctx * (size_t)b->n_chunk * sizeof(int32_t);
    size_t rows = (size_t)(b->n_ctx - 1 - b->n_ctx / 2) * (size_t)b->n_chunk;
    b->tokens = b->bytes + 20;
    b->rows = b->tokens + tokens;
    b->row_bytes = (2 * (((size_t)b->n_vocab + 1) / 2) + 4) * sizeof(uint16_t);
    if (n != 20 + tokens + rows * b->row_bytes)
        die(path, "has an unexpected size");
}

/* Upstream's formula for one position, from its row and our logits. */
static double kld_16bit(const struct base_file *b, size_t position, const float *logits,
                        double log_total)
{
    const char *row = b->rows + position * b->row_bytes;
    float scale, low;
    double sum = 0;
    memcpy(&scale, row, sizeof(scale));
    memcpy(&low, row + 4, sizeof(low));
    for (int32_t i = 0; i < b->n_vocab; i++) {
        uint16_t step;
        memcpy(&step, row + 8 + (size_t)i * 2, sizeof(step));
        double log_p = (double)(scale * (float)step + low);
        if (log_p > -16)
            sum += exp(log_p) * (log_p - ((double)logits[i] - log_total));
    }
    return sum;
}

/* ---- a mixture of experts -------------------------------------------------------------------- */

enum { EXPERTS = 4, BLOCKS = 2, TENSORS_MAX = 2 + BLOCKS * 10 };

struct moe_tensor {
    char name[64];
    struct shape shape;
    const uint8_t *copy; /* NULL = random */
};

static void moe_add(struct moe_tensor *t, size_t *n, const struct gguf *sample, const char *name,
                    const struct shape *shape)
{
    struct moe_tensor *x = &t[(*n)++];
    const struct gguf_tensor *from = gguf_find(sample, name);
    *x = (struct moe_tensor){{0}, {0}, NULL};
    snprintf(x->name, sizeof(x->name), "%s", name);
    x->shape = shape ? *shape : from->shape;
    x->copy = shape ? NULL : gguf_tensor_data(sample, from);
}

/* Attention of the sample's first blocks, experts with random weights, two of four used per token.
 */
static size_t moe_tensors(struct moe_tensor *t, const struct gguf *sample)
{
    static const char *const kept[] = {"attn_norm", "attn_q",      "attn_k",
                                       "attn_v",    "attn_output", "ffn_norm"};
    static const struct shape router = {2, {256, EXPERTS, 1, 1}},
                              wide = {3, {256, 768, EXPERTS, 1}},
                              down = {3, {768, 256, EXPERTS, 1}};
    char name[64];
    size_t n = 0;
    moe_add(t, &n, sample, "token_embd.weight", NULL);
    moe_add(t, &n, sample, "output_norm.weight", NULL);
    for (int b = 0; b < BLOCKS; b++) {
        for (size_t k = 0; k < sizeof(kept) / sizeof(kept[0]); k++) {
            snprintf(name, sizeof(name), "blk.%d.%s.weight", b, kept[k]);
            moe_add(t, &n, sample, name, NULL);
        }
        snprintf(name, sizeof(name), "blk.%d.ffn_gate_inp.weight", b);
        moe_add(t, &n, sample, name, &router);
        snprintf(name, sizeof(name), "blk.%d.ffn_gate_exps.weight", b);
        moe_add(t, &n, sample, name, &wide);
        snprintf(name, sizeof(name), "blk.%d.ffn_up_exps.weight", b);
        moe_add(t, &n, sample, name, &wide);
        snprintf(name, sizeof(name), "blk.%d.ffn_down_exps.weight", b);
        moe_add(t, &n, sample, name, &down);
    }
    return n;
}

static char *make_moe(const char *sample_path)
{
    struct gguf sample;
    struct gguf_kvs kvs = {0};
    struct moe_tensor tensors[TENSORS_MAX];
    struct gguf_writer_tensor t[TENSORS_MAX];
    struct gguf_writer w;
    struct rng rng;
    struct err e = {0};
    char *path = xasprintf("%s/moe.gguf", folder);
    if (gguf_open(&sample, sample_path, GGUF_CHECK_MODEL, &e))
        die(sample_path, e.message);
    for (size_t i = 0; i < sample.kvs.n; i++)
        gguf_set_copy(&kvs, &sample.kvs.items[i]);
    gguf_set_u32(&kvs, "llama.block_count", BLOCKS);
    gguf_set_u32(&kvs, "llama.expert_count", EXPERTS);
    gguf_set_u32(&kvs, "llama.expert_used_count", 2);
    size_t n = moe_tensors(tensors, &sample);
    for (size_t i = 0; i < n; i++)
        t[i] = (struct gguf_writer_tensor){
            .name = tensors[i].name, .dtype = DT_F32, .shape = tensors[i].shape};
    if (gguf_writer_open(&w, path, &kvs, t, n, &e))
        die(path, e.message);
    rng_seed(&rng, 4);
    for (size_t i = 0; i < n; i++) {
        float *random = xmalloc(t[i].bytes);
        for (uint64_t k = 0; k < t[i].bytes / sizeof(float); k++)
            random[k] = (float)(0.05 * rng_normal(&rng));
        const void *data = tensors[i].copy ? (const void *)tensors[i].copy : random;
        if (fs_atomic_write_at(&w.file, t[i].offset, data, t[i].bytes, &e))
            die(path, e.message);
        xfree(random);
    }
    if (gguf_writer_commit(&w, &e))
        die(path, e.message);
    gguf_kvs_release(&kvs);
    gguf_close(&sample);
    return path;
}

/* ---- comparisons ----------------------------------------------------------------------------- */

static struct engine *open_model(const char *path)
{
    struct engine *g;
    struct err e = {0};
    if (measure_open(&g, NULL, path, ENGINE_FILE, N_CTX, 0, true, &options, &e))
        die(path, e.message);
    return g;
}

static void compare_perplexity(const char *type, const char *path, const char *text,
                               const struct engine_windows *w, const struct measure_reference *r,
                               const struct base_file *base)
{
    struct score s;
    struct engine_reference logits;
    struct err e = {0};
    char label[64];
    if (measure_quality(&s, path, w, r, &options, &e))
        die(path, e.message);
    char *arguments = xasprintf("-m '%s' -f '%s' -c %d --chunks %d --no-escape -t 1 --kl-divergence"
                                " --kl-divergence-base '%s/base'",
                                path, text, N_CTX, WINDOWS, folder);
    char *out = run_tool("llama-perplexity", arguments, "Same top p:");
    double ppl = number_after(out, "Mean PPL(Q)"), kld = number_after(out, "Mean    KLD");
    double top = number_after(out, "Same top p:") / 100;
    snprintf(label, sizeof(label), "%s perplexity", type);
    check(close_to(s.ppl, ppl, 1e-3), label, s.ppl, ppl);

    struct engine *g = open_model(path);
    if (engine_reference_make(g, w, 0, &logits, NULL, &e))
        die(path, e.message);
    engine_stop(g);
    double sum = 0;
    for (size_t i = 0; i < logits.positions; i++)
        sum += kld_16bit(base, i, logits.logits + i * logits.n_vocab, logits.log_total[i]);
    engine_reference_release(&logits);
    snprintf(label, sizeof(label), "%s KL from 16-bit base", type);
    check(close_to(sum / (double)s.positions, kld, 0.01), label, sum / (double)s.positions, kld);
    snprintf(label, sizeof(label), "%s top-1 agreement", type);
    check(fabs(s.top1 - top) < 3e-3, label, s.top1, top);
    printf("     %-34s %.6g [%.6g, %.6g] exact in float\n", type, s.kld_mean, s.kld_low,
           s.kld_high);
    score_release(&s);
    xfree(arguments);
    xfree(out);
}

static void compare_quality(const char *text)
{
    static const char *const types[] = {"Q8_0", "Q6_K", "Q4_K_M", "Q4_0", "Q3_K_S", "Q2_K"};
    struct corpus c;
    struct measure_reference r;
    struct base_file base;
    struct err e = {0};
    char *original = bake("BF16"), *path = xasprintf("%s/base", folder);
    char *arguments = xasprintf("-m '%s' -f '%s' -c %d --chunks %d --no-escape -t 1"
                                " --kl-divergence-base '%s'",
                                original, text, N_CTX, WINDOWS, path);
    char *out = run_tool("llama-perplexity", arguments, "Final estimate: PPL");
    struct engine *g = open_model(original);
    if (corpus_from_file(&c, g, text, N_CTX, WINDOWS, &e))
        die(text, e.message);
    struct engine_windows w = corpus_slice(&c, 0, c.n_windows);
    if (measure_reference_make(&r, g, &w, 0, NULL, &e))
        die(original, e.message);
    engine_stop(g);
    double ppl = number_after(out, "Final estimate: PPL");
    check(close_to(r.ppl, ppl, 1e-5), "BF16 perplexity", r.ppl, ppl);
    base_read(&base, path);
    size_t different = 0;
    for (size_t i = 0; i < c.n_windows * N_CTX; i++) {
        int32_t token;
        memcpy(&token, base.tokens + i * 4, 4);
        different += i % N_CTX != 0 && token != c.tokens[i];
    }
    check(different == 0 && base.n_chunk == WINDOWS && base.n_ctx == N_CTX, "same tokens, of 6120",
          6120 - (double)different, 6120);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        char *file = bake(types[i]);
        compare_perplexity(types[i], file, text, &w, &r, &base);
        unlink(file);
        xfree(file);
    }
    measure_reference_release(&r);
    corpus_release(&c);
    xfree(base.bytes);
    xfree(original);
    xfree(path);
    xfree(arguments);
    xfree(out);
}

/* Largest relative difference between two matrices; counts that agree in *same. */
static double compare_matrices(const struct imatrix *ours, const struct imatrix *theirs,
                               size_t *same)
{
    double worst = 0;
    *same = 0;
    for (size_t i = 0; i < theirs->n; i++) {
        const struct imatrix_entry *t = &theirs->entries[i], *o = imatrix_find(ours, t->name);
        if (!o || o->n_in != t->n_in || o->n_mat != t->n_mat)
            die(t->name, "is not in our matrix in that size");
        *same += memcmp(o->counts, t->counts, t->n_mat * sizeof(float)) == 0;
        for (uint64_t k = 0; k < t->n_in * t->n_mat; k++) {
            double d = fabs((double)o->values[k] - (double)t->values[k]);
            double limit = fabs((double)t->values[k]);
            worst = d > worst * limit ? d / limit : worst;
        }
    }
    return worst;
}

static void compare_importance(const char *model, const char *text, const char *label)
{
    struct imatrix ours = {0}, theirs = {0};
    struct corpus c;
    struct err e = {0};
    size_t same;
    char what[64], *path = xasprintf("%s/upstream.gguf", folder);
    char *arguments = xasprintf("-m '%s' -f '%s' -c %d --chunks %d --no-escape -t 1 --no-ppl"
                                " --process-output --output-format gguf -o '%s'",
                                model, text, N_CTX, WINDOWS, path);
    xfree(run_once("llama-imatrix", arguments));
    if (imatrix_read(&theirs, path, &e))
        die(path, e.message);
    struct engine *g = open_model(model);
    if (corpus_from_file(&c, g, text, N_CTX, WINDOWS, &e))
        die(text, e.message);
    struct engine_windows w = corpus_slice(&c, 0, c.n_windows);
    if (measure_importance(&ours, g, &w, "text", NULL, &e))
        die(model, e.message);
    engine_stop(g);
    /* Upstream has no entry for a tied head: it collects layers, and a tensor called output.weight.
     */
    snprintf(what, sizeof(what), "%s: importance entries", label);
    check(ours.n == theirs.n + 1, what, (double)ours.n, (double)theirs.n);
    double worst = compare_matrices(&ours, &theirs, &same);
    snprintf(what, sizeof(what), "%s: counts that agree", label);
    check(same == theirs.n, what, (double)same, (double)theirs.n);
    snprintf(what, sizeof(what), "%s: largest relative error", label);
    check(worst < 1e-4, what, worst, 0);
    imatrix_release(&ours);
    imatrix_release(&theirs);
    corpus_release(&c);
    xfree(path);
    xfree(arguments);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return engine_worker_main();
    const char *tmp = getenv("TMPDIR");
    root = getenv("SINTRA_ROOT") ? getenv("SINTRA_ROOT") : ".";
    snprintf(folder, sizeof(folder), "%s/sintra-oracle-XXXXXX", tmp ? tmp : "/tmp");
    char *tool = fs_join(root, "deps/peers/bin/llama-perplexity");
    if (!mkdtemp(folder))
        return 1;
    char *text = make_text();
    if (!fs_exists(tool) || !text) {
        printf("skipped: %s\n", text ? "no deps/peers/bin/llama-perplexity (make peers)"
                                     : "no wikitext2-test.txt in $SINTRA_DATA");
        fs_remove_tree(folder, NULL);
        return 77;
    }
    compare_quality(text);
    char *dense = bake("F32"), *moe = make_moe(dense);
    compare_importance(dense, text, "dense");
    compare_importance(moe, text, "experts");
    xfree(dense);
    xfree(moe);
    fs_remove_tree(folder, NULL);
    xfree(text);
    xfree(tool);
    printf("%ld passed, %ld failed\n", passed, failed);
    return failed > 0;
}
