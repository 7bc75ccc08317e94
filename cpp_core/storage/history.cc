#include "storage/history.h"

#include <algorithm>
#include <cerrno>
#include <deque>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>

#include "storage/file_names.h"
#include "storage/log_path.h"
#include "storage/segment.h"
#include "storage/segment_scanner.h"

namespace flint {

// A place in a segment: all before it has been read.
struct HistoryBookmark {
  // The ids of so many keys take some ten megabytes.
  static constexpr size_t kMostKeys = size_t{1} << 16;

  // The sequence number of what comes, at least.
  uint64_t next() const { return waiting ? waiting->sequence : scanner.sequence() + 1; }
  bool IsFor(const SegmentReader& segment, uint64_t cursor) const {
    return segment.header().number == number && segment.header().generation == generation &&
           next() <= cursor;
  }
  Status Next(HistoryEvent* event, bool* found) {
    if (!waiting) return scanner.Next(event, found);
    *event = std::move(*waiting);
    waiting.reset();
    *found = true;
    return Status();
  }

  uint64_t number;
  uint64_t generation;
  SegmentScanner scanner;
  std::optional<HistoryEvent> waiting{};  // it did not fit the page
};

namespace {

using Readers = std::vector<std::unique_ptr<SegmentReader>>;

constexpr int kMostAttempts = 1000;

// ---- Which segments ----------------------------------------------------------------------------

bool IsGone(const Status& status) {
  return status.detail() != nullptr && status.detail()->system_errno == ENOENT;
}

// Opens whatever may be a segment; ENOENT when one of them was removed or renamed meanwhile.
Status OpenAll(Env* env, const std::string& directory, const std::vector<std::string>& names,
               Readers* readers) {
  for (const std::string& name : names) {
    if (!IsSegmentName(name)) continue;
    std::unique_ptr<SegmentReader> reader;
    const Status status = SegmentReader::Open(env, directory, name, &reader);
    // One whose header has not been written yet holds nothing. One whose header is damaged cannot
    // be reached, nor what comes before it.
    if (status.code() == Code::kCorruption && name != kLogName) continue;
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
  std::vector<std::string> before;
  std::vector<std::string> after;
  Readers readers;
  FLINT_RETURN_IF_ERROR(env->List(directory, &before));
  FLINT_RETURN_IF_ERROR(OpenAll(env, directory, before, &readers));
  FLINT_RETURN_IF_ERROR(env->List(directory, &after));
  if (before != after) return Status::FromErrno(ENOENT, directory + ": its files change");
  Chain(std::move(readers), chain);
  return Status();
}

// ---- A page ------------------------------------------------------------------------------------

// Space on a page, as events take it.
struct PageSpace {
  size_t items;
  size_t text_bytes;

  static PageSpace Of(const HistoryEvent& event) {
    PageSpace space{event.items.size(), 0};
    for (const HistoryItem& item : event.items) {
      space.text_bytes += item.key.size() + item.name.size();
    }
    return space;
  }
  bool Holds(const PageSpace& other) const {
    return other.items <= items && other.text_bytes <= text_bytes;
  }
  void Take(const PageSpace& other) {
    items -= other.items;
    text_bytes -= other.text_bytes;
  }
  void GiveBack(const PageSpace& other) {
    items += other.items;
    text_bytes += other.text_bytes;
  }
};

class PageFiller {
 public:
  PageFiller(const HistoryQuery& query, Readers segments, HistoryPage* page)
      : query_(query),
        segments_(std::move(segments)),
        page_(page),
        space_{query.capacity, query.text_bytes} {}

  // Goes on at `*place`, if that is where the page begins, and leaves where it ends there.
  Status OldestFirst(std::unique_ptr<HistoryBookmark>* place);
  Status NewestFirst();

 private:
  uint64_t EndOf(size_t index) const {
    return index + 1 == segments_.size() ? UINT64_MAX : segments_[index + 1]->start().position;
  }
  bool Wanted(const HistoryEvent& event) const;
  static Status TooSmall(const HistoryEvent& event);
  Status Enter(size_t index, std::unique_ptr<HistoryBookmark>* place);
  Status Newest(size_t index, bool* full);

  const HistoryQuery& query_;
  Readers segments_;
  HistoryPage* const page_;
  PageSpace space_;
  Status too_large_;  // for an event that no page of this size holds
};

bool PageFiller::Wanted(const HistoryEvent& event) const {
  if (event.at_ns < query_.since_ns || event.at_ns >= query_.until_ns) return false;
  if (!query_.has_key) return true;
  return std::any_of(event.items.begin(), event.items.end(), [&](const HistoryItem& item) {
    return (item.kind == LimitKind::kTemplate) == query_.key_is_template && item.key == query_.key;
  });
}

Status PageFiller::TooSmall(const HistoryEvent& event) {
  const PageSpace space = PageSpace::Of(event);
  return Status(Code::kInvalidArgument, "the next event needs room for " +
                                            std::to_string(space.items) + " entries and " +
                                            std::to_string(space.text_bytes) + " bytes of text");
}

Status PageFiller::Enter(size_t index, std::unique_ptr<HistoryBookmark>* place) {
  SegmentReader* const segment = segments_[index].get();
  if (*place != nullptr && (*place)->IsFor(*segment, query_.cursor)) {
    (*place)->scanner.GoOnIn(segment, EndOf(index));
    return Status();
  }
  *place = std::make_unique<HistoryBookmark>(
      HistoryBookmark{segment->header().number, segment->header().generation,
                      SegmentScanner(segment, EndOf(index))});
  return (*place)->scanner.Begin();
}

Status PageFiller::OldestFirst(std::unique_ptr<HistoryBookmark>* place) {
  size_t index = 0;
  while (index + 1 < segments_.size() && segments_[index + 1]->first_sequence() <= query_.cursor) {
    ++index;
  }
  page_->next_cursor = std::max(query_.cursor, segments_[index]->first_sequence());
  for (; index < segments_.size(); ++index) {
    FLINT_RETURN_IF_ERROR(Enter(index, place));
    while (true) {
      HistoryEvent event;
      bool found = false;
      FLINT_RETURN_IF_ERROR((*place)->Next(&event, &found));
      if (!found) break;
      if (event.sequence < query_.cursor || !Wanted(event)) continue;
      if (!space_.Holds(PageSpace::Of(event))) {
        page_->next_cursor = event.sequence;
        if (page_->events.empty()) return TooSmall(event);
        (*place)->waiting = std::move(event);
        return Status();
      }
      space_.Take(PageSpace::Of(event));
      page_->events.push_back(std::move(event));
    }
    page_->next_cursor = std::max(page_->next_cursor, (*place)->next());
    segments_[index]->LetGo();
  }
  return Status();
}

// The last events of one segment that fit, newest first.
Status PageFiller::Newest(size_t index, bool* full) {
  SegmentScanner scanner(segments_[index].get(), EndOf(index));
  FLINT_RETURN_IF_ERROR(scanner.Begin());
  std::deque<HistoryEvent> last;
  HistoryEvent event;
  while (true) {
    bool found = false;
    FLINT_RETURN_IF_ERROR(scanner.Next(&event, &found));
    if (!found || (query_.cursor != 0 && event.sequence >= query_.cursor)) break;
    if (!Wanted(event)) continue;
    const PageSpace needed = PageSpace::Of(event);
    while (!space_.Holds(needed) && !last.empty()) {
      *full = true;
      space_.GiveBack(PageSpace::Of(last.front()));
      last.pop_front();
    }
    if (space_.Holds(needed)) {
      space_.Take(needed);
      last.push_back(std::move(event));
      continue;
    }
    *full = true;
    too_large_ = TooSmall(event);
  }
  if (last.empty() && page_->events.empty()) FLINT_RETURN_IF_ERROR(too_large_);
  page_->events.insert(page_->events.end(), std::make_move_iterator(last.rbegin()),
                       std::make_move_iterator(last.rend()));
  return Status();
}

Status PageFiller::NewestFirst() {
  const uint64_t first = segments_.front()->first_sequence();
  bool full = false;
  for (size_t index = segments_.size(); index-- > 0 && !full;) {
    if (query_.cursor != 0 && segments_[index]->first_sequence() >= query_.cursor) continue;
    FLINT_RETURN_IF_ERROR(Newest(index, &full));
    segments_[index]->LetGo();
  }
  page_->next_cursor = page_->events.empty() ? first : page_->events.back().sequence;
  return Status();
}

Status ReadPage(Env* env, const std::string& directory, const HistoryQuery& query,
                std::unique_ptr<HistoryBookmark>* place, HistoryPage* page) {
  Readers segments;
  FLINT_RETURN_IF_ERROR(OpenChain(env, directory, &segments));
  *page = HistoryPage();
  page->next_cursor = query.cursor;
  if (segments.empty()) return Status();
  const uint64_t first = segments.front()->first_sequence();
  if (query.cursor != 0 && query.cursor < first) {
    return Status(Code::kHistoryGone, "history before record " + std::to_string(first) +
                                          " is not kept any more; the cursor is " +
                                          std::to_string(query.cursor));
  }
  PageFiller reader(query, std::move(segments), page);
  return query.newest_first ? reader.NewestFirst() : reader.OldestFirst(place);
}

}  // namespace

HistoryReader::HistoryReader() = default;

HistoryReader::~HistoryReader() = default;

// A segment that is dropped or renamed while it is read is looked for anew.
Status HistoryReader::Read(Env* env, const std::string& directory, const HistoryQuery& query,
                           HistoryPage* page) {
  bool exists = false;
  FLINT_RETURN_IF_ERROR(env->Exists(directory, &exists));
  std::unique_ptr<HistoryBookmark> place;
  if (!query.newest_first) {
    const MutexLock lock(mutex_);
    place = std::move(bookmark_);
  }
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    const Status status = ReadPage(env, directory, query, &place, page);
    if (status.ok() && place != nullptr && place->scanner.keys() <= HistoryBookmark::kMostKeys) {
      const MutexLock lock(mutex_);
      bookmark_ = std::move(place);
    }
    if (!exists || !IsGone(status)) return status;
    place.reset();
  }
  return Status(Code::kIo, directory + ": its files change faster than they can be read");
}

}  // namespace flint
