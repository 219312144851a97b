/* core.h - what the C files share inside the library: the context, errors, parallel stages, and the table of opcodes.
 *
 * What it is not: the public API (include/zl_api.h, zl_text.h). Nothing here is seen by Python.
 */
#ifndef ZL_CORE_H
#define ZL_CORE_H
#include "../include/zl.h"
#include "../include/zl_text.h"
#include "../kernels/kernels.h"

/* ---- errors: set the calling thread's text, return the status -------------------------------------------------------------- */

int zl_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- parallel stages ------------------------------------------------------------------------------------------------------
 * A stage is n chunks of work. Each thread first claims from its own contiguous share, then steals from the others; the caller
 * takes part and returns when every claimed chunk is done. It never waits for a thread that has not woken. n = 1 (or one thread)
 * runs in the caller with no synchronisation at all, so small ops cost nothing.
 */
typedef void zl_chunk_fn(void *arg, int64_t chunk, int thread);
void zl_parallel(zl_ctx *ctx, int64_t n_chunks, zl_chunk_fn *fn, void *arg);

const zl_kernels *zl_ctx_kernels(const zl_ctx *ctx);
int zl_ctx_has_blas(const zl_ctx *ctx); /* see blas.h */
void zl_ctx_count_experts(zl_ctx *ctx, int64_t bytes); /* for zl_counters; from any thread */
zl_mapping **zl_ctx_weights(zl_ctx *ctx); /* for zl_mapping_take */

/* ---- NUMA (numa.c) --------------------------------------------------------------------------------------------------------- */
int zl_ctx_several_nodes(const zl_ctx *ctx);
int64_t zl_share_begin(int64_t units, int t, int n); /* threadpool.c: the first of thread t's units, of n threads */
/* The pages of freshly mapped panels go to the nodes of the threads that will read them. Never fails; counts. One node: nothing. */
void zl_numa_bind(zl_ctx *ctx, uint8_t *panels, int64_t n_panels, int64_t panel_bytes);
int zl_alloc_unwritten(int64_t bytes, void **out); /* alloc.c: zl_alloc for memory that is written whole before it is read; not zeroed */
int zl_alloc_is_mapping(int64_t bytes); /* alloc.c: whether zl_alloc makes a mapping of its own of so much */
/* mapping.c: `bytes` of not yet written memory, behind what was cut from *current before, or from a new mapping that takes its place.
 * Whoever takes holds `from` until zl_mapping_drop. Not for two threads at once; dropping is. */
int zl_mapping_take(zl_mapping **current, int64_t bytes, uint8_t **out, zl_mapping **from);
void zl_mapping_drop(zl_mapping *m);
int64_t zl_mapping_ready(const zl_mapping *m); /* bytes that were asked for ahead */

/* Every public function that runs kernels or stages begins and ends with these two. zl_enter refuses a null context, one made before
 * fork(), and one that a thread is inside already; it sets the float environment of the caller (workers have it set). zl_leave gives
 * the caller its environment back and passes `status` through:
 *
 *      zl_entry e;
 *      int status = zl_enter(ctx, "zl_dequantize", &e);
 *      if (status) return status;
 *      ... zl_parallel(ctx, n, chunk, &job); ...
 *      return zl_leave(&e, zl_guard_check(src, n_bytes));
 */
typedef struct {
    zl_ctx *ctx;
    uint64_t fp;
} zl_entry;
int zl_enter(zl_ctx *ctx, const char *what, zl_entry *entry);
int zl_leave(zl_entry *entry, int status);

/* ZL_E_FAULT when these bytes lie in a guarded mapping in which a read failed (the file shrank), now or earlier; else ZL_OK. One
 * load when nothing ever failed. Call it after reading memory that a caller may have mapped. */
int zl_guard_check(const void *p, int64_t bytes);
int zl_guarded(const void *p, int64_t bytes); /* whether these bytes lie in one registered mapping */
/* The whole pages of a registered mapping, a file's, within these bytes leave the resident memory; they are read again from the file where
 * they are touched again. Of other memory nothing is let go: it would be lost. */
void zl_guard_let_go(const void *p, int64_t bytes);
int zl_any_fault(void); /* whether any registered mapping has lost a page */

/* ---- a run: what an op sees ----------------------------------------------------------------------------------------------- */

typedef struct {
    zl_ctx *ctx;
    const zl_kernels *k;
    const zl_tensor *tensors;
    const zl_step *step;
    float *arena;            /* base of the program's arena (NULL when eager)                 */
    int64_t rows;            /* the step's rows, or its wanted rows where these are more: arena tensors stand this many rows apart,
                              * so that a step of one row touches no more memory than it needs */
    int64_t *stride;         /* where the program remembers it (NULL when eager)               */
    zl_op_time *times;       /* where a program adds up what its ops took (NULL when eager)    */
    uint8_t *shared;         /* scratch for the whole op, 64-byte aligned                      */
    uint8_t *const *private_;/* scratch per thread, 64-byte aligned                            */
} zl_run_state;

/* Rows of tensor i in this run, and where its (rows, cols) float32 live. i = -1 gives NULL. */
static inline int64_t zl_rows_of(const zl_run_state *r, int i) {
    return r->tensors[i].rows_kind == ZL_ROWS_OUT ? r->step->n_out : r->step->n_rows;
}
static inline float *zl_data_of(const zl_run_state *r, int i) {
    if (i < 0) return NULL;
    const zl_tensor *t = &r->tensors[i];
    return t->kind == ZL_ARENA ? r->arena + t->offset * r->rows : (float *)t->data;
}

/* ---- the table of opcodes --------------------------------------------------------------------------------------------------
 * check: everything that can be known without a step (kinds, shapes, parameters); called once when a program is built.
 * check_step: what depends on the step (token ids, positions, pages); may be NULL.
 * scratch: bytes of shared and per-thread scratch for up to `rows` rows; may be NULL.
 * run: does it; everything was checked before.
 */
typedef struct {
    int code;
    const char *name;
    int (*check)(const zl_op *op, const zl_tensor *tensors);
    int (*check_step)(const zl_op *op, const zl_tensor *tensors, const zl_step *step);
    void (*scratch)(const zl_ctx *ctx, const zl_op *op, const zl_tensor *tensors, int64_t rows, int64_t *shared, int64_t *private_);
    void (*run)(zl_run_state *r, const zl_op *op);
} zl_op_def;

extern const zl_op_def zl_ops_rows[];       /* core/ops_rows.c:      norms, activations, add, softmax, gather, top-k, embed, lookup, rope; ends with code 0 */
extern const zl_op_def zl_ops_linear[];     /* core/ops_linear.c:    linear                                                                   */
extern const zl_op_def zl_ops_attention[];  /* core/ops_attention.c: kv store, attention                                                      */
extern const zl_op_def zl_ops_state[];      /* core/ops_state.c:     short convolution, scans                                                 */
extern const zl_op_def zl_ops_experts[];    /* core/ops_experts.c:   route, and products with the experts' weights                             */
const zl_op_def *zl_op_find(int code);      /* NULL when unknown */

/* Checks shared by the op files. `zl_want_rows(op, tensors, i, cols)`: tensor i exists, is float (T, cols) (cols < 0: any). */
int zl_want_rows(const char *op, const zl_tensor *tensors, int i, int64_t cols);
int zl_want_const(const char *op, const zl_tensor *tensors, int i, int64_t n);   /* n values: rows*cols == n */
int zl_want_kind(const char *op, const zl_tensor *tensors, int i, int kind);
int zl_want_matrix(const char *op, const zl_tensor *tensors, int i);             /* one weight, no stack */
int zl_want_plane(const char *op, int plane, const zl_step *step);               /* a plane of positions, unless there are no rows */

/* ---- number formats (formats.c) ------------------------------------------------------------------------------------------------ */

/* Its products go by the common form of kernels/formats_wide.h. */
enum { ZL_WIDENED = 2 };
typedef struct {
    int type;                /* zl_type                                          */
    const char *name;
    int cols, bytes;         /* elements and bytes of a quant block in the file  */
    int multiplied;          /* products with it have kernels: 1, or ZL_WIDENED  */
} zl_format;
const zl_format *zl_format_of(int type); /* NULL when unknown */

static const int64_t ZL_MOST = (int64_t)1 << 31; /* of rows and of columns: bytes then fit 63 bits with room */

/* ---- weights, as the ops see them (struct zl_weight: kernels/linear.h) ------------------------------------------------------- */

/* Row `row` of a weight as floats (w->cols of them), from panels or from the mapped file: the same bits. */
void zl_weight_row(const zl_weight *w, int64_t row, float *dst);
static inline int zl_weight_is_float(const zl_weight *w) { return w->type == ZL_TYPE_F32 || w->type == ZL_TYPE_F16 || w->type == ZL_TYPE_BF16; }
/* Whether many rows of x are multiplied in the common form of kernels/formats_wide.h; Q6_K is by some variants. */
int zl_weight_widens(const zl_weight *w);
int64_t zl_weight_scratch(const zl_weight *w); /* bytes per thread that its kernels work in */
#endif
