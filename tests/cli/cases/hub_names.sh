# What users name: the address of a model's page; a GGUF beside its projector and importance matrix; parts of a split.
. "$CASES/../hub_server.sh"
hub_model acme/tiny
mkdir -p hub/acme/one hub/acme/half hub/acme/none
sintra quantize sample -q -o hub/acme/one/tiny-Q4_0.gguf --type Q4_0 >/dev/null
echo x | tee hub/acme/one/mmproj-tiny-f16.gguf hub/acme/one/imatrix.gguf hub/acme/none/tiny.imatrix.gguf >/dev/null
cp hub/acme/one/tiny-Q4_0.gguf hub/acme/half/tiny-00001-of-00002.gguf
cp hub/acme/one/tiny-Q4_0.gguf hub/acme/half/tiny-00002-of-00003.gguf
mkdir -p hub/acme/alike/f16 hub/acme/spoken/additional_chat_templates
for name in tiny-Q4_0 more-tiny-Q4_0 f16/tiny-F16 f16/more-tiny-F16; do cp hub/acme/one/tiny-Q4_0.gguf hub/acme/alike/$name.gguf; done
hub_model acme/spoken
echo x >hub/acme/spoken/additional_chat_templates/tool_use.jinja
hub_start
file() { sintra pull "$@" --json | sed -n 's|.*"path": ".*/snapshots/[0-9a-f]*/\(.*\)",|\1|p'; }
pulled() { sintra pull "$@" -q | sed '/commit/d;$d'; }
pulled "$HF_ENDPOINT/acme/tiny"
pulled "$HF_ENDPOINT/acme/tiny/tree/v1.0"
sintra convert "$HF_ENDPOINT/acme/one/blob/main/tiny-Q4_0.gguf" -q -o x.gguf --type F16 >/dev/null && echo converted
pulled "$HF_ENDPOINT/datasets/acme/tiny"
echo "-- one model beside other GGUF files"
pulled acme/one
pulled acme/none
echo "-- a whole name that is a part of another's"
file acme/alike:tiny-Q4_0.gguf
file acme/alike:f16/tiny-F16.gguf
file acme/alike:TINY-f16.gguf
file acme/alike:tiny-Q4_0
echo "-- named chat templates"
sintra pull acme/spoken --json | sed -n 's/.*"path": "\(.*\)",/\1/p' >where
cat "$(cat where)/additional_chat_templates/tool_use.jinja"
echo "-- a part that is not there"
pulled acme/half
hub_stop
