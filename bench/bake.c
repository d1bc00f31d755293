/* Baking a model beside llama-quantize, in the same run, alternating; CSV on stdout.
 *
 *   bake FOLDER TYPE[,TYPE...] [--runs N] [--threads N] [--scratch DIR] [--imatrix FILE]
 *
 * FOLDER is a Hugging Face folder (make_synthetic makes one). Ours reads it as it is;
 * llama-quantize needs a BF16 GGUF, which is written once before and not counted. Every run is a
 * process of its own; its peak resident set comes from the kernel, its anonymous part from
 * /proc/PID/status every 10 ms. Ours syncs the file to disk before it ends, llama-quantize does
 * not. Both read from the page cache as far as memory allows. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bake/bake.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/stat.h"

static const char *peer = "deps/peers/bin/llama-quantize";

struct options {
    const char *folder, *scratch, *imatrix;
    int runs, threads;
};

struct run {
    double seconds, cpu;
    uint64_t rss, anon, bytes;
};

static void die(const char *what, const struct err *e)
{
    fprintf(stderr, "%s: %s\n", what, e ? e->message : "");
    exit(1);
}

static void bake_here(const struct options *o, const char *model, const char *type,
                      const char *output)
{
    struct model *m;
    struct recipe r;
    struct imatrix x = {0};
    struct bake_result result;
    struct err e = {0};
    struct bake_job job = {.recipe = &r, .output = output, .threads = o->threads};

    if (o->imatrix && imatrix_read(&x, o->imatrix, &e) != 0)
        die(o->imatrix, &e);
    if (model_open(&m, model, &e) != 0)
        die(model, &e);
    recipe_init(&r, type);
    job.model = m;
    job.imatrix = o->imatrix ? &x : NULL;
    job.imatrix_name = o->imatrix;
    if (bake_gguf(&job, &result, &e) != 0)
        die(type, &e);
    bake_result_release(&result);
    recipe_release(&r);
    imatrix_release(&x);
    model_close(m);
}

static void run_peer(const struct options *o, const char *gguf, const char *type,
                     const char *output)
{
    char threads[16];
    const char *argv[8];
    int n = 0;

    snprintf(threads, sizeof threads, "%d", o->threads);
    argv[n++] = peer;
    if (o->imatrix) {
        argv[n++] = "--imatrix";
        argv[n++] = o->imatrix;
    }
    argv[n++] = gguf;
    argv[n++] = output;
    argv[n++] = type;
    if (o->threads > 0)
        argv[n++] = threads;
    argv[n] = NULL;
    if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr))
        _exit(1);
    execv(peer, (char *const *)(uintptr_t)argv);
    _exit(127);
}

static struct run measure(const struct options *o, bool ours, const char *model, const char *type,
                          const char *output)
{
    struct run r = {0};
    struct rusage usage;
    struct timespec pause = {0, 10000000};
    double start = clock_seconds();
    pid_t pid = fork();
    int status = 0;

    if (pid == 0) {
        if (!ours)
            run_peer(o, model, type, output);
        bake_here(o, model, type, output);
        _exit(0);
    }
    while (wait4(pid, &status, WNOHANG, &usage) == 0) {
        struct proc_memory now;
        if (proc_memory(pid, &now) == 0 && now.rss_anon > r.anon)
            r.anon = now.rss_anon;
        nanosleep(&pause, NULL);
    }
    if (status != 0)
        die(ours ? "our bake failed" : "llama-quantize failed", NULL);
    r.seconds = clock_seconds() - start;
    r.cpu = (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
            1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    r.rss = (uint64_t)usage.ru_maxrss * 1024;
    fs_size(output, &r.bytes, NULL);
    fs_remove(output, NULL);
    return r;
}

static double median_of(const struct run *runs, int n)
{
    double values[64];

    for (int k = 0; k < n; k++)
        values[k] = runs[k].seconds;
    return stat_median(values, (size_t)n);
}

static void compare(const struct options *o, const char *gguf, const char *type)
{
    static const char *const names[] = {"sintra", "llama-quantize"};
    struct run runs[2][64];
    char *output = fs_join(o->scratch, "bench-out.gguf");
    double ours, theirs;

    for (int k = 0; k < o->runs; k++) {
        for (int who = 0; who < 2; who++) {
            struct run *r = &runs[who][k];
            *r = measure(o, who == 0, who == 0 ? o->folder : gguf, type, output);
            printf("%s,%s,%d,%.3f,%.3f,%llu,%llu,%llu\n", names[who], type, k + 1, r->seconds,
                   r->cpu, (unsigned long long)r->rss, (unsigned long long)r->anon,
                   (unsigned long long)r->bytes);
            fflush(stdout);
        }
    }
    ours = median_of(runs[0], o->runs);
    theirs = median_of(runs[1], o->runs);
    printf("# %s: median %.2f s, llama-quantize %.2f s, ratio %.3f\n", type, ours, theirs,
           ours / theirs);
    xfree(output);
}

int main(int argc, char **argv)
{
    static const struct option known[] = {{"runs", required_argument, NULL, 'r'},
                                          {"threads", required_argument, NULL, 't'},
                                          {"scratch", required_argument, NULL, 's'},
                                          {"imatrix", required_argument, NULL, 'i'},
                                          {NULL, 0, NULL, 0}};
    struct options o = {.scratch = "/tmp", .runs = 3};
    char *gguf, *types, *save = NULL;
    int c;

    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (c == 'r')
            o.runs = (int)strtol(optarg, NULL, 10);
        else if (c == 't')
            o.threads = (int)strtol(optarg, NULL, 10);
        else if (c == 's')
            o.scratch = optarg;
        else if (c == 'i')
            o.imatrix = optarg;
    }
    if (argc - optind != 2 || o.runs < 1 || o.runs > 64 || access(peer, X_OK) != 0) {
        fprintf(stderr,
                "usage: bake FOLDER TYPE[,TYPE...] [--runs N] [--threads N] [--scratch DIR] "
                "[--imatrix FILE]\n(from the root of the tree, after make peers)\n");
        return 2;
    }
    o.folder = argv[optind];
    gguf = fs_join(o.scratch, "bench-bf16.gguf");
    bake_here(&(struct options){.threads = o.threads}, o.folder, "BF16", gguf);
    printf("tool,type,run,seconds,cpu_seconds,rss_peak_bytes,rss_anon_peak_bytes,file_bytes\n");
    types = xstrdup(argv[optind + 1]);
    for (char *t = strtok_r(types, ",", &save); t; t = strtok_r(NULL, ",", &save))
        compare(&o, gguf, t);
    fs_remove(gguf, NULL);
    xfree(types);
    xfree(gguf);
    return 0;
}
