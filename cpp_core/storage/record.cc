#include "storage/record.h"

#include <cstring>

#include "base/coding.h"
#include "base/crc32c.h"

namespace flint {
namespace {

constexpr size_t kSealCheckedBytes = 80;
constexpr size_t kConfiguredBytes = 40;  // and the key
constexpr uint8_t kNameStack = 1;

void PutPair(FixedPayload* to, const ClockPair& pair) {
  Put64(to, static_cast<uint64_t>(pair.engine_ns));
  Put64(to, static_cast<uint64_t>(pair.boot_ns));
  Put64(to, static_cast<uint64_t>(pair.wall_ns));
}

bool GetPair(ByteReader* reader, ClockPair* pair) {
  return reader->GetI64(&pair->engine_ns) && reader->GetI64(&pair->boot_ns) &&
         reader->GetI64(&pair->wall_ns);
}

void PutConfig(std::string* to, const LimitConfig& config) {
  Put64(to, config.rate);
  Put64(to, config.per_ns);
  Put64(to, config.burst);
  Put8(to, static_cast<uint8_t>(config.algorithm));
}

bool GetConfig(ByteReader* reader, LimitConfig* config) {
  uint64_t rate;
  uint64_t per_ns;
  uint64_t burst;
  uint8_t algorithm;
  if (!reader->GetU64(&rate) || !reader->GetU64(&per_ns) || !reader->GetU64(&burst) ||
      !reader->GetU8(&algorithm)) {
    return false;
  }
  return MakeConfig(static_cast<Algorithm>(algorithm), rate, per_ns, burst, config) ==
         ConfigError::kNone;
}

// Beside the kind: how long the name is, and whether the limits of shorter templates apply too.
void PutName(std::string* to, std::string_view name, const LimitConfig& config) {
  Put8(to, static_cast<uint8_t>(name.size()));
  Put8(to, config.stack ? kNameStack : 0);
}

// What a bit means that this version does not know cannot be left out of account.
bool GetName(ByteReader* reader, uint8_t* bytes, LimitConfig* config) {
  uint8_t bits;
  if (!reader->GetU8(bytes) || !reader->GetU8(&bits) || (bits & ~kNameStack) != 0) return false;
  config->stack = bits != 0;
  return true;
}

void CopyBytes(char* to, std::string_view bytes) {
  if (!bytes.empty()) std::memcpy(to, bytes.data(), bytes.size());
}

bool GetKind(ByteReader* reader, LimitKind* kind) {
  uint8_t value;
  if (!reader->GetU8(&value) || value > static_cast<uint8_t>(LimitKind::kInline)) return false;
  *kind = static_cast<LimitKind>(value);
  return true;
}

}  // namespace

uint32_t RecordBytes(size_t payload_bytes) {
  const size_t unpadded = kRecordHeaderBytes + payload_bytes;
  return static_cast<uint32_t>((unpadded + kRecordAlignment - 1) & ~size_t{kRecordAlignment - 1});
}

uint32_t ChainStart(uint64_t generation) {
  return ExtendCrc32c(0, &generation, sizeof(generation));
}

uint32_t BuildRecord(char* to, uint32_t previous_crc, uint64_t generation, uint64_t sequence,
                     RecordType type, uint8_t flags, uint32_t id, std::string_view payload) {
  if (!payload.empty()) std::memcpy(to + kRecordHeaderBytes, payload.data(), payload.size());
  return FinishRecord(to, previous_crc, generation, sequence, type, flags, id, payload.size());
}

uint32_t FinishRecord(char* to, uint32_t previous_crc, uint64_t generation, uint64_t sequence,
                      RecordType type, uint8_t flags, uint32_t id, size_t payload_bytes) {
  const uint32_t length = RecordBytes(payload_bytes);
  Encode32(to + 4, length);
  Encode64(to + 8, sequence);
  to[16] = static_cast<char>(type);
  to[17] = static_cast<char>(flags);
  Encode16(to + 18, 0);
  Encode32(to + 20, id);
  const size_t used = kRecordHeaderBytes + payload_bytes;
  if (used < length) std::memset(to + used, 0, length - used);
  const uint32_t crc = ChainCrc(previous_crc, generation, to, length);
  Encode32(to, crc);
  return crc;
}

FixedPayload Encode(const StartPayload& start) {
  FixedPayload to;
  Put64(&to, start.position);
  Put64(&to, start.previous_segment);
  Put64(&to, start.previous_generation);
  Put32(&to, start.previous_crc);
  Put32(&to, 0);
  return to;
}

bool Decode(std::string_view payload, StartPayload* start) {
  ByteReader reader(payload);
  return reader.GetU64(&start->position) && reader.GetU64(&start->previous_segment) &&
         reader.GetU64(&start->previous_generation) && reader.GetU32(&start->previous_crc);
}

FixedPayload Encode(const FooterPayload& footer) {
  FixedPayload to;
  Put64(&to, footer.next_generation);
  Put64(&to, footer.next_segment);
  return to;
}

bool Decode(std::string_view payload, FooterPayload* footer) {
  ByteReader reader(payload);
  return reader.GetU64(&footer->next_generation) && reader.GetU64(&footer->next_segment);
}

FixedPayload Encode(const SealPayload& seal) {
  FixedPayload to;
  Put64(&to, seal.generation);
  Put64(&to, seal.begin);
  Put64(&to, seal.end);
  PutBytes(&to, seal.digest.data(), seal.digest.size());
  PutPair(&to, seal.clock);
  Put32(&to, ExtendCrc32c(0, to.data(), to.size()));
  Put32(&to, 0);
  return to;
}

bool Decode(std::string_view payload, SealPayload* seal) {
  ByteReader reader(payload);
  uint32_t crc;
  return reader.GetU64(&seal->generation) && reader.GetU64(&seal->begin) &&
         reader.GetU64(&seal->end) && reader.CopyBytes(seal->digest.size(), seal->digest.data()) &&
         GetPair(&reader, &seal->clock) && reader.GetU32(&crc) && seal->begin <= seal->end &&
         crc == ExtendCrc32c(0, payload.data(), kSealCheckedBytes);
}

FixedPayload Encode(const ClockPayload& clock) {
  FixedPayload to;
  PutPair(&to, clock.clock);
  PutBytes(&to, clock.boot.data(), clock.boot.size());
  Put64(&to, static_cast<uint64_t>(clock.floor_ns));
  return to;
}

bool Decode(std::string_view payload, ClockPayload* clock) {
  ByteReader reader(payload);
  clock->floor_ns = 0;
  return GetPair(&reader, &clock->clock) &&
         reader.CopyBytes(clock->boot.size(), clock->boot.data()) &&
         (reader.empty() || reader.GetI64(&clock->floor_ns));
}

std::string Encode(const Denials& deny) {
  std::string to;
  Put64(&to, static_cast<uint64_t>(deny.time_ns));
  Put64(&to, deny.cost);
  if (deny.count != 1) {
    Put64(&to, deny.count);
    Put64(&to, static_cast<uint64_t>(deny.first_ns));
  }
  return to;
}

bool Decode(std::string_view payload, Denials* deny) {
  ByteReader reader(payload);
  if (!reader.GetI64(&deny->time_ns) || !reader.GetU64(&deny->cost)) return false;
  deny->count = 1;
  deny->first_ns = deny->time_ns;
  return reader.empty() || (reader.GetU64(&deny->count) && reader.GetI64(&deny->first_ns));
}

void EncodeTo(char* payload, const KeyPayload& key) {
  Encode64(payload, key.config.rate);
  Encode64(payload + 8, key.config.per_ns);
  Encode64(payload + 16, key.config.burst);
  payload[24] = static_cast<char>(key.config.algorithm);
  payload[25] = static_cast<char>(key.kind);
  payload[26] = static_cast<char>(key.name.size());
  payload[27] = static_cast<char>(key.config.stack ? kNameStack : 0);
  Encode32(payload + 28, static_cast<uint32_t>(key.key.size()));
  Encode32(payload + 32, key.prefix_bytes);
  Encode32(payload + 36, 0);
  CopyBytes(payload + 40, key.key);
  CopyBytes(payload + 40 + key.key.size(), key.name);
}

std::string Encode(const KeyPayload& key) {
  std::string to(EncodedBytes(key), '\0');
  EncodeTo(to.data(), key);
  return to;
}

bool Decode(std::string_view payload, KeyPayload* key) {
  ByteReader reader(payload);
  uint8_t name_bytes;
  uint32_t zero32;
  uint32_t size;
  return GetConfig(&reader, &key->config) && GetKind(&reader, &key->kind) &&
         GetName(&reader, &name_bytes, &key->config) && reader.GetU32(&size) &&
         reader.GetU32(&key->prefix_bytes) && reader.GetU32(&zero32) &&
         reader.GetBytes(size, &key->key) && reader.GetBytes(name_bytes, &key->name) &&
         key->prefix_bytes <= size && key->kind != LimitKind::kTemplate;
}

void EncodeTo(char* payload, const KeyAllowPayload& first) {
  Encode64(payload, static_cast<uint64_t>(first.time_ns));
  Encode64(payload + 8, first.cost);
  Encode32(payload + 16, static_cast<uint32_t>(first.key.size()));
  Encode32(payload + 20, first.prefix_bytes);
  CopyBytes(payload + 24, first.key);
}

bool Decode(std::string_view payload, KeyAllowPayload* first) {
  ByteReader reader(payload);
  uint32_t size;
  return reader.GetI64(&first->time_ns) && reader.GetU64(&first->cost) && reader.GetU32(&size) &&
         reader.GetU32(&first->prefix_bytes) && reader.GetBytes(size, &first->key) &&
         first->prefix_bytes <= size;
}

std::string EncodeConfigured(const LimitPayload& limit) {
  std::string to;
  to.reserve(kConfiguredBytes + limit.key.size() + limit.name.size());
  Put64(&to, static_cast<uint64_t>(limit.time_ns));
  PutConfig(&to, limit.config);
  Put8(&to, static_cast<uint8_t>(limit.kind));
  PutName(&to, limit.name, limit.config);
  Put32(&to, static_cast<uint32_t>(limit.key.size()));
  PutBytes(&to, limit.key);
  PutBytes(&to, limit.name);
  return to;
}

bool DecodeConfigured(std::string_view payload, LimitPayload* limit) {
  ByteReader reader(payload);
  uint8_t name_bytes;
  uint32_t size;
  return reader.GetI64(&limit->time_ns) && GetConfig(&reader, &limit->config) &&
         GetKind(&reader, &limit->kind) && GetName(&reader, &name_bytes, &limit->config) &&
         reader.GetU32(&size) && reader.GetBytes(size, &limit->key) &&
         reader.GetBytes(name_bytes, &limit->name);
}

std::string EncodeKeyed(const LimitPayload& limit) {
  std::string to;
  Put64(&to, static_cast<uint64_t>(limit.time_ns));
  Put8(&to, 0);
  Put8(&to, static_cast<uint8_t>(limit.kind));
  PutName(&to, limit.name, limit.config);
  Put32(&to, static_cast<uint32_t>(limit.key.size()));
  PutBytes(&to, limit.key);
  PutBytes(&to, limit.name);
  return to;
}

bool DecodeKeyed(std::string_view payload, LimitPayload* limit) {
  ByteReader reader(payload);
  uint8_t zero8;
  uint8_t name_bytes;
  uint32_t size;
  return reader.GetI64(&limit->time_ns) && reader.GetU8(&zero8) && GetKind(&reader, &limit->kind) &&
         GetName(&reader, &name_bytes, &limit->config) && reader.GetU32(&size) &&
         reader.GetBytes(size, &limit->key) && reader.GetBytes(name_bytes, &limit->name);
}

void EncodeAllowAll(char* payload, int64_t time_ns, uint32_t count) {
  Encode64(payload, static_cast<uint64_t>(time_ns));
  Encode32(payload + 8, count);
  Encode32(payload + 12, 0);
}

void EncodeAllowAllItem(char* payload, uint32_t index, const AllowAllItem& item) {
  char* const at = payload + AllowAllBytes(index);
  Encode32(at, item.id);
  Encode32(at + 4, 0);
  Encode64(at + 8, item.cost);
}

AllowAllReader::AllowAllReader(std::string_view payload) : payload_(payload) {
  ByteReader reader(payload);
  uint32_t zero;
  if (!reader.GetI64(&time_ns_) || !reader.GetU32(&count_) || !reader.GetU32(&zero)) return;
  valid_ = reader.remaining() >= uint64_t{count_} * 16;
}

AllowAllItem AllowAllReader::item(uint32_t index) const {
  const char* data = payload_.data() + 16 + size_t{index} * 16;
  return AllowAllItem{Decode32(data), Decode64(data + 8)};
}

}  // namespace flint
