/* selftest_quantize_k.c - the K-quants' quantisers against quantize_k_reference.h: what a reader makes of their blocks, bit by bit. */
#include "quantize_k_reference.h"
#include "selftest.h"

static int failures;
#include "quantized_back.h"

enum { ROWS = 5, COLS = 768, N = ROWS * COLS, TIMES = 16 };

/* In order: a bell, long tails, constants of either sign, one value alone, ties (multiples of 1/8), dust, a bell below 0, the largest values there
 * are beside the smallest, scales that are subnormal halves, blocks of which every second is nothing, and a bell above 0. */
static void fill(float *x, float *importance) {
    uint64_t seed = 0x9e3779b97f4a7c15u;
    for (int i = 0; i < N; i++) {
        const float bell = bell_of(&seed);
        switch (i / 256) {
        case 0: x[i] = 0.02f * bell; break;
        case 1: x[i] = bell * bell * bell; break;
        case 2: x[i] = i / 32 % 2 ? 0.37f : -0.37f; break;
        case 3: x[i] = i % 256 == 77 ? 3.0f : 0.0f; break;
        case 4: x[i] = rintf(bell * 4) * 0.125f; break;
        case 5: x[i] = 1e-20f * bell; break;
        case 6: x[i] = -1 + 0.1f * bell; break;
        case 7: x[i] = i % 3 ? 65504.0f * (bell < 0 ? -1.0f : 1.0f) : 1e-41f; break;
        case 8: x[i] = 2e-6f * bell; break;
        case 10: x[i] = 1 + 0.1f * bell; break;
        default: x[i] = i / 16 % 2 ? bell : 0; break;
        }
        if (i < COLS) importance[i] = i % 64 == 5 ? 0.0f : i == 300 ? 3e38f : bell * bell;
    }
}

/* A zero superblock's bytes are all zero; a value that half precision has not is refused by its place. */
static void test_ends(zl_ctx *ctx, int type) {
    const zl_format *f = zl_format_of(type);
    float x[COLS] = {0};
    uint8_t to[COLS];
    const int64_t bytes = COLS / 256 * f->bytes;
    memset(to, 0xa5, sizeof to);
    CHECK(zl_quantize_rows(ctx, type, 1, COLS, x, NULL, to, bytes) == ZL_OK, "%s", f->name);
    for (int i = 0; i < bytes; i++) CHECK(to[i] == 0, "%s: byte %d", f->name, i);
    x[300] = 65520.0f;
    CHECK(zl_quantize_rows(ctx, type, 1, COLS, x, NULL, to, bytes) == ZL_E_ARG, "%s", f->name);
    CHECK(strstr(zl_error(), "column 300") != NULL, "%s", f->name);
}

int selftest_quantize_k(zl_ctx *ctx) {
    static float x[N], importance[COLS], want[2][N_K][N];
    static int made;
    failures = 0;
    if (!made) {
        fill(x, importance);
        for (int t = 0; t < N_K; t++)
            for (int with = 0; with < 2; with++)
                for (int i = 0; i < N; i += 256) k_reference(&k_formats[t], x + i, with ? importance + i % COLS : NULL, want[with][t] + i);
        made = 1;
    }
    for (int t = 0; t < N_K; t++) {
        for (int with = 0; with < 2; with++) check_back(ctx, k_formats[t].type, TIMES, ROWS, COLS, x, with ? importance : NULL, want[with][t]);
        test_ends(ctx, k_formats[t].type);
    }
    return failures;
}
