/* selftest.h - what the suites of the selftest share: CHECK and the list of suites. A suite returns how many checks failed. */
#ifndef ZL_SELFTEST_H
#define ZL_SELFTEST_H
#include "../core/core.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Counts and prints what does not hold; the suite declares `int failures = 0;`. */
#define CHECK(condition, ...)                                                  \
    do {                                                                       \
        if (!(condition) && failures++ < 20) {                                 \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);    \
            fprintf(stderr, __VA_ARGS__);                                      \
            fprintf(stderr, " [%s]\n", zl_error());                            \
            selftest_failed();                                                 \
        }                                                                      \
    } while (0)

/* A new, empty file in TMPDIR (or /tmp) that has no name any more: its descriptor, or -1. */
static inline int temporary_file(void) {
    char path[4096];
    const char *folder = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/zl-selftest-XXXXXX", folder && *folder ? folder : "/tmp");
    const int fd = mkstemp(path);
    if (fd >= 0) unlink(path);
    return fd;
}

void selftest_failed(void); /* ends the process where --first was given */
extern int selftest_slow;   /* --slow was given                               */

int selftest_core(zl_ctx *ctx);
int selftest_pool(zl_ctx *ctx);
int selftest_program(zl_ctx *ctx);
int selftest_bounds(zl_ctx *ctx);
int selftest_linear(zl_ctx *ctx);
int selftest_dequantize(zl_ctx *ctx);
int selftest_wide(zl_ctx *ctx);
int selftest_rows(zl_ctx *ctx);
int selftest_scan(zl_ctx *ctx);
int selftest_strings(zl_ctx *ctx);
int selftest_grammar(zl_ctx *ctx);
int selftest_unigram(zl_ctx *ctx);
int selftest_wordpiece(zl_ctx *ctx);
int selftest_words(zl_ctx *ctx);
int selftest_json_schema(zl_ctx *ctx);
int selftest_json_places(zl_ctx *ctx);
int selftest_pairs(zl_ctx *ctx);
int selftest_attention(zl_ctx *ctx);
int selftest_experts(zl_ctx *ctx);
int selftest_state(zl_ctx *ctx);
int selftest_blas(zl_ctx *ctx);
int selftest_probe(zl_ctx *ctx);
int selftest_numa(zl_ctx *ctx);
int selftest_quantize_iq(zl_ctx *ctx);
int selftest_quantize_k(zl_ctx *ctx);
int selftest_quantize_plain(zl_ctx *ctx);
int selftest_quantize_low(zl_ctx *ctx);
#endif
