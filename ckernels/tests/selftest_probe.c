/* selftest_probe.c - the probes compute what they say, and give speeds that a machine can have. */
#include "../core/ctx.h"
#include "selftest.h"

static int failures;

int selftest_probe(zl_ctx *ctx) {
    const zl_kernels *k = zl_ctx_kernels(ctx);
    static uint64_t words[4 * 96 + 1];
    uint64_t sum = 0;
    failures = 0;
    for (int i = 0; i <= 4 * 96; i++) words[i] = 0x9e3779b97f4a7c15u * (uint64_t)(i + 1);
    for (int n = 0; n <= 4 * 96; n += 32) {
        CHECK(k->probe_read(words, n) == sum, "the sum of %d words", n);
        for (int i = n; i < n + 32 && i < 4 * 96; i++) sum += words[i];
    }
    /* every lane: steps * 4 products */
    for (int code = 1; code < 16; code += 7)
        for (int q = -127; q < 128; q += 127) {
            uint32_t want = (uint32_t)(ZL_PROBE_CHAINS * k->lanes * 64 * 4 * code * q);
            CHECK(k->probe_int8(64, code, q) == want, "code %d times %d: %u, want %u", code, q, k->probe_int8(64, code, q), want);
        }
    CHECK(k->probe_f32(64, 1.5f, -2.0f) == (float)(ZL_PROBE_CHAINS * k->lanes * 64 * -3), "%g", (double)k->probe_f32(64, 1.5f, -2.0f));

    double read = 0, int8 = 0, f32 = 0;
    CHECK(zl_probe_read(ctx, 1 << 20, 0, &read) == ZL_OK && read > 1e6 && read < 1e13, "%g bytes per second", read);
    CHECK(zl_probe_peak(ctx, ZL_TYPE_I8, 0, &int8) == ZL_OK && int8 > 1e6 && int8 < 1e15, "%g int8 operations per second", int8);
    CHECK(zl_probe_peak(ctx, ZL_TYPE_F32, 0, &f32) == ZL_OK && f32 > 1e6 && f32 < 1e15, "%g float operations per second", f32);
    CHECK(zl_probe_read(NULL, 1, 0, &read) == ZL_E_ARG && zl_probe_read(ctx, 1, 0, NULL) == ZL_E_ARG, "null pointers");
    CHECK(zl_probe_read(ctx, 0, 0, &read) == ZL_E_ARG && zl_probe_read(ctx, INT64_MAX, 0, &read) == ZL_E_ARG, "bytes out of range");
    CHECK(zl_probe_read(ctx, 1, -1, &read) == ZL_E_ARG && zl_probe_read(ctx, 1, 1e9, &read) == ZL_E_ARG, "seconds out of range");
    CHECK(zl_probe_peak(NULL, ZL_TYPE_I8, 0, &f32) == ZL_E_ARG && zl_probe_peak(ctx, ZL_TYPE_F32, 0, NULL) == ZL_E_ARG, "null pointers");
    CHECK(zl_probe_peak(ctx, ZL_TYPE_Q4_0, 0, &f32) == ZL_E_TYPE && zl_probe_peak(ctx, ZL_TYPE_I8, -1, &f32) == ZL_E_ARG, "arguments");
    return failures;
}
