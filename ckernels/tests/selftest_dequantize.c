/* selftest_dequantize.c - the number formats that no product reads, against dequantize_reference.h, bit by bit; the codebooks' sums.
 *
 * The formats that are multiplied are read in selftest_linear.c, where their panels are.
 */
#include "dequantize_reference.h"
#include "guarded.h"
#include "selftest.h"

static int failures;

static uint64_t seed = 0x853c49e6748fea9bu;
static uint8_t next(void) { /* xorshift64 */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint8_t)(seed >> 56);
}

/* Equal bits; any NaN equals any other, since its payload is nobody's promise. */
static int same(float a, float b) { return (a != a && b != b) || memcmp(&a, &b, 4) == 0; }

/* Random bytes are good files: every code, every packed scale, halves from subnormals to NaN. Read in one go, and as rows of a weight. */
static void test_format(zl_ctx *ctx, int f) {
    const int type = other_formats[f].type, cols = other_formats[f].cols, size = other_formats[f].bytes;
    const int64_t blocks = cols == 1 ? 1001 : 260, n = blocks * cols, bytes = blocks * size;
    guarded file = guard(bytes), values = guard(n * 4), row = guard(n / 13 * 4);
    for (int64_t i = 0; i < bytes; i++) ((uint8_t *)file.p)[i] = next();
    const int by_bytes = type == ZL_TYPE_MXFP4 || type == ZL_TYPE_NVFP4; /* scales of one byte: every one */
    if (by_bytes)
        for (int64_t b = 0; b < blocks; b++) ((uint8_t *)file.p)[b * size] = (uint8_t)b;
    CHECK(zl_dequantize(ctx, type, n, file.p, bytes, values.p) == ZL_OK, "type %d", type);
    int64_t wrong = 0, first = -1;
    for (int64_t i = 0; i < n; i++) {
        const float want = other_formats[f].value((uint8_t *)file.p + i / cols * size, (int)(i % cols));
        if (!same(((float *)values.p)[i], want) && wrong++ == 0) first = i;
    }
    CHECK(wrong == 0, "type %d: %d of %d values are not ggml's, the first is number %d", type, (int)wrong, (int)n, (int)first);
    for (int mapped = 1; mapped >= !by_bytes; mapped--) { /* from the file, and where every scale is known from panels too */
        zl_weight *w = NULL;
        CHECK(zl_weight_new(ctx, type, 13, n / 13, file.p, bytes, mapped ? ZL_WEIGHT_MAPPED : 0, &w) == ZL_OK, "type %d", type);
        wrong = 0;
        for (int64_t r = 0; w && r < 13; r++) {
            zl_weight_row(w, r, row.p);
            for (int64_t k = 0; k < n / 13; k++) wrong += !same(((float *)row.p)[k], ((float *)values.p)[r * (n / 13) + k]);
        }
        CHECK(wrong == 0, "type %d, mapped %d: %d values in rows of a weight", type, mapped, (int)wrong);
        zl_weight_free(w);
    }
    release(&file), release(&values), release(&row);
}

/* FNV-1a over the bytes of a codebook, element 0 of each vector first. */
static uint64_t sum_of(const void *words, int64_t n, int bytes) {
    uint64_t h = 0xcbf29ce484222325u;
    for (int64_t i = 0; i < n; i++) {
        const uint64_t w = bytes == 8 ? ((const uint64_t *)words)[i] : ((const uint32_t *)words)[i];
        for (int b = 0; b < bytes; b++) h = (h ^ ((w >> (8 * b)) & 255)) * 0x100000001b3u;
    }
    return h;
}

/* The sums are those of the grids of PyPI's gguf, not of our words: tests/linear_algebra/test_codebooks.py takes them there. */
static void test_codebooks(void) {
    static const struct {
        const char *name;
        const void *words;
        int n, bytes;
        uint64_t sum;
    } books[] = {
        {"IQ1", zl_grid_iq1, 2048, 8, 0x6703ed863501ae2eu},
        {"IQ2_XXS", zl_grid_iq2_xxs, 256, 8, 0xbb4ee025b5ac6e8eu},
        {"IQ2_XS", zl_grid_iq2_xs, 512, 8, 0xc9b1ee61e79909bdu},
        {"IQ2_S", zl_grid_iq2_s, 1024, 8, 0x123edd38a3b62b90u},
        {"IQ3_XXS", zl_grid_iq3_xxs, 256, 4, 0xdfa5dc83d6a155d5u},
        {"IQ3_S", zl_grid_iq3_s, 512, 4, 0xfa37020c25b44829u},
    };
    for (size_t i = 0; i < sizeof books / sizeof books[0]; i++)
        CHECK(sum_of(books[i].words, books[i].n, books[i].bytes) == books[i].sum, "codebook %s: %#llx", books[i].name,
              (unsigned long long)sum_of(books[i].words, books[i].n, books[i].bytes));
    for (int i = 0; i < 128; i++) CHECK(zl_signs[i] == even_signs(i), "signs of %d", i);
}

int selftest_dequantize(zl_ctx *ctx) {
    failures = 0;
    for (int i = 0; i < N_OTHERS; i++) test_format(ctx, i);
    test_codebooks();
    return failures;
}
