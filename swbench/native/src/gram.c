/* Products of channels with channels, summed over pixels: the mean and covariance of x, and Σ dy (x
 * − shift)ᵀ. Each tensor is read once. */
#include <stdlib.h>

#include "block.h"
#include "dispatch.h"
#include "threads.h"

/* A tile of TI × TJ sums stays in registers. */
#define TI 4
#define TJ (REGISTERS == 32 ? 4 : 2)
/* Pixels of a block where two tensors are read: two blocks and the sums have to fit a first-level
 * cache of 48 KB. */
#define BLOCK_OF_TWO 208
#define NUMBERS_OF_TWO (16 * BLOCK_OF_TWO)
#define WANTED_ITEMS 16
#define LEAST_SEGMENT 1536
/* With at least so many segments per thread, an item is one segment with all its groups. */
#define SEGMENTS_A_THREAD 4

struct gram {
    struct shape s;
    const void *x, *dy;
    const float *shift;           /* (images, channels) */
    float *out_mean, *out_matrix; /* mean and covariance, or Σ dy and Σ dy (x − shift)ᵀ */
    long segments, segment, groups;
    float *partial; /* (images, groups, segments, G·G + G) */
    int *finished;  /* (images, groups) */
};

INLINE void tile(const float *u, const float *v, int width, vec *sums, const char *next,
                 const char *another, const int bytes) {
    vec t[TI][TJ];
    for (int i = 0; i < TI; i++)
        for (int j = 0; j < TJ; j++) t[i][j] = sums[i * TJ + j];
    for (int p = 0; p < width; p += VL) {
        fetch(next + p * bytes);
        fetch(another + p * bytes);
        vec left[TI];
        for (int i = 0; i < TI; i++) left[i] = *(const vec *)(u + i * ROW + p);
        for (int j = 0; j < TJ; j++) {
            const vec right = *(const vec *)(v + j * ROW + p);
            for (int i = 0; i < TI; i++) t[i][j] += left[i] * right;
        }
    }
    for (int i = 0; i < TI; i++)
        for (int j = 0; j < TJ; j++) sums[i * TJ + j] = t[i][j];
}

/* Computes all tiles of u vᵀ; with `half`, only those that reach the lower triangle. Each tile also
 * fetches one row of `first` and one of `second`, as long as rows are left. `second` is the next
 * block of v; with `half`, it becomes the rows of u that no tile fetches from `first`. */
INLINE void tiles(const float *u, const float *v, int rows, int width, int half, vec *sums,
                  struct ahead first, struct ahead second, const int bytes) {
    const int count = half ? rows / TI * (rows / TJ + TI / TJ) / 2 : rows / TI * (rows / TJ);
    int firsts = rows, seconds = half ? rows - count : rows;
    if (half) second.row += count * second.stride;
    for (int i = 0; i < rows; i += TI)
        for (int j = 0; j < (half ? i + TI : rows); j += TJ, sums += TI * TJ, firsts--, seconds--) {
            tile(u + i * ROW, v + j * ROW, width, sums, firsts > 0 ? first.row : (const char *)u,
                 seconds > 0 ? second.row : (const char *)u, bytes);
            first.row += first.stride, second.row += second.stride;
        }
}

static void finish(const struct gram *k, long n, long g) {
    const int group = k->s.group, size = group * group + group;
    const float *partial = k->partial + (n * k->groups + g) * k->segments * size,
                *shift = k->shift + (n * k->groups + g) * group;
    float *matrix = k->out_matrix + (n * k->groups + g) * group * group,
          *mean = k->out_mean + (n * k->groups + g) * group;
    if (k->dy && k->segments == 1) {
        memcpy(matrix, partial, sizeof(float) * group * group);
        memcpy(mean, partial + group * group, sizeof(float) * group);
        return;
    }
    double total[MAX_GROUP * MAX_GROUP + MAX_GROUP];
    for (int e = 0; e < size; e++) total[e] = partial[e];
    for (long segment = 1; segment < k->segments; segment++)
        for (int e = 0; e < size; e++) total[e] += partial[segment * size + e];
    const double *sum = total + group * group;
    if (k->dy) {
        for (int e = 0; e < group * group; e++) matrix[e] = (float)total[e];
        for (int i = 0; i < group; i++) mean[i] = (float)sum[i];
        return;
    }
    const double share = 1.0 / (double)k->s.pixels;
    for (int i = 0; i < group; i++) {
        for (int j = 0; j < group; j++)
            matrix[i * group + j] =
                (float)((total[i * group + j] - sum[i] * sum[j] * share) * share);
        mean[i] = (float)(sum[i] * share + shift[i]);
    }
    for (int i = 0; i < group; i++) /* only tiles that reach the lower triangle were summed */
        for (int j = i + 1; j < group; j++) matrix[i * group + j] = matrix[j * group + i];
}

/* Adds `rows` × `across` vectors of Σ_p u[p][i…] v[p][j…] to `sums` (G × G). */
INLINE void pixels_tile(const float *u, const float *v, int count, const int group, const int rows,
                        const int across, float *sums) {
    vec t[TP][TA];
    for (int r = 0; r < rows; r++)
        for (int a = 0; a < across; a++) t[r][a] = (vec){0};
    for (int p = 0; p < count; p++, u += group, v += group) {
        vec right[TA];
        for (int a = 0; a < across; a++) right[a] = load(v + a * VL);
        for (int r = 0; r < rows; r++)
            for (int a = 0; a < across; a++) t[r][a] += u[r] * right[a];
    }
    for (int r = 0; r < rows; r++)
        for (int a = 0; a < across; a++) {
            float *sum = sums + r * group + a * VL;
            store(sum, load(sum) + t[r][a]);
        }
}

INLINE void pixels_tiles_across(const float *u, const float *v, int count, const int group,
                                const int rows, int most, float *sums) {
    int j = 0;
    for (; j + TA * VL <= most; j += TA * VL)
        pixels_tile(u, v + j, count, group, rows, TA, sums + j);
    for (; j < most; j += VL) pixels_tile(u, v + j, count, group, rows, 1, sums + j);
}

/* Adds all of u vᵀ to `sums`; with `half`, only the tiles that reach the lower triangle. */
INLINE void pixels_tiles(const float *u, const float *v, int count, const int group, int half,
                         float *sums) {
    int i = 0;
#define TILES(rows)                                                                                \
    for (; i + rows <= group; i += rows)                                                           \
    pixels_tiles_across(u + i, v, count, group, rows, half ? full_vectors(i + rows) : group,       \
                        sums + i * group)
    TILES(TP);
    TILES(4);
    TILES(2);
#undef TILES
}

static float *partial_of(const struct gram *k, long n, long g, long segment) {
    const int group = k->s.group;
    return k->partial + ((n * k->groups + g) * k->segments + segment) * (group * group + group);
}

/* Adds the sums of one block of one group, where the channels of a pixel lie side by side. The
 * block is summed by itself first: so the error grows with the pixels of a block and the number of
 * blocks. */
INLINE void pixels_sums(const struct gram *k, long n, long g, long first, int count,
                        const int group, const int element, float *partial, float *u, float *v) {
    const float *shift = k->shift + (n * k->groups + g) * group;
    float *row_sums = partial + group * group;
    const void *x = pixel_of(k->x, &k->s, n, g, first);
    if (!k->dy) {
        pixels_load(u, x, &k->s, group, count, shift, row_sums, element);
        pixels_tiles(u, u, count, group, 1, partial);
    } else {
        const void *dy = pixel_of(k->dy, &k->s, n, g, first);
        pixels_load(u, dy, &k->s, group, count, 0, row_sums, element);
        pixels_load(v, x, &k->s, group, count, shift, 0, element);
        pixels_tiles(u, v, count, group, 0, partial);
    }
}

#define PIXELS_SUMS(name, group, element)                                                          \
    static __attribute__((noinline)) void name(const struct gram *k, long n, long g, long first,   \
                                               int count, float *partial) {                        \
        float u[NUMBERS_OF_TWO] ALIGNED, v[NUMBERS_OF_TWO] ALIGNED;                                \
        pixels_sums(k, n, g, first, count, group, element, partial, u, v);                         \
    }
PIXELS_SUMS(pixels_sums_16, 16, FLOAT32)
PIXELS_SUMS(pixels_sums_16_bfloat16, 16, BFLOAT16)
PIXELS_SUMS(pixels_sums_16_float16, 16, FLOAT16)
PIXELS_SUMS(pixels_sums_any, k->s.group, k->s.element)
#undef PIXELS_SUMS

/* Sums one segment of the groups from `g` to before `end`, block by block: the groups share the
 * cache lines of their pixels. */
static void pixels_segment(const struct gram *k, long n, long g, long end, long segment) {
    static void (*const of_16[])(const struct gram *, long, long, long, int, float *) = {
        pixels_sums_16, pixels_sums_16_bfloat16, pixels_sums_16_float16};
    const int group = k->s.group, block = NUMBERS_OF_TWO / group;
    const long first = segment * k->segment,
               last = first + k->segment < k->s.pixels ? first + k->segment : k->s.pixels;
    for (long i = g; i < end; i++)
        memset(partial_of(k, n, i, segment), 0, sizeof(float) * (group * group + group));
    for (long p = first; p < last; p += block)
        for (long i = g; i < end; i++)
            (group == 16 ? of_16[k->s.element]
                         : pixels_sums_any)(k, n, i, p, last - p < block ? (int)(last - p) : block,
                                            partial_of(k, n, i, segment));
}

/* `u` and `v` have padded(G) rows; `sums` has padded(G)² vectors, `row_sums` G vectors. */
INLINE void segment_sums(const struct gram *k, long n, long g, long first, long last,
                         const int group, const int element, float *partial, float *u, float *v,
                         vec *sums, vec *row_sums) {
    const int rows = padded(group), half = !k->dy, bytes = bytes_of(element);
    for (int e = 0; e < rows * rows; e++) sums[e] = (vec){0};
    for (int i = 0; i < group; i++) row_sums[i] = (vec){0};
    for (int i = group * ROW; i < rows * ROW; i++) u[i] = v[i] = 0.0f;
    const float *shift = k->shift + (n * k->groups + g) * group;
    const long most = half ? BLOCK : BLOCK_OF_TWO, blocks = (last - first + most - 1) / most;
    /* Blocks of equal size: a short block fetches little of the next one. */
    const int block = full_vectors((int)((last - first + blocks - 1) / blocks));
    for (long p = first; p < last; p += block) {
        const int count = last - p < block ? (int)(last - p) : block, width = full_vectors(count);
        const struct ahead next = ahead_of(k->x, &k->s, n, g, p + block, u);
        if (half) {
            block_load(u, k->x, &k->s, n, g, p, count, shift, row_sums, element);
            tiles(u, u, rows, width, 1, sums, next, next, bytes);
        } else {
            block_load(u, k->dy, &k->s, n, g, p, count, 0, row_sums, element);
            block_load(v, k->x, &k->s, n, g, p, count, shift, 0, element);
            tiles(u, v, rows, width, 0, sums, next, ahead_of(k->dy, &k->s, n, g, p + block, u),
                  bytes);
        }
    }
    if (half)
        for (int e = 0; e < group * group; e++) partial[e] = 0;
    const vec *next = sums;
    for (int i = 0; i < rows; i += TI)
        for (int j = 0; j < (half ? i + TI : rows); j += TJ, next += TI * TJ) {
            float sum[TI * TJ] ALIGNED;
            for (int e = 0; e < TI * TJ; e += VL) *(vec *)(sum + e) = lanes_sums(next + e);
            const int across = group - j < TJ ? group - j : TJ;
            for (int r = 0; r < TI && i + r < group; r++)
                for (int c = 0; c < across; c++) partial[(i + r) * group + j + c] = sum[r * TJ + c];
        }
    for (int i = 0; i < group; i++) partial[group * group + i] = lanes_sum(row_sums[i]);
}

/* Each variant takes no more stack than its G needs: memory that was not touched lately is not in
 * the cache. */
#define SEGMENT_SUMS(name, most, group, element)                                                   \
    static __attribute__((noinline)) void name(const struct gram *k, long n, long g, long first,   \
                                               long last, float *partial) {                        \
        float u[(most) * ROW] ALIGNED, v[(most) * ROW] ALIGNED;                                    \
        vec sums[(most) * (most)], row_sums[most];                                                 \
        segment_sums(k, n, g, first, last, group, element, partial, u, v, sums, row_sums);         \
    }
SEGMENT_SUMS(segment_sums_16, 16, 16, FLOAT32)
SEGMENT_SUMS(segment_sums_16_bfloat16, 16, 16, BFLOAT16)
SEGMENT_SUMS(segment_sums_16_float16, 16, 16, FLOAT16)
SEGMENT_SUMS(segment_sums_any, MAX_GROUP, k->s.group, k->s.element)
#undef SEGMENT_SUMS

static void gram_segment(const struct gram *k, long n, long g, long segment) {
    if (by_pixel(&k->s)) return pixels_segment(k, n, g, g + 1, segment);
    static void (*const of_16[])(const struct gram *, long, long, long, long, float *) = {
        segment_sums_16, segment_sums_16_bfloat16, segment_sums_16_float16};
    const long first = segment * k->segment,
               last = first + k->segment < k->s.pixels ? first + k->segment : k->s.pixels;
    (k->s.group == 16 ? of_16[k->s.element] : segment_sums_any)(k, n, g, first, last,
                                                                partial_of(k, n, g, segment));
}

/* The thread that finishes the last segment of a group adds the segments up, always in the same
 * order. */
static void segment_finished(const struct gram *k, long n, long g) {
    if (__atomic_add_fetch(&k->finished[n * k->groups + g], 1, __ATOMIC_ACQ_REL) == k->segments)
        finish(k, n, g);
}

static void gram_item(void *context, long index) {
    const struct gram *k = context;
    const long segment = index % k->segments, g = index / k->segments % k->groups,
               n = index / k->segments / k->groups;
    gram_segment(k, n, g, segment);
    segment_finished(k, n, g);
}

/* One segment of all groups. */
static void gram_pixels(void *context, long index) {
    const struct gram *k = context;
    const long segment = index % k->segments, n = index / k->segments;
    pixels_segment(k, n, 0, k->groups, segment);
    for (long g = 0; g < k->groups; g++) segment_finished(k, n, g);
}

/* All segments of one group of one image. */
static void gram_pair(const struct gram *k, long n, long g) {
    for (long segment = 0; segment < k->segments; segment++) gram_segment(k, n, g, segment);
    finish(k, n, g);
}

/* The segments depend on the shape alone, so the result does not depend on the number of threads.
 * Returns 1 when memory ran out. */
static int gram_begin(struct gram *k) {
    k->groups = k->s.channels / k->s.group;
    const long pairs = k->s.images * k->groups,
               most = (k->s.pixels + LEAST_SEGMENT - 1) / LEAST_SEGMENT;
    long segments = (WANTED_ITEMS + pairs - 1) / pairs;
    if (segments > most) segments = most;
    k->segment = ((k->s.pixels + segments - 1) / segments + BLOCK - 1) / BLOCK * BLOCK;
    k->segments = (k->s.pixels + k->segment - 1) / k->segment;
    k->partial =
        malloc(sizeof(float) * pairs * k->segments * (k->s.group * k->s.group + k->s.group));
    k->finished = calloc(pairs, sizeof(int));
    return !k->partial || !k->finished;
}

static void gram_end(struct gram *k) {
    free(k->partial);
    free(k->finished);
}

static int gram_run(struct gram *k, int threads) {
    const int failed = gram_begin(k),
              used_threads = sw_useful_threads(multiply_adds(&k->s), threads);
    const long segments = k->s.images * k->segments;
    if (!failed && by_pixel(&k->s) && segments >= SEGMENTS_A_THREAD * used_threads)
        sw_parallel_for(gram_pixels, k, segments, used_threads);
    else if (!failed)
        sw_parallel_for(gram_item, k, segments * k->groups, used_threads);
    gram_end(k);
    return failed;
}

static struct gram gram_of_moments(const void *x, const float *shift, float *mean, float *cov,
                                   const struct shape *s) {
    return (struct gram){.s = *s, .x = x, .shift = shift, .out_mean = mean, .out_matrix = cov};
}

static struct gram gram_of_products(const void *dy, const void *x, const float *shift, float *m,
                                    float *sums, const struct shape *s) {
    return (struct gram){
        .s = *s, .x = x, .dy = dy, .shift = shift, .out_mean = sums, .out_matrix = m};
}

static int moments(const void *x, const float *shift, float *mean, float *cov,
                   const struct shape *s, int threads) {
    struct gram k = gram_of_moments(x, shift, mean, cov, s);
    return gram_run(&k, threads);
}

static int products(const void *dy, const void *x, const float *shift, float *m, float *sums,
                    const struct shape *s, int threads) {
    struct gram k = gram_of_products(dy, x, shift, m, sums, s);
    return gram_run(&k, threads);
}
