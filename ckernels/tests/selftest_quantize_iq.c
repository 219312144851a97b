/* selftest_quantize_iq.c - the IQ quantisers, and Q4_0 to Q5_1 with importance, against quantize_iq_reference.h: what a reader makes of their blocks, bit by bit. */
#include "quantize_iq_reference.h"
#include "selftest.h"

static int failures;
#include "quantized_back.h"

enum { ROWS = 3, COLS = 512, N = ROWS * COLS, IQ4_XS = N_GRIDS + 1, LEGACY, TYPES = LEGACY + N_LEGACY };

/* In order: a bell, long tails, a constant, one value alone, ties (multiples of 1/8), and a superblock that is nothing but dust. */
static void fill(float *x, float *importance) {
    uint64_t seed = 0x9e3779b97f4a7c15u;
    for (int i = 0; i < N; i++) {
        const float bell = bell_of(&seed);
        const int kind = i / 256;
        x[i] = kind == 0 ? 0.02f * bell : kind == 1 ? bell * bell * bell : kind == 2 ? -0.37f : kind == 4 ? rintf(bell * 4) * 0.125f
             : kind == 3 ? (i % 256 == 77 ? 3.0f : 0.0f) : 1e-20f * bell;
        if (i < COLS) importance[i] = i % 64 == 5 ? 0.0f : bell * bell;
    }
}

static void reference(int t, const float *x, const float *importance, float *y) {
    const int per = t == N_GRIDS || t >= LEGACY ? 32 : 256;
    for (int i = 0; i < N; i += per) {
        const float *h = importance ? importance + i % COLS : NULL;
        if (t < N_GRIDS) plain_grid(&grid_formats[t], x + i, h, y + i);
        else if (t == N_GRIDS) plain_iq4_nl(x + i, h, y + i);
        else if (t == IQ4_XS) plain_iq4_xs(x + i, h, y + i);
        else plain_legacy(t - LEGACY, x + i, h, y + i);
    }
}

static int type_of(int t) {
    return t < N_GRIDS ? grid_formats[t].type : t == N_GRIDS ? ZL_TYPE_IQ4_NL : t == IQ4_XS ? ZL_TYPE_IQ4_XS : legacy_formats[t - LEGACY].type;
}

/* Those that llama.cpp does not make without importance are refused, and nothing is written. */
static void test_refused(zl_ctx *ctx, const float *x) {
    static const struct { int type, bytes; } refused[] = {{ZL_TYPE_IQ1_S, 50}, {ZL_TYPE_IQ2_XXS, 66}, {ZL_TYPE_IQ2_XS, 74}};
    for (int i = 0; i < 3; i++) {
        uint8_t to[74] = {0};
        CHECK(zl_quantize_rows(ctx, refused[i].type, 1, 256, x, NULL, to, refused[i].bytes) == ZL_E_ARG, "type %d", refused[i].type);
        CHECK(strstr(zl_error(), "importance") != NULL, "type %d", refused[i].type);
    }
}

/* Q4_0 to Q5_1: a minimum that least squares puts below the smallest half, steps that are all there is, a range of nothing. So many rows
 * that the second chunk begins within one. */
static void test_edges(zl_ctx *ctx) {
    enum { EDGES = 160, MANY = 110, ALL = EDGES * MANY };
    static float x[ALL], back[ALL];
    static uint8_t to[ALL / 32 * 24];
    float importance[EDGES], want[EDGES];
    for (int i = 0; i < EDGES; i++) {
        importance[i] = i % 32 == 3 ? 0.0f : i == 17 ? 1e30f : 1.0f + (float)(i * i % 97);
        x[i] = i < 32 ? -65504.0f + 97.0f * (float)(i % 32 * i % 41) : i < 64 ? 0.7f + (float)(i % 2) * 0x1p-24f
             : i < 96 ? 65504.0f - (float)(i % 3 == 0) : i < 128 ? 2.0f + (float)(i % 5) * 1e-6f : (i % 32 == 3 ? 900.0f : 0.01f * (float)(i % 32));
    }
    for (int i = EDGES; i < ALL; i++) x[i] = x[i - EDGES];
    for (int t = 0; t < N_LEGACY; t++) {
        const int64_t bytes = ALL / 32 * zl_format_of(legacy_formats[t].type)->bytes;
        for (int i = 0; i < EDGES; i += 32) plain_legacy(t, x + i, importance + i, want + i);
        CHECK(zl_quantize_rows(ctx, legacy_formats[t].type, MANY, EDGES, x, importance, to, bytes) == ZL_OK, "%d", t);
        CHECK(zl_dequantize(ctx, legacy_formats[t].type, ALL, to, bytes, back) == ZL_OK, "%d", t);
        for (int i = 0; i < ALL; i += 32) CHECK(unlike(back + i, want + i % EDGES, 32) == 0, "type %d, block %d", legacy_formats[t].type, i / 32);
    }
}

int selftest_quantize_iq(zl_ctx *ctx) {
    static float x[N], importance[COLS], want[2][TYPES][N];
    static int made;
    failures = 0;
    if (!made) {
        fill(x, importance);
        for (int t = 0; t < TYPES; t++)
            for (int with = t >= LEGACY; with < 2; with++) reference(t, x, with ? importance : NULL, want[with][t]);
        made = 1;
    }
    for (int t = 0; t < TYPES; t++)
        for (int with = 0; with < 2; with++) {
            const int type = type_of(t);
            if (!with && (t >= LEGACY || type == ZL_TYPE_IQ1_S || type == ZL_TYPE_IQ2_XXS || type == ZL_TYPE_IQ2_XS)) continue;
            const int times = t < N_GRIDS ? 1 : 12; /* the quick ones in several chunks */
            check_back(ctx, type, times, ROWS, COLS, x, with ? importance : NULL, want[with][t]);
        }
    test_refused(ctx, x);
    test_edges(ctx);
    return failures;
}
