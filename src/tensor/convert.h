/* Conversions between float formats, exact and branch-free where it matters.
 * F32→BF16 and F32→F16 round to nearest even like ggml's CPU reference (NaN stays NaN, made quiet).
 */
#ifndef TENSOR_CONVERT_H
#define TENSOR_CONVERT_H

#include <stddef.h>
#include <stdint.h>

#include "tensor/dtype.h"

float convert_f16_to_f32(uint16_t h);
uint16_t convert_f32_to_f16(float f);
float convert_bf16_to_f32(uint16_t h);
uint16_t convert_f32_to_bf16(float f);

/* n elements of a plain type (F32 F16 BF16 F64 I8..I64 U8..) to F32; 0, or -1 if `from` is not
 * plain. */
int convert_to_f32(enum dtype from, const void *src, float *dst, size_t n);
/* F32 to a plain float type (F32 F16 BF16 F64); -1 otherwise. */
int convert_from_f32(enum dtype to, const float *src, void *dst, size_t n);
/* Index of the first NaN or infinity, or n. */
size_t convert_find_nonfinite(const float *src, size_t n);

#endif
