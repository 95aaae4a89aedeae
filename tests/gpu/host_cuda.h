// CUDA C++ on a processor, one thread of the operating system: what the kernels use of it, and checks.
//
// The threads of a block are fibers. At a barrier all others run up to it first, in an order that changes with
// every barrier; that all come to the same barrier is checked. Shared memory is static.

#include <csetjmp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <ucontext.h>
#include <vector>

#define __device__
#define __global__
#define __shared__ static
#define __launch_bounds__(n_threads, n_blocks)

struct Dim {
    unsigned x, y, z;
};
static Dim threadIdx, blockIdx, blockDim, gridDim;

static inline float __uint_as_float(unsigned bits) { float x; memcpy(&x, &bits, 4); return x; }
static inline unsigned __float_as_uint(float x) { unsigned bits; memcpy(&bits, &x, 4); return bits; }
static inline double __longlong_as_double(long long bits) { double x; memcpy(&x, &bits, 8); return x; }
static inline long long __double_as_longlong(double x) { long long bits; memcpy(&bits, &x, 8); return bits; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
static inline int __popc(unsigned word) { return __builtin_popcount(word); }
static inline int __popcll(unsigned long long word) { return __builtin_popcountll(word); }
template <class T> static inline T __ldg(const T* place) { return *place; }
template <class T> static inline T atomicAdd(T* place, T amount) { T was = *place; *place = was + amount; return was; }

namespace host {

enum { STACK_BYTES = 256 << 10, DONE = -1, IDLE = 0 };
typedef void (*Kernel)(unsigned long long, long long);

struct Fiber {
    std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
    ucontext_t context;
    jmp_buf place;
    bool is_made = false;
    int barrier = IDLE;  // line of the barrier at which it waits, DONE
};

static std::vector<std::unique_ptr<Fiber>> fibers;
static Fiber* current;
static jmp_buf scheduler;
static ucontext_t home;
static Kernel kernel;
static unsigned long long address;
static long long number;

// longjmp, because swapcontext makes a system call each time
static void to_scheduler() {
    if (!_setjmp(current->place)) _longjmp(scheduler, 1);
}

static void live() {
    for (;;) {
        kernel(address, number);
        current->barrier = DONE;
        to_scheduler();
    }
}

static void resume(unsigned index) {
    current = fibers[index].get();
    threadIdx = {index, 0, 0};
    if (_setjmp(scheduler)) return;
    if (current->is_made) _longjmp(current->place, 1);
    current->is_made = true;
    getcontext(&current->context);
    current->context.uc_stack.ss_sp = current->stack.get();
    current->context.uc_stack.ss_size = STACK_BYTES;
    current->context.uc_link = &home;
    makecontext(&current->context, live, 0);
    setcontext(&current->context);
}

static void barrier(int line) {
    current->barrier = line;
    to_scheduler();
}

// Runs one block of threads; false if its threads wait at different barriers.
static bool run_block(unsigned n_threads, unsigned& seed) {
    for (;;) {
        seed = seed * 1664525u + 1013904223u;
        unsigned first = (seed >> 8) % n_threads, step = seed >> 31 ? 1 : n_threads - 1;
        for (unsigned i = 0; i < n_threads; ++i) resume((first + i * step) % n_threads);
        for (unsigned i = 1; i < n_threads; ++i)
            if (fibers[i]->barrier != fibers[0]->barrier) return false;
        if (fibers[0]->barrier == DONE) return true;
    }
}

static int run(Kernel which, unsigned long long a, long long n, unsigned x, unsigned y, unsigned n_threads, unsigned seed) {
    while (fibers.size() < n_threads) fibers.emplace_back(new Fiber);
    kernel = which, address = a, number = n;
    gridDim = {x, y, 1}, blockDim = {n_threads, 1, 1};
    for (unsigned j = 0; j < y; ++j)
        for (unsigned i = 0; i < x; ++i) {
            blockIdx = {i, j, 0};
            if (!run_block(n_threads, seed)) return fibers[0]->barrier ? fibers[0]->barrier : 1;
        }
    return 0;
}

}  // namespace host

#define __syncthreads() host::barrier(__LINE__)
