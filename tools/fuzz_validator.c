/* fuzz_validator.c - feeds hostile ops, tensors and steps to the C library's validator, and runs what it lets through.
 *
 *      meson setup build-asan -Dlibrary_only=true -Db_sanitize=address,undefined
 *      build-asan/ckernels/fuzz_validator [COUNT [FIRST]]           cases FIRST .. FIRST+COUNT-1; a case is its number, so it can be rerun
 *
 * Every case starts as ops that are right and then has a few of its numbers replaced. What the library is promised holds: a pointer
 * that is not NULL has exactly the memory that its shape says (so that the address sanitizer sees the first byte beyond), a weight is
 * a weight and a cache a cache. Everything else is up to the validator: the case must end with a status of zl_status, and a text
 * unless it is ZL_OK. Built and run on every test of the C library; CI runs it under ASan and UBSan with a fixed count.
 *
 * What it is not: coverage-guided. The numbers that matter are few and listed below.
 */
#include "core/core.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static uint64_t state;
static uint64_t next(void) { /* splitmix64: every case number gives a stream of its own */
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
static int below(int n) { return (int)(next() % (unsigned)n); }
static int one_in(int n) { return below(n) == 0; }

/* ---- memory of a case, freed after it -------------------------------------------------------------------------------------------- */

static void *blocks[256];
static int n_blocks;
static void *exactly(int64_t bytes) { /* no byte more, so that the sanitizer's red zone begins where the array ends */
    if (n_blocks == 256) abort();
    uint8_t *p = malloc((size_t)bytes);
    if (!p && bytes) abort();
    for (int64_t i = 0; i < bytes; i++) p[i] = 0x3c; /* floats and halves of an ordinary size */
    return blocks[n_blocks++] = p;
}
static void free_blocks(void) {
    while (n_blocks) free(blocks[--n_blocks]);
}
/* 64 GiB of zeros that nobody pays for: stands in for arrays of absurd but legal sizes. */
static void *ocean;
enum { OCEAN = 36 };

/* ---- numbers that break things ---------------------------------------------------------------------------------------------------- */

static int64_t hostile64(void) {
    static const int64_t values[] = {0, 1, -1, 2, 3, 5, 7, 8, 16, 31, 32, 33, 63, 64, 65, 255, 256, 4096, 65535, 65536, 1 << 20, INT32_MAX, INT32_MIN,
                                     (int64_t)INT32_MAX + 1, UINT32_MAX, (int64_t)1 << 36, (int64_t)1 << 40, (int64_t)1 << 62, INT64_MAX, INT64_MIN, -64, -4096};
    return one_in(4) ? (int64_t)next() >> below(64) : values[below(sizeof values / sizeof values[0])];
}
static int32_t hostile32(void) {
    int64_t v = hostile64();
    return v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : (int32_t)v;
}
static float hostile_float(void) {
    static const float values[] = {0, 1, -1, 1e-6f, 30, -30, 1e-40f, 3.4e38f, INFINITY, -INFINITY, NAN, 0.5f};
    return values[below(12)];
}

/* ---- a case ------------------------------------------------------------------------------------------------------------------------ */

enum { X, Y, OUT, OUT_ROWS, HALF, CONST_C, CONST_ROT, WEIGHT, CACHE, Q, K, V, ATTENDED, PROJECTED, TOP_VALUES, TOP_IDS, N_TENSORS };
enum { MAX_T = 8 };

static zl_ctx *ctx;
static zl_tensor tensors[N_TENSORS + 1];
static zl_op ops[4];
static zl_step step;
static zl_cache cache;
static int n_ops, n_tensors, in_arena;
static int64_t arena_cols;
static int rows_c, heads, kv_heads, dk, dv, n_out_cols, top_k; /* the shape of the good case */

static zl_op op_of(int code) {
    zl_op op = {.code = code};
    for (int i = 0; i < 12; i++) op.in[i] = -1;
    for (int i = 0; i < 4; i++) op.out[i] = -1;
    return op;
}

static zl_op good_op(void) {
    zl_op op = op_of(1 + below(16));
    int small[] = {X, Y, OUT};
    op.in[0] = small[below(3)], op.out[0] = small[below(3)];
    switch (op.code) {
    case ZL_OP_EMBED: op.in[0] = WEIGHT, op.out[0] = HALF, op.fp[0] = 1; break;
    case ZL_OP_RMS_NORM: op.in[1] = one_in(3) ? -1 : CONST_C, op.ip[0] = rows_c, op.fp[0] = 1e-6f; break;
    case ZL_OP_LAYER_NORM: op.in[1] = CONST_C, op.in[2] = one_in(2) ? -1 : CONST_C, op.ip[0] = rows_c, op.fp[0] = 1e-6f; break;
    case ZL_OP_LINEAR:
        op.ip[0] = 1 + below(2), op.in[0] = HALF;
        for (int i = 0; i < op.ip[0]; i++) op.in[1 + 3 * i] = WEIGHT, op.out[i] = i ? ATTENDED : PROJECTED;
        if (op.ip[0] == 2) op.ip[0] = 1, op.out[1] = -1, op.in[4] = -1; /* two products need two outputs of that width */
        break;
    case ZL_OP_ROPE:
        op.in[0] = op.out[0] = Q, op.in[1] = CONST_ROT;
        op.ip[0] = heads, op.ip[1] = dk, op.ip[2] = dk / 2 * 2, op.ip[3] = below(2), op.ip[4] = below(2), op.fp[0] = 1;
        break;
    case ZL_OP_KV_STORE: op.in[0] = K, op.in[1] = V, op.in[2] = CACHE, op.out[0] = -1; op.ip[0] = below(2); break;
    case ZL_OP_ATTENTION:
        op.in[0] = Q, op.in[1] = CACHE, op.out[0] = ATTENDED;
        op.ip[0] = below(2), op.ip[1] = heads, op.ip[2] = one_in(2) ? 0 : 1 + below(80), op.fp[0] = 0.1f, op.fp[1] = one_in(2) ? 0 : 30;
        break;
    case ZL_OP_UNARY: op.ip[0] = 1 + below(8); break;
    case ZL_OP_GLU: op.in[1] = Y, op.ip[0] = 1 + below(8); break;
    case ZL_OP_ADD: case ZL_OP_MUL: op.in[1] = Y; break;
    case ZL_OP_SCALE: case ZL_OP_SOFTMAX: op.fp[0] = 0.5f; break;
    case ZL_OP_SOFTCAP: op.fp[0] = 30; break;
    case ZL_OP_GATHER: op.out[0] = OUT_ROWS; break;
    default: op.in[0] = OUT_ROWS, op.out[0] = TOP_VALUES, op.out[1] = TOP_IDS, op.ip[0] = top_k; break;
    }
    return op;
}

static void rows(int i, int kind, int64_t cols) {
    tensors[i] = (zl_tensor){.kind = ZL_EXTERNAL, .rows_kind = kind, .rows = MAX_T, .cols = cols};
    if (in_arena && !one_in(3)) tensors[i].kind = ZL_ARENA, tensors[i].offset = arena_cols, arena_cols += cols;
}

static void good_case(void) {
    static const int widths[] = {1, 7, 8, 16, 31, 32, 33, 64, 100};
    rows_c = widths[below(9)], kv_heads = 1 + below(2), heads = kv_heads * (1 + below(3)), n_out_cols = widths[below(9)];
    dk = 16 * (1 + below(3)), dv = one_in(2) ? dk : 16 * (1 + below(3)), top_k = 1 + below(rows_c);
    in_arena = one_in(2), arena_cols = 0, n_tensors = N_TENSORS, n_ops = 1 + below(4);
    for (int i = X; i <= OUT; i++) rows(i, ZL_ROWS_STEP, rows_c);
    rows(OUT_ROWS, ZL_ROWS_OUT, rows_c);
    rows(HALF, ZL_ROWS_STEP, 64);
    tensors[CONST_C] = (zl_tensor){.kind = ZL_CONST, .rows = 1, .cols = rows_c};
    tensors[CONST_ROT] = (zl_tensor){.kind = ZL_CONST, .rows = dk / 2, .cols = 1};
    tensors[WEIGHT] = (zl_tensor){.kind = ZL_WEIGHT, .rows = n_out_cols, .cols = 64};
    tensors[CACHE] = (zl_tensor){.kind = ZL_CACHE};
    rows(Q, ZL_ROWS_STEP, heads * dk), rows(K, ZL_ROWS_STEP, kv_heads * dk), rows(V, ZL_ROWS_STEP, kv_heads * dv);
    rows(ATTENDED, ZL_ROWS_STEP, heads * dv), rows(PROJECTED, ZL_ROWS_STEP, n_out_cols);
    rows(TOP_VALUES, ZL_ROWS_OUT, top_k), rows(TOP_IDS, ZL_ROWS_OUT, top_k);
    cache = (zl_cache){.type = one_in(2) ? ZL_TYPE_F32 : ZL_TYPE_F16, .cls = below(2), .n_layer = 2, .n_kv = kv_heads, .dk = dk, .dv = dv, .n_pages = 5};
    for (int i = 0; i < n_ops; i++) ops[i] = good_op();
    step = (zl_step){.n_rows = below(MAX_T + 1), .n_out = below(MAX_T + 1), .n_seq = 1 + below(3), .n_planes = 1 + below(2)};
    for (int c = 0; c < 2; c++) step.table_width[c] = 3;
}

/* ---- replacing numbers ---------------------------------------------------------------------------------------------------------- */

static void break_op(zl_op *op) {
    switch (below(6)) {
    case 0: op->code = one_in(2) ? below(20) : hostile32(); break;
    case 1: op->in[below(12)] = one_in(2) ? below(N_TENSORS + 2) - 1 : hostile32(); break;
    case 2: op->out[below(4)] = one_in(2) ? below(N_TENSORS + 2) - 1 : hostile32(); break;
    case 3: case 4: op->ip[below(8)] = one_in(2) ? below(80) : hostile32(); break;
    default: op->fp[below(4)] = hostile_float(); break;
    }
}
static int any_tensor(void) { /* mostly one that some op uses */
    const zl_op *op = &ops[below(n_ops)];
    int i = one_in(3) ? op->out[below(2)] : op->in[below(4)];
    return i >= 0 && i < N_TENSORS && !one_in(8) ? i : below(N_TENSORS);
}
static void break_tensor(zl_tensor *t) {
    switch (below(6)) {
    case 0: t->kind = one_in(2) ? below(6) : hostile32(); break;
    case 1: t->rows_kind = one_in(2) ? below(3) : hostile32(); break;
    case 2: t->rows = one_in(2) ? below(MAX_T + 2) : hostile64(); break;
    case 3: case 4: t->cols = one_in(2) ? below(130) : hostile64(); break;
    default: t->offset = one_in(2) ? below(400) - 100 : hostile64(); break;
    }
}
static void break_cache(void) {
    int32_t *fields[] = {&cache.type, &cache.cls, &cache.n_layer, &cache.n_kv, &cache.dk, &cache.dv, &cache.n_pages};
    *fields[below(7)] = one_in(2) ? below(70) : hostile32();
}
static void break_step(void) {
    int32_t *fields[] = {&step.n_rows, &step.n_out, &step.n_seq, &step.n_planes, &step.input_cols, &step.table_width[below(8)]};
    *fields[below(6)] = one_in(2) ? below(10) : hostile32();
}

/* ---- memory as promised ------------------------------------------------------------------------------------------------------------ */

/* Floats for a shape: exact where it is small, a piece of the ocean where it is large and legal, NULL where nothing could back it. */
static void *floats(int64_t n_rows, int64_t cols) {
    if (n_rows < 0 || cols < 0) return ocean; /* refused for its sign, whatever the pointer */
    if (cols == 0 || n_rows == 0) return exactly(0);
    if (n_rows > ((int64_t)1 << OCEAN) / 4 / cols) return ocean; /* more than the ocean: legal sizes of it are only read near its front */
    return n_rows * cols > 1 << 16 ? ocean : exactly(n_rows * cols * 4);
}

static zl_weight *weight_of_case(void) {
    static const int types[] = {ZL_TYPE_F32, ZL_TYPE_F16, ZL_TYPE_BF16, ZL_TYPE_Q4_0, ZL_TYPE_Q4_1, ZL_TYPE_Q5_0, ZL_TYPE_Q5_1, ZL_TYPE_Q8_0};
    static const int bytes[] = {128, 64, 64, 18, 20, 22, 24, 34}; /* per 32 values */
    int i = below(8), flags = below(2);
    int64_t n = (int64_t)n_out_cols * 2 * bytes[i];
    zl_weight *w = NULL;
    if (zl_weight_new(ctx, types[i], n_out_cols, 64, exactly(n), n, flags, &w) == ZL_OK) return w;
    return NULL;
}

/* Arguments of zl_weight_new that fit together, with one of them replaced: a status, and no weight unless it is ZL_OK. */
static int hostile_weight(void) {
    static const int types[] = {0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 30};
    int type = types[below(11)], flags = below(2);
    int64_t n_rows = 1 + below(20), cols = 256, bytes = below(40000);
    switch (below(5)) {
    case 0: type = hostile32(); break;
    case 1: n_rows = hostile64(); break;
    case 2: cols = hostile64(); break;
    case 3: flags = hostile32(); break;
    default: break;
    }
    zl_weight *w = NULL;
    int status = zl_weight_new(ctx, type, n_rows, cols, exactly(bytes), bytes, flags, &w);
    if ((status == ZL_OK) != (w != NULL)) abort();
    zl_weight_free(w);
    float *to = exactly(4096 * 4);
    int64_t n = one_in(2) ? below(4096) : hostile64();
    if (n > 4096) n = -n;
    zl_dequantize(ctx, type, n, blocks[n_blocks - 2], bytes, to);
    return status;
}

static int32_t *ints(int64_t n, int32_t low, int32_t high) {
    if (n <= 0) return one_in(2) ? NULL : exactly(0);
    if (n > 4096) return one_in(2) ? NULL : ocean;
    int32_t *p = exactly(n * 4);
    for (int64_t i = 0; i < n; i++) p[i] = one_in(60) ? hostile32() : low + below(high - low + 1);
    return p;
}

static void back_step(void) {
    int64_t t = step.n_rows;
    step.tokens = ints(t, -1, n_out_cols > 1 ? n_out_cols - 1 : 0);
    step.inputs = one_in(3) && t <= 64 && step.input_cols <= 4096 ? floats(t, step.input_cols) : NULL;
    step.positions = t > 0 && step.n_planes > 0 && t * step.n_planes > 4096 ? NULL : ints(t > 0 ? t * step.n_planes : 0, 0, 100000);
    step.out_rows = ints(step.n_out, 0, t > 0 && t <= MAX_T ? (int)t - 1 : 0);
    int32_t *seq = ints(t, 0, 0), *pos = ints(t, 0, 0), *see = ints(t, 0, 0);
    if (t > 0 && t <= 4096) { /* mostly right: a few sequences, positions that ascend */
        int32_t s = 0, p = below(150);
        for (int i = 0; i < t; i++) {
            if (one_in(4)) s++, p = below(150);
            if (seq && !one_in(60)) seq[i] = one_in(60) ? hostile32() : s;
            if (pos && !one_in(60)) pos[i] = p;
            if (see && !one_in(60)) see[i] = p + (one_in(8) ? below(3) : 0);
            p += 1 + (one_in(6) ? below(40) : 0);
        }
        if (!one_in(4) && s + 1 > step.n_seq && step.n_seq > 0) step.n_seq = s + 1;
    }
    step.seq = one_in(60) ? NULL : seq, step.cache_pos = one_in(60) ? NULL : pos, step.see_to = one_in(60) ? NULL : see;
    for (int c = 0; c < 8; c++) {
        int64_t width = step.table_width[c], n = width > 0 && step.n_seq > 0 ? width * step.n_seq : 0;
        /* a table larger than the ocean cannot be had, so it is not given */
        step.tables[c] = one_in(60) || n > (int64_t)1 << (OCEAN - 2) ? NULL : ints(n, one_in(4) ? -1 : 0, 4);
    }
    if (one_in(4) && step.n_out >= 0 && step.n_out <= MAX_T) {
        const uint32_t **mask = exactly((int64_t)step.n_out * (int64_t)sizeof *mask);
        for (int i = 0; i < step.n_out; i++) mask[i] = one_in(3) ? NULL : ocean; /* a mask's size follows from V, which may have been replaced */
        step.mask = mask;
    }
}

static int64_t cache_bytes(int64_t d) {
    if (cache.n_pages < 0 || cache.n_layer < 0 || cache.n_kv < 0 || d < 0) return -1;
    double n = (double)cache.n_pages * cache.n_layer * cache.n_kv * 64 * (double)d * (cache.type == ZL_TYPE_F32 ? 4 : 2);
    return n > 1e11 ? -1 : (int64_t)n;
}
static void *cache_memory(int64_t d) {
    int64_t n = cache_bytes(d);
    return n < 0 ? NULL : n > 1 << 22 ? (n < (int64_t)1 << OCEAN ? ocean : NULL) : exactly(n);
}

/* ---- running it -------------------------------------------------------------------------------------------------------------------- */

static int64_t statuses[16];

static void judge(uint64_t number, int status, const char *what) {
    if (status < ZL_OK || status > ZL_E_BOUNDS || (status && !*zl_error())) {
        fprintf(stderr, "case %" PRIu64 ": %s gave status %d, text '%s'\n", number, what, status, zl_error());
        abort();
    }
    statuses[status]++;
}

static void run_case(uint64_t number) {
    state = number * 0x2545f4914f6cdd1du + 1;
    good_case();
    if (!one_in(4)) {
        for (int n = 1 + below(3); n > 0; n--) {
            switch (below(8)) {
            case 0: case 1: case 2: break_op(&ops[below(n_ops)]); break;
            case 3: case 4: break_tensor(&tensors[any_tensor()]); break;
            case 5: break_cache(); break;
            case 6: break_step(); break;
            default: if (one_in(3)) arena_cols = hostile64(); else n_tensors = below(N_TENSORS + 1); break;
            }
        }
    }
    cache.k = cache_memory(cache.dk), cache.v = cache_memory(cache.dv);
    zl_weight *w = weight_of_case();
    if (!w && tensors[WEIGHT].kind == ZL_WEIGHT) tensors[WEIGHT].kind = ZL_CONST; /* a type that this build does not multiply */
    for (int i = 0; i < n_tensors; i++) {
        zl_tensor *t = &tensors[i];
        if (t->kind == ZL_WEIGHT) t->data = w;
        else if (t->kind == ZL_CACHE) t->data = &cache;
        else t->data = one_in(200) ? NULL : floats(t->rows, t->cols);
        /* rows of absurd width are legal but slow: none of them then */
        if ((t->kind == ZL_EXTERNAL || t->kind == ZL_ARENA) && t->cols > 1 << 14 && step.n_rows >= 0 && step.n_out >= 0) step.n_rows = step.n_out = 0;
    }
    back_step();
    judge(number, hostile_weight(), "zl_weight_new");
    if (in_arena) {
        zl_program *p = NULL;
        int status = zl_program_new(ctx, ops, n_ops, tensors, n_tensors, arena_cols, one_in(20) ? hostile32() : MAX_T, &p);
        judge(number, status, "zl_program_new");
        if ((status == ZL_OK) != (p != NULL)) abort();
        if (p) judge(number, zl_program_run(p, &step), "zl_program_run");
        for (int i = -1; i < n_tensors + 1; i++) (void)zl_program_tensor(p, i);
        zl_program_free(p);
    } else {
        judge(number, zl_run(ctx, ops, n_ops, tensors, n_tensors, &step), "zl_run");
    }
    zl_weight_free(w);
    free_blocks();
}

int main(int argc, char **argv) {
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 20000, first = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    ocean = mmap(NULL, (size_t)1 << OCEAN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (ocean == MAP_FAILED || zl_ctx_new(2, NULL, NULL, &ctx)) {
        fprintf(stderr, "fuzz_validator: %s\n", ocean == MAP_FAILED ? "64 GiB cannot be reserved" : zl_error());
        return 1;
    }
    for (uint64_t i = 0; i < count; i++) run_case(first + i);
    zl_ctx_free(ctx);
    static const char *const names[] = {"ok", "arg", "shape", "type", "memory", "isa", "isa_cpu", "thread", "fork", "fault", "busy", "bounds"};
    printf("%" PRIu64 " cases from %" PRIu64 ":", count, first);
    for (int s = 0; s <= ZL_E_BOUNDS; s++)
        if (statuses[s]) printf(" %s %" PRId64, names[s], statuses[s]);
    printf("\n");
    /* A fuzzer whose cases are all refused would test nothing. */
    if (count >= 1000 && (statuses[ZL_OK] < (int64_t)count / 20 || !statuses[ZL_E_ARG] || !statuses[ZL_E_SHAPE] || !statuses[ZL_E_BOUNDS])) {
        fprintf(stderr, "fuzz_validator: the cases are lopsided\n");
        return 1;
    }
    return 0;
}
