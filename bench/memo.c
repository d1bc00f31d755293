/* What the memo of encoded bands saves: two recipes that differ in a tenth of the weights.
 *
 *   memo FOLDER [TYPE] [SCRATCH]       (default Q4_K_M, /tmp)
 * CSV: bake,seconds,cpu_seconds,bytes,bytes_from_memo,file_sha256. The second recipe gives Q6_K to
 * every tensor of each tenth block. It is baked without a memo, and with the memo that the first
 * one left; both must give the same file. Every bake syncs its file to disk. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bake/bake.h"
#include "base/fs.h"
#include "base/mem.h"

static void die(const struct err *e)
{
    fprintf(stderr, "memo: %s\n", e->message);
    exit(1);
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void bake(const char *what, const struct model *m, const struct recipe *recipe,
                 const char *output, const char *memo, char sha256[65])
{
    struct bake_result r;
    struct err e;
    struct bake_job job = {.model = m, .recipe = recipe, .output = output, .memo_dir = memo};
    double cpu = cpu_seconds();
    if (bake_gguf(&job, &r, &e) != 0)
        die(&e);
    printf("%s,%.3f,%.3f,%llu,%llu,%.16s\n", what, r.seconds, cpu_seconds() - cpu,
           (unsigned long long)r.bytes, (unsigned long long)r.memo_bytes, r.sha256);
    fflush(stdout);
    memcpy(sha256, r.sha256, 65);
    bake_result_release(&r);
    fs_remove(output, NULL);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: memo FOLDER [TYPE] [SCRATCH]\n");
        return 2;
    }
    const char *type = argc > 2 ? argv[2] : "Q4_K_M", *scratch = argc > 3 ? argv[3] : "/tmp";
    char *output = fs_join(scratch, "bench-memo.gguf"), *memo = fs_join(scratch, "bench-memo");
    char plain[65], remembered[65], sha256[65];
    struct model *m;
    struct recipe first, second;
    struct err e;
    if (model_open(&m, argv[1], &e) != 0)
        die(&e);
    recipe_init(&first, type);
    recipe_init(&second, type);
    for (int block = 4; block < 1000; block += 10) {
        char match[32], name[48];
        snprintf(match, sizeof match, "blk.%d.*", block);
        snprintf(name, sizeof name, "blk.%d.attn_q.weight", block);
        if (model_find(m, name) >= 0)
            recipe_add_rule(&second, match, DT_Q6_K);
    }
    fs_remove_tree(memo, NULL);
    printf("bake,seconds,cpu_seconds,bytes,bytes_from_memo,file_sha256\n");
    bake("first without memo", m, &first, output, NULL, sha256);
    bake("second without memo", m, &second, output, NULL, plain);
    bake("first into memo", m, &first, output, memo, sha256);
    bake("second from memo", m, &second, output, memo, remembered);
    bake("second again", m, &second, output, memo, sha256);
    fs_remove_tree(memo, NULL);
    recipe_release(&first);
    recipe_release(&second);
    model_close(m);
    xfree(output);
    xfree(memo);
    if (strcmp(plain, remembered) != 0) {
        fprintf(stderr, "memo: the file is another one\n");
        return 1;
    }
    return 0;
}
