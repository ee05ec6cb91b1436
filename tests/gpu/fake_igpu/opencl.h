/* The few declarations of OpenCL that the layer needs, so that a C compiler is all it takes to build it. Values and
 * positions are those of the Khronos headers (cl.h, cl_ext.h, cl_layer.h, cl_icd.h) and part of their binary interface. */

#include <stddef.h>
#include <stdint.h>

typedef int32_t cl_int;
typedef uint32_t cl_uint;
typedef uint64_t cl_bitfield;
typedef void *cl_object; /* a platform, device, context, program, kernel, queue or event */

enum { CL_SUCCESS = 0, CL_INVALID_VALUE = -30, CL_INVALID_WORK_GROUP_SIZE = -54, CL_INVALID_GLOBAL_OFFSET = -56 };
enum { CL_DEVICE_TYPE_CPU = 1 << 1, CL_DEVICE_TYPE_GPU = 1 << 2 };
enum {
    CL_DEVICE_TYPE = 0x1000,
    CL_DEVICE_VENDOR_ID = 0x1001,
    CL_DEVICE_MAX_COMPUTE_UNITS = 0x1002,
    CL_DEVICE_MAX_WORK_GROUP_SIZE = 0x1004,
    CL_DEVICE_NAME = 0x102b,
    CL_DRIVER_VERSION = 0x102d,
    CL_DEVICE_EXTENSIONS = 0x1030,
    CL_DEVICE_HOST_UNIFIED_MEMORY = 0x1035,
    CL_DEVICE_PARTITION_MAX_SUB_DEVICES = 0x1043,
    CL_DEVICE_SUB_GROUP_SIZES_INTEL = 0x4108,
    CL_DEVICE_IP_VERSION_INTEL = 0x4250,
    CL_DEVICE_ID_INTEL = 0x4251,
    CL_DEVICE_NUM_SLICES_INTEL = 0x4252,
    CL_DEVICE_NUM_SUB_SLICES_PER_SLICE_INTEL = 0x4253,
    CL_DEVICE_NUM_EUS_PER_SUB_SLICE_INTEL = 0x4254,
    CL_DEVICE_NUM_THREADS_PER_EU_INTEL = 0x4255,
    CL_DEVICE_FEATURE_CAPABILITIES_INTEL = 0x4256,
};
enum { CL_LAYER_API_VERSION = 0x4240, CL_LAYER_NAME = 0x4241, CL_LAYER_API_VERSION_100 = 100 };

/* Positions in the table of all functions, which the loader passes to a layer. */
enum {
    CL_GET_DEVICE_IDS = 2,
    CL_GET_DEVICE_INFO = 3,
    CL_CREATE_PROGRAM_WITH_SOURCE = 26,
    CL_RETAIN_PROGRAM = 28,
    CL_BUILD_PROGRAM = 30,
    CL_ENQUEUE_ND_RANGE_KERNEL = 59,
    CL_FUNCTIONS = 149, /* of OpenCL 3.0 */
};

typedef cl_int (*get_device_ids_fn)(cl_object platform, cl_bitfield type, cl_uint room, cl_object *to, cl_uint *count);
typedef cl_int (*get_device_info_fn)(cl_object device, cl_uint name, size_t room, void *to, size_t *size);
typedef cl_object (*create_program_fn)(cl_object context, cl_uint count, const char **texts, const size_t *lengths,
                                       cl_int *error);
typedef cl_int (*retain_program_fn)(cl_object program);
typedef cl_int (*build_program_fn)(cl_object program, cl_uint count, const cl_object *devices, const char *options,
                                   void (*notify)(cl_object, void *), void *data);
typedef cl_int (*enqueue_kernel_fn)(cl_object queue, cl_object kernel, cl_uint dimensions, const size_t *offset,
                                    const size_t *global, const size_t *local, cl_uint waits, const cl_object *wait,
                                    cl_object *event);
