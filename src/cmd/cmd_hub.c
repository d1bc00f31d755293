/* `pull` and `hf`: models of the hub, and the account they are fetched with.
 *
 * The token is typed or piped, never an argument: command lines are seen by every user of a machine
 * and kept in histories.
 */
#include <string.h>

#include "base/mem.h"
#include "cmd/cmd_int.h"
#include "hub/hub.h"

#include "base/banned.h"

static const struct arg_spec pull_args[] = {
    {.name = "MODEL",
     .type = ARG_TEXT,
     .positional = true,
     .required = true,
     .value = "MODEL",
     .help = "org/name[:file][@revision] of the hub"},
    {.name = "connections",
     .type = ARG_INTEGER,
     .value = "N",
     .help = "requests at the same time",
     .fallback = "8",
     .min = 1,
     .max = 64},
    ARG_LINE_END,
};

static json_t *pulled_json_new(const struct hub_ref *ref, const struct hub_pulled *got)
{
    json_t *o = json_object();
    json_object_set_new(o, "model", json_string(ref->repo));
    json_object_set_new(o, "revision", json_string(ref->revision));
    json_object_set_new(o, "commit", json_string(got->commit));
    json_object_set_new(o, "path", json_string(got->path));
    json_object_set_new(o, "files", json_integer((json_int_t)got->files));
    json_object_set_new(o, "bytes", cmd_bytes_json_new(got->bytes));
    json_object_set_new(o, "files_fetched", json_integer((json_int_t)got->files_fetched));
    json_object_set_new(o, "bytes_fetched", cmd_bytes_json_new(got->bytes_fetched));
    json_object_set_new(o, "seconds", json_real_new(got->seconds));
    if (got->bytes_fetched > 0 && got->seconds > 0)
        json_object_set_new(o, "bytes_per_second",
                            json_real_new((double)got->bytes_fetched / got->seconds));
    json_object_set_new(o, "offline", json_boolean(got->offline));
    if (got->moved_to)
        json_object_set_new(o, "moved_to", json_string(got->moved_to));
    return o;
}

static int pull_run(struct cmd_context *c, const struct cmd_args *a, json_t **result, struct err *e)
{
    struct hub *h = NULL;
    struct hub_ref ref;
    struct hub_pulled got = {0};
    struct hub_pull p = {
        .ref = &ref, .connections = (int)cmd_integer(a, "connections"), .progress = c->progress};
    int rc = -1;
    if (hub_ref_parse(&ref, cmd_text(a, "MODEL"), e) == 0 && hub_open(&h, e) == 0)
        rc = hub_pull(h, &p, &got, e);
    if (rc == 0)
        *result = pulled_json_new(&ref, &got);
    hub_pulled_release(&got);
    hub_close(h);
    return rc;
}

/* ---- hf ----------------------------------------------------------------------------------------
 */

static const struct arg_spec hf_args[] = {
    {.name = "ACTION",
     .type = ARG_TEXT,
     .positional = true,
     .value = "ACTION",
     .help = "what to do",
     .fallback = "status",
     .choices = "login|status|logout"},
    ARG_LINE_END,
};

static json_t *account_json_new(const char *action, const struct hub *h)
{
    json_t *o = json_object();
    json_object_set_new(o, "action", json_string(action));
    json_object_set_new(o, "endpoint", json_string(hub_endpoint(h)));
    json_object_set_new(o, "cache", json_string(hub_cache_dir(h)));
    json_object_set_new(o, "offline", json_boolean(hub_offline(h)));
    return o;
}

static void add_user(json_t *o, const struct hub_user *u)
{
    json_object_set_new(o, "user", json_string(u->name));
    if (u->token_name[0])
        json_object_set_new(o, "token_name", json_string(u->token_name));
    if (u->role[0])
        json_object_set_new(o, "role", json_string(u->role));
}

/* Without the spaces and line ends around it, in place. */
static char *trimmed(char *text)
{
    text += strspn(text, " \t\r\n");
    size_t n = strlen(text);
    while (n > 0 && strchr(" \t\r\n", text[n - 1]))
        text[--n] = 0;
    return text;
}

static bool token_plausible(const char *token)
{
    for (const char *p = token; *p; p++)
        if (*p <= ' ' || *p > '~')
            return false;
    return token[0] && strlen(token) < HUB_TOKEN_MAX;
}

static int login(struct cmd_context *c, struct hub *h, json_t **result, struct err *e)
{
    char *text = NULL;
    struct hub_user u;
    if (!c->secret)
        return err_set(e, ERR_USAGE, NULL, "hf login: there is nobody to ask for the token");
    if (c->secret(c->secret_ud, "Token (made in the settings of your account; not shown): ", &text,
                  e))
        return -1;
    const char *token = trimmed(text);
    int rc = token_plausible(token)
                 ? hub_login(h, token, &u, e)
                 : err_set(e, ERR_USAGE, "paste it, or pipe it: sintra hf login < file",
                           "hf login: that is no token: %s",
                           token[0] ? "it has a space or a character that no token has"
                                    : "nothing was given");
    explicit_bzero(text, strlen(text));
    xfree(text);
    if (rc)
        return -1;
    *result = account_json_new("login", h);
    json_object_set_new(*result, "stored", json_string(hub_token_path(h)));
    const char *source = hub_token_source(h);
    if (source && strcmp(source, hub_token_path(h)) != 0)
        json_object_set_new(*result, "overridden_by", json_string(source));
    add_user(*result, &u);
    return 0;
}

/* Who is logged in is asked where it can be; that it cannot be is part of the status. */
static int status(struct hub *h, json_t **result)
{
    struct hub_user u;
    struct err why = {0};
    *result = account_json_new("status", h);
    if (!hub_token(h))
        return 0;
    json_object_set_new(*result, "token", json_string(hub_token_source(h)));
    if (hub_offline(h))
        return 0;
    if (hub_whoami(h, hub_token(h), &u, &why) == 0)
        add_user(*result, &u);
    else
        json_object_set_new(*result, "problem", json_string(why.message));
    return 0;
}

static int logout(struct hub *h, json_t **result, struct err *e)
{
    bool had = false;
    if (hub_logout(h, &had, e))
        return -1;
    *result = account_json_new("logout", h);
    json_object_set_new(*result, "removed", json_boolean(had));
    const char *source = hub_token_source(h);
    if (source && strcmp(source, hub_token_path(h)) != 0)
        json_object_set_new(*result, "token", json_string(source));
    return 0;
}

static int hf_run(struct cmd_context *c, const struct cmd_args *a, json_t **result, struct err *e)
{
    const char *action = cmd_text(a, "ACTION");
    struct hub *h = NULL;
    int rc = strcmp(action, "status") == 0 ? hub_open(&h, e) : hub_open_any_token(&h, e);
    if (rc)
        return -1;
    if (strcmp(action, "login") == 0)
        rc = login(c, h, result, e);
    else if (strcmp(action, "logout") == 0)
        rc = logout(h, result, e);
    else
        rc = status(h, result);
    hub_close(h);
    return rc;
}

const struct cmd cmd_pull = {
    .name = "pull",
    .group = CMD_HUB,
    .summary = "download a model from the Hugging Face hub, verified",
    .description =
        "Fetches what Sintra needs of a model: configuration, tokenizer, card and safetensors, or "
        "one GGUF file; never pickle. Files go to the cache that the Python package "
        "huggingface_hub shares (HF_HUB_CACHE, HF_HOME), so what either has downloaded the other "
        "finds. Every file is verified against the hash that the hub lists. After Ctrl-C, a kill "
        "or a lost link the same command goes on where it was. Other commands take org/name as "
        "their model too and pull it by themselves; a folder of that name here comes first. "
        "HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are honoured.",
    .example = "sintra pull HuggingFaceTB/SmolLM2-135M-Instruct\n"
               "sintra pull org/name@v1.0\n"
               "sintra pull org/name-GGUF:Q8_0",
    .args = pull_args,
    .run = pull_run,
};

const struct cmd cmd_hf = {
    .name = "hf",
    .group = CMD_HUB,
    .summary = "log in to the Hugging Face hub, out, or show the account",
    .description =
        "'hf login' asks for an access token without showing it, or reads it from a pipe, verifies "
        "it with the hub and stores it where huggingface_hub does (HF_TOKEN_PATH, else the file "
        "token in HF_HOME), readable by you alone. HF_TOKEN in the environment comes before the "
        "stored token. A token is needed for gated and private models, and is sent to the hub "
        "only, never to the hosts that it redirects to.",
    .example = "sintra hf login\nsintra hf status\nsintra hf logout",
    .args = hf_args,
    .run = hf_run,
};
