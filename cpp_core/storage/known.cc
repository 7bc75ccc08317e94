#include "storage/known.h"

#include <cstdio>

#include "algorithms/algorithm.h"

namespace flint {
namespace {

constexpr uint8_t kKnownBits = 1;  // beside the length of a limit's name
constexpr uint8_t kKnownFlags = kFlagCleanClose | kFlagOneKey | kFlagSkippable;

Status Met(const std::string& what, uint64_t value) {
  return Status(Code::kUnsupported, what + " " + std::to_string(value));
}

std::string Hex(uint64_t bits) {
  char text[24];
  std::snprintf(text, sizeof(text), "0x%llx", static_cast<unsigned long long>(bits));
  return text;
}

// Bytes that are zero until a later version gives them a meaning.
Status CheckZero(std::string_view payload, size_t offset, size_t bytes) {
  for (size_t i = offset; i < offset + bytes && i < payload.size(); ++i) {
    if (payload[i] != 0) return Met("a value in reserved byte", i);
  }
  return Status();
}

Status CheckByte(std::string_view payload, size_t offset, uint8_t most, const char* what) {
  const uint8_t value = offset < payload.size() ? static_cast<uint8_t>(payload[offset]) : 0;
  return value <= most ? Status() : Met(what, value);
}

Status CheckKind(std::string_view payload, size_t offset) {
  return CheckByte(payload, offset, static_cast<uint8_t>(LimitKind::kInline), "limit kind");
}

Status CheckAlgorithm(std::string_view payload, size_t offset) {
  return CheckByte(payload, offset, static_cast<uint8_t>(Algorithm::kSlidingWindowCounter),
                   "algorithm");
}

Status CheckBits(std::string_view payload, size_t offset) {
  return CheckByte(payload, offset, kKnownBits, "limit bits");
}

// Nothing is ever configured for a counter under a template.
Status CheckConfigured(std::string_view payload) {
  FLINT_RETURN_IF_ERROR(CheckAlgorithm(payload, 32));
  FLINT_RETURN_IF_ERROR(CheckKind(payload, 33));
  constexpr auto kCounter = static_cast<uint8_t>(LimitKind::kCounter);
  if (payload.size() > 33 && static_cast<uint8_t>(payload[33]) == kCounter) {
    return Met("limit kind", kCounter);
  }
  return CheckBits(payload, 35);
}

Status CheckKeyed(std::string_view payload) {
  FLINT_RETURN_IF_ERROR(CheckZero(payload, 8, 1));
  FLINT_RETURN_IF_ERROR(CheckKind(payload, 9));
  return CheckBits(payload, 11);
}

Status CheckKey(std::string_view payload) {
  FLINT_RETURN_IF_ERROR(CheckAlgorithm(payload, 24));
  FLINT_RETURN_IF_ERROR(CheckKind(payload, 25));
  FLINT_RETURN_IF_ERROR(CheckBits(payload, 27));
  return CheckZero(payload, 36, 4);
}

Status CheckAllowAll(std::string_view payload) {
  FLINT_RETURN_IF_ERROR(CheckZero(payload, 12, 4));
  const AllowAllReader reader(payload);
  for (uint32_t i = 0; reader.valid() && i < reader.count(); ++i) {
    FLINT_RETURN_IF_ERROR(CheckZero(payload, AllowAllBytes(i) + 4, 4));
  }
  return Status();
}

}  // namespace

Status Newer(const std::string& where, const std::string& what) {
  return Status(Code::kUnsupported, (where.empty() ? "" : where + ": ") +
                                        "written by a newer version of Flint (" + what +
                                        "); upgrade to open it");
}

Status CheckReadable(const Features& features, const std::string& name) {
  const uint64_t unknown = features.incompatible & ~kKnownFeatures.incompatible;
  if (unknown == 0) return Status();
  return Newer(name, "incompatible features " + Hex(unknown)).At(name, 0, 0);
}

Status CheckWritable(const Features& features, const std::string& name) {
  FLINT_RETURN_IF_ERROR(CheckReadable(features, name));
  const uint64_t unknown = features.read_only_compatible & ~kKnownFeatures.read_only_compatible;
  if (unknown == 0) return Status();
  return Newer(name, "features " + Hex(unknown) + ", with which this version can only read it")
      .At(name, 0, 0);
}

Status CheckUnusualRecord(const Record& record) {
  if (Decode16(record.bytes.data() + 18) != 0) {
    return Met("a value in the reserved bytes of a record of type",
               static_cast<uint8_t>(record.type));
  }
  const uint8_t flags = record.flags & static_cast<uint8_t>(~kKnownFlags);
  if (flags != 0) return Met("record flags", flags);
  switch (record.type) {
    case RecordType::kStart:
    case RecordType::kFooter:
    case RecordType::kSeal:
    case RecordType::kClock:
    case RecordType::kAllow:
    case RecordType::kDeny:
    case RecordType::kKeyAllow:
      return Status();
    case RecordType::kLimitConfigured:
      return CheckConfigured(record.payload);
    case RecordType::kLimitRemoved:
    case RecordType::kReset:
      return CheckKeyed(record.payload);
    case RecordType::kKey:
      return CheckKey(record.payload);
    case RecordType::kAllowAll:
      return CheckAllowAll(record.payload);
  }
  if ((record.flags & kFlagSkippable) != 0) return Status();
  return Met("record type", static_cast<uint8_t>(record.type));
}

}  // namespace flint
