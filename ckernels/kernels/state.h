/* state.h - the kernels of state-space layers (kernels/state.c): a short convolution in time, and two scans.
 *
 * A scan carries a state from row to row of one sequence; rows are taken in order, whatever steps they come in. Lanes are channels, which
 * do not mix, so that how channels are cut into calls changes no bit, and every sum over states is ascending in one accumulator.
 */
#ifndef ZL_KERNELS_STATE_H
#define ZL_KERNELS_STATE_H
#include <stdint.h>

/* Some rows of a sequence, one after another, for n channels that share what follows; every pointer is at the first row and channel. */
typedef struct {
    int64_t rows, n, states;
    int64_t stride;          /* floats between the channels' values of two states, in a, from and h                        */
    int64_t x_row, dt_row, bc_row, out_row; /* floats between two rows                                                      */
    const float *x, *dt;     /* [rows] x n; dt before softplus: x n, or one per row where all n channels are a head         */
    const float *b, *c;      /* [rows][states]                                                                             */
    const float *a, *d;      /* decay [states][n], or one for a head; how much of x passes by: [n], or one for a head       */
    const float *from;       /* the state before the first row [states][n], NULL: zeros                                    */
    float *h;                /* [states][n]: the state after the last row; it is not where `from` is                        */
    float *out;              /* [rows] x n                                                                                 */
} zl_scan;

#define ZL_KERNELS_STATE(X)                                                                                                            \
    /* one row: out (n) = silu(b + sum over k of w[k] * x[k]); x: the rows of `taps` positions, w [taps] of n every `stride`, b or NULL */ \
    X(void, short_conv, (int64_t n, int64_t taps, const float *const *x, const float *w, int64_t stride, const float *b, float *out))  \
    /* h = exp(softplus(dt) a) h + softplus(dt) b x,  out = sum over states of h c, + d x; a per state and channel */                   \
    X(void, selective_scan, (const zl_scan *s))                                                                                        \
    /* the same where all channels are one head: dt, a and d are one number */                                                         \
    X(void, dual_scan, (const zl_scan *s))
#endif
