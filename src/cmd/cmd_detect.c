/* `detect` and `profiles`: the machine here, and machines that are described.
 *
 * Joins what hw/ finds (processor, memory, bandwidth) with the devices that ggml can use, which
 * only the engine knows. A machine without a working libllama is still described; the reason is in
 * the result.
 */
#include <string.h>

#include "base/mem.h"
#include "cmd/cmd_int.h"
#include "engine/engine.h"
#include "run/run.h"

#include "base/banned.h"

static const struct arg_spec detect_args[] = {
    {.name = "fast", .type = ARG_FLAG, .help = "leave out the measurement of memory bandwidth"},
    ARG_LINE_END,
};

static const struct arg_spec profiles_args[] = {
    {.name = "NAME",
     .type = ARG_TEXT,
     .positional = true,
     .value = "NAME|FILE",
     .help = "show this profile whole"},
    ARG_LINE_END,
};

static int detect_run(struct cmd_context *c, const struct cmd_args *a, json_t **result,
                      struct err *e)
{
    (void)c;
    struct hw h;
    struct err why = {0};
    json_t *devices = NULL;
    char version[32] = "";
    if (hw_detect(&h, !cmd_flag(a, "fast"), e))
        return -1;
    json_t *doc = json_object();
    json_object_set_new(doc, "hardware", hw_json_new(&h));
    if (engine_devices(&devices, &why) == 0 && engine_version(version, &why) == 0) {
        json_object_set_new(doc, "libllama", json_string(version));
        json_object_set_new(doc, "devices", devices);
    } else {
        json_decref(devices);
        json_object_set_new(doc, "devices", json_array());
        json_object_set_new(doc, "engine_error", json_string(why.message));
    }
    *result = doc;
    return 0;
}

static int profiles_run(struct cmd_context *c, const struct cmd_args *a, json_t **result,
                        struct err *e)
{
    const char *name = cmd_text(a, "NAME");
    char *dirs = cmd_profile_dirs(c);
    struct hw_profile *list = NULL, one;
    size_t n = 0;
    json_t *rows = json_array();
    int rc = name ? hw_profile_load(&one, name, dirs, e) : hw_profiles(&list, &n, dirs, e);
    if (rc == 0 && name) {
        json_array_append_new(rows, hw_profile_json_new(&one));
        hw_profile_release(&one);
    }
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(rows, hw_profile_json_new(&list[i]));
        hw_profile_release(&list[i]);
    }
    xfree(list);
    xfree(dirs);
    if (rc) {
        json_decref(rows);
        return -1;
    }
    *result = json_pack("{s:o}", "profiles", rows);
    return 0;
}

const struct cmd cmd_detect = {
    .name = "detect",
    .group = CMD_LOOK,
    .summary = "show this machine: processor, memory and its bandwidth, GPUs",
    .description =
        "Finds what decides how large a model fits and how fast it runs. Memory bandwidth "
        "is measured, in under two seconds: generating text reads every weight once per "
        "token, so bandwidth divided by the model's bytes bounds tokens per second.",
    .example = "sintra detect\nsintra detect --fast --json",
    .args = detect_args,
    .run = detect_run,
};

const struct cmd cmd_profiles = {
    .name = "profiles",
    .group = CMD_LOOK,
    .summary = "list the machines that targets can be set for, or show one",
    .description =
        "A profile is a YAML file with the constraints of a machine and what is wanted of "
        "it. Profiles come with the program; your own go to profiles/ in the home "
        "directory or are named by path.",
    .example = "sintra profiles\nsintra profiles raspberry-pi-5-8gb",
    .args = profiles_args,
    .run = profiles_run,
};
