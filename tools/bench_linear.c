/* bench_linear.c - how fast a product with a weight is, one thread, per number format: the kernels alone, without a model.
 *
 *      meson setup build/c -Dlibrary_only=true && meson compile -C build/c
 *      build/c/ckernels/bench_linear [ISA] [ROWS OF X ...]            (auto 1 4 8 16 64 512)
 *
 * The environment can say THREADS (1), COLS and ROWS (2048: of the weight), ONLY (a format), and BF16: F16 and BF16 are multiplied in bf16 then.
 * With ROWS=100000 the weight does not fit a cache, and what a batch makes of the memory is seen.
 *
 * For each format: GOP/s (a multiply and an add are two) of y (T, ROWS) = x (T, COLS) W^T, the best of many repetitions, and for one row of
 * x the GB/s at which the weight is read, from the cache (ROWS x COLS) and from memory (a matrix of 256 MB).
 *
 * What it is not: a figure for a whole model (`zigllama bench`), nor one to quote without the machine's ceilings beside it.
 */
#include "bench_common.h"

static const struct format {
    const char *name;
    int type, cols, bytes, scales; /* scales: how many f16 the block has, at its beginning; below 0: at its end (Q6_K), 0: floats, or said below */
} formats[] = {
    {"Q4_0", ZL_TYPE_Q4_0, 32, 18, 1}, {"Q4_1", ZL_TYPE_Q4_1, 32, 20, 2}, {"Q5_0", ZL_TYPE_Q5_0, 32, 22, 1}, {"Q5_1", ZL_TYPE_Q5_1, 32, 24, 2},
    {"Q8_0", ZL_TYPE_Q8_0, 32, 34, 1}, {"Q4_K", ZL_TYPE_Q4_K, 256, 144, 2}, {"Q5_K", ZL_TYPE_Q5_K, 256, 176, 2}, {"Q6_K", ZL_TYPE_Q6_K, 256, 210, -1},
    {"Q2_K", ZL_TYPE_Q2_K, 256, 84, -2}, {"Q3_K", ZL_TYPE_Q3_K, 256, 110, -1}, {"IQ1_S", ZL_TYPE_IQ1_S, 256, 50, 1}, {"IQ1_M", ZL_TYPE_IQ1_M, 256, 56, 0},
    {"IQ2_XXS", ZL_TYPE_IQ2_XXS, 256, 66, 1}, {"IQ2_XS", ZL_TYPE_IQ2_XS, 256, 74, 1}, {"IQ2_S", ZL_TYPE_IQ2_S, 256, 82, 1},
    {"IQ3_XXS", ZL_TYPE_IQ3_XXS, 256, 98, 1}, {"IQ3_S", ZL_TYPE_IQ3_S, 256, 110, 1}, {"IQ4_NL", ZL_TYPE_IQ4_NL, 32, 18, 1},
    {"IQ4_XS", ZL_TYPE_IQ4_XS, 256, 136, 1}, {"TQ1_0", ZL_TYPE_TQ1_0, 256, 54, -1}, {"TQ2_0", ZL_TYPE_TQ2_0, 256, 66, -1},
    {"Q1_0", ZL_TYPE_Q1_0, 128, 18, 1}, {"Q2_0", ZL_TYPE_Q2_0, 64, 18, 1}, {"MXFP4", ZL_TYPE_MXFP4, 32, 17, 0},
    {"F16", ZL_TYPE_F16, 1, 2, 0}, {"BF16", ZL_TYPE_BF16, 1, 2, 0}, {"F32", ZL_TYPE_F32, 1, 4, 0},
};

/* Random codes; scales of 2^-6 so that nothing overflows. */
static uint8_t *random_weight(const struct format *f, int64_t n_blocks) {
    uint8_t *p = malloc((size_t)(n_blocks * f->bytes));
    uint64_t s = 88172645463325252u;
    if (!p) exit(4);
    for (int64_t i = 0; i < n_blocks * f->bytes; i++) p[i] = (uint8_t)((s ^= s << 13, s ^= s >> 7, s ^= s << 17) >> 32);
    const uint16_t d = 0x2400;
    for (int64_t b = 0; b < n_blocks; b++) {
        uint8_t *at = p + b * f->bytes;
        if (f->scales < 0) for (int i = 0; i < -f->scales; i++) memcpy(at + f->bytes - 2 * (i + 1), &d, 2);
        else if (f->scales) for (int i = 0; i < f->scales; i++) memcpy(at + 2 * i, &d, 2);
        else if (f->bytes == 2) at[1] = 0x24;
        else if (f->type == ZL_TYPE_IQ1_M) for (int i = 0; i < 4; i++) at[49 + 2 * i] = (uint8_t)((at[49 + 2 * i] & 15) | (d >> (4 * i) & 15) << 4);
        else if (f->type == ZL_TYPE_MXFP4) at[0] = 122;
        else { const float v = 0.01f; memcpy(at, &v, 4); }
    }
    return p;
}

/* seconds of one product of `rows` rows of x, the best of what fits into `budget` seconds */
static double best_time(zl_ctx *ctx, zl_weight *w, int64_t n, int64_t k, int rows, double budget) {
    float *x = aligned_alloc(64, (size_t)(rows * k * 4)), *y = aligned_alloc(64, (size_t)(rows * n * 4));
    for (int64_t i = 0; i < rows * k; i++) x[i] = (float)((i * 2654435761u >> 7) % 2001) / 1000.0f - 1.0f;
    zl_tensor t[3] = {{.kind = ZL_EXTERNAL, .cols = k, .rows = rows, .data = x}, {.kind = ZL_WEIGHT, .data = w}, {.kind = ZL_EXTERNAL, .cols = n, .rows = rows, .data = y}};
    zl_op op = {.code = ZL_OP_LINEAR, .in = {0, 1, -1, -1}, .out = {2, -1, -1, -1}, .ip = {1}};
    int32_t *zeros = calloc((size_t)rows, 4);
    zl_step step = {.n_rows = rows, .n_planes = 1, .n_seq = 1, .tokens = zeros, .positions = zeros, .cache_pos = zeros, .see_to = zeros, .seq = zeros};
    double best = 1e30, end = now() + budget;
    do {
        const double start = now();
        must(zl_run(ctx, &op, 1, t, 3, &step));
        const double took = now() - start;
        if (took < best) best = took;
    } while (now() < end);
    free(x), free(y), free(zeros);
    return best;
}

int main(int argc, char **argv) {
    const char *isa = argc > 1 ? argv[1] : "auto";
    int tokens[16] = {1, 4, 8, 16, 64, 512}, n_tokens = 6;
    if (argc > 2) n_tokens = 0;
    for (int i = 2; i < argc && n_tokens < 16; i++) tokens[n_tokens++] = atoi(argv[i]);
    zl_ctx *ctx;
    const char *threads = getenv("THREADS"), *only = getenv("ONLY");
    must(zl_ctx_new(threads ? atoi(threads) : 1, isa, NULL, &ctx));
    printf("%s, %d thread(s)\n%-8s", zl_ctx_isa(ctx), zl_ctx_threads(ctx), "GOP/s");
    for (int i = 0; i < n_tokens; i++) printf(" %7s%-3d", "T=", tokens[i]);
    printf("   GB/s cache  memory\n");
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const struct format *f = &formats[i];
        const char *cols = getenv("COLS"), *rows = getenv("ROWS");
        const int64_t k = cols ? atoi(cols) : 2048, n = rows ? atoi(rows) : 2048;
        if (only && strcmp(only, f->name)) continue;
        uint8_t *data = random_weight(f, n * k / f->cols);
        zl_weight *w;
        const int flags = getenv("BF16") && f->bytes == 2 ? ZL_WEIGHT_BF16 : 0;
        must(zl_weight_new(ctx, f->type, n, k, data, n * k / f->cols * f->bytes, flags, &w));
        printf("%-8s", f->name);
        double one = 0;
        for (int j = 0; j < n_tokens; j++) {
            const double s = best_time(ctx, w, n, k, tokens[j], 0.15);
            if (tokens[j] == 1) one = s;
            printf(" %10.1f", 2e-9 * (double)(n * k * tokens[j]) / s);
            fflush(stdout);
        }
        if (one > 0) printf("   %10.1f", 1e-9 * (double)(n * k / f->cols * f->bytes) / one);
        zl_weight_free(w), free(data);
        if (one > 0) {
            const int64_t big = (256 << 20) / (k / f->cols * f->bytes) / 64 * 64;
            data = random_weight(f, big * k / f->cols);
            must(zl_weight_new(ctx, f->type, big, k, data, big * k / f->cols * f->bytes, flags, &w));
            printf(" %7.1f", 1e-9 * (double)(big * k / f->cols * f->bytes) / best_time(ctx, w, big, k, 1, 0.3));
            zl_weight_free(w), free(data);
        }
        printf("\n");
    }
    zl_ctx_free(ctx);
    return 0;
}
