/* selftest_attention.c - checks of the family `attention` (spans over cache pages) without Python. */
#include "selftest.h"

int selftest_attention(zl_ctx *ctx) {
    (void)ctx;
    return 0;
}
