#include "storage/history.h"

#include <algorithm>
#include <cerrno>
#include <deque>
#include <memory>
#include <unordered_map>
#include <utility>

#include "storage/log_reader.h"
#include "storage/segment.h"

namespace flint {
namespace {

using Readers = std::vector<std::unique_ptr<SegmentReader>>;

constexpr int kMostAttempts = 1000;

Status Damage(const SegmentReader& reader, uint64_t position, uint64_t sequence,
              const std::string& what) {
  const uint64_t offset = reader.OffsetOf(position);
  return Status(Code::kCorruption, "the log is damaged: " + reader.name() + " at offset " +
                                       std::to_string(offset) + ", record " +
                                       std::to_string(sequence) + ": " + what)
      .At(reader.name(), offset, sequence);
}

// ---- Which segments ----------------------------------------------------------------------------

// Opens whatever may be a segment; `*gone` when one of them was removed or renamed meanwhile.
Status OpenAll(Env* env, const std::string& directory, const std::vector<std::string>& names,
               Readers* readers, bool* gone) {
  for (const std::string& name : names) {
    if (!IsSegmentName(name)) continue;
    std::unique_ptr<SegmentReader> reader;
    const Status status = SegmentReader::Open(env, directory, name, &reader);
    *gone = status.detail() != nullptr && status.detail()->system_errno == ENOENT;
    if (*gone) return Status();
    // One whose header has not been written yet holds nothing.
    if (status.code() == Code::kCorruption && (name == kNextName || name == kNewName)) continue;
    FLINT_RETURN_IF_ERROR(status);
    if (reader->started()) readers->push_back(std::move(reader));
  }
  return Status();
}

// From the newest segment back, as far as they are kept; `*chain` is oldest first.
void Chain(Readers readers, Readers* chain) {
  const auto newest = std::max_element(
      readers.begin(), readers.end(),
      [](const auto& a, const auto& b) { return a->header().number < b->header().number; });
  if (newest == readers.end()) return;
  chain->push_back(std::move(*newest));
  while (true) {
    const StartPayload start = chain->back()->start();
    const auto previous = std::find_if(readers.begin(), readers.end(), [&](const auto& reader) {
      return reader != nullptr && reader->header().number == start.previous_segment &&
             reader->header().generation == start.previous_generation;
    });
    if (previous == readers.end()) break;
    chain->push_back(std::move(*previous));
  }
  std::reverse(chain->begin(), chain->end());
}

// Files are renamed and removed while others look: what was opened counts if the names are the same
// before and after.
Status OpenChain(Env* env, const std::string& directory, Readers* chain) {
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    std::vector<std::string> before;
    std::vector<std::string> after;
    Readers readers;
    bool gone = false;
    FLINT_RETURN_IF_ERROR(env->List(directory, &before));
    FLINT_RETURN_IF_ERROR(OpenAll(env, directory, before, &readers, &gone));
    if (gone) continue;
    FLINT_RETURN_IF_ERROR(env->List(directory, &after));
    if (before != after) continue;
    Chain(std::move(readers), chain);
    return Status();
  }
  return Status(Code::kIo, directory + ": its files change faster than they can be read");
}

// ---- One segment -------------------------------------------------------------------------------

// The events of a segment in order.
class SegmentScanner {
 public:
  // `end` is where the next segment takes over; UINT64_MAX for the newest.
  SegmentScanner(SegmentReader* reader, uint64_t end) : reader_(reader), end_(end) { Rewind(); }

  // Finds the clock pair that counts until the first one stands in the log.
  Status Begin();
  // `*found` is false at the end.
  Status Next(HistoryEvent* event, bool* found);
  uint64_t sequence() const { return sequence_; }  // of the last record

 private:
  struct Key {
    std::string key;
    LimitKind kind = LimitKind::kExact;
  };

  void Rewind();
  Status ReadRecord(Record* record, bool* found);
  Status Unreadable(const Record& record) const {
    return Damage(*reader_, record.position, record.sequence, "a record that makes no sense");
  }
  bool Bind(const Record& record);
  bool Read(const Record& record, HistoryEvent* event);
  bool ReadLimit(const Record& record, HistoryEvent* event);
  bool ReadAllowAll(const Record& record, HistoryEvent* event);
  bool AddItem(uint32_t id, uint64_t cost, HistoryEvent* event);

  SegmentReader* const reader_;
  const uint64_t end_;
  uint64_t position_ = 0;
  uint64_t sequence_ = 0;
  uint32_t crc_ = 0;
  ClockPayload clock_;
  std::unordered_map<uint32_t, Key> keys_;
};

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
    return Damage(*reader_, position_, sequence_ + 1, "no valid record, although the log went on");
  }
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
      case RecordType::kSeal:
        readable = UpdateClock(record, &clock_);
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

bool SegmentScanner::Bind(const Record& record) {
  KeyPayload payload;
  if (!Decode(record.payload, &payload)) return false;
  keys_[record.id] = Key{std::string(payload.key), payload.kind};
  return true;
}

bool SegmentScanner::AddItem(uint32_t id, uint64_t cost, HistoryEvent* event) {
  const auto key = keys_.find(id);
  if (key == keys_.end()) return false;
  event->items.push_back({key->second.key, key->second.kind, cost});
  return true;
}

bool SegmentScanner::ReadLimit(const Record& record, HistoryEvent* event) {
  LimitPayload limit;
  const bool readable = record.type == RecordType::kLimitConfigured
                            ? DecodeConfigured(record.payload, &limit)
                            : DecodeKeyed(record.payload, &limit);
  if (!readable) return false;
  event->at_ns = event->first_ns = limit.time_ns;
  event->config = limit.config;
  event->items.push_back({std::string(limit.key), limit.kind, 0});
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
    DenyPayload deny;
    readable = Decode(record.payload, &deny) && AddItem(record.id, deny.cost, event);
    event->at_ns = deny.time_ns;
    event->first_ns = deny.count == 1 ? deny.time_ns : deny.first_ns;
    event->count = deny.count;
  } else if (record.type == RecordType::kAllowAll) {
    readable = ReadAllowAll(record, event);
  } else {
    readable = ReadLimit(record, event);
  }
  const int64_t wall_minus_engine_ns = clock_.clock.wall_ns - clock_.clock.engine_ns;
  event->at_ns += wall_minus_engine_ns;
  event->first_ns += wall_minus_engine_ns;
  return readable;
}

// ---- A page ------------------------------------------------------------------------------------

// Room on a page, as events take it.
struct Room {
  size_t items;
  size_t text_bytes;

  static Room Of(const HistoryEvent& event) {
    Room room{event.items.size(), 0};
    for (const HistoryItem& item : event.items) room.text_bytes += item.key.size();
    return room;
  }
  bool Holds(const Room& other) const {
    return other.items <= items && other.text_bytes <= text_bytes;
  }
  void Take(const Room& other) {
    items -= other.items;
    text_bytes -= other.text_bytes;
  }
  void GiveBack(const Room& other) {
    items += other.items;
    text_bytes += other.text_bytes;
  }
};

class PageReader {
 public:
  PageReader(const HistoryQuery& query, Readers segments, HistoryPage* page)
      : query_(query),
        segments_(std::move(segments)),
        page_(page),
        room_{query.capacity, query.text_bytes} {}

  Status OldestFirst();
  Status NewestFirst();

 private:
  uint64_t EndOf(size_t index) const {
    return index + 1 == segments_.size() ? UINT64_MAX : segments_[index + 1]->start().position;
  }
  bool Wanted(const HistoryEvent& event) const;
  static Status TooSmall(const HistoryEvent& event);
  Status Newest(size_t index, bool* full);

  const HistoryQuery& query_;
  Readers segments_;
  HistoryPage* const page_;
  Room room_;
  Status too_large_;  // for an event that no page of this size holds
};

bool PageReader::Wanted(const HistoryEvent& event) const {
  if (event.at_ns < query_.since_ns || event.at_ns >= query_.until_ns) return false;
  if (!query_.has_key) return true;
  return std::any_of(event.items.begin(), event.items.end(), [&](const HistoryItem& item) {
    return (item.kind == LimitKind::kTemplate) == query_.key_is_template && item.key == query_.key;
  });
}

Status PageReader::TooSmall(const HistoryEvent& event) {
  const Room room = Room::Of(event);
  return Status(Code::kInvalidArgument, "the next event needs room for " +
                                            std::to_string(room.items) + " entries and " +
                                            std::to_string(room.text_bytes) + " bytes of text");
}

Status PageReader::OldestFirst() {
  size_t index = 0;
  while (index + 1 < segments_.size() && segments_[index + 1]->first_sequence() <= query_.cursor) {
    ++index;
  }
  page_->next_cursor = std::max(query_.cursor, segments_[index]->first_sequence());
  for (; index < segments_.size(); ++index) {
    SegmentScanner scanner(segments_[index].get(), EndOf(index));
    FLINT_RETURN_IF_ERROR(scanner.Begin());
    while (true) {
      HistoryEvent event;
      bool found = false;
      FLINT_RETURN_IF_ERROR(scanner.Next(&event, &found));
      if (!found) break;
      if (event.sequence < query_.cursor || !Wanted(event)) continue;
      if (!room_.Holds(Room::Of(event))) {
        page_->next_cursor = event.sequence;
        return page_->events.empty() ? TooSmall(event) : Status();
      }
      room_.Take(Room::Of(event));
      page_->events.push_back(std::move(event));
    }
    page_->next_cursor = std::max(page_->next_cursor, scanner.sequence() + 1);
  }
  return Status();
}

// The last events of one segment that fit, newest first.
Status PageReader::Newest(size_t index, bool* full) {
  SegmentScanner scanner(segments_[index].get(), EndOf(index));
  FLINT_RETURN_IF_ERROR(scanner.Begin());
  std::deque<HistoryEvent> last;
  HistoryEvent event;
  while (true) {
    bool found = false;
    FLINT_RETURN_IF_ERROR(scanner.Next(&event, &found));
    if (!found || (query_.cursor != 0 && event.sequence >= query_.cursor)) break;
    if (!Wanted(event)) continue;
    const Room needed = Room::Of(event);
    while (!room_.Holds(needed) && !last.empty()) {
      *full = true;
      room_.GiveBack(Room::Of(last.front()));
      last.pop_front();
    }
    if (room_.Holds(needed)) {
      room_.Take(needed);
      last.push_back(std::move(event));
      continue;
    }
    *full = true;
    too_large_ = TooSmall(event);
  }
  if (last.empty() && page_->events.empty()) FLINT_RETURN_IF_ERROR(too_large_);
  for (auto kept = last.rbegin(); kept != last.rend(); ++kept) {
    page_->events.push_back(std::move(*kept));
  }
  return Status();
}

Status PageReader::NewestFirst() {
  const uint64_t first = segments_.front()->first_sequence();
  bool full = false;
  for (size_t index = segments_.size(); index-- > 0 && !full;) {
    if (query_.cursor != 0 && segments_[index]->first_sequence() >= query_.cursor) continue;
    FLINT_RETURN_IF_ERROR(Newest(index, &full));
  }
  page_->next_cursor = page_->events.empty() ? first : page_->events.back().sequence;
  return Status();
}

}  // namespace

Status ReadHistory(Env* env, const std::string& directory, const HistoryQuery& query,
                   HistoryPage* page) {
  Readers segments;
  FLINT_RETURN_IF_ERROR(OpenChain(env, directory, &segments));
  page->next_cursor = query.cursor;
  if (segments.empty()) return Status();
  const uint64_t first = segments.front()->first_sequence();
  if (query.cursor != 0 && query.cursor < first) {
    return Status(Code::kHistoryGone, "history before record " + std::to_string(first) +
                                          " is not kept any more; the cursor is " +
                                          std::to_string(query.cursor));
  }
  PageReader reader(query, std::move(segments), page);
  return query.newest_first ? reader.NewestFirst() : reader.OldestFirst();
}

}  // namespace flint
