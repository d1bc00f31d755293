/* Stock mixes and finished files beside each other on one text; CSV on stdout.
 *
 *   stock_table MODEL TEXT [--imatrix FILE] [--result FILE.gguf]... [--mixes A,B,...] [--windows N]
 *               [--threads N] [--scratch DIR] [--no-speed]
 *
 * Every mix is baked from MODEL with the importance matrix (as users of llama-quantize do; results
 * of `sintra optimize` come with theirs), then all files are scored on the same windows of TEXT
 * against the original in F32 and timed one after another. `difference` and its 95 % interval are
 * the paired difference of KL to the --result nearest in size, over windows. */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bake/bake.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/stat.h"
#include "measure/measure.h"
#include "recipe/recipe.h"

enum { FILES_MAX = 64 };

struct options {
    const char *model, *text, *imatrix, *scratch, *mixes;
    const char *results[FILES_MAX];
    size_t n_results, windows;
    int threads;
    bool speed;
};

struct row {
    char name[96];
    uint64_t bytes;
    struct score score;
    size_t per_window;
};

struct bench {
    struct options o;
    struct model *model;
    struct imatrix imatrix;
    char *folder;
    struct corpus text;
    struct engine_windows windows;
    struct measure_reference reference;
    struct measure_options measure;
    struct row rows[FILES_MAX * 2];
    size_t n_rows;
};

static void die(const char *what, const struct err *e)
{
    fprintf(stderr, "%s: %s\n", what, e->message);
    exit(1);
}

static char *bake(struct bench *b, const char *mix)
{
    struct err e = {0};
    struct recipe r;
    struct bake_result done;
    char *name = xasprintf("%s.gguf", mix), *path = fs_join(b->folder, name);
    recipe_init(&r, mix);
    struct bake_job job = {.model = b->model,
                           .recipe = &r,
                           .imatrix = b->o.imatrix && strcmp(mix, "F32") != 0 ? &b->imatrix : NULL,
                           .imatrix_name = b->o.imatrix ? fs_basename(b->o.imatrix) : NULL,
                           .output = path,
                           .threads = b->o.threads,
                           .allow_requantize = true};
    if (bake_gguf(&job, &done, &e) != 0)
        die(mix, &e);
    bake_result_release(&done);
    recipe_release(&r);
    xfree(name);
    return path;
}

static void prepare(struct bench *b)
{
    struct err e = {0};
    struct engine *g;
    struct engine_info info;
    if (model_open(&b->model, b->o.model, &e) != 0)
        die(b->o.model, &e);
    if (b->o.imatrix && imatrix_read(&b->imatrix, b->o.imatrix, &e) != 0)
        die(b->o.imatrix, &e);
    uint32_t n_ctx = model_desc(b->model)->n_ctx_train;
    n_ctx = n_ctx == 0 || n_ctx > 512 ? 512 : n_ctx;
    b->measure = (struct measure_options){.threads = b->o.threads, .gpu_layers = -1};
    char *original = bake(b, "F32");
    if (measure_open(&g, &info, original, ENGINE_FILE, n_ctx, 0, true, &b->measure, &e) != 0 ||
        corpus_from_file(&b->text, g, b->o.text, n_ctx, b->o.windows, &e) != 0)
        die("text", &e);
    b->windows = corpus_slice(&b->text, 0, b->text.n_windows);
    if (measure_reference_make(&b->reference, g, &b->windows, 8ull << 30, NULL, &e) != 0)
        die("reference", &e);
    engine_stop(g);
    fs_remove(original, NULL);
    xfree(original);
}

static void add(struct bench *b, const char *name, const char *path)
{
    struct err e = {0};
    struct row *r = &b->rows[b->n_rows++];
    uint32_t context = b->windows.n_ctx;
    snprintf(r->name, sizeof(r->name), "%s", name);
    if (fs_size(path, &r->bytes, &e) != 0 ||
        measure_quality(&r->score, path, &b->windows, &b->reference, &b->measure, &e) != 0)
        die(path, &e);
    if (b->o.speed &&
        measure_speed(&r->score, path, context, (int)context / 2, 64, 5, 20, &b->measure, &e) != 0)
        die(path, &e);
    r->per_window = r->score.positions / r->score.windows;
    fprintf(stderr, "%s\n", name);
}

static uint64_t apart(const struct row *a, const struct row *b)
{
    return a->bytes > b->bytes ? a->bytes - b->bytes : b->bytes - a->bytes;
}

/* The result that this row is compared with, or NULL. */
static const struct row *rival(const struct bench *b, const struct row *r)
{
    const struct row *found = NULL;
    for (size_t i = 0; i < b->o.n_results; i++)
        if (!found || apart(&b->rows[i], r) < apart(found, r))
            found = &b->rows[i];
    return found;
}

static void print(const struct bench *b, const struct row *r)
{
    const struct score *s = &r->score;
    const struct row *other = r >= b->rows + b->o.n_results ? rival(b, r) : NULL;
    double parameters = (double)model_desc(b->model)->parameters;
    printf("%s,%llu,%.4f,%.6f,%.6f,%.6f,%.6f,%.5f,%.5f,%.5f,%.4f,%.4f,%.1f,%.1f", r->name,
           (unsigned long long)r->bytes, (double)r->bytes * 8 / parameters, s->kld_mean, s->kld_low,
           s->kld_high, s->kld_p99, s->top1, s->top1_low, s->top1_high, s->ppl, s->ppl_base,
           s->tps_decode, s->tps_prefill);
    if (other) {
        struct stat_mean d =
            stat_mean_paired(other->score.kld, s->kld, s->positions, r->per_window);
        printf(",%s,%.6f,%.6f,%.6f,%.4f\n", other->name, d.mean, d.low, d.high,
               other->score.kld_mean / s->kld_mean);
    } else {
        printf(",,,,,\n");
    }
}

static void parse(struct options *o, int argc, char **argv)
{
    static const struct option longs[] = {
        {"imatrix", 1, NULL, 'i'},  {"result", 1, NULL, 'r'},
        {"mixes", 1, NULL, 'm'},    {"windows", 1, NULL, 'w'},
        {"threads", 1, NULL, 'j'},  {"scratch", 1, NULL, 's'},
        {"no-speed", 0, NULL, 'n'}, {0},
    };
    *o =
        (struct options){.speed = true,
                         .scratch = "/tmp",
                         .mixes = "Q8_0,Q6_K,Q5_K_M,Q5_K_S,Q4_K_M,Q4_K_S,IQ4_NL,Q4_0,IQ4_XS,Q3_K_L,"
                                  "Q3_K_M,IQ3_M,Q3_K_S,IQ3_S,IQ3_XS,IQ3_XXS,Q2_K,IQ2_M"};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (c == 'i')
            o->imatrix = optarg;
        else if (c == 'r' && o->n_results < FILES_MAX)
            o->results[o->n_results++] = optarg;
        else if (c == 'm')
            o->mixes = optarg;
        else if (c == 'w')
            o->windows = strtoul(optarg, NULL, 10);
        else if (c == 'j')
            o->threads = (int)strtol(optarg, NULL, 10);
        else if (c == 's')
            o->scratch = optarg;
        else if (c == 'n')
            o->speed = false;
        else
            exit(2);
    }
    if (argc - optind != 2) {
        fprintf(stderr, "usage: stock_table MODEL TEXT [options]\n");
        exit(2);
    }
    o->model = argv[optind];
    o->text = argv[optind + 1];
}

int main(int argc, char **argv)
{
    struct bench b = {0};
    char *save = NULL;
    if (argc == 2 && strcmp(argv[1], "worker") == 0)
        return engine_worker_main();
    parse(&b.o, argc, argv);
    b.folder = xasprintf("%s/sintra-table-XXXXXX", b.o.scratch);
    if (!mkdtemp(b.folder)) {
        perror(b.folder);
        return 1;
    }
    prepare(&b);
    for (size_t i = 0; i < b.o.n_results; i++)
        add(&b, fs_basename(b.o.results[i]), b.o.results[i]);
    char *mixes = xstrdup(b.o.mixes);
    for (char *m = strtok_r(mixes, ",", &save); m && b.n_rows < FILES_MAX;
         m = strtok_r(NULL, ",", &save)) {
        char *path = bake(&b, m);
        add(&b, m, path);
        fs_remove(path, NULL);
        xfree(path);
    }
    printf("name,bytes,bpw,kld,kld_low,kld_high,kld_p99,top1,top1_low,top1_high,ppl,ppl_original,"
           "tps_decode,tps_prefill,against,difference,difference_low,difference_high,ratio\n");
    for (size_t i = 0; i < b.n_rows; i++)
        print(&b, &b.rows[i]);
    fs_remove_tree(b.folder, NULL);
    return 0;
}
