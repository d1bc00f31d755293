# Upstream's own tools, built from the source of the pinned release against the very libraries that
# Sintra uses: for benchmarks and oracle tests only, never a part of the product. `make peers` runs
# this in the root of the tree, with LLAMA_DIR set to the libraries.
#
# Result: deps/peers/bin/{llama-quantize,llama-imatrix,llama-perplexity,llama-bench,llama-server,
# convert_hf_to_gguf.py}. libllama-common.so of the package has what the tools share, so each tool is
# its own few .cpp files. ggml looks for its CPU backends beside the running program, hence the links.

P         := deps/peers
S         := $(P)/src
BIN       := $(P)/bin
LLAMA_DIR ?= deps/llama
CXX       := $(if $(filter default,$(origin CXX)),g++,$(CXX))
FLAGS     := -std=c++17 -O2 -w -pthread -DNDEBUG -DLLAMA_SUBPROCESS -DLLAMA_SHARED -DGGML_SHARED \
             -DGGML_BACKEND_SHARED -I$(S) -I$(S)/include -I$(S)/ggml/include -I$(S)/common -I$(S)/vendor \
             -I$(S)/tools/mtmd -I$(P)/ui
LINK      := -L$(LLAMA_DIR)/lib -l:libllama-common.so -l:libllama.v0.5.0.so -l:libggml.v0.5.0.so \
             -l:libggml-base.so -Wl,-rpath,$(abspath $(LLAMA_DIR)/lib) -pthread -ldl

SMALL := $(BIN)/llama-quantize $(BIN)/llama-imatrix $(BIN)/llama-perplexity $(BIN)/llama-bench

all: small $(BIN)/llama-server

small: $(SMALL) $(BIN)/convert_hf_to_gguf.py

# files.mk is written last when the source is unpacked; make reads it anew after making it.
include $(S)/files.mk

$(S)/files.mk: $(LLAMA_DIR)/.stamp deps/peers.mk
	@echo "peers: unpacking the source"
	@rm -rf $(S) $(P)/git && mkdir -p $(S) $(BIN)
	@git init -q --bare $(P)/git
	@git -C $(P)/git fetch -q $(abspath deps/llama/source/gitRelease.bundle) HEAD
	@git -C $(P)/git archive FETCH_HEAD include src ggml/include common vendor conversion gguf-py \
	    tools/quantize tools/imatrix tools/perplexity tools/llama-bench tools/server/*.cpp \
	    tools/server/*.h tools/mtmd convert_hf_to_gguf.py tests/snapshots LICENSE | tar -x -C $(S)
	@rm -rf $(P)/git
	@cd $(S) && { \
	    printf 'SERVER_SRC := %s\n' "$$(echo tools/server/*.cpp)"; \
	    printf 'MTMD_SRC := %s\n' "$$(awk '/^add_library/{on=1} /^ *\)/{on=0} on && /\.cpp/{print "tools/mtmd/" $$1}' \
	        tools/mtmd/CMakeLists.txt | tr '\n' ' ')"; } >files.mk.new && mv files.mk.new files.mk

obj = $(patsubst %.cpp,$(P)/obj/%.o,$(1))

$(P)/obj/%.o: $(S)/files.mk
	@mkdir -p $(@D)
	@echo "  CXX   $*.cpp"
	@$(CXX) $(FLAGS) -c -o $@ $(S)/$*.cpp

# Three C files, of which upstream compiles sha1.c as C++.
HASH_C := $(addprefix $(P)/obj/vendor/hash/,xxhash/xxhash.o sha1/sha1.o sha256/sha256.o)
$(HASH_C): $(P)/obj/vendor/hash/%.o: $(S)/files.mk
	@mkdir -p $(@D)
	@echo "  CC    vendor/hash/$*"
	@$(if $(filter sha1/%,$*),$(CXX) -xc++,gcc) -O2 -w -I$(S)/vendor/hash -c -o $@ $(S)/vendor/hash/$*.c

$(BIN)/llama-quantize:   $(call obj,tools/quantize/main.cpp tools/quantize/quantize.cpp)
$(BIN)/llama-imatrix:    $(call obj,tools/imatrix/imatrix.cpp)
$(BIN)/llama-perplexity: $(call obj,tools/perplexity/main.cpp tools/perplexity/perplexity.cpp)
$(BIN)/llama-bench:      $(call obj,tools/llama-bench/main.cpp tools/llama-bench/llama-bench.cpp)
$(BIN)/llama-server:     $(call obj,$(SERVER_SRC) $(MTMD_SRC) vendor/hash/hash.cpp) $(P)/obj/ui.o \
                         $(HASH_C)

$(SMALL) $(BIN)/llama-server:
	@ln -sf $(abspath $(LLAMA_DIR))/lib/libggml-cpu-*.so $(BIN)/
	@echo "  LINK  $@"
	@$(CXX) -o $@.new $^ $(LINK) && mv $@.new $@

# The server's web page is not part of a comparison: an empty set of files stands in its place.
$(call obj,$(SERVER_SRC)): $(P)/ui/ui.h

$(P)/ui/ui.h: $(S)/files.mk
	@mkdir -p $(@D)
	@printf '%s\n' '#pragma once' '#include <array>' '#include <string>' 'struct llama_ui_asset {' \
	    'std::string name; const unsigned char * data; std::size_t size; std::string etag, type; };' \
	    'const llama_ui_asset * llama_ui_find_asset(const std::string & name);' \
	    'bool llama_ui_use_gzip();' \
	    'const std::array<llama_ui_asset, 0> & llama_ui_get_assets();' >$@

$(P)/obj/ui.o: $(P)/ui/ui.h
	@mkdir -p $(@D)
	@printf '%s\n' '#include "ui.h"' \
	    'const llama_ui_asset * llama_ui_find_asset(const std::string &) { return nullptr; }' \
	    'bool llama_ui_use_gzip() { return false; }' \
	    'const std::array<llama_ui_asset, 0> & llama_ui_get_assets() {' \
	    'static const std::array<llama_ui_asset, 0> none{}; return none; }' | \
	    $(CXX) $(FLAGS) -xc++ -c -o $@ -

# It finds its own modules beside itself, so it is run where it lies.
$(BIN)/convert_hf_to_gguf.py: $(S)/files.mk
	@printf '%s\n' '#!/usr/bin/env python3' 'import os, runpy, sys' \
	    'src = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "src")' \
	    'sys.path.insert(0, src)' \
	    'runpy.run_path(os.path.join(src, "convert_hf_to_gguf.py"), run_name="__main__")' >$@
	@chmod +x $@

.DELETE_ON_ERROR:
.PHONY: all small
