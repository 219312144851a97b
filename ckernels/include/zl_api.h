/* zl_api.h - the C API of zigllama's kernel library, in the subset of C that cffi's cdef reads (no preprocessor lines); what is about text
 * stands in zl_text.h.
 *
 * What it is: one context (threads, ISA variant, error text), weights in their multiplication form, and ops. An op is a row of
 * numbers (`zl_op`) over numbered tensors (`zl_tensor`); `zl_run` executes a few of them at once (eager), a `zl_program` was
 * validated once and is replayed with one call per step (tape). What varies from step to step lives only in `zl_step`.
 *
 * What it is not: it opens no file, parses no model format, knows no architecture's name, prints nothing and never aborts.
 *
 * Every function that can fail returns a zl_status; zl_error() then gives the text, with the numbers in it.
 * Dimension letters: T rows (tokens) of a step, C channels, H heads, G key/value heads, D head size, V vocabulary.
 */

enum zl_status {
    ZL_OK = 0,
    ZL_E_ARG = 1,       /* an argument is out of range: a null pointer, a negative count, an unknown opcode or flag      */
    ZL_E_SHAPE = 2,     /* shapes do not fit together                                                                    */
    ZL_E_TYPE = 3,      /* a number format that this function does not take                                              */
    ZL_E_MEMORY = 4,    /* an allocation failed                                                                          */
    ZL_E_ISA = 5,       /* unknown ISA variant                                                                           */
    ZL_E_ISA_CPU = 6,   /* a known ISA variant that this CPU (or this build) cannot run                                  */
    ZL_E_THREAD = 7,    /* a thread could not be started or pinned                                                       */
    ZL_E_FORK = 8,      /* the context was made before a fork() and is used in the child                                 */
    ZL_E_FAULT = 9,     /* a mapped file changed under us: its bytes could not be read (SIGBUS)                          */
    ZL_E_BUSY = 10,     /* another thread is running this context                                                        */
    ZL_E_BOUNDS = 11,   /* a token, row, position, page or sequence of the step lies outside its table                   */
    ZL_E_BLAS = 12,     /* a BLAS library that cannot be loaded, or has no sgemm                                         */
    ZL_E_BUDGET = 13    /* a grammar's machine needs more memory or more steps than it may have                          */
};

/* Number formats carry GGML's own ids. */
enum zl_type {
    ZL_TYPE_F32 = 0, ZL_TYPE_F16 = 1, ZL_TYPE_Q4_0 = 2, ZL_TYPE_Q4_1 = 3, ZL_TYPE_Q5_0 = 6, ZL_TYPE_Q5_1 = 7, ZL_TYPE_Q8_0 = 8, ZL_TYPE_Q8_1 = 9,
    ZL_TYPE_Q2_K = 10, ZL_TYPE_Q3_K = 11, ZL_TYPE_Q4_K = 12, ZL_TYPE_Q5_K = 13, ZL_TYPE_Q6_K = 14, ZL_TYPE_Q8_K = 15,
    ZL_TYPE_IQ2_XXS = 16, ZL_TYPE_IQ2_XS = 17, ZL_TYPE_IQ3_XXS = 18, ZL_TYPE_IQ1_S = 19, ZL_TYPE_IQ4_NL = 20, ZL_TYPE_IQ3_S = 21,
    ZL_TYPE_IQ2_S = 22, ZL_TYPE_IQ4_XS = 23, ZL_TYPE_I8 = 24, ZL_TYPE_I16 = 25, ZL_TYPE_I32 = 26, ZL_TYPE_I64 = 27, ZL_TYPE_F64 = 28,
    ZL_TYPE_IQ1_M = 29, ZL_TYPE_BF16 = 30, ZL_TYPE_TQ1_0 = 34, ZL_TYPE_TQ2_0 = 35, ZL_TYPE_MXFP4 = 39, ZL_TYPE_NVFP4 = 40, ZL_TYPE_Q1_0 = 41,
    ZL_TYPE_Q2_0 = 42
};

/* ---- context --------------------------------------------------------------------------------------------------------- */

typedef struct zl_ctx zl_ctx;

/* A context with n_threads threads (the caller of zl_run is one of them; n_threads - 1 workers are started). `isa` is a variant's
 * name, or NULL / "auto" for the best that the CPU has. `cpus` is NULL or n_threads CPU numbers to pin the workers to. */
int zl_ctx_new(int n_threads, const char *isa, const int *cpus, zl_ctx **out);
void zl_ctx_free(zl_ctx *ctx);

/* Text of the last error of the calling thread ("" when there was none). Valid until that thread's next call. */
const char *zl_error(void);

/* ISA variants compiled into this library, best first: name, and whether this CPU and OS can run it. */
int zl_isa_count(void);
int zl_isa_bf16(int i); /* it multiplies in bf16 (ZL_WEIGHT_BF16) */
const char *zl_isa_name(int i);
int zl_isa_usable(int i);
const char *zl_ctx_isa(const zl_ctx *ctx);
int zl_ctx_threads(const zl_ctx *ctx);

/* The kernels of the dispatch table: how many, their names, and the variant whose body `ctx` runs for kernel i. */
int zl_kernel_count(void);
const char *zl_kernel_name(int i);
const char *zl_kernel_variant(const zl_ctx *ctx, int i);

/* What a context has done since it was made. */
typedef struct {
    int64_t runs;          /* calls of zl_run and zl_program_run                     */
    int64_t program_runs;  /* of these, replays of a program                         */
    int64_t ops;           /* ops executed                                           */
    int64_t stages;        /* parallel stages: points where all threads meet         */
    int64_t chunks;        /* chunks executed                                        */
    int64_t stolen;        /* of these, by a thread that was not their first owner   */
    int64_t blas_calls;    /* calls of a BLAS library's sgemm                        */
    int64_t bound_ranges;  /* ranges of memory that were bound to a NUMA node        */
    int64_t bind_failures; /* ranges that the system refused to bind: no error       */
    int64_t expert_bytes;  /* bytes of experts' weights that products have read        */
} zl_counters;
int zl_ctx_counters(const zl_ctx *ctx, zl_counters *out);

/* While it is on, the thread that drives a program reads the clock between two of its ops: see zl_program_times. Off at first; may be
 * changed at any time, and counts from the next run on. */
int zl_ctx_time_ops(zl_ctx *ctx, int on);

/* Pin worker `thread` (1 .. n_threads - 1; the caller's own thread is the caller's business) to one CPU. */
int zl_ctx_pin(zl_ctx *ctx, int thread, int cpu);

/* For tests only: worker `thread` sleeps this long before each chunk (0 = off), so that stealing can be shown. */
int zl_ctx_stall(zl_ctx *ctx, int thread, int microseconds);

/* ---- NUMA: on which node the memory of a weight lies --------------------------------------------------------------------- */

/* What mbind(2) does, or what a test puts in its place: 0, or an errno. Bit i of `mask` (max_node bits, 64 a word) is node i. */
typedef int (*zl_mbind)(void *arg, void *start, int64_t bytes, int mode, const uint64_t *mask, int64_t max_node);

/* Bytes begin .. end - 1 of a weight's panels, whole pages, belong on `node`: threads first_thread .. first_thread + n_threads - 1 read them. */
typedef struct {
    int32_t node, first_thread, n_threads, reserved;
    int64_t begin, end;
} zl_node_span;

/* The plan for n_panels panels that are dealt to threads on nodes[n_threads]: at most n_threads spans, ascending, without gaps from 0 to the
 * last page's end. `page` is a power of two. A thread whose share holds no border of a page has no span of its own. */
int zl_numa_plan(const int *nodes, int n_threads, int64_t n_panels, int64_t panel_bytes, int64_t page, zl_node_span *out, int *n_out);

/* nodes[n_threads]: the NUMA node of each thread, by the system's numbers; NULL, or all the same: nothing is bound. Holds for weights that are
 * made from now on, whose pages are bound before they are first touched. */
int zl_ctx_set_nodes(zl_ctx *ctx, const int *nodes);
/* For tests: call this instead of the system's mbind; NULL: the system's. */
int zl_ctx_set_mbind(zl_ctx *ctx, zl_mbind fn, void *arg);

/* Aligned memory with huge pages where the kernel grants them; 64-byte aligned, zeroed. */
int zl_alloc(int64_t bytes, void **out);
void zl_release(void *p, int64_t bytes);

/* Mapped files: inside a registered range a SIGBUS becomes ZL_E_FAULT of the call that met it, anywhere else it goes to the handler that
 * was there before. Memory of no other kind: pages may be let go and read again. zl_copy is memcpy under that guard. A range in which a
 * read failed stays bad until it is removed. */
int zl_guard_add(const void *base, int64_t bytes);
int zl_guard_remove(const void *base);
int zl_copy(void *dst, const void *src, int64_t bytes);
/* Pages of the range around `p` that could not be read so far (0 outside any range): for code that reads a mapping by itself. */
int64_t zl_guard_faults(const void *p);

/* ---- BLAS: somebody else's sgemm, for products of float weights with many rows and for zl_matmul ------------------------ */

typedef struct zl_blas zl_blas;

/* The library at `path` (with a slash in it), or for NULL the one that the build linked. It stays open for as long as the process lives; a
 * library that is opened again is the same zl_blas. ZL_E_BLAS: not there, no library, none for this machine, or without an sgemm. */
int zl_blas_open(const char *path, zl_blas **out);
const char *zl_blas_linked(void); /* the name of the library that the build linked (meson's option `blas`), or NULL */

typedef struct {
    const char *file;           /* where its sgemm really is: behind `path` may stand another library                     */
    const char *symbol;         /* what its sgemm is called                                                               */
    const char *version;        /* what it says of itself, or ""                                                          */
    const char *process_knob;   /* the functions by which its own threads are set to 1 while ours run, for the process    */
    const char *thread_knob;    /* and for a thread; "" where it has none                                                 */
    int int_bits;               /* of its integers: 32 or 64                                                              */
} zl_blas_info;
int zl_blas_describe(const zl_blas *blas, zl_blas_info *out);

/* From now on `ctx` takes this library, NULL: our own kernels. Each thread of the pool calls it for its slab of rows. */
int zl_ctx_set_blas(zl_ctx *ctx, zl_blas *blas);

/* ---- weights --------------------------------------------------------------------------------------------------------- */

typedef struct zl_weight zl_weight;

enum zl_weight_flags {
    ZL_WEIGHT_MAPPED = 1,  /* do not repack: multiply straight from `data`, which the caller keeps alive; same bits. The only form of types
                              that are read but not multiplied: their rows can be looked up */
    ZL_WEIGHT_RELEASE = 2, /* `data` lies in a range that zl_guard_add knows, a mapped file: its pages are let go as they are repacked,
                              and with ZL_WEIGHT_MAPPED as rows are looked up: for an embedding that is not multiplied too */
    ZL_WEIGHT_BF16 = 4,    /* F16 and BF16: products in bf16 (kernels/linear.h); ZL_E_ISA_CPU where the ISA variant has no such instruction */
    ZL_WEIGHT_TOGETHER = 8 /* one of many that come and go together: they share huge pages, given back with the last of them and `ctx` */
};

/* A matrix (rows, cols) in a number format, from its file bytes. Without ZL_WEIGHT_MAPPED it is repacked by all threads into panels
 * of interleaved rows in memory of its own, and `data` is not used again. */
int zl_weight_new(zl_ctx *ctx, int type, int64_t rows, int64_t cols, const void *data, int64_t n_bytes, int flags, zl_weight **out);
/* `stack` such matrices, one behind the other in `data`: the experts of a layer. Each is packed into panels of its own. */
int zl_weight_new_stack(zl_ctx *ctx, int type, int64_t stack, int64_t rows, int64_t cols, const void *data, int64_t n_bytes, int flags, zl_weight **out);
/* What zl_weight_new_stack takes, of one of many. */
typedef struct {
    int32_t type, flags;
    int64_t stack, rows, cols, n_bytes;
    const void *data;
} zl_matrix;
/* The n weights of a model, made in order by one call: all of them in `out` (n), or none. */
int zl_weights_new(zl_ctx *ctx, int64_t n, const zl_matrix *matrices, zl_weight **out);
/* Memory that weights made ZL_WEIGHT_TOGETHER can be cut from, of which a thread of its own asks the system for the first `bytes` meanwhile.
 * *out is NULL where it cannot be had: it will be asked for when it is needed. It is given to a context, which then owns it, or dropped. */
typedef struct zl_mapping zl_mapping;
int zl_memory_ready(int64_t bytes, zl_mapping **out);
void zl_memory_drop(zl_mapping *m);
int zl_ctx_give_memory(zl_ctx *ctx, zl_mapping *m);
/* What was made ready and is not used goes back to the system: after the last weight was made. */
int zl_ctx_spare_memory(zl_ctx *ctx);
void zl_weight_free(zl_weight *w);
/* Bytes of memory of its own (panels with the padding of the last panel; 0 when mapped). */
int64_t zl_weight_bytes(const zl_weight *w);

/* ---- number formats, directly ---------------------------------------------------------------------------------------- */

/* file bytes of n values (a multiple of the quant block) -> float32 */
int zl_dequantize(zl_ctx *ctx, int type, int64_t n, const void *src, int64_t n_bytes, float *dst);

/* x float (rows, cols) -> file bytes, n_bytes in all; cols a multiple of the quant block. importance (cols): how much the square of an
 * error in each column matters, none negative, or NULL: all the same. A value that is not finite, or too large for the type's scale, is
 * ZL_E_ARG with its row and column. The bytes do not depend on the ISA variant or the threads. */
int zl_quantize_rows(zl_ctx *ctx, int type, int64_t rows, int64_t cols, const float *x, const float *importance, void *dst, int64_t n_bytes);

/* The activation format: x (rows, cols), cols a multiple of `per`, 32 or 256 columns rounded together -> q int8
 * (rows, cols), d float (rows, cols/32), the scales, alike in 256 columns but for a power of two, s int16 (rows, cols/32, 2), the sums of q over each half of a quant block. */
int zl_quantize_activation(zl_ctx *ctx, int64_t rows, int64_t cols, int per, const float *x, int8_t *q, float *d, int16_t *s);

/* ---- plain float32 products, directly ---------------------------------------------------------------------------------- */

/* out (M,N) = a (M,K) b (K,N), row-major: tiles and vectors, on all threads; each element summed over k ascending. */
int zl_matmul(zl_ctx *ctx, int64_t m, int64_t k, int64_t n, const float *a, const float *b, float *out);
/* The same by the textbook's loop, one element at a time on the calling thread: what vectors are measured against. */
int zl_matmul_scalar(int64_t m, int64_t k, int64_t n, const float *a, const float *b, float *out);

/* ---- one row of logits, directly: exact sampling from a whole vocabulary, see core/scan.c ------------------------------- */

enum { ZL_MASS_ONE_BITS = 40 };
enum zl_cut_kind {
    ZL_CUT_MASS = 0,   /* the fewest best keys whose mass is at least `amount` times that of all             */
    ZL_CUT_DRAW = 1,   /* up to the one at `amount` (below 1) of the way through the mass, best keys first   */
    ZL_CUT_COUNT = 2   /* the `amount` best keys; w is NULL and total of no account                          */
};
typedef struct {
    int64_t mass;      /* the sum of w                                                                      */
    double total;      /* sum of exp(x - best): the same as a number                                        */
    double mean;       /* of x, each weighted by its probability                                            */
    float best;
    int32_t reserved;
} zl_row_sums;
typedef struct {
    double mean, deviation; /* of the elements above -inf, standard deviation with their number as divisor */
    int64_t n;
    float best;
    int32_t reserved;
} zl_row_spread;

/* w = exp(x - best) 2^ZL_MASS_ONE_BITS in whole units, of a row x (n), n 1 to 2^22, without a NaN, whose best is finite. -inf weighs nothing. */
int zl_row_weights(zl_ctx *ctx, int64_t n, const float *x, float *w, zl_row_sums *out);
int zl_row_moments(zl_ctx *ctx, int64_t n, const float *x, zl_row_spread *out);
/* out = -|x - middle|, keys for zl_row_cut; out may be x. */
int zl_row_near(zl_ctx *ctx, int64_t n, const float *x, float middle, float *out);
/* The least of the keys that are kept, and the last id of those equal to it: greater keys are better, of equal ones lower ids. Masses are w, as
 * zl_row_weights makes them, and `total` is the sum of all; no mass may be at a key of -inf or NaN. *least -inf: there is no mass. */
int zl_row_cut(zl_ctx *ctx, int64_t n, const float *key, const float *w, int64_t total, int kind, double amount, float *least, int64_t *last);
/* out = x where it is above `least`, or equal to it with an id up to `last`, else -inf; out may be x. *kept: how many are left. */
int zl_row_keep(zl_ctx *ctx, int64_t n, const float *x, float least, int64_t last, float *out, int64_t *kept);
/* ids (room) of these elements, ascending, without those that are -inf, and how many: room + 1 for more than fit. */
int zl_row_gather(zl_ctx *ctx, int64_t n, const float *x, float least, int64_t last, int32_t *ids, int64_t room, int64_t *found);

/* ---- the machine's ceilings, directly ----------------------------------------------------------------------------------- */

/* Bytes per second at which all threads together read `bytes` of memory again and again for about so many seconds, the best pass: of what
 * fits a cache that cache's speed, of much more than that the memory's. */
int zl_probe_read(zl_ctx *ctx, int64_t bytes, double seconds, double *out);
/* Operations per second of all threads, the best pass, in registers: ZL_TYPE_I8 products of small integers, ZL_TYPE_F32 multiply-adds. A
 * multiplication and an addition are two. */
int zl_probe_peak(zl_ctx *ctx, int type, double seconds, double *out);

/* ---- the KV cache, as the kernels see it ------------------------------------------------------------------------------ */

/* A page holds 64 consecutive positions of one sequence, for all layers of one cache class (full attention, or one window).
 *   key page   of (page, layer, kv head): [4 groups][dk channels][16 keys]   lane = key
 *   value page of (page, layer, kv head): [64 keys][dv channels]             lane = channel
 *   k: [n_pages][n_layer][n_kv][4][dk][16]     v: [n_pages][n_layer][n_kv][64][dv]
 * Q8_0 (dk and dv multiples of 32): a page is its int8 codes in that order, then an f16 scale per key and 32 channels:
 *   key page   codes [4][dk][16] | scales [4][dk/32][16]         value page   codes [64][dv] | scales [64][dv/32]
 * States (F32, n_kv 1): a page holds what a layer remembers after the last of its positions that was written: dk values of its convolution
 * and dv of its scan.   k: [n_pages][n_layer][dk]     v: [n_pages][n_layer][dv]
 * The page table of such a class has one column more than positions need, the last: the page of the state that the first row of the sequence
 * in this step goes on from, -1 for position 0. It is not among those that the step writes.
 */
typedef struct {
    int32_t type;                 /* ZL_TYPE_F32, ZL_TYPE_F16 or ZL_TYPE_Q8_0                                            */
    int32_t cls;                  /* cache class: which of the step's page tables to use                               */
    int32_t n_layer, n_kv, dk, dv;
    int32_t n_pages;
    int32_t state;                /* nonzero: pages of states                                                           */
    void *k, *v;
} zl_cache;

/* ---- tensors, ops, steps ---------------------------------------------------------------------------------------------- */

enum zl_tensor_kind {
    ZL_ARENA = 0,    /* float32 (T, cols) in the program's arena: `offset` floats per row before it                       */
    ZL_EXTERNAL = 1, /* float32 (T, cols) in caller memory `data`                                                        */
    ZL_CONST = 2,    /* float32 (rows, cols) constant in caller memory `data`: norm weights, biases, inverse frequencies  */
    ZL_WEIGHT = 3,   /* `data` is a zl_weight                                                                           */
    ZL_CACHE = 4     /* `data` is a zl_cache                                                                             */
};
enum zl_rows {
    ZL_ROWS_STEP = 0, /* T = step.n_rows */
    ZL_ROWS_OUT = 1   /* T = step.n_out  */
};
typedef struct {
    int32_t kind;
    int32_t rows_kind;   /* zl_rows, for ZL_ARENA and ZL_EXTERNAL              */
    int64_t rows, cols;  /* rows: of a ZL_CONST; capacity of a ZL_EXTERNAL      */
    int64_t offset;      /* ZL_ARENA: floats per row before this tensor         */
    void *data;
} zl_tensor;

/* Opcodes. in/out are tensor numbers, -1 = absent; ip and fp are parameters. Row-wise ops work on any T including 0. */
enum zl_opcode {
    ZL_OP_EMBED = 1,       /* out (T,C) = scale * row token[t] of in[0] (weight); rows whose token is -1 come from step.inputs, unscaled. fp[0] scale */
    ZL_OP_RMS_NORM = 2,    /* in: x (T, n*m), w const (m)|-1; ip[0] = m, norm over groups of m; fp[0] eps.     x / sqrt(mean x^2 + eps) * w
                              ip[1] = 0 or 1: one w for all groups; n: w const (n*m), each group has its own                        */
    ZL_OP_LAYER_NORM = 3,  /* in: x, w|-1, b|-1; ip[0] = m; fp[0] eps.                                                                     */
    ZL_OP_LINEAR = 4,      /* ip[0] = n weights (1..3) sharing in[0] = x (T,K); for i: in[1+3i] = weight, in[2+3i] = bias const|-1,
                              in[3+3i] = residual (T,N)|-1; out[i] (T,N).  y = x W^T (+ bias) (+ residual), in that order.
                              ip[1] = 0, or with n = 2, equal rows N and no residuals a zl_unary: out[0] = act(y0) * y1, out[1] = y1              */
    ZL_OP_ROPE = 5,        /* in: x (T, H*D), inverse frequencies const (rot/2); ip: H, D, rot (rotated channels), mode (0 interleaved pairs
                              (2i,2i+1), 1 half-split (i, i+rot/2)), position plane; fp[0] = scale on cos and sin (1). angle = position * inv_freq[i] */
    ZL_OP_KV_STORE = 6,    /* in: k (T, G*dk), v (T, G*dv), cache; ip[0] = layer within the class. Writes row t at step.cache_pos[t].     */
    ZL_OP_ATTENTION = 7,   /* in: q (T, H*dk), cache, slopes const (H)|-1; ip: layer, H, window (0 = all), memory; fp: scale, softcap (0 = none);
                              out (T, H*dv). slope[h] * (p - cache_pos[t]) is added to a score after the softcap (ALiBi).
                              Row t sees cache positions p with first <= p <= step.see_to[t], first = window ? max(0, cache_pos[t]-window+1) : 0.
                              memory = n + 1: of position plane n instead, 0 <= p <= positions[n][t], whatever the row's own position is: keys and
                              values that another step has stored (cross-attention). No window, no slopes; a row of -1 sees nothing             */
    ZL_OP_UNARY = 8,       /* in: x; ip[0] = zl_unary                                                                                     */
    ZL_OP_GLU = 9,         /* in: gate, up (T,F); ip[0] = zl_unary: out = act(gate) * up                                                   */
    ZL_OP_ADD = 10,        /* in: x, y (T,C), or y const (C), which is each row's                                                          */
    ZL_OP_MUL = 11,        /* in: x, y as for ZL_OP_ADD                                                                                   */
    ZL_OP_SCALE = 12,      /* in: x; fp[0]: out = fp[0] * x                                                                               */
    ZL_OP_SOFTMAX = 13,    /* in: x (T,C): rows; fp[0] scale on x before                                                                  */
    ZL_OP_SOFTCAP = 14,    /* in: x; fp[0] = cap: out = cap * tanh(x / cap)                                                               */
    ZL_OP_GATHER = 15,     /* in: x (T,C) -> out (n_out, C): rows step.out_rows                                                            */
    ZL_OP_LOOKUP = 17,     /* out (T,C) = row positions[ip[0]][t] + ip[1] of in[0] (weight): ip: position plane, offset                     */
    ZL_OP_ROUTE = 18,      /* in: x (T,E); ip: k (1..256, at most E), zl_gating; out[0] weights (T,k), out[1] (T,k) the experts' ids as int32 bits: those
                              of the k largest x, descending; ties to the lower id, NaN first                                            */
    ZL_OP_EXPERTS_GATED = 19, /* in: x (T,K), ids (T,k), gate, up (stacks of (F,K)); ip[0] = zl_unary; out (T, k*F): act(gate_e x) * up_e x for each
                              id e of the row, side by side. Here and below a row of an id that no expert has is NaN                      */
    ZL_OP_EXPERTS_DOWN = 20,  /* in: h (T, k*F), ids (T,k), weights (T,k), down (stack of (C,F)); out (T,C): sum_j weights[j] * down_e(j) h[j], j
                              ascending                                                                                                   */
    ZL_OP_TOP_K = 16,      /* in: x (n, V); ip[0] = k (1..4096); out[0] (n,k) values descending, out[1] (n,k) their ids as int32 bits; ties to the lower id, NaN first.
                              step.mask: if not NULL, per row a bitmask over V of allowed ids (others count as -inf)                       */
    ZL_OP_SHORT_CONV = 21, /* in: x (T,C), w const (K,C), b const (C)|-1, cache of states; ip: layer, K (2..16); dk = (K-1) C; a state: inputs, oldest first.
                              out (T,C): silu(b + sum over k of w[k] * x[k - K + 1 rows later])                                                */
    ZL_OP_SELECTIVE_SCAN = 22, /* in: x (T,C), dt (T,C), B (T,N), C (T,N), A const (N,C), D const (C), cache of states; ip: layer, N; dv = N C, a state: (N,C).
                              with s = softplus(dt): h = exp(s A) h + s B x,  out (T,C) = sum over N of C h, + D x                              */
    ZL_OP_DUAL_SCAN = 23   /* in: x, B and C side by side (T, H*P + 2*G*N), dt (T,H), A const (H), D const (H), cache of states; ip: layer, H, P, N, G;
                              dv = H N P, a state: (H,N,P). The same per head; heads h of H/G share group h / (H/G) of B and C; out (T, H*P)     */
};
enum zl_unary {
    ZL_RELU = 1, ZL_GELU_ERF = 2, ZL_GELU_TANH = 3, ZL_SILU = 4, ZL_TANH = 5, ZL_SIGMOID = 6, ZL_GELU_QUICK = 7, ZL_EXP = 8, ZL_RELU_SQUARED = 9
};
enum zl_gating {
    ZL_SOFTMAX_ALL = 0,    /* softmax of all E, the chosen ones' shares                */
    ZL_SOFTMAX_CHOSEN = 1, /* softmax of the k chosen: the shares divided by their sum */
    ZL_SIGMOID_EACH = 2,   /* the sigmoid of each                                      */
    ZL_SIGMOID_SHARE = 3   /* divided by their sum                                     */
};
typedef struct {
    int32_t code;
    int32_t in[12];
    int32_t out[4];
    int32_t ip[8];
    float fp[4];
} zl_op;

/* Everything that differs between two runs of the same program. Arrays live as long as the call. */
typedef struct {
    int32_t n_rows;               /* T                                                                                   */
    int32_t n_out;                /* rows whose logits are wanted                                                        */
    int32_t n_seq;                /* sequences in the page tables                                                        */
    int32_t n_planes;             /* position planes (1; several for M-RoPE)                                             */
    int32_t input_cols;           /* C of `inputs`                                                                       */
    int32_t skip_top_k;           /* nonzero: ZL_OP_TOP_K does nothing, what its outputs hold is not to be read             */
    const int32_t *tokens;        /* [T] token ids, -1 = take the row of `inputs`                                         */
    const float *inputs;          /* [T][C] or NULL                                                                      */
    const int32_t *positions;     /* [n_planes][T] rope positions, or what else an op takes a plane for                  */
    const int32_t *cache_pos;     /* [T] absolute position in the row's sequence                                          */
    const int32_t *see_to;        /* [T] last cache position the row sees (its own when causal)                           */
    const int32_t *seq;           /* [T] the row's sequence; the rows of a sequence are adjacent, cache_pos ascending      */
    const int32_t *out_rows;      /* [n_out]                                                                             */
    const uint32_t *const *mask;  /* [n_out] NULL or V bits each, for ZL_OP_TOP_K; NULL = no masks                         */
    const int32_t *tables[8];     /* per cache class: page numbers [n_seq][table_width]; -1 = no page; a step writes a page for one sequence */
    int32_t table_width[8];
} zl_step;

/* Run n_ops ops now, in order. All tensors are external, constant, weight or cache. Validates, then runs. */
int zl_run(zl_ctx *ctx, const zl_op *ops, int n_ops, const zl_tensor *tensors, int n_tensors, const zl_step *step);

/* The tape: validated when it is built, for up to max_rows rows per step; owns an arena of arena_cols floats per row. */
typedef struct zl_program zl_program;
int zl_program_new(zl_ctx *ctx, const zl_op *ops, int n_ops, const zl_tensor *tensors, int n_tensors, int64_t arena_cols, int max_rows,
                   zl_program **out);
void zl_program_free(zl_program *p);
int zl_program_run(zl_program *p, const zl_step *step);
/* Up to n runs in a row that write greedily, one call: each row of the step is of another sequence and wants its logits (out_rows is 0, 1, ..),
 * and the program's last op is ZL_OP_TOP_K. Before each further run a row's token becomes the best of the run before, its position, cache
 * position and see_to one more (in copies: the step stays as it is); so not for programs with a memory (ZL_OP_ATTENTION) or with states. Ends with a run in which a row's best logit is no finite number, which
 * does not count, or its best token is one of `ends`. ids (n, n_rows): the best tokens; *ran: how many rows of it, the runs that count. */
int zl_program_run_ahead(zl_program *p, const zl_step *step, int n, const int32_t *ends, int n_ends, int32_t *ids, int *ran);
/* What each op of the program took in all runs that were timed (zl_ctx_time_ops): how often it ran, and for how long from the end of the op
 * before it to its own, waiting for other threads included. `out` has room for all n ops of the program, in its order. */
typedef struct {
    int64_t calls;
    int64_t nanoseconds;
} zl_op_time;
int zl_program_times(const zl_program *p, zl_op_time *out, int n);
/* Where tensor i of the program lives: (rows, cols) float32. Arena tensors move with the rows of a step: ask again after each run. */
float *zl_program_tensor(zl_program *p, int i);
