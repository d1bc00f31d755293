#!/usr/bin/env python3
"""The cache of models beside the huggingface_hub package: what either downloads, the other finds without a request.

Both speak to tests/tools/hub_server.c, which writes down what it is asked. Each line of output is a check.
Needs SINTRA and SINTRA_BUILD (programs) and the package; exits 77 without them."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.environ.get("SINTRA_ROOT", os.path.dirname(os.path.dirname(HERE)))
SINTRA = os.environ.get("SINTRA", f"{ROOT}/sintra")
SERVER = os.path.join(os.environ.get("SINTRA_BUILD", f"{ROOT}/build"), "tools", "hub_server")
for needed in (SINTRA, SERVER):
    if not os.access(needed, os.X_OK):
        print(f"skipped: {needed} is not built")
        sys.exit(77)

WORK = tempfile.mkdtemp(prefix="hub-")
for name in list(os.environ):
    if name.startswith(("HF_", "HUGGING", "TRANSFORMERS_")) or name.lower().endswith("_proxy"):
        del os.environ[name]
SAMPLE = f"{ROOT}/models/sample"
MODEL = f"{WORK}/hub/acme/tiny"
shutil.copytree(SAMPLE, MODEL)
os.makedirs(f"{MODEL}/deep/er")
with open(f"{MODEL}/deep/er/notes.txt", "w") as f:
    f.write("of no use to a program that runs models\n")
open(f"{MODEL}/LICENSE", "w").close()  # empty: a blob of its own kind

server = subprocess.Popen([SERVER, f"{WORK}/hub", f"{WORK}/ports", f"log={WORK}/log"], stdin=subprocess.PIPE)
while not os.path.exists(f"{WORK}/ports"):
    time.sleep(0.02)
PORT = open(f"{WORK}/ports").read().split()[0]
os.environ.update(HF_ENDPOINT=f"http://127.0.0.1:{PORT}", HF_HOME=f"{WORK}/home", HF_HUB_DISABLE_TELEMETRY="1",
                  HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_PROGRESS_BARS="1")

try:
    import huggingface_hub
    from huggingface_hub import constants, hf_hub_download, scan_cache_dir, snapshot_download, try_to_load_from_cache
    from huggingface_hub.file_download import _CACHED_NO_EXIST
except ImportError:
    print("skipped: no huggingface_hub package (make setup-dev)")
    server.kill()
    sys.exit(77)

passed = failed = 0


def check(what, ok):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print(("ok   " if ok else "FAIL ") + what, flush=True)


def requests():
    """What was asked since the last call."""
    if not os.path.exists(f"{WORK}/log"):
        return []
    with open(f"{WORK}/log", "r+") as log:
        lines = log.read().splitlines()
        log.truncate(0)
    return lines


def pull(cache, *options, **env):
    return subprocess.run([SINTRA, "pull", "acme/tiny", "--json", *options], capture_output=True, text=True,
                          env={**os.environ, "HF_HUB_CACHE": cache, **env})


def tree(cache):
    """Names and where links lead; without locks, and without what only one of the two keeps."""
    found = {}
    for folder, _, files in os.walk(f"{cache}/models--acme--tiny"):
        for name in files:
            path = os.path.join(folder, name)
            short = os.path.relpath(path, cache)
            if ".no_exist" not in short:
                found[short] = os.readlink(path) if os.path.islink(path) else open(path, "rb").read()
    return found


ALL = ["LICENSE", "README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
       "tokenizer_config.json"]

# ---- ours, then theirs -----------------------------------------------------------------------------
ours, theirs = f"{WORK}/ours", f"{WORK}/theirs"
result = json.loads(pull(ours).stdout)
commit = result["commit"]
requests()
path = snapshot_download("acme/tiny", cache_dir=ours, local_files_only=True)
check("snapshot_download finds what pull fetched", path == result["path"])
found = [hf_hub_download("acme/tiny", f, cache_dir=ours, local_files_only=True) for f in ALL]
check("hf_hub_download finds every file", all(open(p, "rb").read() == open(f"{MODEL}/{f}", "rb").read()
                                              for p, f in zip(found, ALL)))
check("and asked nothing", requests() == [])
check("a commit that is there needs no request",
      hf_hub_download("acme/tiny", "config.json", cache_dir=ours, revision=commit) and requests() == [])
check("what does not exist is known not to",
      try_to_load_from_cache("acme/tiny", "added_tokens.json", cache_dir=ours) is _CACHED_NO_EXIST)
report = scan_cache_dir(ours)
check("scan_cache_dir has no warnings", report.warnings == [] and len(report.repos) == 1)
repo = next(iter(report.repos))
check("and sees the model, its revision and its ref", repo.repo_id == "acme/tiny" and repo.repo_type == "model" and
      repo.refs["main"].commit_hash == commit and repo.nb_files == len(ALL))
again = snapshot_download("acme/tiny", cache_dir=ours, allow_patterns=ALL)
check("online, the package fetches nothing again",
      again == path and not [r for r in requests() if " GET " in r and "/api/" not in r])

# ---- theirs, then ours -----------------------------------------------------------------------------
snapshot_download("acme/tiny", cache_dir=theirs, allow_patterns=ALL)
requests()
result = pull(theirs, HF_HUB_OFFLINE="1")
check("offline, pull finds what snapshot_download fetched",
      result.returncode == 0 and json.loads(result.stdout)["commit"] == commit and requests() == [])
result = json.loads(pull(theirs).stdout)
check("online, pull fetches nothing again",
      result["bytes_fetched"] == 0 and not [r for r in requests() if "/api/" not in r])
check("both caches are the same, names, links and bytes", tree(ours) == tree(theirs))

# ---- one of several, and the other way round -------------------------------------------------------
part = f"{WORK}/part"
hf_hub_download("acme/tiny", "model.safetensors", cache_dir=part)
requests()
result = json.loads(pull(part).stdout)
check("pull adds to a cache that has a part",
      result["files_fetched"] == len(ALL) - 1 and not [r for r in requests() if "model.safetensors" in r])
tagged = json.loads(subprocess.run([SINTRA, "pull", "acme/tiny@v1.0", "--json"], capture_output=True, text=True,
                                   env={**os.environ, "HF_HUB_CACHE": part}).stdout)
requests()
check("a tag of ours is found by its name", tagged["path"] ==
      snapshot_download("acme/tiny", revision="v1.0", cache_dir=part, local_files_only=True) and requests() == [])

# ---- a lock that the package holds is waited for ---------------------------------------------------
from huggingface_hub.utils import WeakFileLock  # noqa: E402

locked = f"{WORK}/locked"
etag = os.path.basename(os.path.realpath(f"{path}/model.safetensors"))
os.makedirs(f"{locked}/.locks/models--acme--tiny")
with WeakFileLock(f"{locked}/.locks/models--acme--tiny/{etag}.lock"):
    child = subprocess.Popen([SINTRA, "pull", "acme/tiny"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env={**os.environ, "HF_HUB_CACHE": locked})
    time.sleep(1.5)
    check("pull waits while the package holds a lock", child.poll() is None)
child.wait(30)
check("and goes on when it is free", child.returncode == 0 and "downloaded by another program" in child.stderr.read())

# ---- the token -------------------------------------------------------------------------------------
login = subprocess.run([SINTRA, "hf", "login"], input="hf_good\n", capture_output=True, text=True)
check("hf login stores the token where the package reads it",
      login.returncode == 0 and huggingface_hub.get_token() == "hf_good" and os.path.exists(constants.HF_TOKEN_PATH))
check("the package is logged in with it", huggingface_hub.whoami()["name"] == "ada")
subprocess.run([SINTRA, "hf", "logout"], capture_output=True)
check("and is out after hf logout", huggingface_hub.get_token() is None)
huggingface_hub.login("hf_good")
status = json.loads(subprocess.run([SINTRA, "hf", "--json"], capture_output=True, text=True).stdout)
check("hf status knows the package's login", status.get("user") == "ada")

server.stdin.close()
server.wait()
shutil.rmtree(WORK)
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
