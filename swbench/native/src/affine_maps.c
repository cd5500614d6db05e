/* y = A x + b and dx = Aᵀ dy + B x + c for every pixel: each tensor is read once, the result
 * written once. */
#include "block.h"
#include "dispatch.h"
#include "threads.h"

/* A tile of rows × (TV vectors of pixels) stays in registers. */
#define TR (REGISTERS == 32 ? 8 : 4)
#define TV 3
#define WANTED_PIXELS 4032
/* Elements of a segment where the channels of a pixel lie side by side: those of three tensors fit
 * a second-level cache of 512 KB. */
#define WANTED_NUMBERS 32768

struct affine_map {
    struct shape s;
    const void *x, *dy; /* dy null for the affine map */
    const float *a, *b, *c;
    void *y;
    int shared;     /* one set of matrices for all images */
    int transposed; /* the matrix is given as its transpose */
    int unbiased;   /* there is no c */
    long groups, segments, segment;
};

/* The block being worked on: where its results go, and the next block of every source. */
struct block {
    long n, g, first;
    int count, sources;
    const float *w, *source, *bias;
    const void *out;
    struct ahead next[2];
};

/* Computes `rows` × `across` vectors of Σ_k w[k][row] source[k][pixel] + bias[row]. Also fetches
 * two cache lines of every row of the next block. */
INLINE void tile_product(const struct block *b, const int group, const int rows, const int across,
                         int row, int p, long line, long another, void *out, long out_stride,
                         const int element) {
    const int stride = padded(group);
    const float *w = b->w + row, *source = b->source + p;
    vec t[TR][TV];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < across; v++) t[r][v] = b->bias[row + r] - (vec){0};
    for (int s = 0; s < b->sources; s++) {
        const char *next = b->next[s].row;
        for (int k = 0; k < group; k++, source += ROW, w += stride, next += b->next[s].stride) {
            fetch(next + line);
            fetch(next + another);
            vec in[TV];
            for (int v = 0; v < across; v++) in[v] = *(const vec *)(source + v * VL);
            for (int r = 0; r < rows; r++)
                for (int v = 0; v < across; v++) t[r][v] += w[r] * in[v];
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < across; v++)
            store_as((void *)at(out, r * out_stride + v * VL, element), t[r][v], element);
}

INLINE void tile_write(const struct affine_map *k, const struct block *b, const int group,
                       const int rows, const int across, int row, int p, const int element) {
    const int bytes = bytes_of(element), width = across * VL,
              used = group - row < rows ? group - row : rows,
              lines = (TV * VL * bytes + LINE - 1) / LINE, part = row / rows;
    /* Tiles of the same pixels share the lines to fetch, two each. */
    const long line = p * bytes + LINE * (2 * part < lines ? 2 * part : lines - 1),
               another = p * bytes + LINE * (2 * part + 1 < lines ? 2 * part + 1 : lines - 1);
    if (!k->s.channels_last && p + width <= b->count && used == rows) {
        const long stride = k->s.pixels;
        void *out = (void *)at(b->out, row * stride + p, element);
        /* Fetch where the next tile writes: a store to memory outside the cache waits for it. */
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < across; v++)
                fetch_to_write(at(out, r * stride + width + v * VL, element));
        tile_product(b, group, rows, across, row, p, line, another, out, stride, element);
    } else {
        float spare[TR * TV * VL] ALIGNED;
        tile_product(b, group, rows, across, row, p, line, another, spare, width, FLOAT32);
        tile_store(k->y, &k->s, b->n, b->g, row, used, b->first + p,
                   b->count - p < width ? b->count - p : width, spare, width);
    }
}

INLINE void rows_write(const struct affine_map *k, const struct block *b, const int group,
                       const int rows, int row, const int element) {
    int p = 0;
    for (; p + (TV - 1) * VL < b->count; p += TV * VL)
        tile_write(k, b, group, rows, TV, row, p, element);
    for (; p < b->count; p += VL) tile_write(k, b, group, rows, 1, row, p, element);
}

/* Computes `across` vectors of channels, from `row` on, of `pixels` pixels. Pixels lie `stride`
 * floats apart where they are read and `out_stride` elements apart where they are written. */
INLINE void pixels_product(const struct block *b, const float *const *from, long stride,
                           const int group, const int across, const int pixels, int row, void *out,
                           long out_stride, const int element) {
    const float *w = b->w + row;
    vec t[TP][TA];
    for (int p = 0; p < pixels; p++)
        for (int v = 0; v < across; v++) t[p][v] = load(b->bias + row + v * VL);
    for (int s = 0; s < b->sources; s++)
        for (int k = 0; k < group; k++, w += group) {
            vec column[TA];
            for (int v = 0; v < across; v++) column[v] = load(w + v * VL);
            for (int p = 0; p < pixels; p++)
                for (int v = 0; v < across; v++) t[p][v] += from[s][p * stride + k] * column[v];
        }
    for (int p = 0; p < pixels; p++)
        for (int v = 0; v < across; v++)
            store_as((void *)at(out, p * out_stride + row + v * VL, element), t[p][v], element);
}

INLINE void pixels_write(const struct affine_map *k, const struct block *b, const int group,
                         const int across, float *scratch, const int element) {
    const void *given[2] = {k->dy ? k->dy : k->x, k->x};
    const float *from[2];
    long stride = element == FLOAT32 ? k->s.channels : group;
    for (int s = 0; s < b->sources; s++, scratch += BLOCK * group) {
        const void *first = pixel_of(given[s], &k->s, b->n, b->g, b->first);
        from[s] = element == FLOAT32 ? first : scratch;
        if (element != FLOAT32) pixels_load(scratch, first, &k->s, group, b->count, 0, 0, element);
    }
    const void *out = b->out;
    const long out_stride = k->s.channels;
    for (int p = 0, pixels; p < b->count; p += pixels) {
        pixels = p + TP <= b->count ? TP : 1;
        for (int i = 0; i < pixels; i++) {
            fetch_to_write(at(out, (TP + i) * out_stride, element));
            for (int s = 0; element == FLOAT32 && s < b->sources; s++)
                fetch((const char *)(from[s] + (FETCHED + i) * stride));
        }
        for (int row = 0; row < group; row += across * VL)
            if (pixels == TP)
                pixels_product(b, from, stride, group, across, TP, row, (void *)out, out_stride,
                               element);
            else
                pixels_product(b, from, stride, group, across, 1, row, (void *)out, out_stride,
                               element);
        out = at(out, pixels * out_stride, element);
        for (int s = 0; s < b->sources; s++) from[s] += pixels * stride;
    }
}

/* Sets w[column][row] from a matrix stored by rows, or from its transpose stored by rows. Rows
 * beyond G are zero. */
INLINE void coefficients(float *w, const float *matrix, const int group, int transposed) {
    const int rows = padded(group);
    if (!transposed && group % VL == 0) {
        for (int i = 0; i < group; i += VL)
            for (int j = 0; j < group; j += VL)
                block_transpose(matrix + i * group + j, group, w + j * group + i, group);
        return;
    }
    for (int j = 0; j < group; j++)
        for (int i = 0; i < rows; i++)
            w[j * rows + i] = i >= group   ? 0.0f
                              : transposed ? matrix[j * group + i]
                                           : matrix[i * group + j];
}

/* `source`: 2G rows, `w`: two matrices, `bias`: a row, all padded. */
INLINE void segment_product(const struct affine_map *k, long n, long g, long first, long last,
                            const int group, const int element, float *source, float *w,
                            float *bias) {
    const int rows = padded(group), terms = k->dy ? 2 * group : group;
    const long at = (k->shared ? 0 : n * k->groups) + g;
    const float *a = k->a + at * group * group, *b = k->dy ? k->b + at * group * group : 0,
                *c = k->unbiased ? 0 : k->c + at * group;
    for (int i = 0; i < rows; i++) bias[i] = c && i < group ? c[i] : 0.0f;
    coefficients(w, a, group, k->transposed);
    if (b) coefficients(w + group * rows, b, group, 0);
    for (long p = first; p < last; p += BLOCK) {
        struct block b = {.n = n,
                          .g = g,
                          .first = p,
                          .count = last - p < BLOCK ? (int)(last - p) : BLOCK,
                          .sources = k->dy ? 2 : 1,
                          .w = w,
                          .source = source,
                          .bias = bias,
                          .out = pixel_of(k->y, &k->s, n, g, p)};
        if (by_pixel(&k->s)) {
            if (group % (TA * VL) == 0)
                pixels_write(k, &b, group, TA, source, element);
            else
                pixels_write(k, &b, group, 1, source, element);
            continue;
        }
        if (k->dy) block_load(source, k->dy, &k->s, n, g, p, b.count, 0, 0, element);
        block_load(source + (terms - group) * ROW, k->x, &k->s, n, g, p, b.count, 0, 0, element);
        b.next[0] = ahead_of(k->dy ? k->dy : k->x, &k->s, n, g, p + BLOCK, source);
        b.next[1] = ahead_of(k->x, &k->s, n, g, p + BLOCK, source);
        int row = 0;
        for (; row + TR <= rows; row += TR) rows_write(k, &b, group, TR, row, element);
        for (; row < rows; row += 4) rows_write(k, &b, group, 4, row, element);
    }
}

#define SEGMENT_PRODUCT(name, most, group, element)                                                \
    static __attribute__((noinline)) void name(const struct affine_map *k, long n, long g,         \
                                               long first, long last) {                            \
        float source[2 * (most) * ROW] ALIGNED, w[2 * (most) * (most)] ALIGNED,                    \
            bias[most] ALIGNED;                                                                    \
        segment_product(k, n, g, first, last, group, element, source, w, bias);                    \
    }
SEGMENT_PRODUCT(segment_product_16, 16, 16, FLOAT32)
SEGMENT_PRODUCT(segment_product_16_bfloat16, 16, 16, BFLOAT16)
SEGMENT_PRODUCT(segment_product_16_float16, 16, 16, FLOAT16)
SEGMENT_PRODUCT(segment_product_any, MAX_GROUP, k->s.group, k->s.element)
#undef SEGMENT_PRODUCT

static void map_segment(const struct affine_map *k, long n, long g, long segment) {
    const long first = segment * k->segment,
               last = first + k->segment < k->s.pixels ? first + k->segment : k->s.pixels;
    static void (*const of_16[])(const struct affine_map *, long, long, long, long) = {
        segment_product_16, segment_product_16_bfloat16, segment_product_16_float16};
    (k->s.group == 16 ? of_16[k->s.element] : segment_product_any)(k, n, g, first, last);
}

static void map_item(void *context, long index) {
    const struct affine_map *k = context;
    if (k->s.channels_last) { /* groups share the cache lines of their pixels */
        for (long g = 0; g < k->groups; g++)
            map_segment(k, index / k->segments, g, index % k->segments);
        return;
    }
    map_segment(k, index / k->segments / k->groups, index / k->segments % k->groups,
                index % k->segments);
}

/* Maps all of one group of one image, from the end: it was read last and may still be in the cache.
 */
static void map_pair(const struct affine_map *k, long n, long g) {
    for (long segment = k->segments - 1; segment >= 0; segment--) map_segment(k, n, g, segment);
}

static void map_begin(struct affine_map *k) {
    k->groups = k->s.channels / k->s.group;
    const long wanted = k->s.channels_last ? WANTED_NUMBERS / k->s.channels + 1 : WANTED_PIXELS,
               segments = (k->s.pixels + wanted - 1) / wanted;
    const int unit = k->s.channels_last ? TP : BLOCK;
    k->segment = ((k->s.pixels + segments - 1) / segments + unit - 1) / unit * unit;
    k->segments = (k->s.pixels + k->segment - 1) / k->segment;
}

static void map_run(struct affine_map *k, int threads) {
    map_begin(k);
    sw_parallel_for(map_item, k, k->s.images * (k->s.channels_last ? 1 : k->groups) * k->segments,
                    sw_useful_threads(multiply_adds(&k->s) * (k->dy ? 2 : 1), threads));
}

static struct affine_map map_of_affine(const void *x, const float *a, const float *b, int shared,
                                       void *y, const struct shape *s) {
    return (struct affine_map){.s = *s, .x = x, .a = a, .c = b, .y = y, .shared = shared};
}

/* dx = Aᵀ dy, where no gradient flows through the statistics. */
static struct affine_map map_of_transposed(const void *dy, const float *a, int shared, void *dx,
                                           const struct shape *s) {
    return (struct affine_map){
        .s = *s, .x = dy, .a = a, .y = dx, .shared = shared, .transposed = 1, .unbiased = 1};
}

static struct affine_map map_of_combine(const void *dy, const void *x, const float *a,
                                        int transposed, const float *b, const float *c, int shared,
                                        void *dx, const struct shape *s) {
    return (struct affine_map){.s = *s,
                               .x = x,
                               .dy = dy,
                               .a = a,
                               .b = b,
                               .c = c,
                               .y = dx,
                               .shared = shared,
                               .transposed = transposed};
}

static void affine(const void *x, const float *a, const float *b, int shared, void *y,
                   const struct shape *s, int threads) {
    struct affine_map k = map_of_affine(x, a, b, shared, y, s);
    map_run(&k, threads);
}

static void combine(const void *dy, const void *x, const float *a, int transposed, const float *b,
                    const float *c, int shared, void *dx, const struct shape *s, int threads) {
    struct affine_map k = map_of_combine(dy, x, a, transposed, b, c, shared, dx, s);
    map_run(&k, threads);
}
