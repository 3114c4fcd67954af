// Statistics of tensors and of parts of flat buffers (kernels/statistics.py): parts first, joined by the last block.
//
// A block measures a part of a segment: its values are read twice, the second time from the cache, so that the deviation
// is about the part's own mean. Parts are joined in their order (Chan, Golub and LeVeque 1979).
#include "blocks.cuh"

struct Summary { double finite, mean, squared, smallest, largest, zeros, squares; };  // squared: deviations from the mean
constexpr int FIELDS = 7;

__device__ __forceinline__ Summary nobody() {
  Summary s = {0, 0, 0, INFINITY, -INFINITY, 0, 0};
  return s;
}

__device__ __forceinline__ Summary join(Summary a, Summary b) {
  double finite = a.finite + b.finite;
  if (finite == 0) {
    a.zeros += b.zeros;
    return a;
  }
  double apart = b.mean - a.mean;
  a.mean += apart * (b.finite / finite);
  a.squared += b.squared + apart * apart * (a.finite * b.finite / finite);
  a.finite = finite;
  a.smallest = b.smallest < a.smallest ? b.smallest : a.smallest;
  a.largest = b.largest > a.largest ? b.largest : a.largest;
  a.zeros += b.zeros;
  a.squares += b.squares;
  return a;
}

// One value, or the difference of two in the type that they are stored in.
template <class T> __device__ __forceinline__ double value_at(const T* x, const T* before, int64_t i) {
  if (!before) return (double)widen(x[i]);
  return (double)widen(Narrow<T>::of(widen(x[i]) - widen(before[i])));
}

template <class T> __device__ __forceinline__ Summary part(const T* x, const T* before, int64_t begin, int64_t end, double* scratch) {
  Summary s = nobody();
  double sum = 0;
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
    double v = value_at(x, before, i);
    if (!isfinite(v)) continue;
    s.finite += 1;
    sum += v;
    s.squares += v * v;
    s.zeros += v == 0;
    s.smallest = v < s.smallest ? v : s.smallest;
    s.largest = v > s.largest ? v : s.largest;
  }
  s.finite = block_reduce(s.finite, 0.0, scratch, Sum());
  sum = block_reduce(sum, 0.0, scratch, Sum());
  s.squares = block_reduce(s.squares, 0.0, scratch, Sum());
  s.zeros = block_reduce(s.zeros, 0.0, scratch, Sum());
  s.smallest = block_reduce(s.smallest, (double)INFINITY, scratch, Smallest());
  s.largest = block_reduce(s.largest, (double)-INFINITY, scratch, Largest());
  s.mean = s.finite > 0 ? sum / s.finite : 0;
  double squared = 0;
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
    double v = value_at(x, before, i);
    if (isfinite(v)) squared += (v - s.mean) * (v - s.mean);
  }
  s.squared = block_reduce(squared, 0.0, scratch, Sum());
  return s;
}

__device__ __forceinline__ void write_row(double* row, Summary s, double count) {
  bool some = s.finite > 0;
  double absolute = fabs(s.smallest) > fabs(s.largest) ? fabs(s.smallest) : fabs(s.largest);
  row[0] = count;
  row[1] = some ? s.mean : (double)NAN;
  row[2] = some ? sqrt(s.squared / s.finite) : (double)NAN;
  row[3] = some ? s.smallest : (double)NAN;
  row[4] = some ? s.largest : (double)NAN;
  row[5] = some ? absolute : 0;
  row[6] = s.zeros;
  row[7] = count - s.finite;
  row[8] = sqrt(s.squares);
}

// `table` has three rows for all segments: where each begins, how long it is, which part is its first; then the number of
// all parts. Every part is `length` elements, the last of a segment fewer.
template <class T>
__device__ void statistics(double* out, double* parts, const T* x, const T* before, const int64_t* table, int64_t segments,
                           int64_t length, unsigned* ticket) {
  __shared__ double scratch[32];
  const int64_t *begins = table, *lengths = table + segments, *firsts = table + 2 * segments;
  int64_t all = firsts[segments];
  for (int64_t number = blockIdx.x; number < all; number += gridDim.x) {
    int64_t segment = segment_of(firsts, segments, number);
    int64_t begin = begins[segment] + (number - firsts[segment]) * length, last = begins[segment] + lengths[segment];
    Summary s = part(x, before, begin, begin + length < last ? begin + length : last, scratch);
    if (threadIdx.x == 0) ((Summary*)parts)[number] = s;
  }
  if (!last_block(ticket)) return;
  // A thread joins neighbouring parts, then the first thread those of all threads.
  __shared__ Summary joined[256];
  for (int64_t segment = 0; segment < segments; segment++) {
    int64_t count = firsts[segment + 1] - firsts[segment], each = (count + blockDim.x - 1) / blockDim.x;
    Summary s = nobody();
    for (int64_t i = threadIdx.x * each; i < count && i < (threadIdx.x + 1) * each; i++)
      s = join(s, ((const Summary*)parts)[firsts[segment] + i]);
    joined[threadIdx.x] = s;
    __syncthreads();
    if (threadIdx.x == 0) {
      int64_t used = each ? (count + each - 1) / each : 0;
      for (int64_t i = 1; i < used; i++) s = join(s, joined[i]);
      write_row(out + segment * 9, s, (double)lengths[segment]);
    }
    __syncthreads();
  }
}

#define STATISTICS(T)                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256, 2) statistics_##T(                                                  \
      double* out, double* parts, const T* x, const T* before, const int64_t* table, int64_t segments, int64_t length,  \
      bool change, unsigned* ticket) {                                                                                  \
    statistics<T>(out, parts, x, change ? before : (const T*)0, table, segments, length, ticket);                       \
  }
STATISTICS(float)
STATISTICS(double)
STATISTICS(float16)
STATISTICS(bfloat16)

// x . y, x . x and y . y; part `n` of both is `length` elements from `n * length` on.
template <class T>
__device__ void inner_products(double* out, double* parts, const T* x, const T* y, int64_t size, int64_t length, unsigned* ticket) {
  __shared__ double scratch[32];
  int64_t all = (size + length - 1) / length;
  for (int64_t number = blockIdx.x; number < all; number += gridDim.x) {
    int64_t begin = number * length, end = begin + length < size ? begin + length : size;
    double both = 0, first = 0, second = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
      double a = widen(x[i]), b = widen(y[i]);
      both += a * b;
      first += a * a;
      second += b * b;
    }
    both = block_reduce(both, 0.0, scratch, Sum());
    first = block_reduce(first, 0.0, scratch, Sum());
    second = block_reduce(second, 0.0, scratch, Sum());
    if (threadIdx.x == 0) parts[3 * number] = both, parts[3 * number + 1] = first, parts[3 * number + 2] = second;
  }
  if (!last_block(ticket)) return;
  for (int which = 0; which < 3; which++) {
    double sum = 0;
    for (int64_t i = threadIdx.x; i < all; i += blockDim.x) sum += parts[3 * i + which];
    sum = block_reduce(sum, 0.0, scratch, Sum());
    if (threadIdx.x == 0) out[which] = sum;
  }
}

#define INNER_PRODUCTS(T)                                                                                               \
  extern "C" __global__ void __launch_bounds__(256, 2) inner_products_##T(                                              \
      double* out, double* parts, const T* x, const T* y, int64_t size, int64_t length, unsigned* ticket) {             \
    inner_products<T>(out, parts, x, y, size, length, ticket);                                                          \
  }
INNER_PRODUCTS(float)
INNER_PRODUCTS(double)
INNER_PRODUCTS(float16)
INNER_PRODUCTS(bfloat16)

// Units lie on the last axis. A block takes 32 units (a warp reads them side by side) and a range of rows; the last block
// joins the ranges.
struct Unit { double positive, zeros, beyond, broken, smallest, largest; };

__device__ __forceinline__ void add_unit(Unit& a, const Unit& b) {
  a.positive += b.positive;
  a.zeros += b.zeros;
  a.beyond += b.beyond;
  a.broken += b.broken;
  a.smallest = b.smallest < a.smallest ? b.smallest : a.smallest;
  a.largest = b.largest > a.largest ? b.largest : a.largest;
}

template <class T>
__device__ void units_of(double* out, double* parts, const T* x, int64_t rows, int64_t units, int64_t range, double center,
                         double limit, unsigned* ticket) {
  __shared__ Unit lanes[256];
  int64_t ranges = gridDim.y;
  for (int64_t tile = blockIdx.x; tile * 32 < units; tile += gridDim.x) {
    int64_t unit = tile * 32 + (threadIdx.x & 31), begin = blockIdx.y * range;
    int64_t end = begin + range < rows ? begin + range : rows;
    Unit u = {0, 0, 0, 0, INFINITY, -INFINITY};
    if (unit < units)
      for (int64_t row = begin + (threadIdx.x >> 5); row < end; row += blockDim.x >> 5) {
        double v = (double)widen(x[row * units + unit]);
        bool fine = isfinite(v);
        u.positive += v > 0;
        u.zeros += v == 0;
        u.beyond += fine ? fabs(v - center) >= limit : v == v;
        u.broken += !fine;
        if (fine) {
          u.smallest = v < u.smallest ? v : u.smallest;
          u.largest = v > u.largest ? v : u.largest;
        }
      }
    lanes[threadIdx.x] = u;
    __syncthreads();
    if (threadIdx.x < 32 && unit < units) {
      for (unsigned other = threadIdx.x + 32; other < blockDim.x; other += 32) add_unit(u, lanes[other]);
      ((Unit*)parts)[blockIdx.y * units + unit] = u;
    }
    __syncthreads();
  }
  if (!last_block(ticket)) return;
  for (int64_t unit = threadIdx.x; unit < units; unit += blockDim.x) {
    Unit u = ((const Unit*)parts)[unit];
    for (int64_t k = 1; k < ranges; k++) add_unit(u, ((const Unit*)parts)[k * units + unit]);
    bool some = u.smallest <= u.largest;
    out[unit] = u.positive;
    out[units + unit] = u.zeros;
    out[2 * units + unit] = u.beyond;
    out[3 * units + unit] = u.broken;
    out[4 * units + unit] = some ? u.smallest : (double)NAN;
    out[5 * units + unit] = some ? u.largest : (double)NAN;
  }
}

#define UNITS(T)                                                                                                        \
  extern "C" __global__ void __launch_bounds__(256, 2) units_##T(double* out, double* parts, const T* x, int64_t rows,  \
                                                                 int64_t units, int64_t range, double center,           \
                                                                 double limit, unsigned* ticket) {                      \
    units_of<T>(out, parts, x, rows, units, range, center, limit, ticket);                                              \
  }
UNITS(float)
UNITS(double)
UNITS(float16)
UNITS(bfloat16)
