# What users name: the address of a model's page; a GGUF beside its projector and importance matrix; parts of a split.
. "$CASES/../hub_server.sh"
hub_model acme/tiny
mkdir -p hub/acme/one hub/acme/half hub/acme/none
sintra quantize sample -q -o hub/acme/one/tiny-Q4_0.gguf --type Q4_0 >/dev/null
echo x | tee hub/acme/one/mmproj-tiny-f16.gguf hub/acme/one/imatrix.gguf hub/acme/none/tiny.imatrix.gguf >/dev/null
cp hub/acme/one/tiny-Q4_0.gguf hub/acme/half/tiny-00001-of-00002.gguf
cp hub/acme/one/tiny-Q4_0.gguf hub/acme/half/tiny-00002-of-00003.gguf
hub_start
pulled() { sintra pull "$@" -q | sed '/commit/d;$d'; }
pulled "$HF_ENDPOINT/acme/tiny"
pulled "$HF_ENDPOINT/acme/tiny/tree/v1.0"
sintra convert "$HF_ENDPOINT/acme/one/blob/main/tiny-Q4_0.gguf" -q -o x.gguf --type F16 >/dev/null && echo converted
pulled "$HF_ENDPOINT/datasets/acme/tiny"
echo "-- one model beside other GGUF files"
pulled acme/one
pulled acme/none
echo "-- a part that is not there"
pulled acme/half
hub_stop
