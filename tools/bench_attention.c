/* bench_attention.c - how fast attention over the cache is, without a model: the op alone, through zl_run.
 *
 *      meson setup build/c -Dlibrary_only=true && meson compile -C build/c
 *      build/c/ckernels/bench_attention [ISA] [SHAPE ...]           (auto, all shapes)          THREADS=2, TYPE=f16|f32|q8_0
 *
 * For each shape and each test (rows of queries after so many cached positions): microseconds of one layer, the best of what fits into
 * half a second; the GFLOP/s of its two products (a multiply and an add are two; keys that a row does not see are not counted); and the
 * GB/s at which keys and values are read, each byte counted once per layer. One run goes through all layers, as a model's step does, so
 * that in decode no layer finds its pages in the near caches.
 *
 * What it is not: a figure for a whole model (`zigllama bench -d 2048`), nor one to quote without the machine's ceilings beside it.
 */
#include "bench_common.h"

static void *need(size_t n) {
    void *p = aligned_alloc(64, (n + 63) & ~(size_t)63);
    if (!p) fprintf(stderr, "out of memory\n"), exit(4);
    return p;
}

static const struct shape {
    const char *name;
    int layers, n_kv, group, d;
} shapes[] = {
    {"smollm2", 30, 3, 3, 64}, {"1.1b", 22, 4, 8, 64}, {"gemma3", 18, 1, 4, 256}, {"8b", 16, 8, 4, 128}, {"mha", 8, 16, 1, 96},
};
static const struct {
    const char *name;
    int depth, rows;
} tests[] = {{"tg@512", 512, 1}, {"tg@2048", 2048, 1}, {"4 rows@2048", 2048, 4}, {"pp512", 0, 512}, {"pp512@2048", 2048, 512}};

enum { MAX_POS = 2560, PAGES = MAX_POS / 64, MAX_LAYERS = 32 };

/* Random numbers of the cache's type, about -1 to 1; of Q8_0 random codes and scales, larger but finite. */
static void *random_pages(int f16, int64_t n) {
    void *p = need((size_t)n * (f16 ? 2 : 4));
    uint64_t s = 88172645463325252u;
    for (int64_t i = 0; i < n; i++) {
        s ^= s << 13, s ^= s >> 7, s ^= s << 17;
        if (f16) ((uint16_t *)p)[i] = (uint16_t)((s >> 40 & 0x83ff) | 0x3800);
        else ((float *)p)[i] = (float)(s >> 40) / 8388608.0f - 1;
    }
    return p;
}

static void measure(zl_ctx *ctx, const struct shape *s, int type) {
    const int heads = s->n_kv * s->group, cols = heads * s->d, f16 = type != ZL_TYPE_F32;
    const double bytes = type == ZL_TYPE_F32 ? 4 : type == ZL_TYPE_F16 ? 2 : 34.0 / 32;
    const int64_t values = (int64_t)PAGES * s->layers * s->n_kv * 64 * s->d;
    zl_cache cache = {type, 0, s->layers, s->n_kv, s->d, s->d, PAGES, 0, random_pages(f16, values), random_pages(f16, values)};
    float *q = need((size_t)(512 * cols) * 4), *out = need((size_t)(512 * cols) * 4);
    for (int i = 0; i < 512 * cols; i++) q[i] = (float)((i * 2654435761u >> 7) % 2001) / 1000.0f - 1.0f;
    zl_op ops[MAX_LAYERS];
    for (int i = 0; i < s->layers; i++)
        ops[i] = (zl_op){.code = ZL_OP_ATTENTION, .in = {0, 1, -1, -1}, .out = {2, -1, -1, -1}, .ip = {i, heads}, .fp = {0.125f}};
    int32_t table[PAGES], pos[512], seq[512] = {0};
    for (int i = 0; i < PAGES; i++) table[i] = i;
    for (size_t t = 0; t < sizeof tests / sizeof *tests; t++) {
        const int rows = tests[t].rows, depth = tests[t].depth;
        zl_tensor tensors[] = {{.kind = ZL_EXTERNAL, .rows = rows, .cols = cols, .data = q}, {.kind = ZL_CACHE, .data = &cache},
                               {.kind = ZL_EXTERNAL, .rows = rows, .cols = cols, .data = out}};
        for (int i = 0; i < rows; i++) pos[i] = depth + i;
        zl_step step = {.n_rows = rows, .n_seq = 1, .cache_pos = pos, .see_to = pos, .seq = seq, .tables = {table}, .table_width = {PAGES}};
        double best = 1e30, end = now() + 0.5;
        do {
            const double start = now();
            must(zl_run(ctx, ops, s->layers, tensors, 3, &step));
            const double took = (now() - start) / s->layers;
            if (took < best) best = took;
        } while (now() < end);
        const double seen = (double)rows * (depth + (rows + 1) / 2.0);
        printf("%-8s %-12s %9.1f us %8.1f GFLOP/s %7.1f GB/s\n", s->name, tests[t].name, 1e6 * best, 1e-9 * 4 * seen * cols / best,
               1e-9 * 2 * (depth + rows) * s->n_kv * s->d * bytes / best);
        fflush(stdout);
    }
    free(cache.k), free(cache.v), free(q), free(out);
}

int main(int argc, char **argv) {
    zl_ctx *ctx;
    const char *threads = getenv("THREADS"), *type = getenv("TYPE");
    must(zl_ctx_new(threads ? atoi(threads) : 1, argc > 1 ? argv[1] : "auto", NULL, &ctx));
    printf("%s, %d thread(s), cache %s\n", zl_ctx_isa(ctx), zl_ctx_threads(ctx), type ? type : "f16");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int wanted = argc < 3;
        for (int a = 2; a < argc; a++) wanted |= !strcmp(argv[a], shapes[i].name);
        if (wanted) measure(ctx, &shapes[i], !type || !strcmp(type, "f16") ? ZL_TYPE_F16 : !strcmp(type, "f32") ? ZL_TYPE_F32 : ZL_TYPE_Q8_0);
    }
    zl_ctx_free(ctx);
    return 0;
}
