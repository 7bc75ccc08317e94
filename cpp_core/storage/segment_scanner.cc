#include "storage/segment_scanner.h"

#include "storage/log_stream.h"

namespace flint {

Status SegmentScanner::Damage(uint64_t position, uint64_t sequence, const std::string& what) const {
  const uint64_t offset = reader_->OffsetOf(position);
  return Status(Code::kCorruption, "the log is damaged: " + reader_->name() + " at offset " +
                                       std::to_string(offset) + ", record " +
                                       std::to_string(sequence) + ": " + what)
      .At(reader_->name(), offset, sequence);
}

void SegmentScanner::Rewind() {
  position_ = reader_->start().position;
  sequence_ = reader_->first_sequence() - 1;
  crc_ = ChainStart(reader_->header().generation);
}

Status SegmentScanner::ReadRecord(Record* record, bool* found) {
  *found = false;
  if (position_ == end_) return Status();
  std::string_view bytes;
  FLINT_RETURN_IF_ERROR(reader_->Bytes(position_, &bytes));
  *found = ParseRecord(bytes, crc_, reader_->header().generation, sequence_ + 1, position_, record);
  if (!*found) {
    if (end_ == UINT64_MAX) return Status();
    return Damage(position_, sequence_ + 1, "no valid record, although the log went on");
  }
  const Status known = CheckKnown(*record);
  if (!known.ok()) return reader_->Newer(*record, known.message());
  position_ = record->end();
  sequence_ = record->sequence;
  crc_ = record->crc;
  return Status();
}

Status SegmentScanner::Begin() {
  while (true) {
    Record record;
    bool found = false;
    FLINT_RETURN_IF_ERROR(ReadRecord(&record, &found));
    if (!found) break;
    if (record.type != RecordType::kClock && record.type != RecordType::kSeal) continue;
    if (!UpdateClock(record, &clock_)) return Unreadable(record);
    break;
  }
  Rewind();
  return Status();
}

Status SegmentScanner::Next(HistoryEvent* event, bool* found) {
  while (true) {
    Record record;
    FLINT_RETURN_IF_ERROR(ReadRecord(&record, found));
    if (!*found) return Status();
    bool is_event = false;
    bool readable = true;
    switch (record.type) {
      case RecordType::kClock:
        readable = UpdateClock(record, &clock_);
        break;
      case RecordType::kSeal:
        FLINT_RETURN_IF_ERROR(Seal(record));
        break;
      case RecordType::kKey:
        readable = Bind(record);
        break;
      case RecordType::kLimitConfigured:
      case RecordType::kLimitRemoved:
      case RecordType::kReset:
      case RecordType::kAllow:
      case RecordType::kAllowAll:
      case RecordType::kDeny:
      case RecordType::kKeyAllow:
        is_event = true;
        readable = Read(record, event);
        break;
      default:
        break;
    }
    if (!readable) return Unreadable(record);
    if (is_event) return Status();
  }
}

Status SegmentScanner::Seal(const Record& record) {
  SealPayload seal;
  if (!Decode(record.payload, &seal)) return Unreadable(record);
  clock_.clock = seal.clock;
  return on_seal_ ? on_seal_(seal, record) : Status();
}

bool SegmentScanner::Bind(const Record& record) {
  KeyPayload payload;
  if (!Decode(record.payload, &payload)) return false;
  keys_[record.id] = Key{std::string(payload.key), payload.kind, payload.config,
                         std::string(payload.name), payload.prefix_bytes};
  if (payload.kind == LimitKind::kCounter && payload.name.empty()) {
    templates_[std::string(payload.key.substr(0, payload.prefix_bytes))] = payload.config;
  }
  return true;
}

bool SegmentScanner::BindFirst(const Record& record, HistoryEvent* event) {
  KeyAllowPayload first;
  if (!Decode(record.payload, &first) || first.cost < 1) return false;
  const auto covering = templates_.find(std::string(first.key.substr(0, first.prefix_bytes)));
  if (covering == templates_.end()) return false;
  keys_[record.id] =
      Key{std::string(first.key), LimitKind::kCounter, covering->second, {}, first.prefix_bytes};
  event->type = RecordType::kAllow;
  event->at_ns = event->first_ns = first.time_ns;
  return AddItem(record.id, first.cost, event);
}

bool SegmentScanner::AddItem(uint32_t id, uint64_t cost, HistoryEvent* event) {
  const auto key = keys_.find(id);
  if (key == keys_.end()) return false;
  const Key& found = key->second;
  event->items.push_back(
      {found.key, found.kind, cost, found.config, found.name, found.prefix_bytes});
  return true;
}

bool SegmentScanner::ReadLimit(const Record& record, HistoryEvent* event) {
  LimitPayload limit;
  const bool readable = record.type == RecordType::kLimitConfigured
                            ? DecodeConfigured(record.payload, &limit)
                            : DecodeKeyed(record.payload, &limit);
  if (!readable) return false;
  event->at_ns = event->first_ns = limit.time_ns;
  event->items.push_back(
      {std::string(limit.key), limit.kind, 0, limit.config, std::string(limit.name)});
  return true;
}

bool SegmentScanner::ReadAllowAll(const Record& record, HistoryEvent* event) {
  const AllowAllReader reader(record.payload);
  if (!reader.valid()) return false;
  event->at_ns = event->first_ns = reader.time_ns();
  for (uint32_t i = 0; i < reader.count(); ++i) {
    if (!AddItem(reader.item(i).id, reader.item(i).cost, event)) return false;
  }
  return true;
}

bool SegmentScanner::Read(const Record& record, HistoryEvent* event) {
  *event = HistoryEvent();
  event->sequence = record.sequence;
  event->type = record.type;
  bool readable = false;
  if (record.type == RecordType::kAllow) {
    uint64_t cost = 0;
    readable = DecodeAllow(record.payload, &event->at_ns, &cost) && AddItem(record.id, cost, event);
    event->first_ns = event->at_ns;
  } else if (record.type == RecordType::kDeny) {
    Denials deny;
    readable = Decode(record.payload, &deny) && AddItem(record.id, deny.cost, event);
    event->at_ns = deny.time_ns;
    event->first_ns = deny.count == 1 ? deny.time_ns : deny.first_ns;
    event->count = deny.count;
  } else if (record.type == RecordType::kAllowAll) {
    readable = ReadAllowAll(record, event);
  } else if (record.type == RecordType::kKeyAllow) {
    readable = BindFirst(record, event);
  } else {
    readable = ReadLimit(record, event);
  }
  event->engine_ns = event->at_ns;
  event->first_engine_ns = event->first_ns;
  const int64_t wall_minus_engine_ns = clock_.clock.wall_ns - clock_.clock.engine_ns;
  event->at_ns += wall_minus_engine_ns;
  event->first_ns += wall_minus_engine_ns;
  return readable;
}

}  // namespace flint
