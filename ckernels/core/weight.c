/* weight.c - a weight matrix in its multiplication form: panels of interleaved rows, or the file's rows where they are mapped. */
#include "core.h"

int zl_weight_new(zl_ctx *ctx, int type, int64_t rows, int64_t cols, const void *data, int64_t n_bytes, int flags, zl_weight **out) {
    (void)rows, (void)cols, (void)data, (void)n_bytes, (void)flags;
    if (!ctx || !out) return zl_fail(ZL_E_ARG, "zl_weight_new: a null pointer");
    *out = NULL;
    return zl_fail(ZL_E_TYPE, "zl_weight_new: type %d has no panels", type);
}
void zl_weight_free(zl_weight *w) { (void)w; }
int64_t zl_weight_bytes(const zl_weight *w) { return w ? w->own_bytes : 0; }

int zl_dequantize(zl_ctx *ctx, int type, int64_t n, const void *src, int64_t n_bytes, float *dst) {
    (void)ctx, (void)n, (void)src, (void)n_bytes, (void)dst;
    return zl_fail(ZL_E_TYPE, "zl_dequantize: type %d is not read", type);
}
int zl_quantize_activation(zl_ctx *ctx, int64_t rows, int64_t cols, const float *x, int8_t *q, float *d, int16_t *s) {
    (void)ctx, (void)x, (void)q, (void)d, (void)s;
    return zl_fail(ZL_E_SHAPE, "zl_quantize_activation: (%lld, %lld) is not taken", (long long)rows, (long long)cols);
}
