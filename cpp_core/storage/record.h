#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "algorithms/algorithm.h"
#include "base/check_path.h"
#include "base/clock.h"
#include "base/coding.h"
#include "base/crc32c.h"
#include "base/sha256.h"
#include "model/denials.h"
#include "model/engine_clock.h"
#include "model/limit_kind.h"
#include "storage/log_format.h"

namespace flint {

// Records as FORMAT.md describes them: building payloads, taking them apart, and the CRC chain.

// A record in memory that someone else owns.
struct Record {
  uint64_t position = 0;
  uint32_t length = 0;
  uint32_t crc = 0;
  uint64_t sequence = 0;
  RecordType type{};
  uint8_t flags = 0;
  uint32_t id = 0;
  std::string_view payload;
  std::string_view bytes;

  uint64_t end() const { return position + length; }
};

struct StartPayload {
  uint64_t position = 0;
  uint64_t previous_segment = 0;
  uint64_t previous_generation = 0;
  uint32_t previous_crc = 0;
};

struct FooterPayload {
  uint64_t next_generation = 0;
  uint64_t next_segment = 0;
};

struct SealPayload {
  uint64_t generation = 0;
  uint64_t begin = 0;
  uint64_t end = 0;
  Sha256Digest digest{};
  ClockPair clock;
};

struct ClockPayload {
  ClockPair clock;
  BootId boot{};
  // No record behind this one but a DENY is of an earlier engine time; 0: nothing is known.
  int64_t floor_ns = 0;
};

// LIMIT_CONFIGURED; without `config` also LIMIT_REMOVED and RESET.
struct LimitPayload {
  int64_t time_ns = 0;
  LimitConfig config;
  LimitKind kind = LimitKind::kExact;
  std::string_view key;
  std::string_view name{};  // empty for the limit without one
};

struct KeyPayload {
  LimitConfig config;
  LimitKind kind = LimitKind::kExact;
  uint32_t prefix_bytes = 0;
  std::string_view key;
  std::string_view name{};
};

// KEY and ALLOW of a counter under a template without a name.
struct KeyAllowPayload {
  int64_t time_ns = 0;
  uint64_t cost = 0;
  uint32_t prefix_bytes = 0;
  std::string_view key;
};

struct AllowAllItem {
  uint32_t id = 0;
  uint64_t cost = 0;
};

inline constexpr uint32_t kAllowBytes = kRecordHeaderBytes + 16;
inline constexpr uint32_t kStartBytes = kRecordHeaderBytes + 32;
inline constexpr uint32_t kFooterBytes = kRecordHeaderBytes + 16;
inline constexpr uint32_t kSealBytes = kRecordHeaderBytes + 88;
inline constexpr uint32_t kClockBytes = kRecordHeaderBytes + 48;

// Length of a record with this payload.
uint32_t RecordBytes(size_t payload_bytes);

// The CRC that stands before a segment's first record.
uint32_t ChainStart(uint64_t generation);
// The CRC of the record at `record` (whole, at least a header), given the one before it.
inline uint32_t ChainCrc(uint32_t previous_crc, uint64_t generation, const char* record,
                         uint32_t length) {
  const uint32_t seed = previous_crc ^ static_cast<uint32_t>(generation);
  if (length == kAllowBytes) [[likely]] {
    return ExtendCrc32c(seed, length, Decode64(record + 8), Decode64(record + 16),
                        Decode64(record + 24), Decode64(record + 32));
  }
  return ExtendCrc32c(seed, record + 4, length - 4);
}

// Writes a whole record (RecordBytes(payload.size()) bytes) with its CRC to `to`.
uint32_t BuildRecord(char* to, uint32_t previous_crc, uint64_t generation, uint64_t sequence,
                     RecordType type, uint8_t flags, uint32_t id, std::string_view payload);

// The same for a payload that stands in its place behind the header already.
uint32_t FinishRecord(char* to, uint32_t previous_crc, uint64_t generation, uint64_t sequence,
                      RecordType type, uint8_t flags, uint32_t id, size_t payload_bytes);

// An admission or a denial of one key, which has no flags, in words: what BuildRecord makes of it,
// without going through memory.
struct EventRecord {
  uint64_t words[kAllowBytes / 8];
  uint32_t crc;
};
FLINT_CHECK_PATH EventRecord BuildEvent(uint32_t previous_crc, uint64_t generation,
                                        uint64_t sequence, RecordType type, uint32_t id,
                                        int64_t time_ns, uint64_t cost) {
  const uint64_t kind = static_cast<uint64_t>(type) | uint64_t{id} << 32;
  const uint32_t crc = ExtendCrc32c(previous_crc ^ static_cast<uint32_t>(generation), kAllowBytes,
                                    sequence, kind, static_cast<uint64_t>(time_ns), cost);
  return {{crc | uint64_t{kAllowBytes} << 32, sequence, kind, static_cast<uint64_t>(time_ns), cost},
          crc};
}

// The record at the start of `bytes`, which ParseRecord would find there.
inline void TakeApart(std::string_view bytes, uint64_t position, Record* record) {
  const char* data = bytes.data();
  record->position = position;
  record->length = Decode32(data + 4);
  record->crc = Decode32(data);
  record->sequence = Decode64(data + 8);
  record->type = static_cast<RecordType>(data[16]);
  record->flags = static_cast<uint8_t>(data[17]);
  record->id = Decode32(data + 20);
  record->payload = {data + kRecordHeaderBytes, record->length - kRecordHeaderBytes};
  record->bytes = {data, record->length};
}

// Reads the record at the start of `bytes` if it continues the chain; false otherwise.
inline bool ParseRecord(std::string_view bytes, uint32_t previous_crc, uint64_t generation,
                        uint64_t sequence, uint64_t position, Record* record) {
  if (bytes.size() < kRecordHeaderBytes) return false;
  const char* data = bytes.data();
  const uint32_t length = Decode32(data + 4);
  if (length < kRecordHeaderBytes || length > kMaxRecordBytes || length % kRecordAlignment != 0 ||
      length > bytes.size() || Decode64(data + 8) != sequence ||
      ChainCrc(previous_crc, generation, data, length) != Decode32(data)) {
    return false;
  }
  TakeApart(bytes, position, record);
  return true;
}

// The payload of one of the log's own records: encoding one needs no memory.
class FixedPayload {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): it is a payload wherever one is wanted.
  operator std::string_view() const { return {bytes_, size_}; }
  const char* data() const { return bytes_; }
  size_t size() const { return size_; }
  void Put(const void* data, size_t size) {
    std::memcpy(bytes_ + size_, data, size);
    size_ += size;
  }

 private:
  static constexpr size_t kMostBytes = 96;
  char bytes_[kMostBytes];
  size_t size_ = 0;
};
inline void Put32(FixedPayload* to, uint32_t value) { to->Put(&value, sizeof(value)); }
inline void Put64(FixedPayload* to, uint64_t value) { to->Put(&value, sizeof(value)); }
inline void PutBytes(FixedPayload* to, const void* data, size_t size) { to->Put(data, size); }

FixedPayload Encode(const StartPayload& start);
FixedPayload Encode(const FooterPayload& footer);
FixedPayload Encode(const SealPayload& seal);
FixedPayload Encode(const ClockPayload& clock);
std::string Encode(const Denials& deny);
std::string EncodeConfigured(const LimitPayload& limit);
std::string EncodeKeyed(const LimitPayload& limit);  // LIMIT_REMOVED and RESET

bool Decode(std::string_view payload, StartPayload* start);
bool Decode(std::string_view payload, FooterPayload* footer);
bool Decode(std::string_view payload, SealPayload* seal);  // also checks its own CRC
bool Decode(std::string_view payload, ClockPayload* clock);
bool Decode(std::string_view payload, Denials* deny);
bool Decode(std::string_view payload, KeyPayload* key);
bool Decode(std::string_view payload, KeyAllowPayload* first);
bool DecodeConfigured(std::string_view payload, LimitPayload* limit);
bool DecodeKeyed(std::string_view payload, LimitPayload* limit);
inline bool DecodeAllow(std::string_view payload, int64_t* time_ns, uint64_t* cost) {
  ByteReader reader(payload);
  return reader.GetI64(time_ns) && reader.GetU64(cost) && *cost >= 1;
}

// The payloads of these are written in place, of so many bytes.
inline size_t EncodedBytes(const KeyPayload& key) { return 40 + key.key.size() + key.name.size(); }
inline size_t EncodedBytes(const KeyAllowPayload& first) { return 24 + first.key.size(); }
void EncodeTo(char* payload, const KeyPayload& key);
std::string Encode(const KeyPayload& key);
void EncodeTo(char* payload, const KeyAllowPayload& first);

// ALLOW_ALL without copying its items.
class AllowAllReader {
 public:
  explicit AllowAllReader(std::string_view payload);
  bool valid() const { return valid_; }
  int64_t time_ns() const { return time_ns_; }
  uint32_t count() const { return count_; }
  AllowAllItem item(uint32_t index) const;

 private:
  std::string_view payload_;
  bool valid_ = false;
  int64_t time_ns_ = 0;
  uint32_t count_ = 0;
};
// Its payload is written in place, of so many bytes.
constexpr size_t AllowAllBytes(size_t count) { return 16 + count * 16; }
void EncodeAllowAll(char* payload, int64_t time_ns, uint32_t count);
void EncodeAllowAllItem(char* payload, uint32_t index, const AllowAllItem& item);

}  // namespace flint
