/* selftest.c - drives the whole C library with no Python: natively, under sanitizers, and under qemu for other architectures.
 *
 *      selftest [--slow] [--first] [--isa NAME] [SUITE...]      all suites, or those named, on every ISA variant this CPU runs (or the
 *                                                               one named), with 1, 2 and 3 threads
 *
 *      --slow    under an emulator or a sanitizer: the kernels are driven by two threads only; chunks and stealing are there with two. And
 *                each shape of attention is read in a quarter of the ways
 *      --first   ends at the first check that fails: for tools/mutants.py, which asks no more than whether one does
 *
 * Says on stdout what ran; ends with 1 if a check failed, 2 if a suite or a variant is unknown or cannot run.
 */
#include "selftest.h"
#include <stdlib.h>

static const struct {
    const char *name;
    int (*run)(zl_ctx *ctx);
    enum { ALONE, ONCE, CORE, KERNELS } kind; /* neither kernels nor threads take part: once; no kernel: on one variant; few; it is about them */
} suites[] = {
    {"core", selftest_core, CORE}, {"pool", selftest_pool, ONCE},     {"program", selftest_program, CORE},
    {"rows", selftest_rows, KERNELS}, {"scan", selftest_scan, KERNELS}, {"linear", selftest_linear, KERNELS}, {"attention", selftest_attention, KERNELS}, {"bounds", selftest_bounds, KERNELS},
    {"experts", selftest_experts, KERNELS}, {"state", selftest_state, KERNELS},
    {"dequantize", selftest_dequantize, KERNELS}, {"wide", selftest_wide, KERNELS}, {"blas", selftest_blas, CORE}, {"strings", selftest_strings, ALONE}, {"grammar", selftest_grammar, ALONE}, {"unigram", selftest_unigram, ALONE}, {"wordpiece", selftest_wordpiece, ALONE},
    {"json_places", selftest_json_places, ALONE}, {"json_schema", selftest_json_schema, ALONE},
    {"words", selftest_words, ALONE}, {"pairs", selftest_pairs, ALONE},
    {"probe", selftest_probe, CORE}, {"numa", selftest_numa, CORE},
    {"quantize_iq", selftest_quantize_iq, KERNELS}, {"quantize_k", selftest_quantize_k, KERNELS},
    {"quantize_plain", selftest_quantize_plain, KERNELS}, {"quantize_low", selftest_quantize_low, KERNELS},
};
enum { N_SUITES = sizeof suites / sizeof suites[0] };

static int wanted(const char *name, int n, char **names) {
    for (int i = 0; i < n; i++)
        if (!strcmp(name, names[i])) return 1;
    return n == 0;
}

int selftest_slow;
static int stop_at_first;
void selftest_failed(void) {
    if (!stop_at_first) return;
    fflush(NULL);
    _Exit(1); /* no atexit, no joining: the library under test is broken */
}

/* Whether a suite does not exist, or a variant does not exist or run here; says which. */
static int unknown(int n, char **names, const char *isa) {
    for (int i = 0; i < n; i++) {
        int found = 0;
        for (int s = 0; s < N_SUITES; s++) found |= !strcmp(names[i], suites[s].name);
        if (!found) return fprintf(stderr, "selftest: no suite '%s'\n", names[i]), 1;
    }
    if (!isa) return 0;
    for (int v = 0; v < zl_isa_count(); v++)
        if (!strcmp(isa, zl_isa_name(v)) && zl_isa_usable(v)) return 0;
    return fprintf(stderr, "selftest: no ISA variant '%s' here\n", isa), 1;
}

int main(int argc, char **argv) {
    const char *isa = NULL;
    for (argc--, argv++; argc > 0 && argv[0][0] == '-'; argc--, argv++) {
        if (!strcmp(argv[0], "--slow")) selftest_slow = 1;
        else if (!strcmp(argv[0], "--first")) stop_at_first = 1;
        else if (!strcmp(argv[0], "--isa") && argc > 1) isa = argv[1], argc--, argv++;
        else return fprintf(stderr, "selftest: what is '%s'?\n", argv[0]), 2;
    }
    if (unknown(argc, argv, isa)) return 2;
    int failed = 0, ran = 0;
    for (int v = 0; v < zl_isa_count(); v++) {
        if (isa && strcmp(isa, zl_isa_name(v))) continue;
        if (!zl_isa_usable(v)) {
            printf("%-8s cannot run here\n", zl_isa_name(v));
            continue;
        }
        for (int threads = 1; threads <= 3; threads++) {
            zl_ctx *ctx;
            if (zl_ctx_new(threads, zl_isa_name(v), NULL, &ctx)) {
                fprintf(stderr, "selftest: %s\n", zl_error());
                return 1;
            }
            for (int s = 0; s < N_SUITES; s++) {
                if (!wanted(suites[s].name, argc, argv)) continue;
                if (suites[s].kind == ALONE && (ran || threads > 1)) continue;
                if (suites[s].kind == ONCE && ran) continue;
                if (suites[s].kind == KERNELS && selftest_slow && threads != 2) continue;
                int n = suites[s].run(ctx);
                printf("%-8s %d threads  %-10s %s\n", zl_isa_name(v), threads, suites[s].name, n ? "FAILED" : "ok");
                fflush(stdout);
                failed += n;
                if (n) selftest_failed();
            }
            zl_ctx_free(ctx);
        }
        ran++;
    }
    printf(failed ? "%d checks failed\n" : "all checks hold\n", failed);
    return failed != 0;
}
