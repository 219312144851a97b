/* selftest_quantize_low.c - ternary, binary and two-bit blocks and those of 4-bit floats, made from floats, against their definitions:
 * what a reader makes of them, from plain loops that look for the nearest level by its distance. */
#include "rounded.h"
#include "selftest.h"

static int failures;
#include "quantized_back.h"

enum { ROWS = 23, COLS = 768, N = ROWS * COLS }; /* 17,664: more than one chunk, and no whole number of vectors of blocks */

/* Superblocks in turn: ordinary values; ties of eighths and one value of the largest kind; dust with one value; nothing; small ones, whose
 * scales are subnormal in E4M3; constants of either sign and minus zeros. */
static void fill(float *x) {
    uint64_t seed = 0x853c49e6748fea9bu;
    for (int i = 0; i < N; i++) {
        x[i] = uniform_of(&seed);
        const int kind = i / 256 % 6;
        if (kind == 1) x[i] = i % 64 == 5 ? 2500.0f : rintf(x[i] * 32) * 0.125f;
        if (kind == 2) x[i] *= i % 32 == 9 ? -1500.0f : 1e-5f;
        if (kind == 3) x[i] = 0;
        if (kind == 4) x[i] *= i % 512 < 256 ? 0.02f : 0.001f * (float)(1 + i / 16 % 8);
        if (kind == 5) x[i] = i % 7 ? -0.37f : i % 3 ? 0.37f : -0.0f;
    }
}

static float largest(const float *x, int n) {
    float most = 0;
    for (int i = 0; i < n; i++) most = fmaxf(fabsf(x[i]), most);
    return most;
}

/* the nearest of 4-bit floats times s, the smaller of two as near */
static float nearest_fp4(float x, float s) {
    static const float levels[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    float best = 0;
    for (int i = 1; i < 8; i++)
        if (fabs((double)fabsf(x) - (double)(levels[i] * s)) < fabs((double)fabsf(x) - (double)best)) best = levels[i] * s;
    return x < 0 ? -best : best;
}

/* E4M3 without a sign, halves up; what would be 256 or more is 448 */
static float e4m3(float x) {
    int k;
    if (x < 0x1p-6f) return fminf(floorf(x * 512 + 0.5f), 7) / 512;
    const float f = floorf(frexpf(x, &k) * 16 + 0.5f), y = ldexpf(f, k - 4);
    return y >= 256 ? 448 : y;
}

/* value i of N, as a reader has it */
static float wanted(int type, const float *x, int i) {
    const int per = zl_format_of(type)->cols;
    const float *block = x + i / per * per, most = largest(block, per);
    if (type == ZL_TYPE_Q1_0) {
        float sum = 0;
        for (int k = 0; k < per; k++) sum += fabsf(block[k]);
        return (x[i] >= 0 ? 1.0f : -1.0f) * half_rounded(sum / 128);
    }
    if (type == ZL_TYPE_MXFP4) {
        int k;
        frexpf(most, &k);
        return most > 0 ? nearest_fp4(x[i], ldexpf(1, k - 3)) : 0;
    }
    if (type == ZL_TYPE_NVFP4) return nearest_fp4(x[i], e4m3(largest(x + i / 16 * 16, 16) / 6));
    return roundf(x[i] * (most ? 1 / most : 0)) * half_rounded(most); /* TQ1_0, TQ2_0, Q2_0 */
}

static void test_type(zl_ctx *ctx, int type, const float *x) {
    static float want[N];
    for (int i = 0; i < N; i++) want[i] = wanted(type, x, i);
    check_back(ctx, type, 1, ROWS, COLS, x, NULL, want);
}

/* Bits that no reader of values sees: a code of 4-bit floats is never minus zero, MXFP4's exponent is 0 for nothing at all. */
static void test_bytes(zl_ctx *ctx) {
    float x[256] = {0};
    uint8_t to[36] = {255}, none[36] = {0};
    for (int i = 0; i < 64; i++) x[i] = i % 2 ? -1e-30f : -0.0f;
    CHECK(zl_quantize_rows(ctx, ZL_TYPE_NVFP4, 1, 64, x, NULL, to, 36) == ZL_OK, "nvfp4");
    CHECK(memcmp(to, none, 36) == 0, "nvfp4");
    memset(x, 0, sizeof x);
    CHECK(zl_quantize_rows(ctx, ZL_TYPE_MXFP4, 1, 32, x, NULL, to, 17) == ZL_OK, "mxfp4");
    CHECK(memcmp(to, none, 17) == 0, "mxfp4");
    x[0] = 0x1p-127f, x[1] = -0x1p-129f, x[16] = -0x1p-127f; /* exponent 0 stands for 2^-127; a half, a quarter and a tie of it */
    x[2] = 0x1p-128f;
    CHECK(zl_quantize_rows(ctx, ZL_TYPE_MXFP4, 1, 32, x, NULL, to, 17) == ZL_OK, "mxfp4");
    CHECK(to[0] == 0 && to[1] == 0xa2 && to[2] == 0 && to[3] == 1, "%d %x %x %x", to[0], to[1], to[2], to[3]);
    x[3] = 0x1.8p126f; /* 126 - 2 + 127 */
    CHECK(zl_quantize_rows(ctx, ZL_TYPE_MXFP4, 1, 32, x, NULL, to, 17) == ZL_OK, "mxfp4");
    CHECK(to[0] == 251 && to[4] == 7, "%d %d", to[0], to[4]);
    memset(x, 0, sizeof x);
    x[17] = 0.09f; /* a sixth of it is nearer to 2^-6 than to 7 2^-9, but stays among the numbers below */
    CHECK(zl_quantize_rows(ctx, ZL_TYPE_NVFP4, 1, 64, x, NULL, to, 36) == ZL_OK && to[1] == 7, "%d", to[1]);
    x[7] = nextafterf(2688, 3000);
    CHECK(zl_quantize_rows(ctx, ZL_TYPE_NVFP4, 1, 64, x, NULL, to, 36) == ZL_E_ARG, "a little more than 6 times 448");
    x[7] = 2689;
    CHECK(zl_quantize_rows(ctx, ZL_TYPE_NVFP4, 1, 64, x, NULL, to, 36) == ZL_E_ARG, "more than 6 times 448");
    CHECK(strstr(zl_error(), "column 7 is 2689") != NULL, "%s", zl_error());
    x[7] = 2688;
    CHECK(zl_quantize_rows(ctx, ZL_TYPE_NVFP4, 1, 64, x, NULL, to, 36) == ZL_OK && to[0] == 126, "%d", to[0]);
}

int selftest_quantize_low(zl_ctx *ctx) {
    static const int types[] = {ZL_TYPE_TQ1_0, ZL_TYPE_TQ2_0, ZL_TYPE_Q1_0, ZL_TYPE_Q2_0, ZL_TYPE_MXFP4, ZL_TYPE_NVFP4};
    static float x[N];
    failures = 0;
    fill(x);
    for (int t = 0; t < (int)(sizeof types / sizeof types[0]); t++) test_type(ctx, types[t], x);
    test_bytes(ctx);
    return failures;
}
