// What the kernels share: records (mirrored in gpu/layout.py), arithmetic, order keys.
//
// The files of this folder are put together, in the order of gpu/source.py, and compiled as one: by NVRTC
// through CuPy, by nvcc in a test, by g++ with a host shim in tests. They include nothing.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

enum { LIST = 0, BITMAP = 1, FULL = 2, NO_KIND = 3, N_KINDS = 3 };
enum { GENES = 256 };                        // whose containers are held in shared memory at once
enum { DIGIT_BITS = 11, DIGITS = 2048 };     // of a step of the radix selection
enum { TARGETS = 3 };                        // order statistics that a query may ask for
enum { GROUP_WORDS = 4 };                    // mask words of a bitmap between two marks
enum { STAGED_GENES = 4 };                   // bitmaps that are added to a tile between two barriers
enum { CHAINS = 16 };                        // sums of a slot, see kernels/moments.py
enum { LARGE_SLOT = 1024, STAGED = 1024 };   // cells: slots with more are added up from shared memory
enum { MAX_THREADS = 512 };                  // of a block of threads

// Threads of a block that scores, and how many such blocks a processor shall hold at once: told how many registers
// there are, the compiler sends all loads of a step before it waits for one.
#define SCORING_BOUNDS __launch_bounds__(256, 4)

// One block of 65,536 cells at most, in device memory. words == 0: not resident.
struct Block {
    u64 words, ranks, entries, payload;      // addresses: u64[n_words], u32[n_words], u64[], bytes
    u64 mark_starts, marks;                  // addresses: u32[n_entries], u16[]
    i64 n_words, n_entries, n_cells, first_row;
};

// Cells [first, first + V::TILE) of a block.
struct Tile {
    u32 block, first;
};

// An order statistic: key found so far, rank among what is left, how many have the key in the end.
struct Target {
    u64 key;
    i64 rank, count;
};

enum { TIES_NONE = 0, TIES_ALL = 1, TIES_FIRST = 2 };

// Everything about one query of a batch. Addresses are of device memory.
struct Query {
    u64 blocks;                              // Block[]
    u64 tiles;                               // Tile[n_tiles], those with a cell that passes
    i64 n_tiles;
    u64 passes;                              // u32[], one bit a row; 0: all pass
    u64 order, order_starts, slot_block;     // u16[], i64[n_slots + 1], u32[n_slots]
    u64 slot_starts, codes;                  // i64[n_blocks + 1], u16[n_rows]
    i64 n_slots;
    u64 genes, weights;                      // i64[n_genes], Score[n_genes]
    i64 n_genes;
    double divisor;
    u64 scores;                              // Score[n_rows]
    u64 statistics;                          // double[n_slots][3]
    u64 histograms;                          // u32[passes][TARGETS][DIGITS], zeros before
    u64 targets;                             // Target[TARGETS]
    i64 n_targets;
    u64 slot_hits;                           // u64[n_slots], zeros before
    double cutoff;
    i64 hit_mode, hit_ties;                  // which of the scores that equal the cut-off are hits
    u64 top_key;
    i64 top_mode, top_ties, top_above;       // cells above top_key, and how many that equal it are wanted
    u64 top_rows, top_scores;                // i64[], Score[]: room for top_above + top_ties
    u64 counters;                            // u32[2], zeros before
    u64 tile_ties;                           // u32[2][n_tiles]: of the hits, of the top
};

__device__ inline float half_to_float(u16 bits) {
#ifdef __CUDA_ARCH__
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
#else
    // exponent and fraction move into place, and the difference of the biases is multiplied in: exact
    float magnitude = __fmul_rn(__uint_as_float((u32)(bits & 0x7FFF) << 13), __uint_as_float(0x77800000u));
    return __uint_as_float(__float_as_uint(magnitude) | (u32)(bits & 0x8000) << 16);
#endif
}

// float16 values, float32 scores.
struct Half {
    typedef u16 Stored;
    typedef float Score;
    typedef u32 Key;
    enum { TILE = 8192, KEY_BITS = 32 };
    static __device__ float widen(u16 bits) { return half_to_float(bits); }
};

// float32 values, float64 scores.
struct Single {
    typedef float Stored;
    typedef double Score;
    typedef u64 Key;
    enum { TILE = 4096, KEY_BITS = 64 };
    static __device__ double widen(float value) { return (double)value; }
};

// Of neighbouring cells: one access to shared memory.
template <class Score> struct alignas(2 * sizeof(Score)) Pair {
    Score even, odd;
};

// As the processor's kernels round: lists and full columns after the product and after the sum, bitmaps once.
__device__ inline float add_product(float sum, float weight, float value) {
    return __fadd_rn(sum, __fmul_rn(weight, value));
}
__device__ inline double add_product(double sum, double weight, double value) {
    return __dadd_rn(sum, __dmul_rn(weight, value));
}
__device__ inline float add_fused(float sum, float weight, float value) { return __fmaf_rn(value, weight, sum); }
__device__ inline double add_fused(double sum, double weight, double value) { return __fma_rn(value, weight, sum); }
__device__ inline float divide(float a, float b) { return __fdiv_rn(a, b); }
__device__ inline double divide(double a, double b) { return __ddiv_rn(a, b); }

__device__ inline void set_nan(float& score) { score = __uint_as_float(0x7FC00000u); }
__device__ inline void set_nan(double& score) { score = __longlong_as_double(0x7FF8000000000000ll); }

// Unsigned integer that orders as the number does; 0.0 and -0.0 have the same.
__device__ inline u32 order_key(float score) {
    u32 bits = __float_as_uint(__fadd_rn(score, 0.0f));
    return bits ^ (bits >> 31 ? 0xFFFFFFFFu : 0x80000000u);
}
__device__ inline u64 order_key(double score) {
    u64 bits = (u64)__double_as_longlong(__dadd_rn(score, 0.0));
    return bits ^ (bits >> 63 ? 0xFFFFFFFFFFFFFFFFull : 0x8000000000000000ull);
}

template <class T> __device__ inline T* at(u64 address) { return (T*)address; }
// On the way to the second-level cache.
__device__ inline void prefetch(const void* place) {
#ifdef __CUDA_ARCH__
    asm volatile("prefetch.global.L2 [%0];" ::"l"(place));
#endif
}
__device__ inline int smaller(i64 a, i64 b) { return (int)(a < b ? a : b); }

__device__ inline i64 entry_count(u64 entry) { return (i64)(entry & 0xFFFF) + 1; }
__device__ inline int entry_kind(u64 entry) { return (int)(entry >> 16 & 3); }
__device__ inline int entry_exponent(u64 entry) { return (int)(entry >> 18 & 0xFF); }
__device__ inline u64 entry_offset(u64 entry) { return entry >> 26 << 2; }
__device__ inline i64 mask_words(i64 n_cells) { return (n_cells + 31) / 32; }

// The batch's query of this block of threads, and the tile number `t` of it.
__device__ inline const Query& query_of(u64 batch) { return at<const Query>(batch)[blockIdx.y]; }
template <class V> __device__ inline int tile_cells(const Block& block, const Tile& tile) {
    return smaller(V::TILE, block.n_cells - tile.first);
}
