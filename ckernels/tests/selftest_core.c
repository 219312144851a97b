/* selftest_core.c - context, allocation, guard and program validation. */
#include "selftest.h"

int selftest_core(zl_ctx *ctx) {
    int failures = 0;
    CHECK(zl_ctx_threads(ctx) >= 1, "threads");
    return failures;
}
