/* count_kernels.c - each kernel once, on shapes that never change, so that callgrind can count its instructions.
 *
 *      valgrind --tool=callgrind ckernels/count_kernels         (tools/count_instructions.py does it, and compares)
 *
 * Under valgrind the library sees no AVX-512 and takes avx2, as on any CPU without it. Instructions say nothing of caches or of how many
 * are done at once, but they are the same every time: a kernel that grew a spill or lost an inlining shows here, on a busy machine too.
 * One thread, so that no count depends on who claims what. What it is not: a test of values; the numbers that come out are not looked at.
 */
#include "../core/core.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <valgrind/callgrind.h>

static zl_ctx *ctx;

static void must(int status) {
    if (!status) return;
    fprintf(stderr, "count_kernels: %s\n", zl_error());
    exit(1);
}
static void *need(int64_t bytes) {
    void *p;
    must(zl_alloc(bytes, &p)); /* never released: the process ends soon */
    return p;
}

static uint64_t seed = 0x9e3779b97f4a7c15u;
static uint32_t next(void) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed >> 32);
}
static float *values(int64_t n) {
    float *x = need(4 * n);
    for (int64_t i = 0; i < n; i++) x[i] = (float)(next() >> 8) / 8388608.0f - 1;
    return x;
}

/* What runs between these two is counted, under `name`: callgrind writes its counters out and begins again at nought. */
static void begin(void) { CALLGRIND_ZERO_STATS; }
static void end(const char *name) { CALLGRIND_DUMP_STATS_AT(name); }

/* ---- ops -------------------------------------------------------------------------------------------------------------------------- */

static zl_tensor rows(float *data, int64_t t, int64_t cols) { return (zl_tensor){.kind = ZL_EXTERNAL, .rows = t, .cols = cols, .data = data}; }
static zl_tensor constant(float *data, int64_t n) { return (zl_tensor){.kind = ZL_CONST, .rows = 1, .cols = n, .data = data}; }

/* One op over n tensors in the order in, in, ..., out: tensor 0 is in[0] and the last is out[0]. Once for the caches and the scratch, and
 * once more to be counted. */
static void run(const char *name, int code, zl_tensor *t, int n, zl_step *step, const int32_t *ip, float f0, float f1) {
    zl_op op = {.code = code, .fp = {f0, f1}};
    for (int i = 0; i < 12; i++) op.in[i] = i < n - 1 ? i : -1;
    for (int i = 0; i < 4; i++) op.out[i] = i ? -1 : n - 1;
    for (int i = 0; ip && i < 5; i++) op.ip[i] = ip[i];
    must(zl_run(ctx, &op, 1, t, n, step));
    begin();
    must(zl_run(ctx, &op, 1, t, n, step));
    end(name);
}

/* ---- products -------------------------------------------------------------------------------------------------------------------- */

static const struct {
    int type;
    const char *name;
    int cols, bytes, halves, at; /* a quant block: columns, bytes, how many half floats of scales, and where */
} formats[] = {{ZL_TYPE_F32, "f32", 1, 4, 0, 0},      {ZL_TYPE_F16, "f16", 1, 2, 1, 0},      {ZL_TYPE_BF16, "bf16", 1, 2, 1, 0},
               {ZL_TYPE_Q4_0, "q4_0", 32, 18, 1, 0},  {ZL_TYPE_Q4_1, "q4_1", 32, 20, 2, 0},  {ZL_TYPE_Q5_0, "q5_0", 32, 22, 1, 0},
               {ZL_TYPE_Q5_1, "q5_1", 32, 24, 2, 0},  {ZL_TYPE_Q8_0, "q8_0", 32, 34, 1, 0},  {ZL_TYPE_Q4_K, "q4_k", 256, 144, 2, 0},
               {ZL_TYPE_Q5_K, "q5_k", 256, 176, 2, 0}, {ZL_TYPE_Q6_K, "q6_k", 256, 210, 1, 208},
               {ZL_TYPE_Q2_K, "q2_k", 256, 84, 2, 80},  {ZL_TYPE_Q3_K, "q3_k", 256, 110, 1, 108}, {ZL_TYPE_IQ2_XS, "iq2_xs", 256, 74, 1, 0},
               {ZL_TYPE_IQ3_S, "iq3_s", 256, 110, 1, 0}, {ZL_TYPE_IQ4_NL, "iq4_nl", 32, 18, 1, 0}, {ZL_TYPE_IQ4_XS, "iq4_xs", 256, 136, 1, 0},
               {ZL_TYPE_IQ1_S, "iq1_s", 256, 50, 1, 0}, {ZL_TYPE_IQ1_M, "iq1_m", 256, 56, 0, 0}, {ZL_TYPE_IQ2_XXS, "iq2_xxs", 256, 66, 1, 0},
               {ZL_TYPE_IQ2_S, "iq2_s", 256, 82, 1, 0}, {ZL_TYPE_IQ3_XXS, "iq3_xxs", 256, 98, 1, 0}, {ZL_TYPE_TQ1_0, "tq1_0", 256, 54, 1, 52},
               {ZL_TYPE_TQ2_0, "tq2_0", 256, 66, 1, 64}, {ZL_TYPE_MXFP4, "mxfp4", 32, 17, 0, 0}, {ZL_TYPE_Q1_0, "q1_0", 128, 18, 1, 0},
               {ZL_TYPE_Q2_0, "q2_0", 64, 18, 1, 0}};
/* The random numbers run on from one count to the next: what was added comes last of all, so that no other figure moves. */
enum { FORMATS = sizeof formats / sizeof formats[0], ADDED = 10 };

static void products(int f) {
    enum { N = 256, K = 1024, MOST = 64 };
    static const int batches[] = {1, 4, 16, MOST};
    const int64_t bytes = (int64_t)N * K / formats[f].cols * formats[f].bytes;
    const uint16_t scale = 0x2000; /* 2^-7 as a half float; as bf16 an ordinary number too */
    uint8_t *file = formats[f].type == ZL_TYPE_F32 ? (uint8_t *)values((int64_t)N * K) : need(bytes);
    char name[32];
    if (formats[f].type != ZL_TYPE_F32)
        for (int64_t b = 0; b < bytes; b += formats[f].bytes) {
            for (int i = 0; i < formats[f].bytes; i++) file[b + i] = (uint8_t)next();
            for (int i = 0; i < formats[f].halves; i++) memcpy(file + b + formats[f].at + 2 * i, &scale, 2);
        }
    zl_weight *w;
    snprintf(name, sizeof name, "pack %s", formats[f].name);
    begin();
    must(zl_weight_new(ctx, formats[f].type, N, K, file, bytes, 0, &w));
    end(name);
    snprintf(name, sizeof name, "dequantize %s", formats[f].name);
    float *y = need(4 * (int64_t)N * K);
    begin(); /* of f32 it is one memcpy */
    must(zl_dequantize(ctx, formats[f].type, (int64_t)N * K, file, bytes, y));
    end(name);
    for (int i = 0; i < (int)(sizeof batches / sizeof batches[0]); i++) {
        zl_tensor t[5] = {rows(values((int64_t)MOST * K), MOST, K), {.kind = ZL_WEIGHT, .data = w}, constant(values(N), N), rows(values((int64_t)MOST * N), MOST, N),
                          rows(need(4 * MOST * N), MOST, N)};
        zl_step step = {.n_rows = batches[i], .n_seq = 1};
        snprintf(name, sizeof name, "linear %s x%d", formats[f].name, batches[i]);
        run(name, ZL_OP_LINEAR, t, 5, &step, (const int32_t[5]){1}, 0, 0);
    }
    zl_weight_free(w);
}

/* ---- a row of logits: all of these over 262,144, near a normal distribution as logits are --------------------------------------------
 * The measure is one pass that reads: the kernel that finds the largest element, which loads each vector once and does one operation with
 * it, in a loop of eight vectors a turn: nothing that looks at the whole row takes fewer instructions. "wide" is a row that is nearly flat,
 * where most of the vocabulary is kept, "vague" one of deviation 1, "peaked" a flat one but for one element that has two fifths of the mass.
 */

static void whole_row(const char *name, const float *x, float *w, float *y, int32_t *ids) {
    enum { V = 262144 };
    char text[64];
    float least;
    int64_t n, last;
    zl_row_sums sums;
    snprintf(text, sizeof text, "scan%s: weights", name), begin(), must(zl_row_weights(ctx, V, x, w, &sums)), end(text);
    snprintf(text, sizeof text, "scan%s: cut top_p 0.95", name), begin(), must(zl_row_cut(ctx, V, x, w, sums.mass, ZL_CUT_MASS, 0.95, &least, &last)), end(text);
    snprintf(text, sizeof text, "scan%s: gather", name), begin(), must(zl_row_gather(ctx, V, x, least, last, ids, 4096, &n)), end(text);
    snprintf(text, sizeof text, "scan%s: keep", name), begin(), must(zl_row_keep(ctx, V, x, least, last, y, &n)), end(text);
    snprintf(text, sizeof text, "scan%s: near", name), begin(), must(zl_row_near(ctx, V, x, (float)sums.mean, y)), end(text);
    snprintf(text, sizeof text, "scan%s: cut typical 0.95", name), begin(), must(zl_row_cut(ctx, V, y, w, sums.mass, ZL_CUT_MASS, 0.95, &least, &last)), end(text);
    snprintf(text, sizeof text, "scan%s: gather typical", name), begin(), must(zl_row_gather(ctx, V, y, least, last, ids, 4096, &n)), end(text);
    snprintf(text, sizeof text, "scan%s: cut draw", name), begin(), must(zl_row_cut(ctx, V, x, w, sums.mass, ZL_CUT_DRAW, 0.4, &least, &last)), end(text);
}

static void row_passes(void) {
    enum { V = 262144 };
    float *x = need(4 * V), *flat = need(4 * V), *vague = need(4 * V), *peaked = need(4 * V), *w = need(4 * V), *y = need(4 * V);
    int32_t *ids = need(4 * V);
    zl_row_spread spread;
    for (int i = 0; i < V; i++) {
        x[i] = 0;
        for (int j = 0; j < 12; j++) x[i] += (float)(next() >> 8) / 4194304.0f - 2; /* deviation 4 */
        flat[i] = x[i] / 16, vague[i] = x[i] / 4, peaked[i] = x[i] / 16;
    }
    peaked[V / 3] = 12; /* ln 262,144 = 12.5: two fifths of the mass */
    zl_op top = {.code = ZL_OP_TOP_K, .in = {0, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {1, 2, -1, -1}, .ip = {128}};
    zl_tensor t[] = {rows(x, 1, V), rows(need(512), 1, 128), rows(need(512), 1, 128)};
    zl_step step = {.n_rows = 1, .n_seq = 1};
    begin(), zl_ctx_kernels(ctx)->row_best(V, x), end("scan: one pass that reads");
    must(zl_run(ctx, &top, 1, t, 3, &step));
    begin(), must(zl_run(ctx, &top, 1, t, 3, &step)), end("scan: top_k 128");
    begin(), must(zl_row_moments(ctx, V, x, &spread)), end("scan: moments");
    whole_row("", x, w, y, ids), whole_row(" wide", flat, w, y, ids);
    whole_row(" vague", vague, w, y, ids), whole_row(" peaked", peaked, w, y, ids);
}

/* ---- row by row ------------------------------------------------------------------------------------------------------------------ */

static void row_ops(void) {
    enum { T = 8, C = 2048, V = 32000, HEADS = 32, D = 64 };
    static const struct { int code; const char *name; } unaries[] = {{ZL_SILU, "silu"}, {ZL_GELU_ERF, "gelu"}, {ZL_GELU_TANH, "gelu_tanh"}, {ZL_TANH, "tanh"}};
    int32_t positions[T] = {0, 1, 2, 3, 1000, 1001, 1002, 1003}, out_rows[2] = {7, 3};
    zl_step step = {.n_rows = T, .n_seq = 1, .n_planes = 1, .n_out = 2, .positions = positions, .out_rows = out_rows};
    zl_tensor x = rows(values(T * C), T, C), y = rows(values(T * C), T, C), out = rows(need(4 * T * C), T, C), w = constant(values(C), C);
    run("rms_norm", ZL_OP_RMS_NORM, (zl_tensor[]){x, w, out}, 3, &step, (const int32_t[5]){C}, 1e-5f, 0);
    run("layer_norm", ZL_OP_LAYER_NORM, (zl_tensor[]){x, w, w, out}, 4, &step, (const int32_t[5]){C}, 1e-5f, 0);
    run("softmax", ZL_OP_SOFTMAX, (zl_tensor[]){x, out}, 2, &step, NULL, 1, 0);
    run("softcap", ZL_OP_SOFTCAP, (zl_tensor[]){x, out}, 2, &step, NULL, 30, 0);
    run("add", ZL_OP_ADD, (zl_tensor[]){x, y, out}, 3, &step, NULL, 0, 0);
    run("glu silu", ZL_OP_GLU, (zl_tensor[]){x, y, out}, 3, &step, (const int32_t[5]){ZL_SILU}, 0, 0);
    for (int i = 0; i < 4; i++) run(unaries[i].name, ZL_OP_UNARY, (zl_tensor[]){x, out}, 2, &step, (const int32_t[5]){unaries[i].code}, 0, 0);
    for (int mode = 0; mode < 2; mode++)
        run(mode ? "rope half-split" : "rope interleaved", ZL_OP_ROPE, (zl_tensor[]){x, constant(values(D / 2), D / 2), out}, 3, &step,
            (const int32_t[5]){HEADS, D, D, mode, 0}, 1, 0);

    zl_op top = {.code = ZL_OP_TOP_K, .in = {0, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {1, 2, -1, -1}, .ip = {40}};
    zl_tensor t[] = {rows(values(V), 1, V), rows(need(160), 1, 40), rows(need(160), 1, 40)};
    step.n_rows = 1;
    must(zl_run(ctx, &top, 1, t, 3, &step));
    begin();
    must(zl_run(ctx, &top, 1, t, 3, &step));
    end("top_k");

    row_passes();
    int8_t *q = need(T * C);
    float *d = need(T * C / 8);
    int16_t *s = need(T * C / 8);
    begin();
    must(zl_quantize_activation(ctx, T, C, 32, x.data, q, d, s));
    end("quantize activation");
    float *a = values(96 * 256), *b = values(256 * 160), *product = need(4 * 96 * 160);
    begin();
    must(zl_matmul(ctx, 96, 256, 160, a, b, product));
    end("matmul");
}

/* ---- the cache and attention ------------------------------------------------------------------------------------------------------- */

/* T rows at the end of P positions; 8 heads share 2 heads of keys. */
static void attention(int type, int t, int window, int slopes, const char *name, const char *store) {
    enum { P = 512, G = 2, HEADS = 8, D = 64, PAGES = P / 64 };
    const int64_t bytes = (int64_t)P * G * D * (type == ZL_TYPE_F16 ? 2 : 4);
    zl_cache cache = {.type = type, .n_layer = 1, .n_kv = G, .dk = D, .dv = D, .n_pages = PAGES, .k = need(bytes), .v = need(bytes)};
    int32_t seq[P] = {0}, positions[P], table[PAGES];
    for (int i = 0; i < P; i++) positions[i] = i;
    for (int i = 0; i < PAGES; i++) table[i] = PAGES - 1 - i;
    zl_step step = {.n_rows = P, .n_seq = 1, .seq = seq, .cache_pos = positions, .see_to = positions};
    step.tables[0] = table, step.table_width[0] = PAGES;
    zl_op op = {.code = ZL_OP_KV_STORE, .in = {0, 1, 2, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {-1, -1, -1, -1}};
    zl_tensor kv[] = {rows(values(P * G * D), P, G * D), rows(values(P * G * D), P, G * D), {.kind = ZL_CACHE, .data = &cache}};
    begin();
    must(zl_run(ctx, &op, 1, kv, 3, &step));
    if (store) end(store);
    step.n_rows = t, step.cache_pos = step.see_to = positions + P - t;
    zl_tensor tensors[] = {rows(values((int64_t)t * HEADS * D), t, HEADS * D), {.kind = ZL_CACHE, .data = &cache},
                           rows(need(4 * (int64_t)t * HEADS * D), t, HEADS * D), rows(need(4 * (int64_t)t * HEADS * D), t, HEADS * D)};
    if (slopes) tensors[2] = constant(values(HEADS), HEADS);
    run(name, ZL_OP_ATTENTION, tensors, slopes ? 4 : 3, &step, (const int32_t[5]){0, HEADS, window}, 0.125f, 0);
}

/* ---- states ------------------------------------------------------------------------------------------------------------------------ */

enum { CHANNELS = 256, HEADS_OF_STATE = 4, PER_HEAD = 64 }; /* Mamba's with 16 states each; Mamba 2's with 128 for each of a head */

static void scan(int dual, int t, const char *name) {
    enum { ROWS = 64, PAGES = 3 };
    const int n = dual ? 128 : 16, dv = CHANNELS * n;
    zl_cache cache = {.type = ZL_TYPE_F32, .n_layer = 1, .n_kv = 1, .dk = 1, .dv = dv, .n_pages = PAGES, .state = 1,
                      .k = need(4 * PAGES), .v = values((int64_t)PAGES * dv)};
    int32_t seq[ROWS] = {0}, at[ROWS], table[3] = {0, 2, 1};
    for (int i = 0; i < t; i++) at[i] = ROWS + i;
    zl_step step = {.n_rows = t, .n_seq = 1, .seq = seq, .cache_pos = at, .see_to = at};
    step.tables[0] = table, step.table_width[0] = 3;
    zl_tensor c = {.kind = ZL_CACHE, .data = &cache}, out = rows(need(4 * (int64_t)t * CHANNELS), t, CHANNELS);
    zl_tensor x = rows(values((int64_t)t * (CHANNELS + 2 * n)), t, dual ? CHANNELS + 2 * n : CHANNELS);
    zl_tensor selective[] = {x, rows(values((int64_t)t * CHANNELS), t, CHANNELS), rows(values((int64_t)t * n), t, n),
                             rows(values((int64_t)t * n), t, n), constant(values((int64_t)n * CHANNELS), (int64_t)n * CHANNELS),
                             constant(values(CHANNELS), CHANNELS), c, out};
    zl_tensor heads[] = {x, rows(values((int64_t)t * HEADS_OF_STATE), t, HEADS_OF_STATE), constant(values(HEADS_OF_STATE), HEADS_OF_STATE),
                         constant(values(HEADS_OF_STATE), HEADS_OF_STATE), c, out};
    if (dual) run(name, ZL_OP_DUAL_SCAN, heads, 6, &step, (const int32_t[5]){0, HEADS_OF_STATE, PER_HEAD, n, 1}, 0, 0);
    else run(name, ZL_OP_SELECTIVE_SCAN, selective, 8, &step, (const int32_t[5]){0, n}, 0, 0);
}

/* ---- the tape itself --------------------------------------------------------------------------------------------------------------- */

/* 64 sums of a single value: what is left is what running an op costs while nobody times it. */
static void tape(void) {
    enum { N = 64, RUNS = 16 };
    zl_tensor t[] = {rows(values(1), 1, 1), rows(values(1), 1, 1), rows(need(4), 1, 1)};
    zl_op ops[N];
    for (int i = 0; i < N; i++) {
        ops[i] = (zl_op){.code = ZL_OP_ADD, .in = {0, 1}, .out = {2, -1, -1, -1}};
        for (int j = 2; j < 12; j++) ops[i].in[j] = -1;
    }
    zl_step step = {.n_rows = 1, .n_seq = 1};
    zl_program *p;
    must(zl_program_new(ctx, ops, N, t, 3, 0, 1, &p));
    must(zl_program_run(p, &step));
    begin();
    for (int i = 0; i < RUNS; i++) must(zl_program_run(p, &step));
    end("tape, 16 runs of 64 ops");
    zl_program_free(p);
}

int main(void) {
    must(zl_ctx_new(1, NULL, NULL, &ctx));
    printf("%s\n", zl_ctx_isa(ctx));
    for (int f = 0; f < FORMATS - ADDED; f++) products(f);
    row_ops();
    attention(ZL_TYPE_F16, 1, 0, 0, "attention f16, one row", "kv_store f16");
    attention(ZL_TYPE_F32, 1, 0, 0, "attention f32, one row", "kv_store f32");
    attention(ZL_TYPE_Q8_0, 1, 0, 0, "attention q8_0, one row", "kv_store q8_0");
    attention(ZL_TYPE_F16, 1, 100, 0, "attention f16, one row, window", NULL);
    attention(ZL_TYPE_F16, 1, 0, 1, "attention f16, one row, slopes", NULL);
    attention(ZL_TYPE_F16, 64, 0, 0, "attention f16, 64 rows", NULL);
    attention(ZL_TYPE_Q8_0, 64, 0, 0, "attention q8_0, 64 rows", NULL);
    scan(0, 1, "selective_scan, one row");
    scan(0, 64, "selective_scan, 64 rows");
    scan(1, 1, "dual_scan, one row");
    scan(1, 64, "dual_scan, 64 rows");
    tape();
    for (int f = FORMATS - ADDED; f < FORMATS; f++) products(f);
    zl_ctx_free(ctx);
    return 0;
}
