/* The two calls of a whole layer with torch's tensors in place of addresses. The properties of the
 * tensors are read here, because each of them costs Python a call. Tensors that C cannot read are
 * left to Python. */
#include <stdlib.h>

#include "dlpack.h"
#include "element.h"
#include "fused_layer.h"

/* The part of Python's stable ABI that is used. It is declared here because the library is built
 * without Python's headers and works with every Python. */
typedef struct python_object object;
struct method { /* PyMethodDef */
    const char *name;
    object *(*call)(object *, object *const *, intptr_t);
    int flags;
    const char *about;
};
enum { FAST_CALL = 0x80 }; /* METH_FASTCALL */
object *PyObject_Type(object *);
object *PyObject_CallFunctionObjArgs(object *, ...);
int PyObject_IsTrue(object *);
object *PyTuple_GetItem(object *, intptr_t);
void *PyLong_AsVoidPtr(object *);
long PyLong_AsLong(object *);
object *PyLong_FromLong(long);
object *PyErr_Occurred(void);
object *PyErr_Format(object *, const char *, ...);
extern object *PyExc_TypeError;
object *PyCFunction_NewEx(struct method *, object *, object *);
void Py_IncRef(object *);
void Py_DecRef(object *);
void PyErr_Clear(void);
void *PyEval_SaveThread(void);
void PyEval_RestoreThread(void *);

enum { UNSUPPORTED = 2 }; /* a result beside 0 and 1 of sw_forward: nothing was done */

static const struct dl_exchange *exchange = 0;
static object *tensor_type, *parameter_type, *is_neg, *none;

/* Registers torch's exchange table of DLPack (or null), Tensor, Parameter, Tensor.is_neg and None.
 * Returns whether tensors can be read. Before this call, every call of a layer returns UNSUPPORTED.
 */
EXPORT int sw_read_tensors(const struct dl_exchange *table, object *tensor, object *parameter,
                           object *negative, object *nothing) {
    Py_IncRef(tensor), Py_IncRef(parameter), Py_IncRef(negative);
    tensor_type = tensor, parameter_type = parameter, is_neg = negative, none = nothing;
    exchange = table && table->version.major == DL_MAJOR && table->view ? table : 0;
    return exchange != 0;
}

enum { GIVEN, MADE = 1, AT_LEAST = 2 }; /* what is expected of a tensor */

static int positive(object *o) {
    object *negative = PyObject_CallFunctionObjArgs(is_neg, o, (void *)0);
    const int is = negative && PyObject_IsTrue(negative) == 0;
    if (negative) Py_DecRef(negative);
    return is;
}

enum { OTHER = -1 };

/* One of enum element, or OTHER. */
static int element_of(const struct dl_tensor *t) {
    if (t->dtype.lanes != 1) return OTHER;
    if (t->dtype.bits == 32) return t->dtype.code == DL_FLOAT ? FLOAT32 : OTHER;
    if (t->dtype.bits != 16) return OTHER;
    return t->dtype.code == DL_BFLOAT ? BFLOAT16 : t->dtype.code == DL_FLOAT ? FLOAT16 : OTHER;
}

/* Whether `o` is a tensor on the CPU, of a known element, whose memory holds its values. False
 * where the memory holds their negation (not checked if the tensor was MADE for this call), and
 * where there is no memory, as in a zero tensor of forward-mode differentiation. */
static int readable(object *o, struct dl_tensor *t, int expected) {
    object *type = o ? PyObject_Type(o) : 0;
    const int holds = type && (type == tensor_type || type == parameter_type) &&
                      !exchange->view(o, t) && (expected & MADE || positive(o));
    if (type) Py_DecRef(type);
    if (!holds) PyErr_Clear();
    return holds && t->data && t->device.type == DL_CPU && element_of(t) != OTHER;
}

static void *memory(const struct dl_tensor *t) { return (char *)t->data + t->byte_offset; }

/* The number of elements of a tensor that is dense with its dimensions in this `order`, outermost
 * first; -1 if it is not. */
static int64_t dense(const struct dl_tensor *t, const int *order) {
    int64_t size = 1;
    for (int i = t->dims - 1; i >= 0; i--) {
        const int d = order[i];
        if (t->shape[d] != 1 && t->strides[d] != size) return -1;
        size *= t->shape[d];
    }
    return size;
}

enum { DIMS = 8 }; /* more than any tensor here needs */
static const int in_order[DIMS] = {0, 1, 2, 3, 4, 5, 6, 7}, channels_last[] = {0, 2, 3, 1};

/* A small tensor of 16-bit numbers and its values as floats, which C works on. */
struct widened {
    float *floats;
    void *numbers;
    int64_t count;
    int element;
};

enum { SMALL = 6 }; /* the parameters and the running statistics */

/* The state of reading the tensors of one call. `supported` holds until a tensor is not supported;
 * `height` is that of the images. */
struct reader {
    const struct fused_layer *k;
    int supported;
    int64_t height;
    int count;
    struct widened small[SMALL];
};

static float *unsupported(struct reader *r) {
    r->supported = 0;
    return 0;
}

/* The `count` floats of a tensor: its memory, or widened copies of 16-bit numbers. */
static float *floats(struct reader *r, const struct dl_tensor *t, int64_t count) {
    const int element = element_of(t);
    if (element == FLOAT32) return memory(t);
    float *out = malloc(sizeof(float) * count);
    if (!out) return unsupported(r); /* Python then reports the lack of memory */
    widen_all(out, memory(t), count, element);
    r->small[r->count++] = (struct widened){out, memory(t), count, element};
    return out;
}

/* Frees the widened copies, after writing those of the running statistics back if they `moved`. */
static void give_back(struct reader *r, const float *moved_mean, const float *moved_cov) {
    for (int i = 0; i < r->count; i++) {
        const struct widened *w = r->small + i;
        if (w->floats == moved_mean || w->floats == moved_cov)
            round_all(w->numbers, w->floats, w->count, w->element);
        free(w->floats);
    }
}

/* The memory of images in the shape, layout and element of the layer; null for None. */
static void *images(struct reader *r, object *o, int expected) {
    struct dl_tensor t;
    if (o == none || !r->supported) return 0;
    if (!readable(o, &t, expected) || element_of(&t) != r->k->element || t.dims != 4 ||
        t.shape[0] != r->k->images || t.shape[1] != r->k->channels ||
        t.shape[2] * t.shape[3] != r->k->pixels || (r->height && t.shape[2] != r->height) ||
        dense(&t, r->k->channels_last ? channels_last : in_order) < 0)
        return unsupported(r);
    r->height = t.shape[2];
    return memory(&t);
}

/* The memory of `count` floats, or of AT_LEAST so many, of any shape; null for None. */
static float *row(struct reader *r, object *o, int64_t count, int expected) {
    struct dl_tensor t;
    if (o == none || !r->supported) return 0;
    if (!readable(o, &t, expected) || t.dims > DIMS) return unsupported(r);
    const int64_t size = dense(&t, in_order);
    if (size == count && !(expected & (MADE | AT_LEAST))) return floats(r, &t, count);
    return element_of(&t) == FLOAT32 && (size == count || (expected & AT_LEAST && size > count))
               ? memory(&t)
               : unsupported(r);
}

/* Running statistics (g, G, `columns`). */
static float *matrices(struct reader *r, object *o, int64_t columns) {
    const int64_t group = r->k->group;
    struct dl_tensor t;
    if (!r->supported) return 0;
    if (!readable(o, &t, GIVEN) || t.dims != 3 || t.shape[0] * group != r->k->channels ||
        t.shape[1] != group || t.shape[2] != columns || dense(&t, in_order) < 0)
        return unsupported(r);
    return floats(r, &t, r->k->channels * columns);
}

/* Computes y from x, the parameters (γ, β, both logits) and `running`: the running statistics
 * (means, covariances; further entries are ignored), or None. Training updates the running
 * statistics. */
static int forward_tensors(const struct fused_layer *k, object *x, object *y, object *workspace,
                           object *parameters, object *running, int threads) {
    struct reader r = {k, exchange != 0, 0, 0, {{0}}};
    const int64_t sizes[] = {k->channels, k->channels, k->kinds, k->kinds};
    float *p[4], *mean = 0, *cov = 0;
    const void *in = images(&r, x, GIVEN);
    void *out = images(&r, y, MADE);
    float *space = row(&r, workspace, sw_workspace(k), MADE | AT_LEAST);
    for (int i = 0; i < 4; i++) p[i] = row(&r, PyTuple_GetItem(parameters, i), sizes[i], GIVEN);
    if (running != none) {
        mean = matrices(&r, PyTuple_GetItem(running, 0), 1);
        cov = matrices(&r, PyTuple_GetItem(running, 1), k->group);
    }
    int failed = UNSUPPORTED;
    if (r.supported && in && out && space && (mean || !k->uses_batch)) {
        void *thread = PyEval_SaveThread();
        failed = sw_forward(k, in, out, space, mean, cov, p[0], p[1], p[2], p[3], threads);
        PyEval_RestoreThread(thread);
    }
    const int moved = !failed && k->training;
    give_back(&r, moved ? mean : 0, moved ? cov : 0);
    return failed;
}

/* Computes the gradients of x and of the parameters, except those that are None. */
static int backward_tensors(const struct fused_layer *k, object *dy, object *x, object *workspace,
                            object *gradients, int threads) {
    struct reader r = {k, exchange != 0, 0, 0, {{0}}};
    const int64_t sizes[] = {k->channels, k->channels, k->kinds, k->kinds};
    float *p[4];
    const void *of_y = images(&r, dy, GIVEN), *in = images(&r, x, GIVEN);
    float *space = row(&r, workspace, sw_workspace(k), AT_LEAST);
    void *of_x = images(&r, PyTuple_GetItem(gradients, 0), MADE);
    for (int i = 0; i < 4; i++) p[i] = row(&r, PyTuple_GetItem(gradients, i + 1), sizes[i], MADE);
    if (!r.supported || !of_y || !in || !space) return UNSUPPORTED;
    void *thread = PyEval_SaveThread();
    const int failed = sw_backward(k, of_y, in, space, of_x, p[0], p[1], p[2], p[3], threads);
    PyEval_RestoreThread(thread);
    return failed;
}

static object *wrong_count(int count) {
    PyErr_Format(PyExc_TypeError, "expected %d arguments", count);
    return 0;
}

enum { FORWARD = 7, BACKWARD = 6 }; /* arguments */

/* Calls either function with arguments from Python: the address of the layer first, the threads
 * last. */
static object *called(object *const *given, int count) {
    const struct fused_layer *k = PyLong_AsVoidPtr(given[0]);
    const int threads = (int)PyLong_AsLong(given[count - 1]);
    if (PyErr_Occurred()) return 0;
    return PyLong_FromLong(
        count == FORWARD
            ? forward_tensors(k, given[1], given[2], given[3], given[4], given[5], threads)
            : backward_tensors(k, given[1], given[2], given[3], given[4], threads));
}

static object *forward(object *self, object *const *given, intptr_t count) {
    (void)self;
    return count == FORWARD ? called(given, FORWARD) : wrong_count(FORWARD);
}

static object *backward(object *self, object *const *given, intptr_t count) {
    (void)self;
    return count == BACKWARD ? called(given, BACKWARD) : wrong_count(BACKWARD);
}

/* Returns a new Python function, `forward_tensors` or `backward_tensors`. A call through ctypes
 * would cost a layer after a convolution some 10 µs more. */
EXPORT object *sw_function(int is_backward) {
    static struct method methods[] = {
        {"forward", forward, FAST_CALL, "(address, x, y, workspace, parameters, running, threads)"},
        {"backward", backward, FAST_CALL, "(address, dy, x, workspace, gradients, threads)"}};
    return PyCFunction_NewEx(methods + !!is_backward, 0, 0);
}
