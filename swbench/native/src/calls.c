/* Calls of a whole layer on Python's own interface: the layer's tensors are read where they lie,
   without a Python call for each of their properties. Everything that is not as it was when the
   call was made ready is left to the caller: the methods return None then and have done nothing. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#include "plain.h"
#include "whole.h"

enum { GRADIENTS = 6 }; /* of x, the four parameters, and what is no tensor */
#define NO_MEMORY "no memory for the sums of a native whitening layer"

long sw_room(const struct whole *);
int sw_forward(const struct whole *, const float *x, float *y, float *room, float *running_mean,
               float *running_cov, const float *gamma, const float *beta, const float *mean_logits,
               const float *cov_logits, int threads);
int sw_backward(const struct whole *, const float *dy, const float *x, float *room, float *dx,
                float *grad_gamma, float *grad_beta, float *grad_mean_logits,
                float *grad_cov_logits, int threads);

static PyObject *empty_like, *threads_of; /* of torch; one way to make tensors and not two, for only
                                             the first call finds its code cold */

struct call {
    PyObject_HEAD
    struct whole k;
    int64_t shape[4], strides[4];
    long room;
    PyObject *of_room, *running_mean, *running_cov, *of_channels, *of_kinds;
};

/* An input or its gradient, of the shape and the strides of this kind of call; null if it is not.
 */
static float *image(const struct call *c, PyObject *object) {
    struct dl_tensor t;
    if (!seen(object, &t) || t.dims != 4) return 0;
    for (int i = 0; i < 4; i++)
        if (t.shape[i] != c->shape[i] || (t.shape[i] > 1 && t.strides[i] != c->strides[i]))
            return 0;
    return memory(&t);
}

static int threads_now(void) {
    PyObject *count = PyObject_CallNoArgs(threads_of);
    const long threads = count ? PyLong_AsLong(count) : -1;
    Py_XDECREF(count);
    return (int)threads;
}

struct inputs {
    const float *x, *gamma, *beta, *mean, *cov;
    float *running_mean, *running_cov;
    int plain;
};

/* Returns 0 with an exception for other than five arguments. */
static int inputs_of(const struct call *c, PyObject *const *given, Py_ssize_t count,
                     struct inputs *in) {
    if (count != 5) {
        PyErr_Format(PyExc_TypeError, "x and four parameters are wanted, not %zd arguments", count);
        return 0;
    }
    if (!c->of_room)
        return PyErr_SetString(PyExc_ReferenceError, "this call has been torn down"), 0;
    const long group = c->k.group, groups = c->k.channels / group;
    in->x = image(c, given[0]);
    in->plain = in->x && !negative(given[0]);
    in->gamma = row_or_none(given[1], c->k.channels, &in->plain),
    in->beta = row_or_none(given[2], c->k.channels, &in->plain);
    in->mean = row_or_none(given[3], c->k.kinds, &in->plain),
    in->cov = row_or_none(given[4], c->k.kinds, &in->plain);
    in->running_mean = matrices_or_none(c->running_mean, groups, group, 1, &in->plain);
    in->running_cov = matrices_or_none(c->running_cov, groups, group, group, &in->plain);
    return 1;
}

/* forward(x, gamma, beta, mean_logits, cov_logits) -> (y, room) */
static PyObject *call_forward(PyObject *self, PyObject *const *given, Py_ssize_t count) {
    const struct call *c = (struct call *)self;
    struct inputs in;
    if (!inputs_of(c, given, count, &in)) return 0;
    if (!in.plain) Py_RETURN_NONE;
    PyObject *y = PyObject_CallOneArg(empty_like, given[0]);
    PyObject *room = y ? PyObject_CallOneArg(empty_like, c->of_room) : 0;
    PyObject *both = room ? PyTuple_Pack(2, y, room) : 0;
    if (both) {
        float *y_at = image(c, y), *room_at = row(room, c->room, 0);
        const int threads = threads_now();
        int failed = 0;
        if (threads < 0 || !y_at || !room_at) {
            Py_CLEAR(both);
            if (threads >= 0) both = Py_NewRef(Py_None);
        } else {
            Py_BEGIN_ALLOW_THREADS failed =
                sw_forward(&c->k, in.x, y_at, room_at, in.running_mean, in.running_cov, in.gamma,
                           in.beta, in.mean, in.cov, threads);
            Py_END_ALLOW_THREADS if (failed) {
                PyErr_SetString(PyExc_MemoryError, NO_MEMORY);
                Py_CLEAR(both);
            }
        }
    }
    Py_XDECREF(y);
    Py_XDECREF(room);
    return both;
}

/* takes(x, gamma, beta, mean_logits, cov_logits) -> whether forward does. */
static PyObject *call_takes(PyObject *self, PyObject *const *given, Py_ssize_t count) {
    struct inputs in;
    return inputs_of((struct call *)self, given, count, &in) ? PyBool_FromLong(in.plain) : 0;
}

/* backward(dy, x, room, wanted) -> (dx, gamma, beta, mean_logits, cov_logits, None): the gradients
 * of those `wanted`, a tuple of six truths. */
static PyObject *call_backward(PyObject *self, PyObject *const *given, Py_ssize_t count) {
    struct call *c = (struct call *)self;
    if (count != 4 || !PyTuple_Check(given[3]) || PyTuple_GET_SIZE(given[3]) != GRADIENTS)
        return PyErr_Format(PyExc_TypeError, "backward takes dy, x, room and a tuple of %d",
                            GRADIENTS);
    if (!c->of_room)
        return PyErr_SetString(PyExc_ReferenceError, "this call has been torn down"), NULL;
    const float *dy = image(c, given[0]), *x = image(c, given[1]);
    float *room = row(given[2], c->room, 1), *at[GRADIENTS] = {0};
    if (!dy || !x || !room || negative(given[0]) || negative(given[1])) Py_RETURN_NONE;
    PyObject *like[GRADIENTS] = {given[1],    c->of_channels, c->of_channels,
                                 c->of_kinds, c->of_kinds,    0},
             *all = PyTuple_New(GRADIENTS);
    const long sizes[GRADIENTS] = {0, c->k.channels, c->k.channels, c->k.kinds, c->k.kinds, 0};
    for (int i = 0; all && i < GRADIENTS; i++) {
        if (!like[i] || PyTuple_GET_ITEM(given[3], i) != Py_True) {
            PyTuple_SET_ITEM(all, i, Py_NewRef(Py_None));
            continue;
        }
        PyObject *made = PyObject_CallOneArg(empty_like, like[i]);
        if (!made) {
            Py_CLEAR(all);
            break;
        }
        PyTuple_SET_ITEM(all, i, made);
        at[i] = i ? row(made, sizes[i], 0) : image(c, made);
        if (!at[i]) {
            Py_DECREF(all);
            Py_RETURN_NONE;
        }
    }
    const int threads = all ? threads_now() : -1;
    int failed = 0;
    if (threads < 0) {
        Py_XDECREF(all);
        return 0;
    }
    Py_BEGIN_ALLOW_THREADS failed =
        sw_backward(&c->k, dy, x, room, at[0], at[1], at[2], at[3], at[4], threads);
    Py_END_ALLOW_THREADS if (failed) {
        PyErr_SetString(PyExc_MemoryError, NO_MEMORY);
        Py_CLEAR(all);
    }
    return all;
}

/* Call(address of a struct whole, (N, C, H, W), running_mean, running_cov, of_room, of_channels,
   of_kinds): the running statistics or None, and tensors of the size of a room, of C, and of as
   many elements as there are weights, like which new ones are made. */
static int call_init(PyObject *self, PyObject *args, PyObject *keywords) {
    struct call *c = (struct call *)self;
    unsigned long long address;
    long long n, channels, height, width;
    PyObject *running_mean, *running_cov, *of_room, *of_channels, *of_kinds;
    if (keywords) return PyErr_SetString(PyExc_TypeError, "Call takes no keywords"), -1;
    if (!PyArg_ParseTuple(args, "K(LLLL)OOOOO", &address, &n, &channels, &height, &width,
                          &running_mean, &running_cov, &of_room, &of_channels, &of_kinds))
        return -1;
    if (!empty_like) return PyErr_SetString(PyExc_RuntimeError, "join has not been called"), -1;
    c->k = *(const struct whole *)(uintptr_t)address;
    const int64_t shape[4] = {n, channels, height, width};
    const int64_t near[4] = {channels * height * width, height * width, width, 1},
                  last[4] = {channels * height * width, 1, width * channels, channels};
    memcpy(c->shape, shape, sizeof shape);
    memcpy(c->strides, c->k.channels_last ? last : near, sizeof near);
    Py_XSETREF(c->of_room, Py_NewRef(of_room));
    c->room = sw_room(&c->k);
    Py_XSETREF(c->running_mean, Py_NewRef(running_mean));
    Py_XSETREF(c->running_cov, Py_NewRef(running_cov));
    Py_XSETREF(c->of_channels, Py_NewRef(of_channels));
    Py_XSETREF(c->of_kinds, Py_NewRef(of_kinds));
    return 0;
}

static int call_traverse(PyObject *self, visitproc visit, void *arg) {
    struct call *c = (struct call *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(c->of_room);
    Py_VISIT(c->running_mean);
    Py_VISIT(c->running_cov);
    Py_VISIT(c->of_channels);
    Py_VISIT(c->of_kinds);
    return 0;
}

static int call_clear(PyObject *self) {
    struct call *c = (struct call *)self;
    Py_CLEAR(c->of_room);
    Py_CLEAR(c->running_mean);
    Py_CLEAR(c->running_cov);
    Py_CLEAR(c->of_channels);
    Py_CLEAR(c->of_kinds);
    return 0;
}

static void call_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    call_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef call_methods[] = {
    {"takes", (PyCFunction)(void (*)(void))call_takes, METH_FASTCALL, 0},
    {"forward", (PyCFunction)(void (*)(void))call_forward, METH_FASTCALL, 0},
    {"backward", (PyCFunction)(void (*)(void))call_backward, METH_FASTCALL, 0},
    {0},
};

static PyType_Slot call_slots[] = {
    {Py_tp_doc, "Both ways of a layer for inputs of one shape and layout."},
    {Py_tp_init, call_init},
    {Py_tp_traverse, call_traverse},
    {Py_tp_clear, call_clear},
    {Py_tp_dealloc, call_dealloc},
    {Py_tp_methods, call_methods},
    {0},
};

static PyType_Spec call_spec = {"swbench.native._kernels.Call", sizeof(struct call), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, call_slots};

/* join(torch) -> whether its tensors can be read here. */
static PyObject *join(PyObject *module, PyObject *torch) {
    (void)module;
    if (!read_tensors_of(torch)) Py_RETURN_FALSE;
    Py_XSETREF(empty_like, PyObject_GetAttrString(torch, "empty_like"));
    Py_XSETREF(threads_of, PyObject_GetAttrString(torch, "get_num_threads"));
    return empty_like && threads_of ? Py_NewRef(Py_True) : 0;
}

static PyMethodDef module_methods[] = {{"join", join, METH_O, 0}, {0}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "swbench.native._kernels", 0, -1, module_methods, 0, 0, 0, 0};

PyMODINIT_FUNC PyInit__kernels(void) {
    PyObject *made = PyModule_Create(&module), *type = made ? PyType_FromSpec(&call_spec) : 0;
    if (!type || PyModule_AddObjectRef(made, "Call", type)) Py_CLEAR(made);
    Py_XDECREF(type);
    return made;
}
