# Sintra: the whole build. No configure step; `make help` lists the targets.
#
# What the pieces are: every .c file below src/ goes into $(BUILD)/libsintra.a, but src/main.c,
# which is linked with it to $(PROG). A unit test is tests/unit/test_*.c, linked with the archive
# and cmocka. The set-up (deps/setup.sh) runs by itself whenever its stamp is older than its inputs.

BUILD   ?= build
PROG    ?= sintra
PREFIX  ?= /usr/local
DESTDIR ?=
LLAMA   ?= prebuilt
CC      := $(if $(filter default,$(origin CC)),gcc,$(CC))
SAN     ?=
V       ?=
Q       := $(if $(V),,@)

# All processors, unless `make -jN` says otherwise.
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif

# Set for single objects below; named here so that the environment cannot.
ISA :=
TOOL_LIBS :=
GENERATED :=
LLAMA_INCLUDE :=

LLAMA_DIR := deps/llama$(if $(filter source,$(LLAMA)),-source)
READY     := deps/.ready-$(LLAMA)

CPPFLAGS ?=
CFLAGS   ?= -O2 -g
# The sanitizers keep gcc from folding constants, which makes its conversion warnings wrong.
WARN     := -Wall -Wextra -Wshadow $(if $(SAN),,-Wconversion -Werror)
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
COMPILE   = $(CC) -std=c11 $(WARN) $(CFLAGS) -ffp-contract=off -fvisibility=hidden $(SANFLAGS) \
            -pthread -D_GNU_SOURCE -Isrc -MMD -MP $(ISA) $(LLAMA_INCLUDE) $(GENERATED) $(CPPFLAGS)

LLAMA_LIBS := -L$(LLAMA_DIR)/lib -l:libllama.v0.5.0.so -l:libggml.v0.5.0.so -l:libggml-base.so \
              -Wl,-rpath-link,$(LLAMA_DIR)/lib
LIBS       := -lcurl -ljansson -lsqlite3 -lyaml -lcrypto -pthread -lm
RPATH_TREE := -Wl,-rpath,$(abspath $(LLAMA_DIR)/lib)
RPATH_INST := -Wl,-rpath,'$$ORIGIN/../lib/sintra'
LINK        = $(CC) $(CFLAGS) $(SANFLAGS) -pthread $(LDFLAGS)

# Kernels for one instruction set are files of their own, with their own flags (below). On a new
# machine this is read before the set-up has brought a compiler.
MACHINE   := $(or $(firstword $(subst -, ,$(shell $(CC) -dumpmachine 2>/dev/null))),$(shell uname -m))
OTHER_ISA := $(if $(filter x86_64,$(MACHINE)),%_neon.c,%_avx2.c %_avx512.c)
SRC       := $(filter-out $(OTHER_ISA),$(wildcard src/*/*.c src/*/*/*.c))
OBJ       := $(SRC:src/%.c=$(BUILD)/obj/%.o)
MAIN_OBJ  := $(BUILD)/obj/main.o
LIB       := $(BUILD)/libsintra.a
UNIT_SRC  := $(wildcard tests/unit/test_*.c)
UNIT_SH   := $(wildcard tests/unit/test_*.sh)
UNIT      := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/tests/%)
ORACLE_C  := $(wildcard tests/oracle/*.c)
ORACLE    := $(ORACLE_C:tests/oracle/%.c=$(BUILD)/oracle/%)
BENCH_C   := $(wildcard bench/*.c)
BENCH     := $(BENCH_C:bench/%.c=$(BUILD)/bench/%)
TOOL_C    := $(wildcard tests/tools/*.c)
TOOLS     := $(TOOL_C:tests/tools/%.c=$(BUILD)/tools/%)
FUZZ_C    := $(wildcard tests/fuzz/*.c)
FUZZ      := $(FUZZ_C:tests/fuzz/%.c=$(BUILD)/fuzz/%)
TALLY     := $(BUILD)/tally
TEST_ENV   = SINTRA=$(abspath $(PROG)) SINTRA_BUILD=$(abspath $(BUILD)) SINTRA_ROOT=$(CURDIR)

.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all setup setup-dev lib unit tools test test-unit test-cli test-setup oracle interop check \
        format asan fuzz bench peers arm64 demo install uninstall clean distclean help

all: $(PROG)

# ---- compile and link ----------------------------------------------------------------------------

$(READY): deps/setup.sh deps/debian-packages.txt deps/llama.sha512
	@LLAMA=$(LLAMA) deps/setup.sh

setup: $(READY)

setup-dev:
	@LLAMA=$(LLAMA) deps/setup.sh --dev

# A change of compiler or flags rebuilds: the command line is itself a file that objects depend on.
FLAGS_FILE := $(BUILD)/flags
FLAGS_TEXT  = $(COMPILE) $(LLAMA)
ifneq ($(filter clean distclean help setup setup-dev uninstall format,$(or $(MAKECMDGOALS),all)),$(or $(MAKECMDGOALS),all))
$(shell mkdir -p $(BUILD); printf '%s\n' "$(FLAGS_TEXT)" | cmp -s - $(FLAGS_FILE) || \
        printf '%s\n' "$(FLAGS_TEXT)" >$(FLAGS_FILE))
endif

# libllama's headers are visible to the engine, to nobody else.
SEES_LLAMA := $(filter $(BUILD)/obj/engine/%,$(OBJ))
$(SEES_LLAMA) $(ORACLE): private LLAMA_INCLUDE := -isystem $(LLAMA_DIR)/include

# Chosen at run time by what the processor has. No -mfma: fused sums would change the bytes.
$(filter %_avx2.o,$(OBJ)): private ISA := -mavx2 -mf16c
$(filter %_avx512.o,$(OBJ)): private ISA := -mavx2 -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl
# Sanitizers see the same source in kernel_ref.c; instrumented vectors take minutes to compile.
$(filter %_avx2.o %_avx512.o,$(OBJ)): private SANFLAGS :=
# The fuzzers' build would take many minutes over kernel_ref.c too, which no reader calls.
$(if $(findstring fuzzer,$(SAN)),$(BUILD)/obj/quant/kernel_ref.o): private SANFLAGS :=

# The store's schema is written as SQL and compiled in as a string.
$(BUILD)/gen/store/schema_sql.h: src/store/schema.sql
	@mkdir -p $(@D)
	@{ echo 'static const char schema_sql[] ='; \
	   sed -e 's/\\/&&/g' -e 's/"/\\"/g' -e 's/.*/    "&\\n"/' $<; echo '    "";'; } >$@
$(BUILD)/obj/store/store.o: $(BUILD)/gen/store/schema_sql.h
$(BUILD)/obj/store/store.o: private GENERATED := -I$(BUILD)/gen

$(BUILD)/obj/%.o: src/%.c $(FLAGS_FILE) | $(READY)
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC    $<")
	$(Q)$(COMPILE) -c -o $@ $<

# Made anew each time, so that an object whose source is gone does not stay in it.
$(LIB): $(OBJ)
	@rm -f $@
	@$(AR) rcs $@ $(OBJ)

# The program looks for the sample and the profiles beside itself.
$(PROG): $(MAIN_OBJ) $(LIB)
	$(if $(V),,@echo "  LINK  $@")
	$(Q)$(LINK) -o $@ $(MAIN_OBJ) $(LIB) $(LLAMA_LIBS) $(RPATH_TREE) $(LIBS)
	@for d in models profiles; do [ "$(@D)" = . ] || ln -sfn $(CURDIR)/$$d $(@D)/$$d; done

lib: $(LIB)

# Tests, oracles, benchmarks and test tools are one .c file each.
define one_file_programs # folder under $(BUILD), folder of sources, further libraries
$(BUILD)/$(1)/%: $(2)/%.c $(LIB) $(FLAGS_FILE) | $(READY)
	@mkdir -p $$(@D)
	$$(if $$(V),,@echo "  PROG  $$@")
	$$(Q)$$(COMPILE) -MF $$@.d -MT $$@ -o $$@ $$< $$(LDFLAGS) $(LIB) $(3) $(LLAMA_LIBS) $(RPATH_TREE) $(LIBS)
endef
$(eval $(call one_file_programs,tests,tests/unit,-lcmocka))
$(eval $(call one_file_programs,oracle,tests/oracle,))
$(eval $(call one_file_programs,bench,bench,))
$(eval $(call one_file_programs,fuzz,tests/fuzz,))
$(eval $(call one_file_programs,tools,tests/tools,$$(TOOL_LIBS)))

# The hub of the tests is a server.
$(BUILD)/tools/hub_server: private TOOL_LIBS := -lmicrohttpd

unit: $(UNIT)
tools: $(TOOLS)

# ---- tests ---------------------------------------------------------------------------------------

test: $(PROG) $(UNIT) $(TOOLS)
	@rm -f $(TALLY)
	@$(TEST_ENV) tests/run $(TALLY) $(UNIT) $(UNIT_SH) || true
	@$(TEST_ENV) tests/cli/run.sh $(TALLY) || true
	@$(TEST_ENV) tests/setup/run.sh $(TALLY) || true
	@tests/sum $(TALLY)

test-unit: $(UNIT) $(TOOLS)
	@rm -f $(TALLY)
	@$(TEST_ENV) tests/run $(TALLY) $(UNIT) $(UNIT_SH) || true
	@tests/sum $(TALLY)

# CASE=name runs one case, UPDATE=1 writes what is seen as what is expected.
test-cli: $(PROG) $(TOOLS)
	@rm -f $(TALLY)
	@$(TEST_ENV) UPDATE=$(UPDATE) tests/cli/run.sh $(TALLY) $(CASE) || true
	@tests/sum $(TALLY)

test-setup:
	@mkdir -p $(BUILD); rm -f $(TALLY)
	@$(TEST_ENV) tests/setup/run.sh $(TALLY) || true
	@tests/sum $(TALLY)

# Ours beside upstream's tools and libraries, and beside Python packages. Not part of `make test`.
oracle: $(PROG) $(ORACLE) $(TOOLS)
	@rm -f $(TALLY)
	@$(TEST_ENV) tests/run $(TALLY) $(ORACLE) $(wildcard tests/oracle/*.sh) || true
	@tests/sum $(TALLY)

interop: $(PROG) $(ORACLE) $(TOOLS)
	@rm -f $(TALLY)
	@$(TEST_ENV) tests/run $(TALLY) $(wildcard tests/interop/test_*.py) || true
	@tests/sum $(TALLY)

check:
	@tests/check/run.sh

format:
	@clang-format-14 -i $(wildcard src/*.[ch] src/*/*.[ch] src/*/*/*.[ch] tests/*/*.[ch] bench/*.[ch])

# Objects and program with address and undefined-behaviour checks, then unit and CLI tests.
asan:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/asan PROG=$(BUILD)/asan/sintra \
	    SAN=address,undefined CFLAGS='-O1 -g' asan-run

.PHONY: asan-run
asan-run: $(PROG) $(UNIT) $(TOOLS)
	@rm -f $(TALLY)
	@$(TEST_ENV) TEST_TIMEOUT=600 tests/run $(TALLY) $(UNIT) $(UNIT_SH) || true
	@$(TEST_ENV) TEST_TIMEOUT=600 tests/cli/run.sh $(TALLY) || true
	@tests/sum $(TALLY)

# Hostile input for every reader, FUZZ_SECONDS each; libFuzzer comes with clang.
fuzz:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/fuzz CC=clang-14 CFLAGS='-O1 -g' \
	    SAN=address,undefined,fuzzer-no-link LDFLAGS=-fsanitize=fuzzer fuzz-run

.PHONY: fuzz-run
fuzz-run: $(FUZZ)
	@rm -f $(TALLY)
	@$(TEST_ENV) tests/fuzz/run.sh $(TALLY) $(abspath $(FUZZ)) || true
	@tests/sum $(TALLY)

# Every object for 64-bit ARM, compiled and not linked. The headers of the libraries are the same on
# both machines, so the host's serve, searched last.
HOST_HEADERS := -idirafter /usr/include -idirafter /usr/include/$(shell uname -m)-linux-gnu

arm64: $(READY)
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/arm64 CC='aarch64-linux-gnu-gcc' \
	    CPPFLAGS='$(HOST_HEADERS)' arm64-objects

.PHONY: arm64-objects
arm64-objects: $(OBJ) $(MAIN_OBJ)
	@echo "arm64: $(words $(OBJ) $(MAIN_OBJ)) objects compiled"

# ---- the sample, the peers, the benchmarks -------------------------------------------------------

demo: $(PROG)
	./$(PROG) optimize --target-bpw 4.5 --out demo-output

peers: $(READY)
	@LLAMA=$(LLAMA) deps/setup.sh --peers
	@$(MAKE) --no-print-directory -f deps/peers.mk LLAMA_DIR=$(LLAMA_DIR)

bench: $(PROG) $(BENCH) $(TOOLS)
	@echo "benchmarks (each prints what it measures; those that compare want 'make peers'):"
	@for b in $(sort $(BENCH) $(wildcard bench/*.sh)); do echo "  $$b"; done

# ---- install -------------------------------------------------------------------------------------

LIBDIR  := $(DESTDIR)$(PREFIX)/lib/sintra
DATADIR := $(DESTDIR)$(PREFIX)/share/sintra
DOCDIR  := $(DESTDIR)$(PREFIX)/share/doc/sintra
MANDIR  := $(DESTDIR)$(PREFIX)/share/man/man1
COMPDIR := $(DESTDIR)$(PREFIX)/share/bash-completion/completions

install: $(PROG)
	@mkdir -p $(BUILD)/install
	$(Q)$(LINK) -o $(BUILD)/install/sintra $(MAIN_OBJ) $(LIB) $(LLAMA_LIBS) $(RPATH_INST) $(LIBS)
	install -d $(DESTDIR)$(PREFIX)/bin $(LIBDIR) $(DATADIR) $(DOCDIR)
	install -m 755 $(BUILD)/install/sintra $(DESTDIR)$(PREFIX)/bin/sintra
	install -m 644 $(filter-out %/libllama-common.so,$(wildcard $(LLAMA_DIR)/lib/*.so)) $(LIBDIR)/
	install -m 644 LICENSE $(DOCDIR)/LICENSE
	install -m 644 $(LLAMA_DIR)/LICENSE $(DOCDIR)/LICENSE.llama.cpp
	for f in $(wildcard models/*/* profiles/*); do install -D -m 644 $$f $(DATADIR)/$$f || exit 1; done
	install -d $(MANDIR) $(COMPDIR)
	$(abspath $(PROG)) man >$(MANDIR)/sintra.1
	$(abspath $(PROG)) completion bash >$(COMPDIR)/sintra

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/sintra $(MANDIR)/sintra.1 $(COMPDIR)/sintra
	rm -rf $(LIBDIR) $(DATADIR) $(DOCDIR)

clean:
	rm -rf $(BUILD) sintra demo-output

distclean: clean
	rm -rf deps/llama deps/llama-source deps/peers deps/python deps/.ready-* deps/.lock deps/.*.log

help:
	@awk '/^## /{sub(/^## /,""); print}' Makefile

## make            build ./sintra (sets up what is missing first)
## make demo       build and compress the built-in sample model to 4.5 bits per weight
## make test       all unit, command-line and set-up tests
## make test-unit, test-cli, test-setup    one kind alone (test-cli: CASE=name, UPDATE=1)
## make check      layers, banned calls, lengths, clang-format, cppcheck, words
## make format     lay out all C files by clang-format
## make asan       unit and command-line tests with address and undefined-behaviour checks
## make fuzz       every file reader with mutated input, FUZZ_SECONDS=20 each
## make arm64      compile every object for 64-bit ARM
## make peers      upstream's own tools, for comparison: deps/peers/bin
## make oracle     ours against upstream's tools and libraries (after make peers)
## make interop    ours against Python packages (after make setup-dev)
## make bench      build and list the benchmark programs
## make setup, setup-dev    only the set-up; with the tools of check, arm64 and interop
## make install, uninstall  PREFIX=/usr/local DESTDIR=
## make clean, distclean    remove what was built; also what was fetched
##
## Variables: CC=gcc|clang-14  CFLAGS='-O2 -g'  LLAMA=prebuilt|source  V=1 (shows commands)
##            BUILD=build (objects)  PROG=sintra (the program)

-include $(OBJ:.o=.d) $(MAIN_OBJ:.o=.d) $(UNIT:=.d) $(ORACLE:=.d) $(BENCH:=.d) $(TOOLS:=.d) $(FUZZ:=.d)
