/* time.c - nanoseconds as people and Python read them. */
#include "native.h"

#define NS_PER_SECOND 1000000000

__extension__ typedef unsigned __int128 uint128;

PyObject* time_text(int64_t at_ns, const char* zone) {
  int64_t seconds = at_ns / NS_PER_SECOND;
  long fraction = (long)(at_ns % NS_PER_SECOND);
  if (fraction < 0) {
    fraction += NS_PER_SECOND;
    seconds -= 1;
  }
  time_t clock = (time_t)seconds;
  struct tm date;
  gmtime_r(&clock, &date); /* cannot fail: 64 bits of nanoseconds end in the year 2262 */
  char decimals[16] = "";
  if (fraction % 1000000 == 0) {
    if (fraction != 0) snprintf(decimals, sizeof decimals, ".%03ld", fraction / 1000000);
  } else if (fraction % 1000 == 0) {
    snprintf(decimals, sizeof decimals, ".%06ld", fraction / 1000);
  } else {
    snprintf(decimals, sizeof decimals, ".%09ld", fraction);
  }
  char text[96];
  int size = snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d%s%s", date.tm_year + 1900,
                      date.tm_mon + 1, date.tm_mday, date.tm_hour, date.tm_min, date.tm_sec,
                      decimals, zone);
  return PyUnicode_FromStringAndSize(text, size);
}

/* Whether a positive, normal double, given by its bits, is at least `ns` nanoseconds, exactly. */
static bool covers(uint64_t bits, uint64_t ns) {
  /* seconds = mantissa * 2^exponent with exponent < 0, since seconds < 2^35. So this compares
   * mantissa * 10^9 with ns * 2^-exponent: nearly equal numbers below 2^84. */
  uint64_t mantissa = (bits & ((UINT64_C(1) << 52) - 1)) | (UINT64_C(1) << 52);
  int exponent = (int)(bits >> 52) - 1023 - 52;
  return (uint128)mantissa * NS_PER_SECOND >= (uint128)ns << -exponent;
}

double time_seconds_up(uint64_t ns) {
  if (ns == 0) return 0.0;
  double seconds = (double)ns / NS_PER_SECOND;
  uint64_t bits;
  memcpy(&bits, &seconds, sizeof bits);
  /* One more or less is the next double. Both roundings above together miss by two at most. */
  while (!covers(bits, ns)) bits += 1;
  while (covers(bits - 1, ns)) bits -= 1;
  memcpy(&seconds, &bits, sizeof seconds);
  return seconds;
}
