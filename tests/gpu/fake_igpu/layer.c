/* An OpenCL layer that presents Intel's OpenCL runtime for CPUs as an integrated GPU without matrix units (Xe-LP, "UHD
 * Graphics"), so that OpenVINO's GPU plugin runs on it. README.md lists what differs from a GPU, and why each function
 * below is replaced. All other calls go to the runtime. FAKE_IGPU_DRIVER sets the driver version that it reports. */

#include "opencl.h"

#include <stdlib.h>
#include <string.h>

#define NAME "Intel(R) UHD Graphics (simulated on a CPU)"
#define MORE_EXTENSIONS " cl_khr_subgroups cl_intel_device_attribute_query cl_intel_required_subgroup_size "
#define MAX_EXTENSIONS 16384
#define XE_LP (12u << 22) /* IP version 12.0.0, Tiger Lake, without XMX */
#define INTEL 0x8086
#define TIGER_LAKE 0x9a60

static void *const *runtime;       /* the runtime's functions */
static void *layered[CL_FUNCTIONS]; /* the same with those of this layer */

#define CALL(type, position) ((type)runtime[position])

static cl_int answer(const void *value, size_t bytes, size_t room, void *to, size_t *size) {
    if (size) *size = bytes;
    if (to && room < bytes) return CL_INVALID_VALUE;
    if (to) memcpy(to, value, bytes);
    return CL_SUCCESS;
}

#define ANSWER(type, ...)                                   \
    do {                                                    \
        type value[] = {__VA_ARGS__};                       \
        return answer(value, sizeof value, room, to, size); \
    } while (0)

static cl_int answer_extensions(cl_object device, size_t room, void *to, size_t *size) {
    char all[MAX_EXTENSIONS];
    cl_int error = CALL(get_device_info_fn, CL_GET_DEVICE_INFO)(device, CL_DEVICE_EXTENSIONS,
                                                                sizeof all - sizeof MORE_EXTENSIONS, all, NULL);
    if (error) return error;
    strcat(all, MORE_EXTENSIONS);
    return answer(all, strlen(all) + 1, room, to, size);
}

static cl_int get_device_info(cl_object device, cl_uint name, size_t room, void *to, size_t *size) {
    const char *driver = getenv("FAKE_IGPU_DRIVER");
    switch (name) {
        case CL_DEVICE_TYPE: ANSWER(cl_bitfield, CL_DEVICE_TYPE_GPU);
        case CL_DEVICE_VENDOR_ID: ANSWER(cl_uint, INTEL);
        case CL_DEVICE_NAME: return answer(NAME, sizeof NAME, room, to, size);
        case CL_DEVICE_HOST_UNIFIED_MEMORY: ANSWER(cl_uint, 1); /* integrated */
        case CL_DEVICE_MAX_COMPUTE_UNITS: ANSWER(cl_uint, 32);
        case CL_DEVICE_MAX_WORK_GROUP_SIZE: ANSWER(size_t, 512);
        case CL_DEVICE_PARTITION_MAX_SUB_DEVICES: ANSWER(cl_uint, 0);
        case CL_DEVICE_SUB_GROUP_SIZES_INTEL: ANSWER(size_t, 8, 16, 32);
        case CL_DEVICE_IP_VERSION_INTEL: ANSWER(cl_uint, XE_LP);
        case CL_DEVICE_ID_INTEL: ANSWER(cl_uint, TIGER_LAKE);
        case CL_DEVICE_NUM_SLICES_INTEL: ANSWER(cl_uint, 1);
        case CL_DEVICE_NUM_SUB_SLICES_PER_SLICE_INTEL: ANSWER(cl_uint, 2);
        case CL_DEVICE_NUM_EUS_PER_SUB_SLICE_INTEL: ANSWER(cl_uint, 16);
        case CL_DEVICE_NUM_THREADS_PER_EU_INTEL: ANSWER(cl_uint, 7);
        case CL_DEVICE_FEATURE_CAPABILITIES_INTEL: ANSWER(cl_bitfield, 0);
        case CL_DEVICE_EXTENSIONS: return answer_extensions(device, room, to, size);
        case CL_DRIVER_VERSION:
            if (driver) return answer(driver, strlen(driver) + 1, room, to, size);
            break;
        default: break;
    }
    return CALL(get_device_info_fn, CL_GET_DEVICE_INFO)(device, name, room, to, size);
}

static cl_int get_device_ids(cl_object platform, cl_bitfield type, cl_uint room, cl_object *to, cl_uint *count) {
    if (type == CL_DEVICE_TYPE_GPU) type = CL_DEVICE_TYPE_CPU;
    return CALL(get_device_ids_fn, CL_GET_DEVICE_IDS)(platform, type, room, to, count);
}

/* Work-items of a sub-group are neighbours in the first dimension only, where a GPU counts them through all dimensions.
 * Many kernels have groups such as 1 x 1 x 16 and sub-groups of 16. So each group is laid along the first dimension, and
 * its true size is passed as the global offset, which the plugin does not use. This is put before each source: */
static const char PRELUDE[] =
    "#pragma clang diagnostic warning \"-Wincompatible-pointer-types\"\n"
    "#define true_size(d) get_global_offset(d)\n"
    "inline size_t true_local_id(uint d) {\n"
    "    size_t i = get_local_id(0), x = true_size(0), y = true_size(1);\n"
    "    return d == 0 ? i % x : d == 1 ? i / x % y : d == 2 ? i / x / y : 0;\n"
    "}\n"
    "inline size_t true_local_size(uint d) { return d < 3 ? true_size(d) : 1; }\n"
    "inline size_t true_global_id(uint d) { return get_group_id(d) * true_local_size(d) + true_local_id(d); }\n"
    "inline size_t true_global_size(uint d) { return get_num_groups(d) * true_local_size(d); }\n"
    "inline size_t true_global_linear_id() {\n"
    "    size_t row = true_global_id(2) * true_global_size(1) + true_global_id(1);\n"
    "    return row * true_global_size(0) + true_global_id(0);\n"
    "}\n"
    "#define get_local_id true_local_id\n"
    "#define get_local_size true_local_size\n"
    "#define get_enqueued_local_size true_local_size\n"
    "#define get_global_id true_global_id\n"
    "#define get_global_size true_global_size\n"
    "#define get_global_linear_id true_global_linear_id\n"
    "#define powr pow\n"
    "#define native_powr pow\n"
    "#define reqd_work_group_size(x, y, z) reqd_work_group_size((x) * (y) * (z), 1, 1)\n";

static cl_object create_program(cl_object context, cl_uint count, const char **texts, const size_t *lengths, cl_int *error) {
    const char **all_texts = calloc(count + 1, sizeof *all_texts);
    size_t *all_lengths = calloc(count + 1, sizeof *all_lengths); /* 0: up to the zero byte */
    if (!all_texts || !all_lengths) abort();
    all_texts[0] = PRELUDE;
    memcpy(all_texts + 1, texts, count * sizeof *texts);
    if (lengths) memcpy(all_lengths + 1, lengths, count * sizeof *lengths);
    cl_object program = CALL(create_program_fn, CL_CREATE_PROGRAM_WITH_SOURCE)(context, count + 1, all_texts, all_lengths, error);
    free(all_texts);
    free(all_lengths);
    return program;
}

/* The largest group size up to 64 that divides the work-items. */
static size_t chosen_group(size_t items) {
    size_t size = 64;
    while (items % size) size--;
    return size;
}

static cl_int enqueue_kernel(cl_object queue, cl_object kernel, cl_uint dimensions, const size_t *offset,
                             const size_t *global, const size_t *local, cl_uint waits, const cl_object *wait,
                             cl_object *event) {
    size_t true_local[3] = {1, 1, 1}, flat_local[3] = {1, 1, 1}, flat_global[3] = {1, 1, 1};
    for (cl_uint d = 0; d < dimensions; d++) {
        if (offset && offset[d]) return CL_INVALID_GLOBAL_OFFSET;
        if (local) true_local[d] = local[d];
    }
    if (!local) true_local[0] = chosen_group(global[0]);
    flat_local[0] = true_local[0] * true_local[1] * true_local[2];
    for (cl_uint d = 0; d < dimensions; d++) {
        if (global[d] % true_local[d]) return CL_INVALID_WORK_GROUP_SIZE;
        flat_global[d] = global[d] / true_local[d] * flat_local[d];
    }
    return CALL(enqueue_kernel_fn, CL_ENQUEUE_ND_RANGE_KERNEL)(queue, kernel, 3, true_local, flat_global, flat_local, waits,
                                                               wait, event);
}

/* Without optimization, programs are built in an eighth of the time; the tests spend most of theirs on it. And the plugin
 * asks kernels for programs that it has released: a GPU driver keeps them, this runtime does not. */
static cl_int build_program(cl_object program, cl_uint count, const cl_object *devices, const char *options,
                            void (*notify)(cl_object, void *), void *data) {
    static const char UNOPTIMIZED[] = " -cl-opt-disable";
    char *all = calloc((options ? strlen(options) : 0) + sizeof UNOPTIMIZED, 1);
    if (!all) abort();
    if (options) strcpy(all, options);
    strcat(all, UNOPTIMIZED);
    cl_int error = CALL(build_program_fn, CL_BUILD_PROGRAM)(program, count, devices, all, notify, data);
    free(all);
    if (!error) CALL(retain_program_fn, CL_RETAIN_PROGRAM)(program);
    return error;
}

cl_int clGetLayerInfo(cl_uint name, size_t room, void *to, size_t *size) {
    if (name == CL_LAYER_API_VERSION) ANSWER(cl_uint, CL_LAYER_API_VERSION_100);
    if (name == CL_LAYER_NAME) return answer(NAME, sizeof NAME, room, to, size);
    return CL_INVALID_VALUE;
}

cl_int clInitLayer(cl_uint count, void *const *next, cl_uint *own_count, void *const **own) {
    if (count < CL_FUNCTIONS) return CL_INVALID_VALUE;
    runtime = next;
    memcpy(layered, next, sizeof layered);
    layered[CL_GET_DEVICE_INFO] = (void *)get_device_info;
    layered[CL_GET_DEVICE_IDS] = (void *)get_device_ids;
    layered[CL_BUILD_PROGRAM] = (void *)build_program;
    layered[CL_CREATE_PROGRAM_WITH_SOURCE] = (void *)create_program;
    layered[CL_ENQUEUE_ND_RANGE_KERNEL] = (void *)enqueue_kernel;
    *own = layered;
    *own_count = CL_FUNCTIONS;
    return CL_SUCCESS;
}

/* Newer loaders require these two. */
cl_int clInitLayerWithProperties(cl_uint count, void *const *next, cl_uint *own_count, void *const **own, const void *properties) {
    (void)properties;
    return clInitLayer(count, next, own_count, own);
}

cl_int clDeinitLayer(void) { return CL_SUCCESS; }
