/* selftest.c - drives the whole C library with no Python: natively, under sanitizers, and under qemu for other architectures.
 *
 *      selftest [--slow] [SUITE...]      all suites, or those named, on every ISA variant this CPU runs, with 1, 2 and 3 threads
 *
 * Says on stdout what ran; ends with 1 if a check failed, 2 if a suite is unknown.
 */
#include "selftest.h"

static const struct {
    const char *name;
    int (*run)(zl_ctx *ctx);
    int kernels;
} suites[] = {
    {"core", selftest_core, 0}, {"pool", selftest_pool, 0},     {"program", selftest_program, 0},
    {"rows", selftest_rows, 1}, {"linear", selftest_linear, 1}, {"attention", selftest_attention, 1},
};
enum { N_SUITES = sizeof suites / sizeof suites[0] };

static int wanted(const char *name, int n, char **names) {
    for (int i = 0; i < n; i++)
        if (!strcmp(name, names[i])) return 1;
    return n == 0;
}

int main(int argc, char **argv) {
    /* --slow: under an emulator or a sanitizer the kernels are driven by two threads only; chunks and stealing are there with two. */
    const int slow = argc > 1 && !strcmp(argv[1], "--slow");
    argc -= slow, argv += slow;
    for (int i = 1; i < argc; i++) {
        int found = 0;
        for (int s = 0; s < N_SUITES; s++) found |= !strcmp(argv[i], suites[s].name);
        if (!found) {
            fprintf(stderr, "selftest: no suite '%s'\n", argv[i]);
            return 2;
        }
    }
    int failed = 0;
    for (int v = 0; v < zl_isa_count(); v++) {
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
                if (!wanted(suites[s].name, argc - 1, argv + 1)) continue;
                if (slow && threads != 2 && suites[s].kernels) continue;
                int n = suites[s].run(ctx);
                printf("%-8s %d threads  %-10s %s\n", zl_isa_name(v), threads, suites[s].name, n ? "FAILED" : "ok");
                fflush(stdout);
                failed += n;
            }
            zl_ctx_free(ctx);
        }
    }
    printf(failed ? "%d checks failed\n" : "all checks hold\n", failed);
    return failed != 0;
}
