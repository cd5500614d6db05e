/* Blocks of a tensor in a fixed layout: floats, a row a channel. */
#ifndef SW_BLOCK_H
#define SW_BLOCK_H
#include "tensor.h"
#include "transpose.h"

/* Loads a block whose rows lie in the tensor as rows. `end` is the end of the whole tensor: before
 * it, a load may read beyond the end of a row. */
INLINE void rows_load(float *block, const void *x, const char *end, const struct shape *s,
                      int count, const float *shift, vec *sums, const int element) {
    const int width = full_vectors(count), group = s->group;
    const long stride = s->pixels;
    const void *row = x;
    for (int c = 0; c < group; c++, row = at(row, stride, element)) {
        const float near = shift ? shift[c] : 0.0f;
        float *out = block + c * ROW;
        vec sum = {0};
        int p = 0;
        for (; p + VL <= count; p += VL) {
            const vec v = load_as(at(row, p, element), element) - near;
            sum += v;
            *(vec *)(out + p) = v;
        }
        if (p < width) {
            const void *next = at(row, p, element);
            const vec v = (const char *)at(next, VL, element) <= end
                              ? load_as(next, element)
                              : load_first(next, count - p, element);
            const vec first = first_lanes(v - near, count - p);
            sum += first;
            *(vec *)(out + p) = first;
        }
        if (sums) sums[c] += sum;
    }
}

/* How many pixels ahead a pixel is fetched, where the channels of a pixel lie side by side. */
#define FETCHED 32

/* Loads a block where the channels of a pixel lie side by side: as many pixels at a time as a
 * vector holds, transposed. */
INLINE void pixels_transpose(float *block, const void *x, const struct shape *s, int count,
                             const float *shift, vec *sums, const int element) {
    for (int c = 0; c < s->group; c += VL) {
        const int channels = s->group - c < VL ? s->group - c : VL;
        const vec near = shift ? load_first(shift + c, channels, FLOAT32) : (vec){0};
        vec sum[VL];
        for (int i = 0; i < VL; i++) sum[i] = (vec){0};
        for (int p = 0; p < count; p += VL) {
            vec r[VL];
            for (int i = 0; i < VL; i++)
                if (p + i < count)
                    r[i] =
                        load_first(at(x, (p + i) * s->channels + c, element), channels, element) -
                        near;
                else
                    r[i] = (vec){0};
            vectors_transpose(r);
            for (int i = 0; i < channels; i++) {
                *(vec *)(block + (c + i) * ROW + p) = r[i];
                sum[i] += r[i];
            }
        }
        for (int i = 0; sums && i < channels; i++) sums[c + i] += sum[i];
    }
}

#define FOR_ELEMENT(element, call)                                                                 \
    switch (element) {                                                                             \
    case FLOAT32:                                                                                  \
        call(FLOAT32);                                                                             \
        break;                                                                                     \
    case BFLOAT16:                                                                                 \
        call(BFLOAT16);                                                                            \
        break;                                                                                     \
    case FLOAT16:                                                                                  \
        call(FLOAT16);                                                                             \
        break;                                                                                     \
    }

static __attribute__((noinline)) void block_transpose_pixels(float *block, const void *x,
                                                             const struct shape *s, int count,
                                                             const float *shift, vec *sums){
#define CALL(element) pixels_transpose(block, x, s, count, shift, sums, element)
    FOR_ELEMENT(s -> element, CALL)
#undef CALL
}

/* Rows of `block` (padded G × ROW) become channels of group `g` of image `n`, pixels first …
   first+count-1, minus `shift` (G, or null). Pixels from `count` up to the next multiple of a
   vector are zero; the rows beyond G are not touched. Adds the row sums to `sums` (G vectors) if it
   is given. */
INLINE void block_load(float *block, const void *x, const struct shape *s, long n, long g,
                       long first, int count, const float *shift, vec *sums, const int element) {
    const void *from = pixel_of(x, s, n, g, first);
    if (s->channels_last)
        block_transpose_pixels(block, from, s, count, shift, sums);
    else
        rows_load(block, from, at(x, s->images * s->channels * s->pixels, element), s, count, shift,
                  sums, element);
}

/* Whether pixels are worked on one by one: their channels lie side by side and fill whole vectors.
 */
INLINE int by_pixel(const struct shape *s) { return s->channels_last && s->group % VL == 0; }

/* `block` (pixels × G) becomes `count` pixels from `x` on, minus `shift` (G, or null); their sum is
 * added to `sums` (G) if it is given. */
INLINE void pixels_load(float *block, const void *x, const struct shape *s, const int group,
                        int count, const float *shift, float *sums, const int element) {
    for (int c = 0; c < group; c += VL) {
        const vec near = shift ? load(shift + c) : (vec){0};
        vec sum = {0};
        for (int p = 0; p < count; p++) {
            const void *pixel = at(x, p * s->channels + c, element);
            fetch(at(pixel, FETCHED * s->channels, element));
            const vec v = load_as(pixel, element) - near;
            sum += v;
            store(block + p * group + c, v);
        }
        if (sums) store(sums + c, load(sums + c) + sum);
    }
}

INLINE void tile_write_as(void *y, const struct shape *s, int rows, int width, const float *tile,
                          int stride, const int element) {
    if (!s->channels_last)
        for (int r = 0; r < rows; r++) {
            const void *out = at(y, r * s->pixels, element);
            int p = 0;
            for (; p + VL <= width; p += VL)
                store_as((void *)at(out, p, element), load(tile + r * stride + p), element);
            if (p < width)
                store_first((void *)at(out, p, element), load(tile + r * stride + p), width - p,
                            element);
        }
    else
        for (int p = 0; p < width; p++) {
            float pixel[MAX_GROUP] ALIGNED;
            for (int r = 0; r < rows; r++) pixel[r] = tile[r * stride + p];
            for (int r = 0; r < rows; r += VL)
                store_first((void *)at(y, p * s->channels + r, element), load(pixel + r),
                            rows - r < VL ? rows - r : VL, element);
        }
}

/* Writes `rows` rows × `width` pixels of `tile` (row stride `stride`, whole vectors) to channels
 * row… of the group, pixels first… . */
static __attribute__((noinline)) void tile_store(void *y, const struct shape *s, long n, long g,
                                                 int row, int rows, long first, int width,
                                                 const float *tile, int stride) {
    void *out = (void *)at(pixel_of(y, s, n, g, first), s->channels_last ? row : row * s->pixels,
                           s->element);
#define CALL(element) tile_write_as(out, s, rows, width, tile, stride, element)
    FOR_ELEMENT(s->element, CALL)
#undef CALL
}

#endif
