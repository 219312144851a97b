/* selftest_quantize_plain.c - halves and blocks of 32 with one scale, made from floats, against their definitions; what is refused. */
#include "rounded.h"
#include "selftest.h"

static int failures;
#include "quantized_back.h"

enum { ROWS = 37, COLS = 480, N = ROWS * COLS }; /* 17,760: more than one chunk, and no whole number of vectors of blocks */

static void fill(float *x) {
    uint64_t seed = 0x2545f4914f6cdd1du;
    for (int i = 0; i < N; i++) {
        x[i] = uniform_of(&seed);
        if (i / 32 % 5 == 1) x[i] = rintf(x[i] * 16) * 0.25f; /* ties */
        if (i / 32 % 5 == 2) x[i] *= i % 32 == 9 ? -300.0f : 0.01f;
        if (i / 32 % 5 == 3) x[i] = 0;
        if (i / 32 % 5 == 4) x[i] = (i % 4 < 2 ? 1.0f : -1.0f) * (1 + (float)(i % 32) * 0x1p-8f); /* every second one half way between two bf16 */
    }
}

static float bf16_rounded(float x) {
    uint32_t b;
    memcpy(&b, &x, 4);
    b += 0x7fff + (b >> 16 & 1), b &= ~0xffffu;
    memcpy(&x, &b, 4);
    return x;
}

/* value i of a block of 32, as a reader has it */
static float q4_0(const float *x, int i) {
    float most = 0;
    for (int k = 0; k < 32; k++) most = fabsf(x[k]) > fabsf(most) ? x[k] : most;
    const float d = most / -8.0f, u = truncf(x[i] * (d ? 1 / d : 0) + 8.5f);
    return ((u < 15 ? u : 15) - 8) * half_rounded(d);
}
static float q5_0(const float *x, int i) {
    float most = 0;
    for (int k = 0; k < 32; k++) most = fabsf(x[k]) > fabsf(most) ? x[k] : most;
    const float d = most / -16.0f, u = truncf(x[i] * (d ? 1 / d : 0) + 16.5f);
    return ((u < 31 ? u : 31) - 16) * half_rounded(d);
}
static float with_min(const float *x, int i, float top) { /* Q4_1, Q5_1 */
    float low = x[0], high = x[0];
    for (int k = 1; k < 32; k++) low = fminf(x[k], low), high = fmaxf(x[k], high);
    const float d = (high - low) / top, u = truncf((x[i] - low) * (d ? 1 / d : 0) + 0.5f);
    return (u < top ? u : top) * half_rounded(d) + half_rounded(low);
}
static float q8_0(const float *x, int i) {
    float most = 0;
    for (int k = 0; k < 32; k++) most = fmaxf(fabsf(x[k]), most);
    const float d = most / 127.0f;
    return roundf(x[i] * (d ? 1 / d : 0)) * half_rounded(d);
}

static void test_type(zl_ctx *ctx, int type, const float *x) {
    static float want[N];
    for (int i = 0; i < N; i++) {
        const float *block = x + i / 32 * 32;
        want[i] = type == ZL_TYPE_F32 ? x[i] : type == ZL_TYPE_BF16 ? bf16_rounded(x[i]) : type == ZL_TYPE_F16 ? half_rounded(x[i])
            : type == ZL_TYPE_Q4_0 ? q4_0(block, i % 32) : type == ZL_TYPE_Q5_0 ? q5_0(block, i % 32)
            : type == ZL_TYPE_Q4_1 ? with_min(block, i % 32, 15) : type == ZL_TYPE_Q5_1 ? with_min(block, i % 32, 31)
            : q8_0(block, i % 32);
    }
    check_back(ctx, type, 1, ROWS, COLS, x, NULL, want);
}

static void test_refused(zl_ctx *ctx, float *x) {
    uint8_t to[2 * COLS / 32 * 34];
    float importance[COLS] = {0};
    const int64_t bytes = sizeof to;
    const float kept = x[COLS + 77];
    CHECK(zl_quantize_rows(ctx, 9999, 2, COLS, x, NULL, to, bytes) == ZL_E_TYPE, "unknown");
    CHECK(zl_quantize_rows(ctx, ZL_TYPE_Q8_1, 2, COLS, x, NULL, to, bytes) == ZL_E_TYPE, "not made");
    CHECK(zl_quantize_rows(ctx, ZL_TYPE_Q8_0, 2, COLS - 1, x, NULL, to, bytes) == ZL_E_SHAPE, "no whole blocks");
    CHECK(zl_quantize_rows(ctx, ZL_TYPE_Q8_0, 2, COLS, x, NULL, to, bytes - 1) == ZL_E_SHAPE, "no room");
    CHECK(zl_quantize_rows(ctx, ZL_TYPE_Q8_0, 2, COLS, NULL, NULL, to, bytes) == ZL_E_ARG, "null");
    importance[5] = -1;
    CHECK(zl_quantize_rows(ctx, ZL_TYPE_Q8_0, 2, COLS, x, importance, to, bytes) == ZL_E_ARG, "negative importance");
    for (int k = 0; k < 3; k++) {
        x[COLS + 77] = k == 0 ? NAN : k == 1 ? -INFINITY : 65520.0f;
        CHECK(zl_quantize_rows(ctx, ZL_TYPE_Q8_0, 2, COLS, x, NULL, to, bytes) == ZL_E_ARG, "%d", k);
        CHECK(strstr(zl_error(), "row 1, column 77 ") != NULL, "%d", k);
    }
    x[COLS + 77] = kept;
}

int selftest_quantize_plain(zl_ctx *ctx) {
    static const int types[] = {ZL_TYPE_F32, ZL_TYPE_F16, ZL_TYPE_BF16, ZL_TYPE_Q4_0, ZL_TYPE_Q4_1,
                                ZL_TYPE_Q5_0, ZL_TYPE_Q5_1, ZL_TYPE_Q8_0};
    static float x[N];
    failures = 0;
    fill(x);
    for (int t = 0; t < (int)(sizeof types / sizeof types[0]); t++) test_type(ctx, types[t], x);
    test_refused(ctx, x);
    return failures;
}
