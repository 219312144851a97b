/* selftest_blas.c - BLAS libraries: how they are found and refused, that they are called and with what, that their own threads are held.
 *
 * The libraries are stand-ins (stub_blas.c). All values are small integers, whose sums are exact in any order: what goes through a library
 * has the bits of our own kernels. Rounding is the business of the Python tests, which have real libraries.
 */
#include "../core/blas.h"
#include "selftest.h"
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>

static int failures;

static uint32_t seed = 1;
static float small(void) { /* an integer of -8 .. 8 */
    seed = seed * 1664525u + 1013904223u;
    return (float)((int)(seed >> 24) % 17 - 8);
}

enum { CBLAS, SCIPY64, FORTRAN, N_STUBS };
static const struct {
    const char *path, *symbol;
    int bits;
} stubs[N_STUBS] = {
    {ZL_STUBS "plain.so", "cblas_sgemm", 32}, {ZL_STUBS "scipy64.so", "scipy_cblas_sgemm64_", 64}, {ZL_STUBS "fortran.so", "sgemm_", 32}};

/* What a stub's function without arguments says. */
static int said(int stub, const char *name) {
    void *h = dlopen(stubs[stub].path, RTLD_NOW | RTLD_LOCAL), *p = h ? dlsym(h, name) : NULL;
    int (*f)(void);
    memcpy(&f, &p, sizeof f);
    return f ? f() : -1;
}

static zl_blas *library(int stub) {
    zl_blas *b = NULL;
    CHECK(zl_blas_open(stubs[stub].path, &b) == ZL_OK, "%s", stubs[stub].path);
    return b;
}

static int64_t calls(zl_ctx *ctx) {
    zl_counters c = {0};
    CHECK(zl_ctx_counters(ctx, &c) == ZL_OK, "counters");
    return c.blas_calls;
}

/* ---- opening ---------------------------------------------------------------------------------------------------------------------- */

static void test_open(void) {
    zl_blas *b = (zl_blas *)&failures;
    zl_blas_info info;
    CHECK(zl_blas_open("/no/such/library.so", &b) == ZL_E_BLAS && !b && strstr(zl_error(), "/no/such/library.so"), "a missing library");
    CHECK(zl_blas_open("/dev/null", &b) == ZL_E_BLAS && !b, "a file that is no library");
    CHECK(zl_blas_open(ZL_STUBS "empty.so", &b) == ZL_E_BLAS && !b && strstr(zl_error(), "sgemm"), "a library without sgemm");
    CHECK(zl_blas_open("libm.so.6", &b) == ZL_E_ARG && !b, "a name without a slash");
    CHECK(zl_blas_open(stubs[0].path, NULL) == ZL_E_ARG && zl_blas_describe(NULL, &info) == ZL_E_ARG, "null pointers");
    if (zl_blas_linked()) CHECK(zl_blas_open(NULL, &b) == ZL_OK && b && zl_blas_describe(b, &info) == ZL_OK && *info.symbol, "the linked library");
    else CHECK(zl_blas_open(NULL, &b) == ZL_E_BLAS && !b, "no library is linked");
    for (int i = 0; i < N_STUBS; i++) {
        zl_blas *one = library(i), *again = library(i);
        CHECK(one && one == again, "a library that is opened twice is the same");
        if (!one || zl_blas_describe(one, &info)) continue;
        CHECK(!strcmp(info.symbol, stubs[i].symbol) && info.int_bits == stubs[i].bits, "%s of %d bits", info.symbol, info.int_bits);
        CHECK(!strcmp(info.process_knob, "openblas_set_num_threads") && !strcmp(info.version, "OpenBLAS 0.0.0 stub"), "%s, %s", info.process_knob,
              info.version);
        CHECK(strstr(info.file, "stub_blas_"), "%s", info.file);
    }
}

/* ---- zl_matmul -------------------------------------------------------------------------------------------------------------------- */

static void test_matmul(zl_ctx *ctx, int stub) {
    static const int shapes[][3] = {{1, 1, 1}, {1, 40, 7}, {5, 3, 2}, {33, 20, 17}, {64, 65, 66}, {3, 0, 2}, {0, 4, 4}};
    const int threads = zl_ctx_threads(ctx);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const int m = shapes[i][0], k = shapes[i][1], n = shapes[i][2];
        float a[64 * 65], b[65 * 66], got[64 * 66], want[64 * 66];
        for (int j = 0; j < m * k; j++) a[j] = small();
        for (int j = 0; j < k * n; j++) b[j] = small();
        for (int j = 0; j < m * n; j++) got[j] = NAN;
        const int64_t before = calls(ctx);
        const int of_stub = said(stub, "stub_calls");
        CHECK(zl_matmul(ctx, m, k, n, a, b, got) == ZL_OK && zl_matmul_scalar(m, k, n, a, b, want) == ZL_OK, "%d x %d x %d", m, k, n);
        CHECK(!memcmp(got, want, (size_t)(m * n) * 4), "%d x %d x %d", m, k, n);
        const int per = (m + threads - 1) / threads, wanted = m && k && n ? (m + per - 1) / per : 0; /* one call per thread that has rows */
        CHECK(calls(ctx) - before == wanted && said(stub, "stub_calls") - of_stub == wanted, "%d calls counted, %d made, want %d",
              (int)(calls(ctx) - before), said(stub, "stub_calls") - of_stub, wanted);
    }
}

/* ---- linear ----------------------------------------------------------------------------------------------------------------------- */

enum { COLS = 150, ROWS = 133, T = 20, PARTS = 3 };

typedef struct {
    int type;
    int64_t rows;
    float wide[ROWS * COLS];   /* its values, and as the file has them: */
    uint16_t half[ROWS * COLS];
    zl_weight *w[2];           /* panels, mapped */
} part;

static uint16_t half_of(float v) { /* of an integer of -8 .. 8 */
    static const uint16_t halves[] = {0, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600, 0x4700, 0x4800};
    return (uint16_t)(halves[(int)(v < 0 ? -v : v)] | (v < 0 ? 0x8000 : 0));
}

static void make(zl_ctx *ctx, part *p, int type, int64_t rows) {
    p->type = type, p->rows = rows;
    for (int64_t i = 0; i < rows * COLS; i++) {
        p->wide[i] = small(), p->half[i] = half_of(p->wide[i]);
        if (type == ZL_TYPE_BF16) {
            uint32_t bits;
            memcpy(&bits, &p->wide[i], 4);
            p->half[i] = (uint16_t)(bits >> 16);
        }
    }
    const void *data = type == ZL_TYPE_F32 ? (void *)p->wide : (void *)p->half;
    for (int mapped = 0; mapped < 2; mapped++)
        CHECK(zl_weight_new(ctx, type, rows, COLS, data, rows * COLS * (type == ZL_TYPE_F32 ? 4 : 2), mapped ? ZL_WEIGHT_MAPPED : 0, &p->w[mapped]) == ZL_OK, "weight");
}

/* The op over n parts with biases and, where `residual`, residuals; `alias`: which lie where the output goes. act: see zl_op. */
static void run(zl_ctx *ctx, part *p, int n, int mapped, int t, int residual, int alias, int act, float *x, float *bias, float *out) {
    static float other[PARTS][T * ROWS];
    zl_tensor tensors[1 + 4 * PARTS] = {{.kind = ZL_EXTERNAL, .rows = t, .cols = COLS, .data = x}};
    zl_op op = {.code = ZL_OP_LINEAR, .in = {0, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {-1, -1, -1, -1}, .ip = {n, act}};
    for (int i = 0; i < n; i++) {
        float *y = out + i * T * ROWS;
        for (int j = 0; j < T * ROWS; j++) y[j] = residual && alias ? (float)(j % 11) - 5 : NAN, other[i][j] = (float)(j % 11) - 5;
        zl_tensor *at = &tensors[1 + 4 * i];
        at[0] = (zl_tensor){.kind = ZL_WEIGHT, .data = p[i].w[mapped]};
        at[1] = (zl_tensor){.kind = ZL_EXTERNAL, .rows = t, .cols = p[i].rows, .data = y};
        at[2] = (zl_tensor){.kind = ZL_CONST, .rows = 1, .cols = p[i].rows, .data = bias};
        at[3] = (zl_tensor){.kind = ZL_EXTERNAL, .rows = t, .cols = p[i].rows, .data = other[i]};
        op.in[1 + 3 * i] = 1 + 4 * i, op.in[2 + 3 * i] = i == 1 ? -1 : 3 + 4 * i;
        op.in[3 + 3 * i] = !residual ? -1 : alias ? 2 + 4 * i : 4 + 4 * i;
        op.out[i] = 2 + 4 * i;
    }
    zl_step step = {.n_rows = t, .n_seq = 1};
    CHECK(zl_run(ctx, &op, 1, tensors, 1 + 4 * n, &step) == ZL_OK, "linear");
}

static int slabs(zl_ctx *ctx, const part *p) { /* calls that a weight takes: none for types that are no library's business */
    if (p->type != ZL_TYPE_F32 && p->type != ZL_TYPE_F16) return 0;
    const int64_t share = (p->rows + zl_ctx_threads(ctx) - 1) / zl_ctx_threads(ctx), slab = (share + 15) / 16 * 16;
    return (int)((p->rows + slab - 1) / slab);
}

/* The op by the library and by our own kernels: the same bits, and as many calls as there are slabs; none for few rows. */
static void compare(zl_ctx *ctx, zl_blas *b, part *p, int n, int mapped, int t, int residual, int alias, int act) {
    static float x[T * COLS], bias[ROWS], got[PARTS * T * ROWS], want[PARTS * T * ROWS];
    for (int i = 0; i < T * COLS; i++) x[i] = small();
    for (int i = 0; i < ROWS; i++) bias[i] = small();
    zl_ctx_set_blas(ctx, NULL);
    const int64_t none = calls(ctx);
    run(ctx, p, n, mapped, t, residual, alias, act, x, bias, want);
    CHECK(calls(ctx) == none, "our own kernels called a library");
    zl_ctx_set_blas(ctx, b);
    run(ctx, p, n, mapped, t, residual, alias, act, x, bias, got);
    int wanted = 0;
    for (int i = 0; i < n && t > ZL_FEW; i++) wanted += slabs(ctx, &p[i]);
    if (act && !(slabs(ctx, &p[0]) && slabs(ctx, &p[1]))) wanted = 0; /* gate and up go the same way */
    CHECK(calls(ctx) - none == wanted, "%d rows of x: %d calls, want %d", t, (int)(calls(ctx) - none), wanted);
    for (int i = 0; i < n; i++)
        CHECK(!memcmp(got + i * T * ROWS, want + i * T * ROWS, (size_t)(t * p[i].rows) * 4), "weight %d of %d, type %d, %d rows, mapped %d, residual %d, alias %d, act %d",
              i, n, p[i].type, t, mapped, residual, alias, act);
}

static void test_linear(zl_ctx *ctx, zl_blas *b) {
    static part p[PARTS];
    static const int types[][PARTS] = {{ZL_TYPE_F32, ZL_TYPE_F16, ZL_TYPE_F32}, {ZL_TYPE_F16, ZL_TYPE_BF16, ZL_TYPE_F16}}, batches[] = {0, 1, 8, 9, 20};
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < PARTS; i++) make(ctx, &p[i], types[k][i], i == 2 ? 17 : ROWS);
        for (int c = 0; c < 30; c++) {
            const int t = batches[c % 5], mapped = c / 5 % 2, residual = c / 10 % 3 > 0, alias = c / 10 % 3 == 2;
            compare(ctx, b, p, PARTS, mapped, t, residual, alias, 0);
            compare(ctx, b, &p[2], 1, mapped, t, residual, alias, 0);
            if (!residual) compare(ctx, b, p, 2, mapped, t, 0, 0, ZL_RELU);
        }
        for (int i = 0; i < PARTS; i++) zl_weight_free(p[i].w[0]), zl_weight_free(p[i].w[1]);
    }
}

/* Two contexts share a library: its threads are held from the first stage that begins to the last that ends, and then as they were. */
static void test_two_contexts(zl_ctx *ctx) {
    zl_ctx *other = NULL;
    zl_blas *b = library(CBLAS);
    CHECK(zl_ctx_new(1, zl_ctx_isa(ctx), NULL, &other) == ZL_OK, "context");
    if (!b || !other) return;
    CHECK(zl_ctx_set_blas(ctx, b) == ZL_OK && zl_ctx_set_blas(other, b) == ZL_OK, "set");
    zl_blas_begin(ctx);
    zl_blas_begin(other);
    zl_blas_end(ctx);
    CHECK(said(CBLAS, "stub_threads") == 1, "one stage still runs: %d threads", said(CBLAS, "stub_threads"));
    zl_blas_end(other);
    CHECK(said(CBLAS, "stub_threads") == 4, "both are over: %d threads", said(CBLAS, "stub_threads"));
    CHECK(zl_ctx_set_blas(ctx, NULL) == ZL_OK, "our own kernels again");
    zl_blas_begin(ctx);
    CHECK(said(CBLAS, "stub_threads") == 4, "a context without a library held one");
    zl_blas_end(ctx);
    zl_ctx_free(other);
}

int selftest_blas(zl_ctx *ctx) {
    failures = 0;
    test_open();
    test_two_contexts(ctx);
    for (int i = 0; i < N_STUBS; i++) {
        zl_blas *b = library(i);
        if (!b) continue;
        CHECK(zl_ctx_set_blas(ctx, b) == ZL_OK, "set");
        test_matmul(ctx, i);
        test_linear(ctx, b);
        CHECK(said(i, "stub_wide") == 0, "%d calls found the library with more than one thread", said(i, "stub_wide"));
        CHECK(said(i, "stub_threads") == 4, "the library is left at %d threads, it had 4", said(i, "stub_threads"));
    }
    CHECK(zl_ctx_set_blas(NULL, NULL) == ZL_E_ARG, "no context");
    CHECK(zl_ctx_set_blas(ctx, NULL) == ZL_OK, "our own kernels again");
    return failures;
}
